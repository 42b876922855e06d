"""A coarse map of where land is, to say of an empty result that its area lies in the sea.

Half-degree cells, from Natural Earth's 1:110 million map (public domain); a cell counts as land when land is within half a
cell of it. Small islands are missing on that map, so this is good for a hint and never for a refusal. The file is made by
`tests/client/make_land.py`.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path

CELL = 0.5
"""Size of a cell, degrees."""

ROWS, COLUMNS = 360, 720
"""From 90 degrees north to south, from -180 degrees to east."""


def near(longitude: float, latitude: float) -> bool:
    """Tell whether the coarse map has land in or next to this place."""
    row = min(ROWS - 1, max(0, int((90 - latitude) / CELL)))
    column = int((longitude + 180) / CELL) % COLUMNS
    number = row * COLUMNS + column
    return bool(_cells()[number // 8] >> (7 - number % 8) & 1)


@functools.cache
def _cells() -> bytes:
    """Return one bit a cell, row by row, the highest bit first."""
    return zlib.decompress(Path(__file__).with_name("land.bin").read_bytes())
