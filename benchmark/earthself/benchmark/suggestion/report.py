"""An answer as one HTML file: no scripts, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from earthself.benchmark.suggestion import words
from earthself.benchmark.suggestion.answer import Answer, Choice
from earthself.benchmark.suggestion.plots import PALETTE, plots
from earthself.benchmark.suggestion.values import Badge, Value

_ROWS, _NEAREST, _MOST_COMMANDS = 10, 10, 12
_SIGNS = {Badge.MEASURED: "\u25cf", Badge.PRICE: "\u20ac", Badge.DERIVED: "\u25d0", Badge.ASSUMED: "\u25cb", Badge.UNKNOWN: "?"}
"""Beside the words, so that nothing is said by colour alone."""


@dataclass(frozen=True)
class Cell:
    """A value as the page shows it."""

    text: str
    """With its unit; `unknown` where nobody knows it."""
    between: str
    """Its interval; may be empty."""
    kind: str
    """Of its badge."""
    sign: str
    badge: str
    """What it rests on, in words."""
    note: str


@dataclass(frozen=True)
class Card:
    """One offer that stands out."""

    why: str
    name: str
    text: str


def html(answer: Answer) -> str:
    """Render the report."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {
        "plain": words.plain,
        "figure": words.figure,
        "share": words.share,
        "name": words.name,
        "machines": words.machines,
    }
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))

    rows = answer.choices[:_ROWS]

    def cell(value: Value) -> Cell:
        return _cell(value, answer.today)

    return template.render(
        answer=answer,
        need=answer.need,
        title=answer.need.title or "Where to run it",
        headline=words.headline(answer),
        instead=words.instead(answer),
        support=words.support(answer),
        not_known=words.not_known(answer),
        disclosure=words.disclosure(answer),
        cards=_cards(answer),
        rows=rows,
        parts=list(dict.fromkeys(part for one in rows for part in _rests_on(one))),
        rests_on=_rests_on,
        cell=cell,
        plots=[(plot, plot.svg()) for plot in plots(answer)],
        palette=PALETTE,
        signs=_SIGNS,
        commands=answer.to_measure[:_MOST_COMMANDS],
        nearest=answer.excluded[:_NEAREST],
        asked=_asked(answer),
        profile=_profile(answer),
    )


def _cell(value: Value, today: date) -> Cell:
    badge = value.badge
    old = badge == Badge.PRICE and words.badge(value, today).endswith("(old)")
    return Cell(
        words.amount(value),
        words.interval(value),
        "old" if old else badge.value,
        _SIGNS[badge],
        words.badge(value, today),
        words.plain(value.note),
    )


def _rests_on(choice: Choice) -> dict[str, Value]:
    return {"an hour": choice.price, **choice.estimate.deciding, "data in the region": choice.near, "carbon": choice.carbon}


def _cards(answer: Answer) -> list[Card]:
    """Name the suggested one, and who gives up cost or time for it: the cheapest and the quickest of the ranked."""
    best, ranked = answer.best, [one for one in answer.choices if one.rank is not None]
    if best is None:
        return []

    def least(values: Sequence[tuple[Choice, Value]]) -> Choice:
        return min(values, key=lambda pair: float("inf") if pair[1].value is None else pair[1].value)[0]

    cheapest, quickest = (least([(one, getattr(one.estimate, part)) for one in ranked]) for part in ("euros", "hours"))
    whys: dict[int, list[str]] = {}
    chosen = (("Suggested", best), ("Cheapest", cheapest), ("Quickest", quickest))
    for why, one in chosen:
        whys.setdefault(one.rank or 0, []).append(why)
    shown = {one.rank or 0: one for _, one in chosen}
    return [Card(" and ".join(why).capitalize(), words.machines(shown[rank]), words.both(shown[rank])) for rank, why in whys.items()]


def _asked(answer: Answer) -> list[tuple[str, str]]:
    """Say the need in words and figures; what does not matter is left out."""
    need, machine = answer.need, answer.need.machine
    most = f"{need.machines} machine{'s' * (need.machines > 1)} at most"
    limits = {
        "budget": _unit(need.budget_euros, "EUR a month"),
        "deadline": _unit(need.deadline_hours, "h"),
        "machines stand for": _unit(need.hours_per_month, "h a month"),
        "at least": ", ".join(
            filter(
                None,
                (
                    _unit(machine.vcpus, "vCPU"),
                    _unit(machine.memory_gib, "GiB of memory"),
                    _unit(machine.gpus, "GPUs"),
                    _unit(machine.gpu_memory_gib, "GiB of memory on a GPU"),
                    _unit(machine.disk_gb, "GB of disk"),
                    machine.architecture or "",
                ),
            )
        ),
    }
    lists: Mapping[str, Sequence[str] | None] = {
        "collections": need.collections, "only clouds": need.clouds, "not clouds": need.not_clouds, "only regions": need.regions,
        "only countries": need.countries, "certificates": need.certificates, "prices": need.allocations,
    }  # fmt: skip
    said = {
        "work": f"{words.figure(need.tiles)} tiles of 10,980 x 10,980 pixels in a month of 30 days, on {most}",
        "level": need.level,
        "kept in storage": _unit(need.storage_gb or None, "GB"),
        "fetched by others": _unit(need.egress_gb or None, "GB a month"),
        **limits,
        **{name: ", ".join(names or ()) for name, names in lists.items()},
        "weights": ", ".join(f"{name} {words.share(weight)}" for name, weight in need.weights.items()),
    }
    return [(name, words.plain(text)) for name, text in said.items() if text]


def _profile(answer: Answer) -> str:
    of = answer.need.profile
    figures = [
        f"{words.figure(of.cpu_seconds)} s of a core with {words.figure(of.speed)} Mpixel/s",
        f"{words.figure(of.memory_gib)} GiB of memory",
        f"{words.figure(of.read_gb)} GB read",
        f"{words.figure(of.write_gb)} GB written",
    ]
    times = f" {of.runs} times" if of.runs else ""
    rests = f"measured{times}, {of.measured}" if of.measured else "given with the need"
    return f"{words.plain(of.name)}: a tile takes {', '.join(figures)} ({rests})"


def _unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{words.figure(value)} {unit}"
