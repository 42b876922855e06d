"""Draw a land-cover map for people: legend, scale, north, outline, and in plain words what was not seen and what to beware of.

Works from thinned copies of the raster, so that a picture of a country takes no more memory than one of a village. Text that a user
typed is shown as it is: nothing in it is read as markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.data.legends import Legend
from earthself.processing.layout import Panel, Plan
from earthself.processing.lettering import any_glyph, one_line, wrapped
from earthself.processing.raster import Grid
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
WIDTH = 1200
"""Pixels of the picture from left to right."""
MAP = (5.05, 5.6)
"""Inches that maps may take, across and down."""
GAP = 0.5
"""Inches between panels: room for the figures along their edges."""
SIDE = 1100
"""Pixels of the longest side of a thinned raster."""
_KEY = 1.95
"""Inches of the column with the legend."""
_EDGE = 0.55
"""Inches at the left, for latitudes."""
_MARGIN = 0.15
"""Inches that stay free at the right."""
_INK = "#22303c"
_PALE = "#5d6b78"
_ALERT = "#9a3412"
_UNSEEN = np.array([201, 206, 211], np.uint8)
_STRIPE = np.array([166, 173, 180], np.uint8)
_BLANK = np.array([250, 250, 248], np.uint8)
_DOT = np.array([128, 136, 144], np.uint8)


@dataclass(frozen=True)
class Thinned:
    """A copy of a part of a map that is small enough to draw: arrays of (rows, columns)."""

    grid: Grid
    """The part's pixels as they are on the map, of which the arrays are a thinned copy."""
    code: NDArray[Any]
    seen: NDArray[np.bool_]
    """Where anything was observed."""
    inside: NDArray[np.bool_]
    """What belongs to the area."""


@dataclass(frozen=True)
class MapPicture:
    """What the picture says."""

    title: str
    subtitle: str
    """Dates, products, resolution."""
    notes: Sequence[str]
    """Short facts under the legend: mask, model, level."""
    warnings: Sequence[str]
    """What a reader must know, named under the map."""
    legend: Legend
    outline: Any
    """The area as a shapely geometry in the CRS of the map."""


def thinned_shape(size: tuple[int, int], longest: int = SIDE) -> tuple[int, int]:
    """Give rows and columns to read of a raster, so that its longer side has at most `longest` pixels."""
    factor = max(1.0, max(size) / longest)
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def draw(path: Path, picture: MapPicture, plan: Plan, rasters: Sequence[Thinned]) -> None:
    """Write the picture as PNG, 1200 pixels wide: a map for each panel of the plan, `rasters` in the same order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    said = _warning_lines(picture.warnings, WIDTH / DPI - _left(plan) - _MARGIN)
    key, key_height = _key_rows(picture, rasters)
    page = _Page.of(plan, len(said), key_height, several=len(plan.panels) > 1)
    figure = Figure(figsize=(page.width, page.height), dpi=DPI, facecolor="white")
    for number, (panel, raster) in enumerate(zip(plan.panels, rasters, strict=True)):
        axes = figure.add_axes(page.box(page.left + panel.left, page.top + panel.top, panel.width, panel.height))
        _paint(axes, panel, raster, picture)
        _ticks(axes, panel, raster.grid.crs)
        if len(plan.panels) > 1:
            axes.set_title("ABCDEF"[number], loc="left", fontsize=9, weight="bold", color=_INK, pad=3)
    page.text(figure, page.left, 0.3, one_line(picture.title, 15, page.width - page.left - _MARGIN, "bold"), size=15, weight="bold")
    page.text(figure, page.left, 0.57, one_line(picture.subtitle, 8.5, page.width - page.left - _MARGIN), size=8.5, colour=_PALE)
    below = page.top + key_height
    _key(figure, page, key)
    below = _scale_and_north(figure, page, plan, rasters[0].grid.crs, below)
    if len(plan.panels) > 1:
        _locator(figure, page, plan, picture.outline, below)
    for number, line in enumerate(said):
        page.text(figure, page.left, page.height - 0.22 - 0.19 * (len(said) - 1 - number), line, size=8, colour=_ALERT)
    with any_glyph():
        FigureCanvasAgg(figure).print_figure(str(path), format="png", dpi=DPI, metadata={"Software": None})


def thumbnail(path: Path, raster: Thinned, legend: Legend) -> None:
    """Write a small PNG of a signature: classes in their colours, what was not observed transparent."""
    from PIL import Image

    image = np.zeros((*raster.code.shape, 4), np.uint8)
    image[..., :3] = _colours(raster, legend, patterns=False)
    image[..., 3] = np.where(raster.seen & raster.inside, 255, 0)
    Image.fromarray(image).save(path, "PNG", optimize=True)


@dataclass(frozen=True)
class _Page:
    """Sizes in inches, from the upper left corner."""

    width: float
    height: float
    left: float
    """Where the maps begin."""
    top: float
    key: float
    """Where the column of the legend begins."""

    @classmethod
    def of(cls, plan: Plan, warnings: int, key_height: float, *, several: bool) -> _Page:
        width = WIDTH / DPI
        left = _left(plan)
        top = 0.82 + 0.12 * several
        column = key_height + 0.25 + 1.5 * several
        return cls(width, top + max(plan.height, column) + 0.5 + 0.19 * warnings, left, top, left + plan.width + 0.35)

    def box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Give a rectangle as matplotlib wants it: shares of the page, from the lower left corner."""
        return left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height

    def text(self, figure: Figure, left: float, top: float, text: str, *, size: float, colour: str = _INK, weight: str = "normal") -> None:
        place = (left / self.width, 1 - top / self.height)
        figure.text(*place, text, fontsize=size, color=colour, weight=weight, va="center", parse_math=False)


def _colours(raster: Thinned, legend: Legend, *, patterns: bool = True) -> NDArray[np.uint8]:
    """Paint red, green, blue; stripes where nothing was observed, dots where no class was found; enlarged so that patterns stay fine."""
    zoom = max(1, math.ceil(SIDE / 2 / max(raster.code.shape))) if patterns else 1
    code, seen, inside = (np.repeat(np.repeat(one, zoom, 0), zoom, 1) for one in (raster.code, raster.seen, raster.inside))
    image = np.full((*code.shape, 3), _BLANK, np.uint8)
    for value, colour in legend.colors().items():
        image[code == value] = colour
    if patterns:
        row, column = np.arange(code.shape[0])[:, None], np.arange(code.shape[1])[None, :]
        step = max(4, max(code.shape) // 90)
        dots = (row % step < max(2, step // 4)) & (column % step < max(2, step // 4))
        image[(code == 0) & dots] = _DOT
        stripes = ((row + column) // max(2, step // 2)) % 2 == 0
        image[~seen] = _UNSEEN
        image[~seen & stripes] = _STRIPE
    image[~inside] = 255
    return image


def _paint(axes: Axes, panel: Panel, raster: Thinned, picture: MapPicture) -> None:
    """Draw the raster and the area's outline in the panel's bounds."""
    import shapely

    left, bottom, right, top = raster.grid.bounds
    image = _colours(raster, picture.legend)
    axes.imshow(image, extent=(left, right, bottom, top), interpolation="nearest" if max(image.shape) < 2 * SIDE else "auto", aspect="auto")
    for polygon in shapely.get_parts(picture.outline):
        for ring in (polygon.exterior, *polygon.interiors):
            x, y = np.asarray(ring.coords).T[:2]
            axes.plot(x, y, color="white", linewidth=2.6, alpha=0.8)
            axes.plot(x, y, color=_INK, linewidth=1.1)
    axes.set_xlim(panel.bounds[0], panel.bounds[2])
    axes.set_ylim(panel.bounds[1], panel.bounds[3])
    for spine in axes.spines.values():
        spine.set_color(_PALE)
        spine.set_linewidth(0.6)


def _ticks(axes: Axes, panel: Panel, crs: str) -> None:
    """Longitudes along the lower edge, latitudes along the left one, where they really cross it."""
    from pyproj import Transformer

    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    left, bottom, right, top = panel.bounds
    x, y = np.linspace(left, right, 101), np.linspace(bottom, top, 101)
    lon = np.degrees(np.unwrap(np.radians(to_lonlat.transform(x, np.full(101, bottom))[0])))
    lat = np.asarray(to_lonlat.transform(np.full(101, left), y)[1])
    for values, places, axis, signs, inches in ((lon, x, axes.xaxis, "EW", panel.width), (lat, y, axes.yaxis, "NS", panel.height)):
        step = _round_step((values[-1] - values[0]) / max(1.0, inches / 1.3))
        at = np.arange(math.ceil(values[0] / step), math.floor(values[-1] / step) + 1) * step
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        shown = [(v + 180) % 360 - 180 if axis is axes.xaxis else v for v in at]
        axis.set_ticks(np.interp(at, values, places), [f"{abs(v):.{digits}f}°{signs[0] if v >= 0 else signs[1]}" for v in shown])
    axes.tick_params(labelsize=7, colors=_PALE, length=3, width=0.6)
    for label in axes.get_yticklabels():
        label.set_rotation(90)
        label.set_verticalalignment("center")


def _key_lines(picture: MapPicture, rasters: Sequence[Thinned]) -> list[tuple[str, dict[str, Any]]]:
    """Legend entries for what is on the maps: classes first, then what has none."""
    present = {int(value) for raster in rasters for value in np.unique(raster.code[raster.inside & raster.seen])}
    lines: list[tuple[str, dict[str, Any]]] = [
        (entry.name, {"facecolor": entry.color}) for entry in picture.legend.entries if entry.code in present
    ]
    if 0 in present:
        lines.append(("Observed, no class", {"facecolor": "#fafaf8", "hatch": "....", "edgecolor": "#606870"}))
    if any((raster.inside & ~raster.seen).any() for raster in rasters):
        lines.append(("Not observed", {"facecolor": "#c9ced3", "hatch": "/////", "edgecolor": "#a6adb4"}))
    broken = []
    for name, style in lines:
        first, *rest = wrapped(name, 8.5, _KEY - 0.3)
        broken += [(first, style), *((text, {}) for text in rest)]
    return broken + [(text, {"note": True}) for note in picture.notes for text in wrapped(note, 7.5, _KEY)]


def _key_rows(picture: MapPicture, rasters: Sequence[Thinned]) -> tuple[list[tuple[float, str, dict[str, Any]]], float]:
    """Place the lines of the legend: inches below the top of the column, text, style; and how high the column is."""
    rows = []
    y, notes = 0.33, False
    for text, style in _key_lines(picture, rasters):
        if style.get("note"):
            y += 0.0 if notes else 0.14
            notes = True
        elif style:
            y += 0.04
        rows.append((y, text, style))
        y += 0.165 if notes else 0.18
    return rows, y + 0.2


def _key(figure: Figure, page: _Page, rows: Sequence[tuple[float, str, dict[str, Any]]]) -> None:
    """Explain the colours, then the notes."""
    page.text(figure, page.key, page.top + 0.08, "Land cover", size=10, weight="bold")
    for below, text, style in rows:
        y = page.top + below
        if style.get("note"):
            page.text(figure, page.key, y, text, size=7.5, colour=_PALE)
            continue
        if style:
            box = page.box(page.key, y - 0.075, 0.2, 0.15)
            look = {"edgecolor": "#8a949e", **style}
            figure.add_artist(_rectangle(box[:2], box[2], box[3], linewidth=0.5, transform=figure.transFigure, **look))
        page.text(figure, page.key + 0.28, y, text, size=8.5)


def _scale_and_north(figure: Figure, page: _Page, plan: Plan, crs: str, top: float) -> float:
    """Draw a bar of round length and an arrow along the meridian: in a map's CRS true north is not always up."""
    from pyproj import Transformer

    left, bottom, right, upper = plan.panels[0].bounds
    middle = ((left + right) / 2, (bottom + upper) / 2)
    metres = _metres_per_unit(crs, middle, (right - left) / 1000)
    length = _round_step(1.25 * metres / plan.scale)
    inches = length / metres * plan.scale
    for part, colour in ((0, _INK), (1, "white")):
        box = page.box(page.key + 0.05 + part * inches / 2, top + 0.2, inches / 2, 0.055)
        figure.add_artist(
            _rectangle(box[:2], box[2], box[3], facecolor=colour, edgecolor=_INK, linewidth=0.7, transform=figure.transFigure)
        )
    page.text(figure, page.key + 0.02, top + 0.1, "0", size=7.5)
    page.text(figure, page.key + inches - 0.02, top + 0.1, f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m", size=7.5)
    to_map = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    lon, lat = to_map.transform(*middle, direction="INVERSE")
    (x0, x1), (y0, y1) = to_map.transform([lon, lon], [lat, lat + 0.001])
    angle = math.atan2(y1 - y0, x1 - x0)
    axes = figure.add_axes(page.box(page.key + 1.62, top - 0.05, 0.32, 0.42))
    axes.set_axis_off()
    axes.set_xlim(-1, 1)
    axes.set_ylim(-1.3, 1.3)
    tip = (0.95 * math.cos(angle), 0.95 * math.sin(angle))
    arrow = {"arrowstyle": "-|>,head_length=0.6,head_width=0.28", "color": _INK, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(tip[0], tip[1] + 0.3), xytext=(-tip[0] * 0.2, -tip[1] * 0.2 + 0.3), arrowprops=arrow, annotation_clip=False)
    axes.text(-tip[0] * 0.8, -tip[1] * 0.8 + 0.05, "N", fontsize=8.5, weight="bold", color=_INK, ha="center", va="center")
    return top + 0.5


def _locator(figure: Figure, page: _Page, plan: Plan, outline: Any, top: float) -> None:  # noqa: ANN401 (a shapely geometry)
    """Show how the panels lie to each other."""
    import shapely

    west, south, east, north = outline.bounds
    scale = min((_KEY - 0.3) / (east - west), 1.35 / (north - south))
    axes = figure.add_axes(page.box(page.key + 0.05, top + 0.12, (east - west) * scale, (north - south) * scale))
    for polygon in shapely.get_parts(outline):
        axes.fill(*np.asarray(polygon.exterior.coords).T[:2], facecolor="#dfe4e8", edgecolor=_INK, linewidth=0.7)
    for letter, panel in zip("ABCDEF", plan.panels, strict=False):
        x, y = (panel.bounds[0] + panel.bounds[2]) / 2, (panel.bounds[1] + panel.bounds[3]) / 2
        axes.text(x, y, letter, fontsize=8, weight="bold", color=_INK, ha="center", va="center")
    margin = 0.06 * max(east - west, north - south)
    axes.set_xlim(west - margin, east + margin)
    axes.set_ylim(south - margin, north + margin)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#b6bec6")
        spine.set_linewidth(0.6)


def _rectangle(corner: tuple[float, float], width: float, height: float, **style: Any) -> Any:  # noqa: ANN401 (a matplotlib patch)
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, **style)


def _left(plan: Plan) -> float:
    """Inches left of the maps: narrow ones stand in the middle with their legend."""
    return max(_EDGE, (WIDTH / DPI - plan.width - _KEY - _EDGE) / 2)


def _warning_lines(said: Sequence[str], width: float) -> list[str]:
    lines = [line for one in said for line in wrapped(f"⚠ {one}", 8, width, indent="   ")]
    return lines if len(lines) <= 8 else [*lines[:7], "   … further warnings in the report"]


def _round_step(about: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(m for m in (5, 2, 1) if m * power <= about * (1 + 1e-9)) * power


def _metres_per_unit(crs: str, place: tuple[float, float], step: float) -> float:
    """Metres on the ground for one CRS unit to the east."""
    from pyproj import Geod, Transformer

    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform([place[0], place[0] + step], [place[1]] * 2)
    return float(Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2]) / step
