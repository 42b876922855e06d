"""The Airflow Variable that says what `earthsignature_monitor` watches: checked whole, so that a slip is named and not half obeyed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from earthself.triggers.errors import BadWatch
from earthself.triggers.memory import Budget
from earthself.triggers.notices import Notify
from earthself.triggers.watch import (
    DEFAULT_CLOUD_COVER,
    DEFAULT_COLLECTION,
    DEFAULT_EVERY_MINUTES,
    DEFAULT_LOOKBACK_DAYS,
    DEFAULT_REPROCESSED_DAYS,
    Goal,
    Watch,
)

_GIGABYTE = 10**9
_NEXT_STEP = "docs/monitoring.md has an example"


@dataclass(frozen=True)
class MonitorSettings:
    """Everything that the Variable says."""

    watches: tuple[Watch, ...] = ()
    """One for each area; none where nothing is to be watched."""
    budget: Budget = field(default_factory=lambda: Budget(products_a_run=200, products_a_day=500))
    """How much may be taken."""
    model: str = "baseline"
    """Name in the model registry."""
    mask: str = "auto"
    """`auto`, `scl`, `csmask` or `none`."""
    notify: Notify | None = None
    """Who is told of alerts."""


def read_settings(variable: str) -> MonitorSettings:
    """Read the Variable; one that is not there, or is empty, watches nothing. Raises `BadWatch` naming the place."""
    from airflow.sdk import Variable

    return parse_settings(str(Variable.get(variable, default="") or ""), variable)


def parse_settings(text: str, variable: str) -> MonitorSettings:
    """Read the Variable's text; raises `BadWatch` naming the place and what is wrong there."""
    if not text.strip():
        return MonitorSettings()
    try:
        document = json.loads(text, parse_constant=_no_number, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise BadWatch(f"the Variable {variable} is not JSON ({error}); {_NEXT_STEP}") from None
    _check(document, variable)
    budget = document.get("budget", {})
    given = {name: budget[name] for name in ("products_a_run", "products_a_day") if name in budget}
    given |= {f"bytes_{name[10:]}": round(budget[name] * _GIGABYTE) for name in budget if name.startswith("gigabytes_")}
    default = MonitorSettings().budget
    return MonitorSettings(
        tuple(_watch(f"{variable}:{name}", area, variable) for name, area in document.get("areas", {}).items()),
        Budget(**{"products_a_run": default.products_a_run, "products_a_day": default.products_a_day} | given),
        document.get("model", "baseline"),
        document.get("mask", "auto"),
        Notify(notify["notifier"], notify.get("arguments", {})) if (notify := document.get("notify")) else None,
    )


def _no_number(name: str) -> None:
    """Refuse what Python reads and JSON has not: no limit can be held against it."""
    raise ValueError(f"{name} is no number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that is given twice: the first of two areas would silently not be watched."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return made


def _check(document: Any, variable: str) -> None:  # noqa: ANN401 - whatever the Variable holds
    import jsonschema

    schema = json.loads(Path(__file__).with_name("settings.schema.json").read_bytes())
    error = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(document)), None)
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "the document"
        raise BadWatch(f"the Variable {variable} cannot be used: {where}: {error.message[:200]}; {_NEXT_STEP}")


def _watch(name: str, conf: Mapping[str, Any], variable: str) -> Watch:
    from earthself.data.area import Area
    from earthself.data.errors import BadInput

    try:
        area = Area.from_conf(conf["area"])
    except BadInput as error:
        raise BadWatch(f"the Variable {variable} cannot be used: areas/{name.partition(':')[2]}: {error}") from None
    goal = conf.get("goal")
    return Watch(
        name=name,
        area=area,
        collection=conf.get("collection", DEFAULT_COLLECTION),
        provider=conf.get("provider"),
        max_cloud_cover=conf.get("max_cloud_cover", DEFAULT_CLOUD_COVER),
        lookback=timedelta(days=conf.get("lookback_days", DEFAULT_LOOKBACK_DAYS)),
        every=timedelta(minutes=conf.get("every_minutes", DEFAULT_EVERY_MINUTES)),
        goal=Goal(goal.get("hours", Goal.hours), goal.get("share", Goal.share)) if goal is not None else None,
        reprocessed=timedelta(days=conf.get("reprocessed_days", DEFAULT_REPROCESSED_DAYS)),
    )
