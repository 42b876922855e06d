"""An answer as pictures: cost against time, what the euros consist of, how far the weights can move.

Colours are those of Okabe and Ito, which people who see few colours can tell apart; nothing is said by colour alone.
"""

from __future__ import annotations

import html
import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from earthself.benchmark.suggestion import words
from earthself.benchmark.suggestion.answer import Answer, Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

INK, SOFT, LINE, PAPER = "#1f2933", "#52606d", "#d9e2ec", "#ffffff"
PALETTE = (
    ("#0072b2", "#4aa8e0"), ("#d55e00", "#ff8a3d"), ("#009e73", "#2fc79a"),
    ("#cc79a7", "#dd93bb"), ("#e69f00", "#f0b63a"), ("#56b4e9", "#7cc8f2"),
)  # fmt: skip
"""Colours on white paper, and as a dark page shows them."""
COLORS = tuple(light for light, _ in PALETTE)
_MARKERS = "osD^vP"
_DPI = 150
_MOST, _BARS = 25, 10
"""Offers in the picture of cost and time (and all of the front), and in that of the costs."""
_WIDE = 20.0
"""From so many times on between the smallest and the largest, an axis is logarithmic."""
_ROOM = 1.06
"""Beyond the last point, so that it is drawn whole."""
_LONGEST = 16
"""Letters of a name in a picture: longer ones would leave no room for what is drawn."""
_LAST_LATIN = 0x24F
"""Letters up to here are in the font; others would be boxes, and a warning each."""
_FRONT: Mapping[str, Any] = {"color": SOFT, "linewidth": 1.2, "linestyle": (0, (4, 2))}
_SIDES = ((9, 4), (-9, 4), (9, -4), (-9, -4))
"""Where a name stands beside its point, in points: to the right and left, above and below."""
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Plot:
    """One picture."""

    name: str
    """Of its file, without the ending."""
    title: str
    alt: str
    """What is to be seen, in words."""
    caption: str
    """How to read it."""
    _figure: Figure

    def png(self) -> bytes:
        """Give it as PNG."""
        data = io.BytesIO()
        self._figure.savefig(data, format="png", dpi=_DPI, facecolor=PAPER, metadata={"Software": None})
        return data.getvalue()

    def svg(self) -> str:
        """Give it as an element for a page, in the page's colours: `--ink`, `--soft`, `--line`, `--paper`, `--c0` to `--c5`."""
        import matplotlib as mpl

        data = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with _LOCK, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self._figure.savefig(data, format="svg", transparent=True, metadata=nothing)
        drawn = data.getvalue()
        drawn = re.sub(r'<g id="[^"]*">', "<g>", drawn[drawn.index("<svg") :])
        for color, name in _named():
            drawn = drawn.replace(color, f"var({name})")
        return drawn.replace("<svg", f'<svg role="img" aria-label="{html.escape(self.alt)}"', 1)


def plots(answer: Answer) -> list[Plot]:
    """Draw what there is to see in an answer: `cost-time`, `weights`, `costs`, each only where something is known."""
    drawn = []
    if known := _known(answer):
        drawn.append(_cost_time(answer, known))
    if len(answer.weights) > 1:
        drawn.append(_weights(answer))
    if any(one.estimate.euros.known for one in answer.choices[:_BARS]):
        drawn.append(_costs(answer))
    return drawn


def _named() -> Iterator[tuple[str, str]]:
    yield from ((INK, "--ink"), (SOFT, "--soft"), (LINE, "--line"), (PAPER, "--paper"))
    yield from ((color, f"--c{number}") for number, color in enumerate(COLORS))


def _known(answer: Answer) -> list[Choice]:
    known = [one for one in answer.choices if one.estimate.hours.known and one.estimate.euros.known]
    return [one for number, one in enumerate(known) if number < _MOST or one.front]


def _canvas(title: str, height: float) -> tuple[Figure, Axes]:
    """Give an empty picture that can be read on a telephone: not wide, with large letters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, height), layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11)
    axes.tick_params(colors=SOFT, labelsize=9, length=3)
    for side, line in axes.spines.items():
        line.set_visible(side in ("left", "bottom"))
        line.set_color(SOFT)
    axes.set_facecolor("none")
    return figure, axes


def _cost_time(answer: Answer, known: Sequence[Choice]) -> Plot:
    title = "Cost and time of a month's work"
    figure, axes = _canvas(title, 4.2)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("hours until the month's work is done", color=INK, fontsize=10)
    axes.set_ylabel("EUR a month", color=INK, fontsize=10)
    best, looks = answer.best, _looks(known)
    for one in reversed(known):
        _point(axes, one, *looks[one.candidate.cloud], one is best)
    front = sorted(_at(one) for one in known if one.front)
    if front:
        axes.step(*zip(*front, strict=True), where="post", zorder=2, **_FRONT)
    _scale(axes, [_at(one) for one in known])
    _legend(figure, known, looks, best)
    _label(figure, axes, sorted(known, key=lambda one: (one is not best, not one.front)), best)
    axes.text(0.015, 0.02, "\u2199 cheaper and quicker", transform=axes.transAxes, fontsize=9, color=SOFT, style="italic")
    where = f"The suggested one, {words.name(best.candidate)}, is at {words.both(best)}." if best else "None is suggested."
    cheap, quick = (min(known, key=lambda one: _at(one)[axis]) for axis in (1, 0))
    alt = (
        f"Cost against time of {len(known)} offers. {where} The cheapest is {words.name(cheap.candidate)} ({words.both(cheap)}), "
        f"the quickest {words.name(quick.candidate)} ({words.both(quick)})."
    )
    able = sum(one.estimate.hours.known and one.estimate.euros.known for one in answer.choices)
    of = f"The first {_MOST} of {able} offers and those that none other beats. " if len(known) < able else ""
    of += f"{len(answer.choices) - able} more lack a cost or a time that is known. " if able < len(answer.choices) else ""
    caption = f"{of}Lines through a point are its interval: what can be, not what is likely. Hollow points are not ranked."
    return Plot("cost-time", title, alt, caption, figure)


def _at(choice: Choice) -> tuple[float, float]:
    return float(choice.estimate.hours.value or 0), float(choice.estimate.euros.value or 0)


def _looks(known: Sequence[Choice]) -> dict[str, tuple[str, str]]:
    """Give each cloud its colour and marker, in the order of the answer; those after the sixth share one."""
    clouds = list(dict.fromkeys(one.candidate.cloud for one in known))
    return {cloud: (COLORS[n], _MARKERS[n]) if n < len(COLORS) else (SOFT, "X") for n, cloud in enumerate(clouds)}


def _point(axes: Axes, choice: Choice, color: str, marker: str, suggested: bool) -> None:
    (x, y), fill = _at(choice), PAPER if choice.rank is None else color
    (left, right), (low, high) = choice.estimate.hours.span(), choice.estimate.euros.span()
    across = [[max(0.0, x - left)], [max(0.0, right - x)]]
    along = [[max(0.0, y - low)], [max(0.0, high - y)]]
    axes.errorbar(
        [x], [y], yerr=along, xerr=across, fmt=marker, color=color, ecolor=(color, 0.5), elinewidth=1.1, capsize=2,
        markersize=8, markeredgewidth=1.5,
        markerfacecolor=fill, zorder=3,
    )  # fmt: skip
    if suggested:
        axes.plot([x], [y], "o", markersize=17, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.8, zorder=4)


def _scale(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    for axis, values in ((axes.xaxis, [x for x, _ in points]), (axes.yaxis, [y for _, y in points])):
        if min(values) > 0 and max(values) / min(values) > _WIDE:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            axis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.set_minor_formatter(NullFormatter())
        else:
            _, most = axis.get_view_interval()
            (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(0, most * _ROOM)
            axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: words.figure(float(value))))


def _legend(figure: Figure, known: Sequence[Choice], looks: Mapping[str, tuple[str, str]], best: Choice | None) -> None:
    from matplotlib.lines import Line2D

    def sign(marker: str, edge: str, fill: str, size: float = 7) -> Line2D:
        return Line2D([], [], marker=marker, linestyle="", markersize=size, markeredgecolor=edge, markerfacecolor=fill, markeredgewidth=1.4)

    signs = [(sign(marker, color, color), _short(cloud)) for cloud, (color, marker) in looks.items() if color != SOFT]
    if len(looks) > len(COLORS):
        signs.append((sign("X", SOFT, SOFT), "other clouds"))
    if best is not None:
        signs.append((sign("o", INK, "none", 10), "suggested"))
    if any(one.rank is None for one in known):
        signs.append((sign("o", SOFT, PAPER), "not ranked"))
    if len({_at(one) for one in known if one.front}) > 1:
        signs.append((Line2D([], [], **_FRONT), "none cheaper and quicker"))
    lines, names = zip(*signs, strict=True)
    made = figure.legend(lines, names, loc="outside lower left", ncols=3, frameon=False, fontsize=9, labelcolor=INK, columnspacing=1.2)
    for each in made.get_texts():
        each.set_parse_math(False)


def _label(figure: Figure, axes: Axes, order: Sequence[Choice], best: Choice | None) -> None:
    """Write names beside points where there is room, those that matter first; the suggested one has its name in any case."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # puts everything in its place, where it stays
    figure.set_layout_engine("none")
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    inside, taken = axes.bbox, []
    for one in order:
        x, y = axes.transData.transform(_at(one))
        taken.append(Bbox.from_bounds(x - 7, y - 7, 14, 14))
    for one in order:
        said = f"{_short(one.candidate.offer.offer)}\n{_short(one.candidate.region)}"
        sides = [_write(axes, _at(one), said, side, one is best) for side in _SIDES]
        boxes = [written.get_window_extent(canvas.get_renderer()) for written in sides]  # type: ignore[no-untyped-call]
        within = [inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes]
        free = [fits and not any(box.overlaps(other) for other in taken) for fits, box in zip(within, boxes, strict=True)]
        # The suggested one has its name in any case: where it fits, or else on the side with more room.
        kept = free.index(True) if any(free) else None
        if kept is None and one is best:
            kept = within.index(True) if any(within) else int(boxes[0].x1 - inside.x1 > inside.x0 - boxes[1].x0)
        for number, written in enumerate(sides):
            if number != kept:
                written.remove()
        if kept is not None:
            taken.append(boxes[kept])


def _write(axes: Axes, at: tuple[float, float], said: str, side: tuple[int, int], suggested: bool) -> Annotation:
    written = axes.annotate(
        said, at, side, textcoords="offset points", ha="left" if side[0] > 0 else "right", va="bottom" if side[1] > 0 else "top",
        fontsize=9, linespacing=1.0, color=INK, zorder=5,
        weight="bold" if suggested else "normal", annotation_clip=False, parse_math=False,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
    )  # fmt: skip
    written.set_in_layout(False)
    return written


def _costs(answer: Answer) -> Plot:
    from matplotlib.patches import Patch

    shown = answer.choices[:_BARS]
    parts = list(dict.fromkeys(part for one in shown for part in one.estimate.costs))
    title = "What the euros of a month are paid for"
    figure, axes = _canvas(title, 1.5 + 0.42 * len(shown))
    axes.set_xlabel("EUR a month" + (" (* not ranked)" if any(one.rank is None for one in shown) else ""), color=INK, fontsize=10)
    ends, signs = [0.0] * len(shown), []
    for number, part in enumerate(parts):
        values = [(one.estimate.costs[part].value or 0.0) if part in one.estimate.costs else 0.0 for one in shown]
        color = COLORS[(3 + number) % 6]
        fills = [color if one.estimate.euros.known else PAPER for one in shown]
        edges = [PAPER if one.estimate.euros.known else color for one in shown]
        axes.barh(range(len(shown)), values, left=ends, color=fills, edgecolor=edges, linewidth=1.2, height=0.62)
        signs.append(Patch(facecolor=color, label=part))
        ends = [end + value for end, value in zip(ends, values, strict=True)]
    for row, one in enumerate(shown):
        lacks = [part for part, value in one.estimate.costs.items() if not value.known]
        said = f"+ {', '.join(lacks)}, unknown" if lacks else words.figure(one.estimate.euros.value or 0.0)
        axes.text(ends[row], row, f" {said}", va="center", fontsize=9, color=INK, parse_math=False)
    axes.set_xlim(0, max(ends) * 1.18 or 1)
    _rows(axes, [f"{_place(one)}{'' if one.rank else ' *'}" for one in shown])
    if len(parts) > 1:
        figure.legend(handles=signs, loc="outside lower left", ncols=len(parts), frameon=False, fontsize=9, labelcolor=INK)
    alt = (
        "Euros a month by "
        + ", ".join(parts)
        + ": "
        + "; ".join(f"{words.name(one.candidate)} {words.amount(one.estimate.euros)}" for one in shown)
        + "."
    )
    caption = (
        "Hollow bars lack a part that nobody knows: the whole costs more." if not all(one.estimate.euros.known for one in shown) else ""
    )
    return Plot("costs", title, alt, caption, figure)


def _weights(answer: Answer) -> Plot:
    from matplotlib.ticker import FuncFormatter

    title = "How far each weight can move"
    figure, axes = _canvas(title, 1.5 + 0.5 * len(answer.weights))
    axes.set_xlabel("weight, of all together 100 %", color=INK, fontsize=10)
    for row, one in enumerate(answer.weights):
        axes.barh(row, 1, color=LINE, height=0.3)
        axes.barh(row, one.high - one.low, left=one.low, color=COLORS[0], height=0.3, linewidth=1.5, edgecolor=COLORS[0])
        axes.plot([one.criterion.weight], [row], "D", color=INK, markersize=8, markeredgecolor=PAPER)
        axes.annotate(
            f"now {words.share(one.criterion.weight)}",
            (one.criterion.weight, row),
            (0, 10),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=INK,
        )
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.share(float(value))))
    _rows(axes, [one.criterion.name for one in answer.weights])
    alt = "; ".join(
        f"{one.criterion.name} {words.share(one.low)} to {words.share(one.high)}, now {words.share(one.criterion.weight)}"
        for one in answer.weights
    )
    caption = "The blue stretch: the suggested offer stays the best. One weight is moved at a time, the others keep their proportions."
    return Plot("weights", title, f"The suggested offer wins with these weights, one moved at a time: {alt}.", caption, figure)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, color=INK, fontsize=9, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _place(choice: Choice) -> str:
    where = f"{choice.candidate.cloud}, {choice.candidate.region}"
    return f"{_short(choice.candidate.offer.offer, 22)}\n{_short(where, 22)}"


def _short(name: str, most: int = _LONGEST) -> str:
    """Give a name in letters of the font, without its middle where it is long: names differ in their ends."""
    plain = "".join(sign if ord(sign) <= _LAST_LATIN and sign.isprintable() else "?" for sign in name)
    half = (most - 1) // 2
    return plain if len(plain) <= most else f"{plain[:half]}\u2026{plain[-half:]}"
