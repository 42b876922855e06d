"""How pixel values are coloured: the legend's colours for land cover, and plain ones for the layers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from earthself.data import flags
from earthself.data.errors import BadInput, NotThere
from earthself.data.legends import legend
from numpy.typing import NDArray

LEGENDS = ("clc:1", "clc:2", "clc:3")
_ALL_LEVELS = "clc"
_OTHER = ("cloud_mask", "confidence", "flags", "observations")
NO_CLASS = "No class, or not observed"
"""What 0 says in a map of land cover."""
_CLEAR = (0, 0, 0, 0)
_RAMP = ((178, 24, 43), (253, 219, 119), (26, 122, 60))
_FLAG_COLORS = {
    flags.NODATA: "3e4c59",
    flags.CLOUD: "cbd2d9",
    flags.SHADOW: "7b8794",
    flags.SNOW: "b3ecff",
    flags.NOVEL: "de911d",
    flags.NO_CLASS: "d64545",
    flags.WATER: "0b69a3",
}
_COUNTS = ("fff7bc", "fec44f", "d95f0e", "993404", "662506")


@dataclass(frozen=True)
class Entry:
    """A line of a legend."""

    label: str
    """What it means."""
    color: str | None
    """`#rrggbb`; None is transparent."""
    value: int
    """The pixel value, for flags the bit."""


@dataclass(frozen=True, eq=False)
class Look:
    """Colours of a layer; there is one object of each."""

    name: str
    """In addresses: a legend's id, or the layer's name."""
    title: str
    """For people."""
    entries: tuple[Entry, ...]
    """The legend, from top to bottom."""
    indexes: NDArray[np.uint8]
    """Index of the colour of each of 65,536 values; 0 is transparent."""
    palette: NDArray[np.uint8]
    """(at most 256, 4) colours as red, green, blue, opacity."""


def look(name: str) -> Look:
    """Find the colours of that name; raises `NotThere`."""
    try:
        return _look(name)
    except BadInput:
        raise NotThere(f"legend {name[:80]!r} is not known; known are {', '.join(names())}") from None


def names() -> tuple[str, ...]:
    """All names of looks."""
    return (_ALL_LEVELS, *LEGENDS, *_OTHER)


def of_layer(layer: str, legend_id: str | None) -> Look:
    """The colours of a product's or result's layer; the codes of all levels where it does not say its legend."""
    if layer in ("segmentation", "land_cover"):
        return look(legend_id if legend_id in LEGENDS else _ALL_LEVELS)
    return look("confidence" if layer == "agreement" else layer)


@lru_cache(maxsize=16)
def _look(name: str) -> Look:
    if name == _ALL_LEVELS:
        entries = [entry for one in LEGENDS for entry in legend(one).entries]
        return _categories(name, "CORINE Land Cover", {e.code: (f"{e.code} {e.name}", e.color) for e in entries})
    if name == "cloud_mask":
        return _categories(name, "Clouds", {1: ("Cloud", "#9aa5b1")})
    if name == "confidence":
        return _ramp()
    if name == "flags":
        return _flags()
    if name == "observations":
        return _observations()
    found = legend(name)
    return _categories(name, f"CORINE Land Cover, level {found.level}", {e.code: (e.name, e.color) for e in found.entries})


def _categories(name: str, title: str, colors: Mapping[int, tuple[str, str]]) -> Look:
    indexes = np.zeros(65536, np.uint8)
    palette = [_CLEAR]
    for position, (value, (_, color)) in enumerate(colors.items(), 1):
        indexes[value] = position
        palette.append((*_rgb(color), 255))
    entries = tuple(Entry(label, color, value) for value, (label, color) in colors.items())
    if name not in _OTHER:
        entries = (*entries, Entry(NO_CLASS, None, 0))
    return Look(name, title, entries, indexes, np.array(palette, np.uint8))


def _ramp() -> Look:
    share = np.linspace(0, 1, 101)
    bands = [np.interp(share, (0, 0.5, 1), [color[band] for color in _RAMP]) for band in range(3)]
    palette = np.column_stack([*bands, np.full(101, 255)]).round().astype(np.uint8)
    indexes = np.zeros(65536, np.uint8)
    indexes[1:101] = np.arange(1, 101)
    palette[0] = _CLEAR  # nothing was decided there
    entries = tuple(Entry(f"{value} %", _hex(palette[value]), value) for value in (100, 75, 50, 25, 1))
    return Look("confidence", "Confidence in percent", entries, indexes, palette)


def _flags() -> Look:
    """A pixel with several flags shows the lowest bit: what was not seen matters more than what became of its class."""
    indexes = np.zeros(65536, np.uint8)
    values = np.arange(256)
    for position, bit in reversed(list(enumerate(_FLAG_COLORS, 1))):
        indexes[:256][values & bit > 0] = position
    palette = np.array([_CLEAR, *((*_rgb(color), 255) for color in _FLAG_COLORS.values())], np.uint8)
    entries = tuple(Entry(flags.MEANINGS[bit][1].capitalize(), f"#{color}", bit) for bit, color in _FLAG_COLORS.items())
    return Look("flags", "What was seen", entries, indexes, palette)


def _observations() -> Look:
    indexes = np.full(65536, len(_COUNTS), np.uint8)
    indexes[: len(_COUNTS)] = np.arange(len(_COUNTS))
    palette = np.array([_CLEAR, *((*_rgb(color), 255) for color in _COUNTS)], np.uint8)
    labels = [*(str(n) for n in range(1, len(_COUNTS))), f"{len(_COUNTS)} or more"]
    entries = tuple(Entry(label, f"#{color}", n) for n, (label, color) in enumerate(zip(labels, _COUNTS, strict=True), 1))
    return Look("observations", "Clear observations", entries, indexes, palette)


def _rgb(color: str) -> tuple[int, int, int]:
    digits = color.removeprefix("#")
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


def _hex(color: Any) -> str:  # noqa: ANN401 - a row of a palette
    return "#{:02x}{:02x}{:02x}".format(*color[:3])
