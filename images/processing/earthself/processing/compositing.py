"""A cloud-masked median over dates, streamed: source tiles are read once, output tiles compressed once, memory is that of a few tiles.

Fit for use without the step contract: `median_composite` takes files and a `CogWriter`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from earthself.processing import kernels
from earthself.processing.errors import BadInput
from earthself.processing.placing import Placement, take
from earthself.processing.raster import BLOCK, CogWriter, Grid, nodata_to_zero, readable, windows
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rasterio.windows import Window

MASKED = (0, 1, 3, 8, 9, 10)
"""Scene classes that are left out by default: no data, defective, cloud shadow, cloud (two kinds), cirrus."""
CACHE = 32 * 2**20
"""Bytes of GDAL's block cache that suffice: every source tile is read once where tiles lie on tiles."""
_OPEN_FILES = 720
"""Files that all threads together keep open."""


@dataclass(frozen=True)
class Scene:
    """One product."""

    id: str
    datatake: str
    """Scenes that share it saw the ground at the same moment: where they overlap they count once, the first by `rank` with a value."""
    bands: Mapping[str, Path]
    classes: Path | None
    """Scene classification (SCL), or None: no pixel is left out."""
    shift: int = 0
    """Added to digital numbers above 0, to bring scenes of different baselines to one scale; 0 or more."""
    rank: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Composite:
    """What came of it."""

    pixels: int
    """Pixels of the image."""
    observed: int
    """Pixels with a value in every band."""
    skipped: int
    """Tiles that were not read, because their date is masked all over."""


@dataclass(frozen=True)
class Recipe:
    """What to make of which scenes."""

    scenes: Sequence[Scene]
    bands: Sequence[str]
    masked: Sequence[int] = MASKED
    """Scene classes to leave out."""
    threads: int = 1


def median_composite(recipe: Recipe, cog: CogWriter, progress: Callable[[float, str], None] = lambda *_: None) -> Composite:
    """Write the median of the unmasked values of each band, 0 where there is none, into an open `CogWriter` of uint16.

    Of an even number of values it is the mean of the two in the middle, halves up. The order of the scenes changes no pixel.
    """
    todo = list(windows(cog.grid, 2 * BLOCK))
    observed = skipped = 0
    with _Workers(recipe, cog.grid) as workers:
        for done, (window, image, left_out) in enumerate(_in_order(workers, todo, recipe.threads)):
            cog.write(image, window)
            observed += int(np.count_nonzero(image.min(axis=0)))
            skipped += left_out
            progress((done + 1) / (len(todo) + 1), f"{done + 1} of {len(todo)} windows")
    return Composite(cog.grid.width * cog.grid.height, observed, skipped)


def _in_order(workers: _Workers, todo: Sequence[Window], threads: int) -> Iterator[tuple[Window, NDArray[np.uint16], int]]:
    """Compute windows ahead in threads, but never more than one for each beyond the one that is wanted next."""
    if threads == 1:
        yield from ((window, *workers.compute(window)) for window in todo)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Window, Future[tuple[NDArray[np.uint16], int]]]] = deque()
        for window in todo:
            waiting.append((window, pool.submit(workers.compute, window)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, *future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, *future.result()


@dataclass
class _Workers:
    """Computes windows; each thread has its own open files and buffers."""

    recipe: Recipe
    grid: Grid
    _local: threading.local = field(default_factory=threading.local, init=False)
    _all: list[_Files] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        known = sorted(self.recipe.scenes, key=lambda scene: (scene.datatake, scene.rank, scene.id))
        self._dates = [list(group) for _, group in groupby(known, key=lambda scene: scene.datatake)]
        self._hide = np.zeros(256, np.uint16)
        self._hide[list(self.recipe.masked)] = kernels.NOTHING

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for files in self._all:
            files.close()

    def compute(self, window: Window) -> tuple[NDArray[np.uint16], int]:
        """Compute all bands of a window; also how many tiles needed no reading."""
        out = np.empty((len(self.recipe.bands), int(window.height), int(window.width)), np.uint16)
        skipped = 0
        for part in _tiles(window):
            top, left = int(part.row_off - window.row_off), int(part.col_off - window.col_off)
            skipped += self._tile(part, out[:, top : top + int(part.height), left : left + int(part.width)])
        return out, skipped

    def _tile(self, tile: Window, out: NDArray[np.uint16]) -> int:
        files = self._files()
        dates = [seen for date in self._dates if (seen := self._seen(files, date, tile))]
        result = np.empty(out.shape[1:], np.uint16)
        for index, band in enumerate(self.recipe.bands):
            planes, masks = [], []
            for number, date in enumerate(dates):
                plane, mask = self._date(files, date, band, tile, number)
                planes.append(plane)
                masks.append(mask)
            kernels.median(planes, masks, result)
            out[index] = result
        return len(self.recipe.bands) * (len(self.recipe.scenes) - sum(len(date) for date in dates))

    def _seen(self, files: _Files, date: Sequence[Scene], tile: Window) -> list[tuple[Scene, NDArray[np.uint16] | None]]:
        """Find the scenes of a date that see something of the tile, each with what of it is hidden (None: nothing)."""
        found: list[tuple[Scene, NDArray[np.uint16] | None]] = []
        for scene in date:
            if scene.classes is None:
                found.append((scene, None))
                continue
            hidden = self._hide[files.classes(scene.classes, tile)]
            if not hidden.all():
                found.append((scene, hidden if hidden.any() else None))
        return found

    def _date(
        self, files: _Files, date: Sequence[tuple[Scene, NDArray[np.uint16] | None]], band: str, tile: Window, number: int
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
        """One plane for a date: its only scene, or the first scene with a value where several overlap."""
        scene, hidden = date[0]
        plane = files.numbers(scene.bands[band], tile, buffer=number)
        _rescale(plane, scene.shift)
        if len(date) == 1:
            return plane, hidden
        if hidden is not None:
            plane[hidden != 0] = 0
        for other, mask in date[1:]:
            further = files.numbers(other.bands[band], tile)
            _rescale(further, other.shift)
            missing = plane == 0
            if mask is not None:
                missing &= mask == 0
            plane[missing] = further[missing]
        return plane, None

    def _files(self) -> _Files:
        files: _Files | None = getattr(self._local, "files", None)
        if files is None:
            files = self._local.files = _Files(self.grid, _OPEN_FILES // self.recipe.threads)
            self._all.append(files)
        return files


@dataclass(frozen=True)
class _Source:
    """One open file."""

    dataset: Any
    placement: Placement
    aligned: tuple[int, int] | None
    """Rows and columns from the file's corner to that of the composite's grid, where both have the same pixels."""
    nodata: float | None


class _Files:
    """Open files of one thread, and the memory that it reads into."""

    def __init__(self, grid: Grid, most: int) -> None:
        self._grid, self._most = grid, max(1, most)
        self._open: OrderedDict[Path, _Source] = OrderedDict()
        self._buffers: dict[int, NDArray[np.uint16]] = {}

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].dataset.close()

    def numbers(self, path: Path, tile: Window, buffer: int | None = None) -> NDArray[np.uint16]:
        """Read digital numbers at a tile of the grid, 0 is no data; into the thread's buffer of that number where that is possible."""
        return self._read(self._source(path, "uint16", "digital numbers"), tile, buffer)

    def classes(self, path: Path, tile: Window) -> NDArray[np.uint8]:
        """Read scene classes at a tile of the grid, 0 is no data."""
        return self._read(self._source(path, "uint8", "scene classes"), tile, None)

    def _read(self, source: _Source, tile: Window, buffer: int | None) -> NDArray[Any]:
        with readable(source.dataset.name):
            pixels = self._pixels(source, tile, buffer)
        nodata_to_zero(pixels, source.nodata)
        return pixels

    def _pixels(self, source: _Source, tile: Window, buffer: int | None) -> NDArray[Any]:
        from rasterio.windows import Window as Rectangle

        dataset, aligned = source.dataset, source.aligned
        if aligned is not None:
            row, column = int(tile.row_off) + aligned[0], int(tile.col_off) + aligned[1]
            height, width = int(tile.height), int(tile.width)
            if row >= 0 and column >= 0 and row + height <= dataset.height and column + width <= dataset.width:
                out = None if buffer is None else self._buffer(buffer, height, width)
                return np.asarray(dataset.read(1, window=Rectangle(column, row, width, height), out=out))
        return take(dataset, source.placement, tile, outside=0)

    def _buffer(self, number: int, height: int, width: int) -> NDArray[np.uint16]:
        if number not in self._buffers:
            self._buffers[number] = np.empty(BLOCK * BLOCK, np.uint16)
        return self._buffers[number][: height * width].reshape(height, width)

    def _source(self, path: Path, dtype: str, kind: str) -> _Source:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        import rasterio

        with readable(path):
            dataset = rasterio.open(path)
        if dataset.dtypes[0] != dtype:
            dataset.close()
            raise BadInput(f"{path} holds {dataset.dtypes[0]}; {kind} are {dtype}: leave the product out, or fetch it where they are")
        grid = Grid.of(dataset)
        source = self._open[path] = _Source(dataset, Placement(grid, self._grid), _alignment(grid, self._grid), dataset.nodata)
        if len(self._open) > self._most:
            self._open.popitem(last=False)[1].dataset.close()
        return source


def _alignment(source: Grid, target: Grid) -> tuple[int, int] | None:
    """Rows and columns from the target's corner to the source's where both have the same pixels, else None."""
    if source.crs != target.crs or source.transform[:2] != target.transform[:2] or source.transform[3:5] != target.transform[3:5]:
        return None
    column = (target.transform.c - source.transform.c) / source.transform.a
    row = (target.transform.f - source.transform.f) / source.transform.e
    whole = abs(column - round(column)) < 1e-6 and abs(row - round(row)) < 1e-6
    return (round(row), round(column)) if whole else None


def _rescale(plane: NDArray[np.uint16], shift: int) -> None:
    """Add to every digital number that is not 0 (no data); what would pass 65535 stays there."""
    if shift:
        known = plane > 0
        np.minimum(plane, np.uint16(65535 - shift), out=plane)
        np.add(plane, np.uint16(shift), out=plane, where=known)


def _tiles(window: Window) -> Iterator[Window]:
    from rasterio.windows import Window as Rectangle

    for row in range(0, int(window.height), BLOCK):
        for column in range(0, int(window.width), BLOCK):
            width, height = min(BLOCK, int(window.width) - column), min(BLOCK, int(window.height) - row)
            yield Rectangle(window.col_off + column, window.row_off + row, width, height)
