"""Draw a land-cover map for people: legend, scale, north, outline, and in plain words what was not seen and what to beware of.

Works from a thinned copy of the raster, so that a picture of a country takes no more memory than one of a village. Text that a user
typed is shown as it is: nothing in it is read as markup.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.data.legends import Legend
from earthself.processing.raster import Grid
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 1200
"""Pixels of the picture from left to right."""
_DPI = 150
_SIDE = 1100
"""Pixels of the longest side of the drawn raster."""
_INK = "#22303c"
_PALE = "#5d6b78"
_UNSEEN = np.array([201, 206, 211], np.uint8)
_STRIPE = np.array([166, 173, 180], np.uint8)
_BLANK = np.array([250, 250, 248], np.uint8)
_DOT = np.array([96, 104, 112], np.uint8)


@dataclass(frozen=True)
class Thinned:
    """A copy of a map that is small enough to draw: arrays of (rows, columns)."""

    grid: Grid
    """The whole map's pixels, of which the arrays are a thinned copy."""
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
    """The area as a shapely geometry in the CRS of the grid."""


def thinned(size: tuple[int, int], longest: int = _SIDE) -> tuple[int, int]:
    """Give rows and columns to read of a raster, so that its longer side has at most `longest` pixels."""
    factor = max(1.0, max(size) / longest)
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def draw(path: Path, picture: MapPicture, raster: Thinned) -> None:
    """Write the picture as PNG, 1200 pixels wide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grid = raster.grid
    span_x, span_y = grid.bounds[2] - grid.bounds[0], grid.bounds[3] - grid.bounds[1]
    map_width = 0.64
    tall = min(1.5, max(0.45, span_y / span_x))
    said = _warning_lines(picture.warnings)
    top, bottom = 0.82, 0.62 + 0.19 * len(said)
    height = top + bottom + WIDTH / _DPI * map_width * tall
    figure = Figure(figsize=(WIDTH / _DPI, height), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.075, bottom / height, map_width, 1 - (top + bottom) / height))
    _paint(axes, grid, _colours(raster, picture.legend))
    _outline(axes, picture.outline)
    _ticks(axes, grid)
    _scale_bar(axes, grid)
    _north(axes, grid)
    _text(figure, (0.075, 1 - 0.3 / height), _one_line(picture.title, 62), 15, _INK, weight="bold")
    _text(figure, (0.075, 1 - 0.56 / height), _one_line(picture.subtitle, 118), 8.5, _PALE)
    _key(figure, picture, raster, 1 - top / height)
    for number, line in enumerate(said):
        _text(figure, (0.075, (bottom - 0.52 - 0.19 * number) / height), line, 8, "#9a3412")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        FigureCanvasAgg(figure).print_figure(str(path), format="png", dpi=_DPI, metadata={"Software": None})


def thumbnail(path: Path, raster: Thinned, legend: Legend) -> None:
    """Write a small PNG of a signature: classes in their colours, what was not observed transparent."""
    from PIL import Image

    image = np.zeros((*raster.code.shape, 4), np.uint8)
    image[..., :3] = _colours(raster, legend, patterns=False)
    image[..., 3] = np.where(raster.seen & raster.inside, 255, 0)
    Image.fromarray(image).save(path, "PNG", optimize=True)


def _colours(raster: Thinned, legend: Legend, *, patterns: bool = True) -> NDArray[np.uint8]:
    """Paint red, green, blue; stripes where nothing was observed, dots where no class was found; enlarged so that patterns stay fine."""
    zoom = max(1, math.ceil(_SIDE / 2 / max(raster.code.shape))) if patterns else 1
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


def _paint(axes: Axes, grid: Grid, image: NDArray[np.uint8]) -> None:
    left, bottom, right, top = grid.bounds
    axes.imshow(image, extent=(left, right, bottom, top), interpolation="nearest" if max(image.shape) < 2 * _SIDE else "auto")
    axes.set_anchor("NW")
    for spine in axes.spines.values():
        spine.set_color(_PALE)
        spine.set_linewidth(0.6)


def _outline(axes: Axes, shape: Any) -> None:  # noqa: ANN401 (a shapely geometry)
    import shapely

    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for polygon in shapely.get_parts(shape):
        for ring in (polygon.exterior, *polygon.interiors):
            x, y = np.asarray(ring.coords).T[:2]
            axes.plot(x, y, color="white", linewidth=2.6, alpha=0.8)
            axes.plot(x, y, color=_INK, linewidth=1.1)
    margin = 0.012 * max(right - left, top - bottom)
    axes.set_xlim(left - margin, right + margin)
    axes.set_ylim(bottom - margin, top + margin)


def _ticks(axes: Axes, grid: Grid) -> None:
    """Longitudes along the lower edge, latitudes along the left one, where they really cross it."""
    from pyproj import Transformer

    to_lonlat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = np.linspace(left, right, 101), np.linspace(bottom, top, 101)
    lon = np.degrees(np.unwrap(np.radians(to_lonlat.transform(x, np.full(101, bottom))[0])))
    lat = np.asarray(to_lonlat.transform(np.full(101, left), y)[1])
    for values, places, axis, signs, wrap in ((lon, x, axes.xaxis, "EW", 360), (lat, y, axes.yaxis, "NS", 0)):
        step = _round_step((values[-1] - values[0]) / 3)
        at = np.arange(math.ceil(values[0] / step), math.floor(values[-1] / step) + 1) * step
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        shown = [(v + 180) % 360 - 180 if wrap else v for v in at]
        axis.set_ticks(np.interp(at, values, places), [f"{abs(v):.{digits}f}°{signs[0] if v >= 0 else signs[1]}" for v in shown])
    axes.tick_params(labelsize=7, colors=_PALE, length=3, width=0.6)
    for label in axes.get_yticklabels():
        label.set_rotation(90)
        label.set_verticalalignment("center")


def _scale_bar(axes: Axes, grid: Grid) -> None:
    metres = _metres_per_unit(grid)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    length = _round_step((right - left) * metres / 4)
    wide, tall = length / metres, (top - bottom) * 0.011
    x, y = left + (right - left) * 0.035, bottom + (top - bottom) * 0.045
    _plate(axes, (x - wide * 0.07, y - tall * 2.4), wide * 1.14 + (right - left) * 0.05, tall * 7.4)
    for part, colour in ((0, _INK), (1, "white")):
        axes.add_patch(_rectangle((x + part * wide / 2, y), wide / 2, tall, facecolor=colour, edgecolor=_INK, linewidth=0.7, zorder=6))
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    for at, text in ((x, "0"), (x + wide, label)):
        axes.text(at, y + tall * 1.5, text, fontsize=7.5, color=_INK, ha="center", va="bottom", zorder=7)


def _north(axes: Axes, grid: Grid) -> None:
    """Point along the meridian: in a map's CRS true north is not always up."""
    from pyproj import Transformer

    to_map = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
    left, bottom, right, top = grid.bounds
    lon, lat = to_map.transform((left + right) / 2, (bottom + top) / 2, direction="INVERSE")
    (x0, x1), (y0, y1) = to_map.transform([lon, lon], [lat, lat + 0.001])
    angle = math.atan2(y1 - y0, x1 - x0)
    centre, reach = (0.942, 0.9), 15
    axes.plot([centre[0]], [centre[1]], "o", transform=axes.transAxes, markersize=33, color="white", alpha=0.82, zorder=5)
    tip = (reach * math.cos(angle), reach * math.sin(angle))
    fixed: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "zorder": 7}
    arrow = {"arrowstyle": "<|-,head_length=0.8,head_width=0.36", "color": _INK, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=centre, xytext=tip, arrowprops=arrow, **fixed)
    axes.annotate(
        "N", xy=centre, xytext=(-tip[0] * 0.62, -tip[1] * 0.62), fontsize=9, weight="bold", color=_INK, ha="center", va="center", **fixed
    )


def _key(figure: Figure, picture: MapPicture, raster: Thinned, top: float) -> None:
    """Explain the classes that are on the map, then what has none; then the notes."""
    height = figure.get_size_inches()[1]
    present = set(np.unique(raster.code[raster.inside & raster.seen]).tolist())
    entries = [(entry.name, {"facecolor": entry.color}) for entry in picture.legend.entries if entry.code in present]
    if 0 in present:
        entries.append(("Observed, no class", {"facecolor": "#fafaf8", "hatch": "....", "edgecolor": "#606870"}))
    if (raster.inside & ~raster.seen).any():
        entries.append(("Not observed", {"facecolor": "#c9ced3", "hatch": "/////", "edgecolor": "#a6adb4"}))
    x, y, line = 0.755, top, 0.175 / height
    _text(figure, (x, y - 0.1 / height), "Land cover", 10, _INK, weight="bold")
    y -= 0.36 / height
    for name, style in entries:
        lines = textwrap.wrap(name, 26)
        look = {"edgecolor": "#8a949e", **style}
        figure.add_artist(_rectangle((x, y - 0.05 / height), 0.024, 0.15 / height, linewidth=0.5, transform=figure.transFigure, **look))
        for text in lines:
            _text(figure, (x + 0.034, y), text, 8.5, _INK)
            y -= line
        y -= 0.07 / height
    y -= 0.1 / height
    for note in picture.notes:
        for text in textwrap.wrap(note, 36):
            _text(figure, (x, y), text, 7.5, _PALE)
            y -= line * 0.88
        y -= 0.06 / height


def _plate(axes: Axes, corner: tuple[float, float], width: float, height: float) -> None:
    axes.add_patch(_rectangle(corner, width, height, facecolor="white", alpha=0.82, linewidth=0, zorder=5))


def _rectangle(corner: tuple[float, float], width: float, height: float, **style: Any) -> Any:  # noqa: ANN401 (a matplotlib patch)
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, **style)


def _text(figure: Figure, place: tuple[float, float], text: str, size: float, colour: str, *, weight: str = "normal") -> None:
    figure.text(*place, text, fontsize=size, color=colour, weight=weight, va="center", parse_math=False)


def _warning_lines(said: Sequence[str]) -> list[str]:
    lines = [line for one in said for line in textwrap.wrap(f"⚠ {one}", 120, subsequent_indent="   ")]
    return lines if len(lines) <= 8 else [*lines[:7], "   … further warnings in the report"]


def _one_line(text: str, limit: int) -> str:
    return textwrap.shorten(" ".join(text.split()), limit, placeholder=" …")


def _round_step(about: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(m for m in (5, 2, 1) if m * power <= about * (1 + 1e-9)) * power


def _metres_per_unit(grid: Grid) -> float:
    """Metres on the ground for one CRS unit to the east in the middle of the map."""
    from pyproj import CRS, Geod, Transformer

    left, bottom, right, top = grid.bounds
    x, y, step = (left + right) / 2, (bottom + top) / 2, (right - left) / 1000
    lon, lat = Transformer.from_crs(CRS(grid.crs), "EPSG:4326", always_xy=True).transform([x, x + step], [y, y])
    return float(Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2]) / step
