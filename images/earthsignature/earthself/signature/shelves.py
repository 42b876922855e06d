"""The folders of a store: where uploads arrive, where products lie, and what a start does with what it finds after a crash.

A finished product's folder moves to `products/` in one rename, and its row follows. Until the fate of the row is known, a note in
`staging/` names the place; only a folder with such a note, and without a row, is deleted at the next start. Any other folder
that no row names may belong to another state of the database (when an older backup was restored): it moves to `lost/`, and comes back
when a row names it again.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from earthself.signature import rasters
from earthself.signature.errors import BadSignature

_FEW = 4  # products that are synced file by file; beyond, syncing all that the machine has to write costs less


@dataclass(frozen=True)
class Upload:
    """Where the files of one `create` arrive; a context that removes its folder at the end."""

    folder: Path
    """A folder of its own in staging."""

    def path(self, layer: str) -> Path:
        """Where to write that layer's GeoTIFF; raises `BadSignature` for a layer that there is not."""
        if layer not in rasters.LAYERS:
            raise BadSignature(f"layer {layer[:40]!r} is not known; layers are {', '.join(rasters.LAYERS)}")
        return self.folder / f"upload-{layer}"

    def prepared(self) -> Path:
        """Make the folder of the finished product."""
        folder = self.folder / "product"
        folder.mkdir()
        return folder

    def discard(self) -> None:
        """Forget what arrived; no harm when it is gone already."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


@dataclass(frozen=True)
class Recovered:
    """What a start found."""

    removed: tuple[str, ...]
    """Left by calls that were interrupted."""
    lost: tuple[str, ...]
    """Places that no row names, now in `lost/`."""
    returned: tuple[str, ...]
    """Places that a row names again, back from `lost/`."""


@dataclass(frozen=True)
class Moved:
    """A product's folder on its shelf, whose row is not written yet."""

    place: Path
    """Where it lies."""
    name: str
    """Its place as rows name it."""
    note: Path
    """Says so to the next start, in case that this one dies."""

    def keep(self) -> None:
        """The row is there: the folder is its product's."""
        self.note.unlink(missing_ok=True)

    def take_back(self, folder: Path) -> None:
        """The row was not written, and may be in another try: put the folder back where it came from."""
        self.place.rename(folder)
        self.note.unlink(missing_ok=True)

    def take_out(self) -> None:
        """The row is not there, and will not be: remove the folder."""
        if self.place.exists():
            shutil.rmtree(self.place)
        self.note.unlink(missing_ok=True)


class Shelves:
    """`staging/`, `products/` and `lost/` of one store; a place is `SHELF/FOLDER` below `products/`."""

    def __init__(self, home: Path) -> None:
        """Point at the folders without touching them."""
        self.products = home / "products"
        self._staging = home / "staging"
        self._lost = home / "lost"

    def places(self) -> set[str]:
        """Give the places where a folder is."""
        shelves = filter(Path.is_dir, self.products.iterdir()) if self.products.exists() else ()
        return {f"{shelf.name}/{folder.name}" for shelf in shelves for folder in filter(Path.is_dir, shelf.iterdir())}

    def recover(self, owned: AbstractSet[str]) -> Recovered:
        """Clean up after a crash, for the places that rows name; makes the folders where there are none."""
        interrupted = {note.read_text() for note in self._staging.glob("*.note")}
        there, lost, returned = self.places(), [], []
        for place in sorted(there - owned - interrupted):
            _move(self.products / place, _free(self._lost / place))
            lost.append(place)
        for place in sorted(owned - there):
            if (self._lost / place).is_dir():
                _move(self._lost / place, self.products / place)
                returned.append(place)
        removed = [f"products/{place}" for place in sorted(there & interrupted - owned)]
        for place in removed:
            shutil.rmtree(self.products.parent / place)
        removed += [f"staging/{path.name}" for path in self._staging.iterdir()] if self._staging.exists() else []
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(parents=True)
        self.products.mkdir(exist_ok=True)
        for shelf in filter(Path.is_dir, self.products.iterdir()):
            if not any(shelf.iterdir()):
                shelf.rmdir()
        return Recovered(tuple(removed), tuple(lost), tuple(returned))

    @property
    def staging(self) -> Path:
        """Where products are made before they move in; what is left here is gone at the next start."""
        return self._staging

    def upload(self) -> Upload:
        """Make a place for the files of a new product."""
        folder = self._staging / uuid.uuid4().hex
        folder.mkdir()
        return Upload(folder)

    def move_in(self, folders: Sequence[Path], places: Sequence[str]) -> list[Moved]:
        """Put finished folders on their shelves, safe against a power cut; say `keep` or `take_out` once the row's fate is known."""
        moved = [Moved(self.products / place, place, self._staging / f"{uuid.uuid4().hex}.note") for place in places]
        try:
            for one in moved:
                one.note.write_text(one.name)
            if len(moved) > _FEW:
                os.sync()
            else:
                for folder, one in zip(folders, moved, strict=True):
                    for path in (one.note, *folder.iterdir(), folder):
                        _sync(path)
            for folder, one in zip(folders, moved, strict=True):
                one.place.parent.mkdir(exist_ok=True)
                folder.rename(one.place)
            for path in sorted({one.place.parent for one in moved}) + [self.products] * bool(moved):
                _sync(path)
        except OSError:
            for one in moved:
                one.take_out()
            raise
        return moved

    @contextmanager
    def leaving(self, place: str) -> Iterator[Callable[[], None]]:
        """Delete a product's folder once its row is gone: call what this gives then. Whatever happens, the next start finishes it."""
        note = self._staging / f"{uuid.uuid4().hex}.note"
        note.write_text(place)
        _sync(note)

        def leave() -> None:
            shutil.rmtree(self.products / place, ignore_errors=True)

        try:
            yield leave
        finally:
            note.unlink(missing_ok=True)

    def put_back(self, file: Path, place: str) -> None:
        """Give a product a file that it lost."""
        target = self.products / place / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync(file)
        file.replace(target)
        _sync(target.parent)

    def write(self, target: Path, content: bytes) -> None:
        """Write a file whole or not at all."""
        rough = self._staging / uuid.uuid4().hex
        try:
            rough.write_bytes(content)
            rough.replace(target)
        finally:
            rough.unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _free(path: Path) -> Path:
    while path.exists():
        path = path.with_name(path.name + "~")
    return path


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
