"""Which folder of rasters belongs to which database: both keep one id, so that a mistyped address of either harms none.

The id is made at the first start. A pair from before there were ids gets one, and a partner that lost its id gets it back, where a row
of the database names a folder that is there.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from earthself.signature.errors import StoreBroken, Unavailable

_FILE = "store-id"
_HELD = "held"


@dataclass(frozen=True)
class Partner:
    """What one of the two says."""

    name: str
    """Its address, for messages."""
    store: str | None
    """The id of the store that it belongs to, where it was ever paired."""
    places: AbstractSet[str]
    """The products' folders, below `products/`: those that are there, or those that rows name."""


def common_id(rasters: Partner, database: Partner) -> str:
    """Give the id that both shall keep; raises `StoreBroken` where they do not belong together."""
    if rasters.store == database.store and rasters.store:
        return rasters.store
    if not rasters.places and not database.places:
        return uuid.uuid4().hex  # nothing can be lost, and a former partner of either is told from the new one
    if rasters.places & database.places and not (rasters.store and database.store):
        return rasters.store or database.store or uuid.uuid4().hex
    raise StoreBroken(
        f"{rasters.name} (rasters of {len(rasters.places)} products) and the database {database.name} ({len(database.places)} products) "
        "do not belong together; give the --home and the --database-url that the products were stored with, restore the one that was "
        "lost from a backup, or begin anew with an empty --home"
    )


def read_id(home: Path) -> str | None:
    """Give the id that the folder keeps, if it keeps one."""
    path = home / _FILE
    return path.read_text().strip() or None if path.is_file() else None


def write_id(home: Path, store: str) -> None:
    """Let the folder keep that id."""
    if read_id(home) == store:
        return
    rough = home / f"{_FILE}.part"
    with rough.open("w") as file:
        file.write(store + "\n")
        file.flush()
        os.fsync(file.fileno())
    rough.replace(home / _FILE)


@contextmanager
def held(home: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the rasters of a store: many may so that none is deleted (a backup), one alone to delete. Raises `Unavailable`."""
    handle = os.open(home / _HELD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            why = "a backup is being made of it" if exclusive else "products are being deleted from it"
            raise Unavailable(f"{home} is held: {why}; try again later") from error
        yield
    finally:
        os.close(handle)
