"""The hash of the pixels that were read, by which an input is known again: row by row, whatever the size of the reads.

SHA-256 of the window's pixels in the file's data type, little-endian, rows from north to south.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earthself.data.sources import BandReader
    from numpy.typing import NDArray

_STRIP = 1024
"""Rows read at a time, about."""


def strips(reader: BandReader, column: int, row: int, width: int, height: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Read a window (pixels of the band) in strips of full width: the strip's first row and its pixels.

    Strips end where the file's blocks end, so that no block is fetched twice.
    """
    from rasterio.windows import Window

    block = reader.block_shape[0]
    step = block * max(1, _STRIP // block) if block <= 2 * _STRIP else _STRIP
    edges = [row, *range((row // step + 1) * step, row + height, step), row + height]
    for start, end in itertools.pairwise(edges):
        yield start, reader.read(Window(column, start, width, end - start))


class PixelHash:
    """Hash pixels that come piece by piece, in order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, pixels: NDArray[Any]) -> None:
        """Add the next rows."""
        self._digest.update(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes())

    def hexdigest(self) -> str:
        """Give the hash so far, hexadecimal."""
        return self._digest.hexdigest()
