"""What `benchmark_clouds` is to measure: the Airflow Variable `earthself_benchmark`, and what a run asks for within it.

The Variable is the operator's: it names machines, images, pod templates and the most that a run may use. Whoever starts a run chooses
among them, and may use less, not more.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from earthself.operators.errors import BadRequest

if TYPE_CHECKING:
    from earthself.benchmark.planning import Budget, Target

VARIABLE = "earthself_benchmark"
BUDGET_MINUTES = 60.0
"""A run's where neither the Variable nor the run says."""
REPEATS, SECONDS = 5, 5.0
_NAMES = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 100}, "maxItems": 200, "uniqueItems": True}
_AS_THE_VARIABLE_SAYS = "Empty: as the Variable earthself_benchmark says."
_LIMITS: dict[str, dict[str, Any]] = {
    "probes": {
        "title": "Probes",
        "description": f"Names (earthself-suggest probe --list). {_AS_THE_VARIABLE_SAYS} Else all whose place is named.",
        **_NAMES,
    },
    "repeats": {
        "title": "Repeats",
        "description": f"How often each probe measures; fewer than 5 are not trusted. {_AS_THE_VARIABLE_SAYS} Else {REPEATS}.",
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
    },
    "seconds": {
        "title": "Seconds",
        "description": f"How long a repeat measures, where that is a matter of choice. {_AS_THE_VARIABLE_SAYS} Else {SECONDS:g}.",
        "type": "number",
        "minimum": 1,
        "maximum": 600,
    },
    "budget_minutes": {
        "title": "Minutes",
        "description": f"Of all targets together, no more than the Variable says. {_AS_THE_VARIABLE_SAYS} Else {BUDGET_MINUTES:g}.",
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1200,
    },
    "budget_euros": {
        "title": "Euros",
        "description": f"Of all targets together, no more than the Variable says. {_AS_THE_VARIABLE_SAYS} Else without a limit.",
        "type": "number",
        "minimum": 0,
        "maximum": 1_000_000,
    },
    "unpriced": {
        "title": "Unknown prices",
        "description": f"Whether targets of unknown price are measured, too, where euros are limited. {_AS_THE_VARIABLE_SAYS}",
        "type": "boolean",
    },
}
SCHEMA: dict[str, dict[str, Any]] = {
    "clouds": {
        "title": "Clouds",
        "description": "Kubernetes connections. Empty: all targets of the Variable earthself_benchmark; where it has none, this machine.",
        **_NAMES,
    },
    "offers": {"title": "Offers", "description": "Of the targets only machines of these names. Empty: all.", **_NAMES},
    **_LIMITS,
}
"""JSON schema of each key of the conf of `benchmark_clouds`; each of them may be null."""
_LABEL = {"type": "string", "maxLength": 100}
_TARGET = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "connection": {"type": ["null", "string"], "minLength": 1, "maxLength": 200},
        "cloud": _LABEL,
        "region": _LABEL,
        "zone": _LABEL,
        "offer": _LABEL,
        "node_selector": {"type": "object", "additionalProperties": {"type": "string"}},
        "pod_template": {"type": "object"},
        "image": {"type": "string", "minLength": 1},
        "cpu": {"type": "number", "exclusiveMinimum": 0, "maximum": 1024},
        "memory": {"type": "string", "minLength": 1},
        "settings": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        "euros_per_hour": {"type": "number", "exclusiveMinimum": 0},
    },
}
_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "targets": {"type": "array", "items": _TARGET, "maxItems": 200},
        "image": {"type": "string", "minLength": 1},
        **_LIMITS,
    },
}


@dataclass(frozen=True)
class Spot:
    """A target, and how it is reached."""

    target: Target
    image: str | None = None
    """The image with the probes, for a pod."""
    template: Mapping[str, Any] = field(default_factory=dict)
    """Pod template, node selector included."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `StepResources`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the probes: what they measure there beside the machine itself."""
    euros_per_hour: float | None = None
    """What the operator says that it costs."""


@dataclass(frozen=True)
class Order:
    """What a run is to measure."""

    spots: Sequence[Spot]
    probes: Sequence[str]
    """Names; none: all whose place is named."""
    repeats: int
    seconds: float
    budget: Budget


def params() -> dict[str, Any]:
    """Make the DAG's params, from which Airflow draws its form and checks a trigger's conf; all of them may be left empty."""
    from airflow.sdk import Param

    return {name: Param(None, **(schema | {"type": ["null", schema["type"]]})) for name, schema in SCHEMA.items()}


def read_order(conf: Mapping[str, Any]) -> Order:
    """Put the Variable and a run's conf together; raises `BadRequest` naming what is wrong in which of them."""
    from airflow.sdk import Variable

    return ordered(conf, str(Variable.get(VARIABLE, default="") or ""))


def ordered(conf: Mapping[str, Any], text: str) -> Order:
    """Put a conf and the Variable's text together; raises `BadRequest`, `BadSetting` for a probe that is not there."""
    from earthself.benchmark.planning import Budget
    from earthself.benchmark.probes import probes

    own = _document(text)
    asked = {name: value for name, value in conf.items() if value is not None}
    _check(asked, {"type": "object", "additionalProperties": False, "properties": SCHEMA}, "the run's conf")
    _no_more(asked, own)
    both = own | asked
    names = tuple(both.get("probes", ()))
    probes(names)
    return Order(
        _spots(own, asked),
        names,
        int(both.get("repeats", REPEATS)),
        float(both.get("seconds", SECONDS)),
        Budget(float(both.get("budget_minutes", BUDGET_MINUTES)), both.get("budget_euros"), bool(both.get("unpriced", False))),
    )


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the Variable {VARIABLE} is not JSON ({error}); docs/benchmarking.md has an example") from None
    _check(found, _SETTINGS, f"the Variable {VARIABLE}")
    return dict(found)


def _check(value: Any, schema: Mapping[str, Any], what: str) -> None:  # noqa: ANN401 - whatever somebody wrote
    import jsonschema

    error = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(value)), None)
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "the document"
        raise BadRequest(f"{what} cannot be used: {where}: {error.message[:200]}; docs/benchmarking.md has an example")


def _no_more(asked: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a run that wants to use more than the operator allows."""
    for name in ("budget_minutes", "budget_euros"):
        if name in own and asked.get(name, 0) > own[name]:
            raise BadRequest(f"{name}={asked[name]:g} is more than the {own[name]:g} that the Variable {VARIABLE} allows; ask for less")
    if asked.get("unpriced") and "budget_euros" in own and not own.get("unpriced"):
        raise BadRequest(f"unpriced=true goes round the budget_euros of the Variable {VARIABLE}; it would have to allow that")


def _spots(own: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Spot]:
    from earthself.benchmark.planning import Target

    found = [_spot(one, own.get("image")) for one in own.get("targets", ())]
    clouds, offers = asked.get("clouds") or (), asked.get("offers") or ()
    if clouds:
        found = [one for one in found if one.target.connection in clouds]
        known = {one.target.connection for one in found}
        found += [Spot(Target(name), own.get("image")) for name in clouds if name not in known]
    if offers:
        found = [one for one in found if one.target.offer in offers]
        if missing := sorted(set(offers) - {one.target.offer for one in found}):
            raise BadRequest(f"no target has the offer {missing[0]!r}; the Variable {VARIABLE} lists them")
    found = found or [Spot(Target())]
    if twice := [target for target, count in Counter(one.target for one in found).items() if count > 1]:
        raise BadRequest(f"the Variable {VARIABLE} lists {twice[0]} twice; give them different zones or offers")
    return found


def _spot(one: Mapping[str, Any], image: str | None) -> Spot:
    from earthself.benchmark.errors import BadSetting
    from earthself.benchmark.planning import Target
    from earthself.benchmark.step import SETTINGS

    known = [each.name for each in SETTINGS if each.name != "seconds"]
    if unknown := sorted(set(one.get("settings", ())) - set(known)):
        raise BadRequest(f"the Variable {VARIABLE} has a setting {unknown[0]!r} that no probe knows; known are {', '.join(known)}")
    labels = [str(one.get(name, "")) for name in ("cloud", "region", "zone", "offer")]
    try:
        target = Target(one.get("connection"), labels[0].lower(), *labels[1:])
    except BadSetting as error:
        raise BadRequest(f"the Variable {VARIABLE} cannot be used: {error}") from error
    template = dict(one.get("pod_template", {}))
    if one.get("node_selector"):
        template["spec"] = {**template.get("spec", {}), "nodeSelector": one["node_selector"]}
    resources = {name: one[name] for name in ("cpu", "memory") if name in one}
    return Spot(target, one.get("image", image), template, resources, one.get("settings", {}), one.get("euros_per_hour"))


def named(spot: Spot, provider: str, region: str) -> Spot:
    """Give a spot the labels of its cloud that it does not bear itself."""
    target = spot.target
    if target.cloud or not provider:
        return spot
    return replace(spot, target=replace(target, cloud=provider.lower(), region=target.region or region))
