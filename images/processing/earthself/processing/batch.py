"""Work through the items of a step so that a bad one costs only itself: retries, a list of what was lost, progress."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from earthself.data.broker import BrokerError, Resting
from earthself.data.elsewhere import INSTEAD_OF
from earthself.data.errors import EarthSelfError, NoRoom
from earthself.processing.errors import BadInput
from earthself.processing.scene import is_l1c
from earthself.processing.step import StepContext, StepResult

if TYPE_CHECKING:
    import pystac
    from earthself.processing.meter import Meter

PAUSES = (2.0, 8.0, 20.0, 40.0)
"""Seconds to wait before each further attempt at what may pass."""
BUDGET = 120.0
"""Seconds that all waiting of one step may take."""


@dataclass
class Retries:
    """Waits and tries again while the budget lasts; all items of a step share one."""

    attempts: int
    """Further attempts an item gets."""
    sleep: Callable[[float], None] = time.sleep
    """How to wait; tests do not."""
    left: float = BUDGET
    """Seconds of waiting that are left."""
    waits: list[float] = field(default_factory=list)
    """What was waited so far."""

    def call(self, work: Callable[[], Any], what: str) -> Any:  # noqa: ANN401 (whatever the work gives)
        """Call `work`, again after a pause where its error says that this may help."""
        for attempt in range(self.attempts):
            pause = PAUSES[min(attempt, len(PAUSES) - 1)]
            try:
                return work()
            except EarthSelfError as error:
                if isinstance(error, Resting):
                    pause = max(pause, error.wait)
                if not error.retry or pause > self.left or isinstance(error, BrokerError):
                    raise
                sys.stderr.write(f"{what}: {error}; trying again in {pause:g} s\n")
            self.left -= pause
            self.waits.append(pause)
            self.sleep(pause)
        return work()


def each_item(
    ctx: StepContext,
    work: Callable[[pystac.Item], pystac.Item | None],
    meter: Meter,
    *,
    retries: int,
    sleep: Callable[[float], None] = time.sleep,
) -> StepResult:
    """Turn every item of the input into one of the output by `work`; None means that there is nothing to do for it.

    What fails is listed in `failures.json` ({id, error, retry}) and named in the result. With all lost the result is
    `nothing` and says the first reason. Raises `BadInput` only for what concerns all items alike, `NoRoom` on a full disk, and
    `BrokerError` where no provider can be asked.
    """
    if not 0 <= retries <= 10:
        raise BadInput(f"--retries {retries} is outside 0 to 10")
    items, again = ctx.items(), Retries(retries, sleep)
    made: list[pystac.Item] = []
    failures: list[dict[str, Any]] = []
    skipped = 0
    for number, item in enumerate(items):
        ctx.progress(number / max(1, len(items)), f"{number + 1} of {len(items)} {item.id}")
        try:
            result = again.call(lambda item=item: work(item), item.id)  # type: ignore[misc]
        except (MemoryError, NoRoom, BrokerError):
            raise  # no other product will do better
        except Exception as error:  # noqa: BLE001 one bad product costs only itself
            failures.append(_failure(item.id, error))
            continue
        if result is None:
            skipped += 1
        else:
            made.append(result)
    ctx.write(made, **{"failures.json": failures})
    for name, value in (("items", len(items)), ("failed", len(failures)), ("skipped", skipped)):
        meter.add(name, value)
    if again.waits:
        meter.add("seconds_waiting", sum(again.waits))
    return StepResult(
        "done" if made else "nothing", _message(len(items), len(made), skipped, failures), meter.metrics(), _warnings(made, failures)
    )


def _failure(item_id: str, error: Exception) -> dict[str, Any]:
    if isinstance(error, EarthSelfError):
        text, retry = str(error), error.retry
    else:
        traceback.print_exception(error)
        text, retry = f"{type(error).__name__}: {error}", False
    sys.stderr.write(f"failed: {item_id}: {text}\n")
    return {"id": item_id, "error": text, "retry": retry}


def _message(given: int, made: int, skipped: int, failures: list[dict[str, Any]]) -> str:
    if not given:
        return "no products in the input"
    parts = [f"{made} of {given} products"]
    if skipped:
        parts.append(f"{skipped} do not touch the area")
    if failures:
        parts.append(f"{len(failures)} failed, the first, {failures[0]['id']}: {failures[0]['error']}")
    return "; ".join(parts)


def _warnings(made: list[pystac.Item], failures: list[dict[str, Any]]) -> list[str]:
    said = [f"product {each['id']} was lost: {each['error']}" for each in failures]
    baselines = sorted({str(item.properties.get("earthself:baseline") or "unknown") for item in made})
    if len(baselines) > 1:
        said.append(f"products of the baselines {', '.join(baselines)} are mixed; each was corrected with its own offset")
    # Of a run's many batches each says its own: what is true of several must be the same sentence, so it has no numbers.
    said += sorted({_elsewhere(item) for item in made if item.properties.get(INSTEAD_OF)})
    if any(item.properties.get("earthself:mask") == "none" for item in made):
        said.append("products were not masked for clouds, because mask=none was asked for")
    if any(is_l1c(item) for item in made):
        said.append("there are L1C products, reflectance above the atmosphere; models are trained on surface reflectance (L2A)")
    return said


def _elsewhere(item: pystac.Item) -> str:
    """Say that a provider was left for another one; the manifest says for each product why."""
    left = ", ".join(each["provider"] for each in item.properties[INSTEAD_OF])
    return f"products were taken from {item.properties.get('earthself:provider')} because {left} failed; the manifest says which and why"
