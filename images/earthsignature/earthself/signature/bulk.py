"""Describing many products at once, straight into the database: other processes read documents, this one writes rows.

One transaction holds a batch, so that an ingest that was ended goes on where it was: what is there already counts as known.
"""

from __future__ import annotations

import codecs
import gc
import gzip
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path

import orjson
from earthself.signature.catalog import Catalog
from earthself.signature.described import rows_of
from earthself.signature.errors import BadSignature
from earthself.signature.rows import Row

_BATCH = 5000
_AHEAD = 2  # batches that a process may be ahead of the writer
_SHOWN = 1000


@dataclass
class Counts:
    """How far an ingest is."""

    read: int = 0
    """Documents read."""
    created: int = 0
    """Products that were not there."""
    known: int = 0
    """Products that were there with the same content, or with their rasters."""
    failed: int = 0
    """Documents that are not stored."""
    errors: list[str] = field(default_factory=list)
    """Of the first thousand of those, with file and line."""

    def fail(self, where: str, why: str) -> None:
        """Count one that is not stored."""
        self.failed += 1
        if len(self.errors) < _SHOWN:
            self.errors.append(f"{where}: {why}")


def describe(catalog: Catalog, files: Iterable[Path], progress: Callable[[Counts], None]) -> Counts:
    """Describe the products of files: newline-delimited JSON (also gzipped), one document, a collection of features, or GeoParquet.

    Raises `BadSignature` for a file that cannot be read; a bad document in it is counted, and the others go on.
    """
    with _without_collecting():
        return _describe(catalog, files, progress)


def _describe(catalog: Catalog, files: Iterable[Path], progress: Callable[[Counts], None]) -> Counts:
    counts, now = Counts(), datetime.now(UTC)
    processes = max(1, (os.cpu_count() or 1) - 1)  # one writes
    waiting: deque[tuple[list[_Document], Future[tuple[list[Row], list[tuple[int, str]]]]]] = deque()
    with helpers(processes) as pool:

        def write() -> None:
            batch, future = waiting.popleft()
            rows, bad = future.result()
            for number, why in bad:
                counts.fail(batch[number].where, why)
            _write(catalog, rows, batch, counts)
            counts.read += len(batch)
            progress(counts)

        documents = _documents(files)
        while batch := list(islice(documents, _BATCH)):
            waiting.append((batch, pool.submit(rows_of, [document.text for document in batch], now)))
            if len(waiting) > processes * _AHEAD:
                write()
        while waiting:
            write()
    return counts


def helpers(processes: int) -> ProcessPoolExecutor:
    """Start processes that end with this one, also when it is killed."""
    return ProcessPoolExecutor(processes, get_context("spawn"), _begin)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Look for no circles of objects meanwhile: there are none in rows, and looking takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _begin() -> None:
    """Prepare a process that reads: it ends when the one that started it is killed, where it would wait for work for ever."""
    gc.disable()
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class _Document:
    where: str
    """File and line."""
    text: bytes
    """JSON."""


def _write(catalog: Catalog, rows: list[Row], batch: list[_Document], counts: Counts) -> None:
    known = catalog.insert_new(rows)
    written: dict[str, str] = {}
    for row in rows:
        there = known.get(row.name)
        if there is None and row.name not in written:
            written[row.name] = row.digest
            counts.created += 1
        elif (there.digest if there else written[row.name]) == row.digest or (there and there.segmented):
            counts.known += 1
        else:
            counts.fail(
                batch[0].where.rsplit(":", 1)[0],
                f"product {row.name} is described already with other content; use another id, or keep what is there",
            )


def _documents(files: Iterable[Path]) -> Iterator[_Document]:
    for path in files:
        try:
            yield from (_of_parquet(path) if path.suffix in (".parquet", ".geoparquet") else _of_json(path))
        except (OSError, EOFError, zlib.error) as error:
            raise BadSignature(
                f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); give a file of STAC items or GeoJSON features"
            ) from error


def _of_json(path: Path) -> Iterator[_Document]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        first = file.readline()
        first = first.removeprefix(codecs.BOM_UTF8)
        try:
            whole = orjson.loads(first)
        except orjson.JSONDecodeError:
            # A first line that is no document by itself begins one that is written over several lines.
            first += file.read()
            try:
                whole = orjson.loads(first)
            except orjson.JSONDecodeError as error:
                raise BadSignature(f"{path} is no JSON ({error}); give a STAC item or a GeoJSON feature a line") from error
        if isinstance(whole, dict) and whole.get("type") == "FeatureCollection":
            for number, feature in enumerate(whole.get("features") or (), 1):
                yield _Document(f"{path}:{number}", orjson.dumps(feature))
            if any(line.strip() for line in file):
                raise BadSignature(
                    f"{path} goes on after its first collection, which is described; give a file for each, or a feature a line"
                )
            return
        yield _Document(f"{path}:1", first)
        for number, line in enumerate(file, 2):
            if line.strip():
                yield _Document(f"{path}:{number}", line)


def _of_parquet(path: Path) -> Iterator[_Document]:
    import pyarrow.parquet
    from stac_geoparquet.arrow import stac_table_to_items

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for part in file.iter_batches(_BATCH):
                for item in stac_table_to_items(pyarrow.Table.from_batches([part])):
                    number += 1
                    yield _Document(f"{path}:{number}", orjson.dumps(item, default=str))
    except pyarrow.ArrowInvalid as error:
        raise BadSignature(f"{path} is no Parquet file of STAC items ({error}); write it with stac-geoparquet") from error
