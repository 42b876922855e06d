"""An image and its overviews as plain tiled TIFFs, made while the pixels pass by, for `cog.assemble` to put together.

The overview of half the resolution is taken from the window in memory; it waits uncompressed, because compressing a tile that comes in
four pieces would be done four times. The smaller ones are made of it at the end, window by window.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.windows import Window

_SIDE = 1024
"""Pixels of the windows in which overviews are read and written."""


@dataclass(frozen=True)
class Layout:
    """What all levels of an image share."""

    width: int
    height: int
    transform: Affine
    dtype: str
    nodata: float | None
    categorical: bool
    """True: overviews by nearest neighbour (the upper left of four pixels); False: mean of the pixels that are not nodata."""
    block: int
    """Side of a tile, pixels."""
    options: dict[str, Any]
    """Further arguments of `rasterio.open` for the compressed files."""

    def factors(self) -> list[int]:
        """Overviews as GDAL's COG driver chooses them: halved until a tile holds all."""
        return [2**n for n in range(1, 32) if max(self.width, self.height) // 2 ** (n - 1) > self.block]

    def size(self, level: int) -> tuple[int, int]:
        """Width and height of a level; 0 is the image."""
        return -(-self.width // 2**level), -(-self.height // 2**level)


@dataclass
class Pyramid:
    """Files of all levels beside `draft`; `close` finishes the overviews and returns the files, `discard` removes all of them."""

    draft: Path
    count: int
    layout: Layout
    describe: Any
    """Called with each new dataset, to write tags and colours."""
    _open: ExitStack = field(default_factory=ExitStack, init=False)
    _made: list[Path] = field(default_factory=list, init=False)
    _streamed: bool = field(default=True, init=False)
    _image: Any = field(default=None, init=False)
    _half: Any = field(default=None, init=False)

    def open(self) -> None:
        """Create the files that are written while the image passes."""
        self._image = self._create(0, **self.layout.options)
        if self.layout.factors():
            self._half = self._create(1, raw=True)

    def write(self, data: NDArray[Any], window: Window) -> None:
        """Write (bands, rows, columns) of the image."""
        self._image.write(data, window=window)
        if self._half is None:
            return
        if window.row_off % 2 or window.col_off % 2 or not self._whole_pairs(window):
            self._streamed = False
        elif self._streamed:
            half = halved(data, self.layout.nodata, categorical=self.layout.categorical)
            self._half.write(half, window=_window(window.col_off // 2, window.row_off // 2, half))

    def close(self) -> list[Path]:
        """Finish; returns the compressed files, the image first."""
        self._open.close()
        files = [self._path(0)]
        for level, _ in enumerate(self.layout.factors(), start=1):
            self._overview(level, last=level == len(self.layout.factors()))
            files.append(self._path(level))
        return files

    def discard(self) -> None:
        """Remove every file of the pyramid."""
        self._open.close()
        for path in self._made:
            path.unlink(missing_ok=True)

    def _overview(self, level: int, *, last: bool) -> None:
        """Compress the overview that waits as raw pixels, and leave the raw pixels of the next one."""
        import rasterio

        with ExitStack() as stack:
            streamed = level > 1 or self._streamed
            source = stack.enter_context(rasterio.open(self._path(level, raw=True) if streamed else self._path(0)))
            target = stack.enter_context(self._create(level, **self.layout.options))
            following = None if last else stack.enter_context(self._create(level + 1, raw=True))
            for window in self._windows(level):
                if streamed:
                    data = source.read(window=window)
                else:
                    data = halved(source.read(window=self._doubled(window)), self.layout.nodata, categorical=self.layout.categorical)
                target.write(data, window=window)
                if following is not None:
                    half = halved(data, self.layout.nodata, categorical=self.layout.categorical)
                    following.write(half, window=_window(window.col_off // 2, window.row_off // 2, half))
        if streamed:
            self._path(level, raw=True).unlink()

    def _windows(self, level: int) -> Iterator[Window]:
        from rasterio.windows import Window as Rectangle

        width, height = self.layout.size(level)
        for row in range(0, height, _SIDE):
            for column in range(0, width, _SIDE):
                yield Rectangle(column, row, min(_SIDE, width - column), min(_SIDE, height - row))

    def _doubled(self, window: Window) -> Window:
        from rasterio.windows import Window as Rectangle

        column, row = 2 * window.col_off, 2 * window.row_off
        return Rectangle(column, row, min(2 * window.width, self.layout.width - column), min(2 * window.height, self.layout.height - row))

    def _whole_pairs(self, window: Window) -> bool:
        """Whether the window ends between pairs of pixels, or with the image."""
        right, lower = window.col_off + window.width, window.row_off + window.height
        return bool((right % 2 == 0 or right == self.layout.width) and (lower % 2 == 0 or lower == self.layout.height))

    def _path(self, level: int, *, raw: bool = False) -> Path:
        return self.draft.with_name(f"{self.draft.name}.{level}{'.raw' if raw else ''}.tif")

    def _create(self, level: int, *, raw: bool = False, **options: Any) -> Any:  # noqa: ANN401 (a rasterio dataset)
        import rasterio

        path = self._path(level, raw=raw)
        self._made.append(path)
        width, height = self.layout.size(level)
        dataset = rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=self.count,
            dtype=self.layout.dtype,
            transform=self.layout.transform @ self.layout.transform.scale(2**level),
            nodata=self.layout.nodata,
            tiled=True,
            blockxsize=self.layout.block,
            blockysize=self.layout.block,
            bigtiff="YES",
            **options,
        )
        if not raw:
            self.describe(dataset, level)
        return self._open.enter_context(dataset) if level == 0 or (level == 1 and raw) else dataset


def halved(data: NDArray[Any], nodata: float | None, *, categorical: bool) -> NDArray[Any]:
    """Halve (bands, rows, columns): the upper left of four pixels, or their mean without nodata (halves away from 0)."""
    if categorical:
        return data[:, ::2, ::2]
    rows, columns = data.shape[1] % 2, data.shape[2] % 2
    if rows or columns:
        data = np.pad(data, ((0, 0), (0, rows), (0, columns)), mode="edge")
    return np.stack([_mean_of_four(band, nodata) for band in data])


def _mean_of_four(band: NDArray[Any], nodata: float | None) -> NDArray[Any]:
    if band.dtype == np.uint16 and (nodata is None or not (band == nodata).any()):
        pairs = np.ascontiguousarray(band).view("<u4")  # two neighbours in one word: the sums stay contiguous
        upper, lower = pairs[0::2], pairs[1::2]
        total = (upper & 0xFFFF) + (upper >> 16) + (lower & 0xFFFF) + (lower >> 16)
        rounded: NDArray[np.uint16] = ((total + 2) >> 2).astype(np.uint16)
        return rounded
    four = np.stack([band[row::2, column::2] for row in (0, 1) for column in (0, 1)]).astype(np.float64)
    known = np.ones(four.shape, np.bool_) if nodata is None else ~np.isnan(four) if np.isnan(nodata) else four != nodata
    number = known.sum(axis=0)
    mean = np.where(known, four, 0).sum(axis=0) / np.maximum(number, 1)
    if band.dtype.kind in "iu":
        mean = np.copysign(np.floor(np.abs(mean) + 0.5), mean)
        if nodata is not None:
            mean[(mean == nodata) & (number > 0)] += 1  # a mean of known pixels is known
    return np.where(number > 0, mean, nodata if nodata is not None else 0).astype(band.dtype)


def _window(column: int, row: int, data: NDArray[Any]) -> Window:
    from rasterio.windows import Window as Rectangle

    return Rectangle(column, row, data.shape[2], data.shape[1])
