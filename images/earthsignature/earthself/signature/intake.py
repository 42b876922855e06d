"""Storing many whole products at once in a store that no server holds: other processes make the rasters, this one writes rows.

A batch is synced once and has one transaction. An intake that was ended goes on where it was: what is there already counts as known.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from pathlib import Path

from earthself.data.errors import EarthSelfError
from earthself.signature.bulk import Counts, helpers
from earthself.signature.errors import BadSignature
from earthself.signature.items import read_signature
from earthself.signature.making import made_of_rasters
from earthself.signature.product import from_feature
from earthself.signature.rows import Stored
from earthself.signature.store import Store

_BATCH = 64
_SHARE = 8  # products that a process makes at a time
_AHEAD = 2
_Made = tuple[Stored, Path] | str


def take_in(store: Store, paths: Iterable[Path], progress: Callable[[Counts], None]) -> Counts:
    """Store the STAC items of files and folders (whose assets lie beside them) in an opened store; a bad one does not stop the others.

    Raises `StoreFull`, or an `OSError` that says so, where there is no room; what is stored by then stays.
    """
    counts = Counts()
    processes = os.cpu_count() or 1
    waiting: deque[tuple[list[Path], Future[list[_Made]]]] = deque()
    ready: list[tuple[Path, Stored, Path]] = []

    def receive() -> None:
        items, future = waiting.popleft()
        for item, made in zip(items, future.result(), strict=True):
            counts.read += 1
            if isinstance(made, str):
                counts.fail(str(item), made)
            else:
                ready.append((item, *made))
        if len(ready) >= _BATCH or not waiting:
            _keep(store, ready, counts)
            ready.clear()
            progress(counts)

    with store.making(), helpers(processes) as pool:
        items = _items(paths)
        try:
            while batch := list(islice(items, _SHARE)):
                waiting.append((batch, pool.submit(_make, batch, store.staging)))
                if len(waiting) > processes * (_AHEAD + _BATCH // _SHARE):
                    receive()
            while waiting:
                receive()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return counts


def _items(paths: Iterable[Path]) -> Iterator[Path]:
    """Give the files named, and of folders all JSON files but catalogues and collections."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = (file for file in sorted(path.rglob("*.json")) if file.name not in ("catalog.json", "collection.json"))
        first = next(found, None)
        if first is None:
            raise BadSignature(f"{path} holds no STAC items; give a folder with their JSON files, or the files")
        yield first
        yield from found


def _make(items: list[Path], staging: Path) -> list[_Made]:
    """Make products in folders of their own; for a bad one, what is wrong with it."""
    made: list[_Made] = []
    for item in items:
        folder = staging / uuid.uuid4().hex
        try:
            signature = read_signature(item)
            product = from_feature(signature.feature)
            folder.mkdir()
            made.append((made_of_rasters(product, signature.paths, folder), folder))
        except (EarthSelfError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if getattr(error, "retry", False) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise  # a full disk says nothing about the item
            made.append(str(error))
    return made


def _keep(store: Store, ready: list[tuple[Path, Stored, Path]], counts: Counts) -> None:
    outcomes = store.keep_all([(stored, folder) for _, stored, folder in ready])
    for (item, _, _), outcome in zip(ready, outcomes, strict=True):
        if outcome == "created":
            counts.created += 1
        elif outcome == "known":
            counts.known += 1
        else:
            counts.fail(str(item), str(outcome))
