"""What a place of satellite data does for who reads it: rasters by ranges, as our own steps read them, and whole files.

Requests are not repeated, so that what fails is counted and not hidden.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from earthself.benchmark.errors import ProbeFailed
from earthself.benchmark.probing import Measure, Probe, Setting, data_errors, labels_of
from earthself.data.answers import Answer
from earthself.data.broker.interface import Gate
from earthself.data.errors import DataError
from earthself.data.http import Access, Http, OpenAccess
from earthself.data.ranges import BandReader, open_remote
from earthself.data.retries import CutShort, RetryPolicy
from earthself.data.transfer import download

if TYPE_CHECKING:
    from rasterio.windows import Window

_WINDOW = 512
_WIDE = (1, 8, 32)
_HEADERS = 5
_BAND = 2048
_ENOUGH = 500
"""Windows of one measurement at most."""
_FAILS = 400
"""Status from which on an answer is a failure."""


class _Counted(Gate):
    """Counts answers, and those that are failures."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self.asked = self.failed = 0

    def enter(self) -> None:
        with self._lock:
            self.asked += 1

    def answered(self, status: int, wait: float | None = None) -> None:  # noqa: ARG002 - as the gate has it
        with self._lock:
            self.failed += status >= _FAILS


class _Place:
    """Where the files are, with the requests that were made there."""

    def __init__(self) -> None:
        self.gate = _Counted()
        self.http = Http(retries=RetryPolicy(attempts=1))
        self.access = OpenAccess("the place that is measured", self.gate)

    def open(self, url: str) -> BandReader:
        """Open a raster by its header; raises `ProbeFailed`."""
        with data_errors():
            reader = open_remote(self.http, self.access, url, url, None)
        if reader is None:
            raise ProbeFailed(f"{url} is served whole only, not by ranges; name one that is")
        return reader


@contextmanager
def _place() -> Iterator[_Place]:
    place = _Place()
    try:
        yield place
    finally:
        place.http.close()


def _windows(setting: Setting) -> Mapping[str, float]:
    url = _named(setting.raster, "--raster https://…/band.tif")
    found: dict[str, float] = {}
    with _place() as place:
        found["header"] = 1000 * _median(lambda: place.open(url).close(), _HEADERS)
        before, read = place.gate.asked, 0
        for threads in _WIDE:
            done, seconds = _read(place, url, threads, setting.seconds / len(_WIDE))
            found[f"windows_{threads}"] = done / seconds
            read += done
        if not read:
            raise ProbeFailed(f"no window of {url} could be read; {place.gate.failed} of {place.gate.asked} requests failed")
        return found | {
            "requests": (place.gate.asked - before) / read,
            "failed_requests": 100 * place.gate.failed / place.gate.asked,
        }


def _read(place: _Place, url: str, threads: int, seconds: float) -> tuple[int, float]:
    """Read windows here and there, so many at a time; gives how many, and in which time."""
    ready = threading.Barrier(threads)

    def work(number: int) -> tuple[int, float]:
        draw, done = random.Random(number), 0  # noqa: S311 - places in a raster
        reader = _opened(place, url)  # here: rasterio closes a file where it was opened only
        left: list[Window] = []
        ready.wait()
        begun = now = time.perf_counter()
        while now < begun + seconds and done < _ENOUGH:
            reader = reader or _opened(place, url)
            if reader is not None:
                left = left or _shuffled(reader.shape, draw)
                try:
                    reader.read(left.pop())
                    done += 1
                    again = not left  # GDAL keeps what was read: each window comes once from one that is open
                except DataError:
                    again = True  # its source remembers that it failed
                if again:
                    reader.close()
                    reader = None
            now = time.perf_counter()
        if reader is not None:
            reader.close()
        return done, now - begun

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(work, range(threads)))
    return sum(done for done, _ in found), max(took for _, took in found)


def _opened(place: _Place, url: str) -> BandReader | None:
    """Open a raster; None where that fails, which is counted."""
    try:
        return place.open(url)
    except ProbeFailed:
        return None


def _shuffled(shape: tuple[int, int], draw: random.Random) -> list[Window]:
    """Give all windows of a raster, none of which shares pixels with another, in any order."""
    from rasterio.windows import Window

    rows, columns = (range(0, max(1, length - _WINDOW + 1), _WINDOW) for length in shape)
    size = min(_WINDOW, *shape)
    found = [Window(column, row, size, size) for row in rows for column in columns]
    draw.shuffle(found)
    return found


def _band(raster: str | None, option: str) -> float:
    """Seconds for a large window."""
    from rasterio.windows import Window

    url = _named(raster, option)
    with _place() as place, place.open(url) as reader, data_errors():
        begun = time.perf_counter()
        reader.read(Window(0, 0, min(_BAND, reader.shape[1]), min(_BAND, reader.shape[0])))
        return time.perf_counter() - begun


def _formats(setting: Setting) -> Mapping[str, float]:
    jp2, cog = _band(setting.jp2, "--jp2 https://…/band.jp2"), _band(setting.raster, "--raster https://…/band.tif")
    return {"jp2": jp2, "cog": cog, "ratio": jp2 / cog}


def _download(setting: Setting) -> Mapping[str, float]:
    url = _named(setting.raster, "--raster https://…/band.tif")
    with _place() as place, tempfile.TemporaryDirectory(dir=setting.scratch, prefix="earthself-download-") as folder, data_errors():
        begun = time.perf_counter()
        size = download(place.http, place.access, url, Path(folder) / "whole")
        seconds = time.perf_counter() - begun
        return {"whole": size / 1e6 / seconds, "loaded_twice": _loaded_twice(place.access, url, Path(folder) / "cut", size // 2)}


def _loaded_twice(access: Access, url: str, path: Path, after: int) -> float:
    """Cut a download after so many bytes, and let it go on: percent of these that came once more."""
    http = _CutOnce(after)
    try:
        return 100 * (download(http, access, url, path) - path.stat().st_size) / max(1, after)
    finally:
        http.close()


class _CutOnce(Http):
    """Loses the connection of its first download, and goes on at once."""

    def __init__(self, after: int) -> None:
        super().__init__(retries=RetryPolicy(attempts=2, sleep=lambda _: None))
        self._after: int | None = after

    @contextmanager
    def stream(self, access: Access, url: str, headers: dict[str, str]) -> Iterator[Answer]:
        with super().stream(access, url, headers) as answer:
            yield replace(answer, body=self._cut(answer.body))

    def _cut(self, body: Iterator[bytes]) -> Iterator[bytes]:
        if self._after is None:
            yield from body
            return
        left, self._after = self._after, None
        for piece in body:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                break
        raise CutShort("cut by the probe")


def _named(url: str | None, option: str) -> str:
    if not url:
        raise ProbeFailed(f"nobody says which file to read; name one at the place that is measured: {option}")
    return url


def _median(work: Callable[[], None], times: int) -> float:
    """Seconds of those that did not fail; raises what the last one failed with where all did."""
    took: list[float] = []
    for number in range(times):
        begun = time.perf_counter()
        try:
            work()
            took.append(time.perf_counter() - begun)
        except ProbeFailed:
            if not took and number == times - 1:
                raise
    return statistics.median(took)


PROBES = [
    Probe(
        "raster_windows",
        f"header and windows of {_WINDOW} x {_WINDOW} pixels of a COG, by ranges",
        [
            Measure("header", "ms", "lower"),
            *(Measure(f"windows_{threads}", "windows/s", "higher") for threads in _WIDE),
            Measure("requests", "requests/window", "lower"),
            Measure("failed_requests", "%", "lower"),
        ],
        _windows,
        labels_of("raster"),
        asks=["raster"],
    ),
    Probe(
        "raster_formats",
        f"{_BAND} x {_BAND} pixels of a JPEG2000 against those of a COG",
        [Measure("jp2", "s", "lower"), Measure("cog", "s", "lower"), Measure("ratio", "", "lower")],
        _formats,
        labels_of("raster", "jp2"),
        asks=["raster", "jp2"],
    ),
    Probe(
        "download",
        "a whole file, and one that is cut in the middle and goes on (100 %: it begins again)",
        [Measure("whole", "MB/s", "higher"), Measure("loaded_twice", "%", "lower")],
        _download,
        labels_of("raster"),
        asks=["raster"],
    ),
]
