"""Describing many products at once, straight into the database: other processes read documents, this one writes rows.

One transaction holds a batch, so that an ingest that was ended goes on where it was: what is there already counts as known.
"""

from __future__ import annotations

import codecs
import gc
import gzip
import marshal
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
from typing import Any

import orjson
from earthself.signature.catalog import Catalog
from earthself.signature.described import read_rows
from earthself.signature.errors import BadSignature
from earthself.signature.rows import Rows

_BATCH = 5000  # documents
_BYTES = 4 << 20  # of lines
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
    waiting: deque[tuple[_Part, Future[bytes]]] = deque()
    with helpers(processes) as pool:

        def write() -> None:
            part, future = waiting.popleft()
            read, rows, bad = marshal.loads(future.result())  # noqa: S302 - a process of ours wrote it
            for line, why in bad:
                counts.fail(f"{part.path}:{part.first + line}", why)
            _write(catalog, Rows(*rows), part, counts)
            counts.read += read
            progress(counts)

        for part in _parts(files):
            waiting.append((part, pool.submit(_read, part.text, now)))
            if len(waiting) > processes * _AHEAD:
                write()
        while waiting:
            write()
    return counts


def _read(text: bytes, now: datetime) -> bytes:
    """Make rows of lines: how many documents there are, the rows, and of each bad line its number with what is wrong.

    Marshalled, since that is how tuples move between processes in a quarter of the time.
    """
    lines = text.split(b"\n")
    there = [number for number, line in enumerate(lines) if line and not line.isspace()]
    rows, bad = read_rows([lines[number] for number in there], now)
    return marshal.dumps((len(there), tuple(rows), [(there[number], why) for number, why in bad]))


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
class _Part:
    """Some lines of a file, each a document."""

    path: Path
    """The file."""
    first: int
    """Number of the first of the lines, from 1; in a file that is no lines, of the first document."""
    text: bytes
    """The lines."""


def _write(catalog: Catalog, rows: Rows, part: _Part, counts: Counts) -> None:
    known = catalog.insert_new(rows)
    written: dict[str, str] = {}
    for name, digest in zip(rows.names, rows.digests, strict=True):
        there = known.get(name)
        if there is None and name not in written:
            written[name] = digest
            counts.created += 1
        elif (there.digest if there else written[name]) == digest or (there and there.segmented):
            counts.known += 1
        else:
            counts.fail(str(part.path), f"product {name} is described already with other content; use another id, or keep what is there")


def _parts(files: Iterable[Path]) -> Iterator[_Part]:
    for path in files:
        try:
            yield from (_of_parquet(path) if path.suffix in (".parquet", ".geoparquet") else _of_json(path))
        except (OSError, EOFError, zlib.error) as error:
            raise BadSignature(
                f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); give a file of STAC items or GeoJSON features"
            ) from error


def _of_json(path: Path) -> Iterator[_Part]:
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
            yield from _of_documents(path, whole.get("features") or ())
            if any(line.strip() for line in file):
                raise BadSignature(
                    f"{path} goes on after its first collection, which is described; give a file for each, or a feature a line"
                )
            return
        # A document that was written over several lines is one line here.
        yield _Part(path, 1, orjson.dumps(whole))
        number = 2
        while text := file.read(_BYTES) + file.readline():
            yield _Part(path, number, text)
            number += text.count(b"\n")


def _of_documents(path: Path, documents: Iterable[Any], first: int = 1) -> Iterator[_Part]:
    every = iter(documents)
    while batch := list(islice(every, _BATCH)):
        yield _Part(path, first, b"\n".join(orjson.dumps(document, default=str) for document in batch))
        first += len(batch)


def _of_parquet(path: Path) -> Iterator[_Part]:
    import pyarrow.parquet
    from stac_geoparquet.arrow import stac_table_to_items

    number = 1
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for rows in file.iter_batches(_BATCH):
                yield from _of_documents(path, stac_table_to_items(pyarrow.Table.from_batches([rows])), number)
                number += len(rows)
    except pyarrow.ArrowInvalid as error:
        raise BadSignature(f"{path} is no Parquet file of STAC items ({error}); write it with stac-geoparquet") from error
