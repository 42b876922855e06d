"""What a run will cost, said before it costs anything.

A rough model of each part (seconds a process, a product, a megapixel) gives the shape; the ratio of what earlier steps and
runs really took to what the model says gives the scale, and the spread of these ratios the error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from earthself.data.sentinel2 import TILE_PIXELS
from earthself.operators import planning
from earthself.operators.errors import BadRequest, OperatorError
from earthself.operators.resources import workers

if TYPE_CHECKING:
    from earthself.data.area import Area
    from earthself.data.query import Count
    from earthself.data.sources import Sources
    from earthself.operators.history import Record

STEP = "sign"
"""The step that most of the time goes to."""
_ENOUGH = 3
"""Fewer earlier runs than these say too little about their spread."""
_UNKNOWN = 3.0
"""Factor of uncertainty, up and down, without history."""
_BYTES_A_PIXEL = 12.0
"""Of ten bands and the scene classification, compressed, at 10 m."""


@dataclass(frozen=True)
class Cost:
    """Seconds that a part of a run takes, before earlier runs correct it (one core of 2024)."""

    process: float
    """For starting it."""
    product: float
    """For each product."""
    megapixel: float
    """For each million 10 m pixels."""

    def seconds(self, processes: float, products: float, megapixels: float) -> float:
        """Add it up."""
        return self.process * processes + self.product * products + self.megapixel * megapixels


SIGN = Cost(process=2.0, product=0.3, megapixel=1.2)
AFTER = Cost(process=2.5, product=0.0, megapixel=0.3)
"""Mosaic, statistics and picture: three processes, pixels those of the area."""
TASKS_SECONDS = 8.0
"""What Airflow needs for the run's tasks."""


@dataclass(frozen=True)
class Work:
    """What there is to do."""

    products: int
    """Products to sign."""
    megapixels: float
    """Million 10 m pixels of each product that the area needs."""
    area_megapixels: float
    """Million 10 m pixels of the area."""

    def pixels(self) -> float:
        """10 m pixels of all products."""
        return self.products * self.megapixels * 1e6

    def sign_cpu(self) -> float:
        """Processor seconds of `sign` by the rough model."""
        return SIGN.seconds(self._batches(), self.products, self.products * self.megapixels)

    def cpu(self) -> float:
        """Processor seconds of all steps by the rough model."""
        return self.sign_cpu() + self._after(3)

    def wall(self) -> float:
        """Wall-clock seconds by the rough model: batches side by side, then the rest."""
        at_once = max(1, min(workers(), self._batches()))
        return TASKS_SECONDS + self.sign_cpu() / at_once + self._after(2)

    def _after(self, steps: int) -> float:
        """Seconds of the steps over the area: all of it where products lie, a tenth where none do; nothing without products."""
        covered = min(self.area_megapixels, self.products * self.megapixels)
        weighed = covered + 0.1 * (self.area_megapixels - covered)
        return AFTER.seconds(steps, 0, steps * weighed) if self.products else 0.0

    def _batches(self) -> int:
        return math.ceil(self.products / planning.batch_size(self.products, workers())) if self.products else 0


@dataclass(frozen=True)
class Estimate:
    """What a request will probably take."""

    products: int
    """Products that match, copies included."""
    gigabytes: float
    """Decimal gigabytes that the provider's sizes give for the area's share of the products (all of a product that comes as an archive)."""
    gigabytes_needed: float
    """Decimal gigabytes of the bands and windows that the step needs, as earlier runs read them."""
    cpu_minutes: float
    """Processor time of all steps."""
    minutes: float
    """Wall-clock time from trigger to result."""
    minutes_low: float
    """Lower end of an 80 % interval."""
    minutes_high: float
    """Upper end of an 80 % interval."""
    basis: str
    """What the figures rest on."""
    provider: str
    """Provider that answered."""
    warnings: tuple[str, ...]
    """Providers that failed before."""
    work: Work = field(repr=False)
    """What the figures were made from."""

    def to_dict(self) -> dict[str, Any]:
        """Plain types, fit for XCom and JSON."""
        figures = asdict(self)
        del figures["work"]
        return {**figures, "warnings": list(self.warnings)}

    def __str__(self) -> str:
        span = f"{self.minutes:.1f} min ({self.minutes_low:.1f} to {self.minutes_high:.1f})"
        moved = f"{_size(self.gigabytes_needed)} to read (at most {_size(self.gigabytes)})"
        return f"{self.products} products, {moved}, {self.cpu_minutes:.1f} CPU-min, about {span}; {self.basis}"


def estimate(conf: Mapping[str, Any], sources: Sources) -> Estimate:
    """Ask the provider for the number of products and weigh it with what earlier steps took; `conf` as `request.validated` gives it."""
    from earthself.operators.search import search_request

    wanted = search_request(conf)
    count = sources.count(wanted)
    work = work_of(count, wanted.area)
    past, trouble = _past()
    scale, low, high = spread(past.wall)
    cpu_scale, _, _ = spread(past.cpu)
    bytes_a_pixel = _median(past.bytes_a_pixel) or _BYTES_A_PIXEL
    needed = work.pixels() * bytes_a_pixel
    minutes = work.wall() / 60
    return Estimate(
        products=count.products,
        gigabytes=round(count.estimated_bytes / 1e9, 3),
        gigabytes_needed=round(min(needed, float(count.estimated_bytes) or needed) / 1e9, 3),
        cpu_minutes=round(work.cpu() * cpu_scale / 60, 2),
        minutes=round(minutes * scale, 2),
        minutes_low=round(minutes * low, 2),
        minutes_high=round(minutes * high, 2),
        basis=_basis(past.steps, len(past.wall)),
        provider=count.provider,
        warnings=(*count.warnings, *trouble),
        work=work,
    )


def refuse_too_many(found: Estimate, max_products: int) -> None:
    """Raise `BadRequest` with the number and the estimate when more products match than the request allows."""
    if found.products > max_products:
        raise BadRequest(
            f"{found.products} products match, more than max_products={max_products}. They would take: {found}. "
            "Raise max_products, or choose a smaller area, a shorter period or fewer clouds"
        )


def work_of(count: Count, area: Area) -> Work:
    """Guess the pixels: those of the windows that the first products showed, and those of the box round the area."""
    west, south, east, north = area.unwrapped().bounds
    across = (east - west) * 111_320 * math.cos(math.radians((south + north) / 2)) / 10
    down = (north - south) * 110_574 / 10
    return Work(count.products, min(count.window_m2 / 100, TILE_PIXELS**2) / 1e6, max(1.0, across * down) / 1e6)


def run_work(record: Record) -> Work:
    """Give the work of an earlier run as its own estimate saw it, for the products that it signed."""
    return Work(record.products, record.guessed_pixels / 1e6, record.area_pixels / 1e6)


def step_model(record: Record) -> float:
    """Give the processor seconds of one `sign` process by the rough model."""
    return SIGN.seconds(1, record.products, record.pixels / 1e6)


def spread(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Median, 10 % and 90 % quantile of earlier ratios; with fewer than three the range is three times up and down."""
    if not ratios:
        return 1.0, 1 / _UNKNOWN, _UNKNOWN
    middle = _median(ratios) or 1.0
    if len(ratios) < _ENOUGH:
        return middle, middle / _UNKNOWN, middle * _UNKNOWN
    ordered = sorted(ratios)
    return middle, _quantile(ordered, 0.1), _quantile(ordered, 0.9)


@dataclass(frozen=True)
class _Past:
    """What earlier runs, or where there are none earlier steps, really took."""

    steps: int = 0
    """How many steps are known."""
    wall: tuple[float, ...] = ()
    """Wall-clock seconds of each run by those of the rough model."""
    cpu: tuple[float, ...] = ()
    """Processor seconds by those of the rough model."""
    bytes_a_pixel: tuple[float, ...] = ()
    """Bytes that were read by the pixels of the guess."""


def _past() -> tuple[_Past, list[str]]:
    """Read the history, and say why there is none: an estimate is no reason to fail."""
    from earthself.operators.history import RUN, History

    try:
        with History() as history:
            steps, runs = history.recent(STEP), history.recent(RUN)
    except OperatorError as error:
        return _Past(), [f"no history of earlier steps: {error}"]
    works = [(run, run_work(run)) for run in runs if run.area_pixels]
    cpu = [_ratio(run.cpu_seconds, work.cpu()) for run, work in works] or [_ratio(step.cpu_seconds, step_model(step)) for step in steps]
    read = [run.bytes_read / work.pixels() for run, work in works if run.bytes_read and work.pixels()]
    read = read or [step.bytes_read / step.pixels for step in steps if step.pixels and step.bytes_read]
    wall = [_ratio(run.seconds, work.wall()) for run, work in works]
    return _Past(len(steps), tuple(wall), tuple(cpu), tuple(read)), []


def _basis(steps: int, runs: int) -> str:
    if not steps and not runs:
        assumed = f"{SIGN.megapixel:g} CPU-s a megapixel, {SIGN.product:g} s a product, {TASKS_SECONDS:g} s for the tasks"
        return f"no earlier run to learn from, so assumed: {assumed}; the range is three times up and down"
    ends = (
        "the range is that of 8 in 10 of them" if runs >= _ENOUGH else "too few for their spread, so the range is three times up and down"
    )
    return f"from {steps} earlier batches and {runs} earlier runs; {ends}"


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.0f} MB"


def _ratio(took: float, model: float) -> float:
    return max(took, 0.01) / model


def _median(values: Sequence[float]) -> float:
    return _quantile(sorted(values), 0.5) if values else 0.0


def _quantile(ordered: Sequence[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    low, high = math.floor(position), math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
