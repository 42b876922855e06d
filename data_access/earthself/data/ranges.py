"""Pixels of remote rasters by ranged reads: GDAL asks for bytes, `earthself.data.http` fetches them.

GDAL's own /vsicurl neither honours Retry-After nor tells bytes moved, a replaced file or a refused login apart. So the files are
opened through rasterio's opener: GDAL still merges neighbouring blocks and asks for all of a window at once, and those ranges
are fetched side by side under one policy.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from earthself.data.answers import Version, shown
from earthself.data.errors import Damaged, DataError, NotThere
from earthself.data.http import Access, Http

if TYPE_CHECKING:
    import numpy as np
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader
    from rasterio.windows import Window

_CHUNK = 1 << 16
_CACHED_CHUNKS = 128
_SIDE_BY_SIDE = 4


class RangeSource:
    """One remote file: its size, its state at the first read, and the small pieces read so far."""

    def __init__(self, http: Http, access: Access, url: str, first: bytes, version: Version) -> None:
        """Take what `probe` found."""
        self.http, self.access, self.url, self.version = http, access, url, version
        self.bytes_read = len(first)
        self.failure: DataError | None = None
        self._chunks: OrderedDict[int, bytes] = OrderedDict({0: first})
        self._lock = threading.Lock()

    @classmethod
    def probe(cls, http: Http, access: Access, url: str) -> RangeSource | None:
        """Read the first piece of a file; None when its server serves no ranges."""
        part = http.read(access, url, 0, _CHUNK)
        if not part.ranged or part.version.size is None:
            return None
        return cls(http, access, url, part.data, part.version)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.version.size or 0

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `[start, stop)`, less at the end of the file; small reads come out of whole cached pieces."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        if stop - start > _CHUNK:
            return self._fetch(start, stop)
        pieces = b"".join(self._chunk(i) for i in range(start // _CHUNK, (stop - 1) // _CHUNK + 1))
        skip = start % _CHUNK
        return pieces[skip : skip + stop - start]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges, fetched side by side."""
        if len(ranges) == 1:
            return [self.read(*ranges[0])]
        with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(ranges))) as pool:
            return list(pool.map(lambda r: self.read(*r), ranges))

    def _chunk(self, index: int) -> bytes:
        with self._lock:
            if index in self._chunks:
                self._chunks.move_to_end(index)
                return self._chunks[index]
        data = self._fetch(index * _CHUNK, min((index + 1) * _CHUNK, self.size))
        with self._lock:
            self._chunks[index] = data
            while len(self._chunks) > _CACHED_CHUNKS:
                self._chunks.popitem(last=False)
        return data

    def _fetch(self, start: int, stop: int) -> bytes:
        try:
            if self.failure is not None:
                raise self.failure
            part = self.http.read(self.access, self.url, start, stop, self.version)
        except DataError as error:
            self.failure = error
            raise
        with self._lock:
            self.bytes_read += len(part.data)
        return part.data


class _File(io.RawIOBase):
    """What GDAL sees: a file to seek in, and a way to ask for many ranges at once."""

    def __init__(self, source: RangeSource) -> None:
        super().__init__()
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._source.size if size < 0 else self._at + size
        # GDAL's C code cannot carry an exception: it sees a short read, and BandReader finds the reason in `failure`.
        try:
            data = self._source.read(self._at, stop)
        except DataError:
            return b""
        self._at += len(data)
        return data

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        try:
            return self._source.read_many([(o, o + s) for o, s in zip(offsets, sizes, strict=True)])
        except DataError:
            return [b"\0" * s for s in sizes]


class _Opener:
    """The one-file system that rasterio mounts."""

    def __init__(self, source: RangeSource) -> None:
        self._source = source

    def open(self, _path: str, _mode: str = "rb", **_: object) -> _File:
        return _File(self._source)

    def isfile(self, _path: str) -> bool:
        return True

    def isdir(self, _path: str) -> bool:
        return False

    def ls(self, _path: str) -> list[str]:
        return []

    def mtime(self, _path: str) -> int:
        return 0

    def size(self, _path: str) -> int:
        return self._source.size


class BandReader:
    """One band of one product, open for reading windows by one thread at a time. Use it as a context manager."""

    def __init__(self, dataset: DatasetReader, what: str, nodata: float | None, source: RangeSource | None = None, moved: int = 0) -> None:
        """Take an open single-band dataset; `moved` are bytes that had to come over the net before it could be opened."""
        self._dataset, self._what, self._source, self._moved = dataset, what, source, moved
        self._nodata = nodata
        self._close: list[Callable[[], Any]] = [dataset.close]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole raster."""
        return int(self._dataset.height), int(self._dataset.width)

    @property
    def crs(self) -> CRS:
        """Coordinate reference system."""
        return self._dataset.crs

    @property
    def transform(self) -> Affine:
        """From column and row to coordinates."""
        transform: Affine = self._dataset.transform
        return transform

    @property
    def nodata(self) -> float | None:
        """Value of pixels without data: the file's own, else 0 for Sentinel-2."""
        own = self._dataset.nodata
        return self._nodata if own is None else float(own)

    @property
    def dtype(self) -> str:
        """Data type as numpy names it."""
        return str(self._dataset.dtypes[0])

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of the blocks that are read at once."""
        rows, columns = self._dataset.block_shapes[0]
        return int(rows), int(columns)

    @property
    def bytes_read(self) -> int:
        """Bytes moved over the net so far for this band; 0 for a file that lay here."""
        return self._moved + (self._source.bytes_read if self._source else 0)

    @property
    def size(self) -> int | None:
        """Bytes of the remote file by its server; None for a file that lies here."""
        return self._source.size if self._source else None

    @property
    def ranged(self) -> bool:
        """Whether windows are fetched one by one from the provider."""
        return self._source is not None

    def read(self, window: Window | None = None) -> np.ndarray[Any, Any]:
        """Pixels of a window (rasterio's, whole pixels, inside the raster; None is all), shape (rows, columns), in the file's data type.

        Raises what the transfer met: `TryAgain`, `ProductChanged`, `CredentialsRefused`, `NotThere`; `Damaged` for unreadable pixels.
        """
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as RasterWindow

        rows, columns = self.shape
        whole = window if window is not None else RasterWindow(0, 0, columns, rows)
        outside = whole.col_off < 0 or whole.row_off < 0 or whole.col_off + whole.width > columns or whole.row_off + whole.height > rows
        if outside:
            raise ValueError(f"{whole} is not inside the {columns} x {rows} pixels of {self._what}")
        try:
            data: np.ndarray[Any, Any] = self._dataset.read(1, window=whole)
        except RasterioError as error:
            self._raise_failure()
            raise Damaged(f"{self._what} cannot be read ({_first_line(error)}); choose another provider") from error
        self._raise_failure()
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        while self._close:
            self._close.pop()()

    def _raise_failure(self) -> None:
        if self._source is not None and self._source.failure is not None:
            raise self._source.failure


def open_remote(http: Http, access: Access, url: str, what: str, nodata: float | None) -> BandReader | None:
    """Open a remote raster for ranged reads; None when its server serves no ranges. `what` names it in messages."""
    from rasterio.abc import MultiByteRangeResourceContainer

    source = RangeSource.probe(http, access, url)
    if source is None:
        return None
    MultiByteRangeResourceContainer.register(_Opener)
    name = "band.jp2" if shown(url).lower().endswith((".jp2", ".j2k")) else "band.tif"
    dataset = _open(name, what, source)
    return BandReader(dataset, what, nodata, source)


def open_local(path: str, what: str, nodata: float | None, moved: int = 0) -> BandReader:
    """Open a raster that lies here (or inside a local archive, as GDAL's /vsizip path)."""
    return BandReader(_open(path, what), what, nodata, moved=moved)


def _open(name: str, what: str, source: RangeSource | None = None) -> DatasetReader:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        # Beside a COG there is nothing to look for, and every look costs a request.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            return rasterio.open(name, opener=None if source is None else _Opener(source))
    except RasterioError as error:
        if source is not None and source.failure is not None:
            raise source.failure from None
        if "No such file" in str(error):
            raise NotThere(f"{what} does not exist at {name}; fetch the product again") from error
        raise Damaged(f"{what} is not a raster ({_first_line(error)}); choose another provider") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
