"""Products in a folder: rasters as files (`shelves`), the rest in the catalogue; each product whole or not at all.

How that holds when the server dies at any moment: uploads and new rasters lie in `staging/`; a finished product's folder moves
in one rename to `products/`, and belongs to a product from the commit of its row on. At start, under the store's lock and once folder
and database are known to be a pair (`pairing`), what interrupted calls left is removed. Files are synced before the rename, the rename
before the row.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from earthself.data.errors import EarthSelfError
from earthself.signature import pairing, rasters, vectors
from earthself.signature.catalog import Catalog, Statistics
from earthself.signature.errors import AlreadyExists, NotFound, StoreBroken, Unavailable
from earthself.signature.filters import Query
from earthself.signature.making import CLASSES, V1_LAYERS, made_of_classes, made_of_rasters
from earthself.signature.polygons import Job, Makers
from earthself.signature.product import Product
from earthself.signature.rows import Stored
from earthself.signature.shelves import Moved, Shelves, Upload
from earthself.signature.tables import VERSION

_LOG = logging.getLogger(__name__)
Outcome = Literal["created", "known"]
_TRIES = 3
_WATCHES = b"looks at the version of the tables before it writes\n"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Store:
    """All products below one folder. `open` it for serving; several threads may use it."""

    def __init__(self, home: Path, database_url: str | None = None) -> None:
        """Point at a store without touching it. The database is `earthsignature.sqlite` in the folder unless a URL says otherwise."""
        self.home = home
        self.catalog = Catalog(database_url or f"sqlite:///{(home / 'earthsignature.sqlite').absolute()}")
        self._shelves = Shelves(home)
        self._makers = Makers()
        self._lock: int | None = None

    @classmethod
    def open(cls, home: Path, database_url: str | None = None) -> Store:
        """Lock the store, bring its tables up to date and clean up after a crash; raises `StoreBroken` when it is in use."""
        home.mkdir(parents=True, exist_ok=True)
        store = cls(home, database_url)
        try:
            store.lock()
            before, after = store.migrate()
            if before != after:
                _LOG.info("tables brought from version %s to %s", before or "none", after)
            store.recover()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def existing(cls, home: Path, database_url: str | None = None) -> Store:
        """Point at a store that is there and up to date, without its lock: for what may go on beside its server.

        Raises `NotFound` where there is none, `StoreBroken` for one of an older version, or a folder and a database of different stores.
        """
        store = cls(home, database_url)
        version = store.catalog.version() if store.catalog.exists() else None
        if version is None:
            raise NotFound(
                f"{database_url or home} holds no store; give --home or --database-url, or start one with `earthsignature serve`"
            )
        if version != VERSION:
            raise StoreBroken(f"the tables of {home} are of version {version}, this program knows {VERSION}; run `earthsignature migrate`")
        if pairing.read_id(home) != store.catalog.store_id():
            raise StoreBroken(
                f"{home} and the database {store.catalog.name} do not belong together; give the --home and the --database-url that the "
                "products were stored with"
            )
        return store

    def lock(self, *, beside_server: bool = False) -> None:
        """Take the store for this process, until it closes or dies; raises `StoreBroken` when it is in use.

        `beside_server`: go on without it where the server that holds it writes nothing once the tables have outgrown it.
        """
        handle = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            watches = os.pread(handle, len(_WATCHES), 0) == _WATCHES
            os.close(handle)
            if beside_server and watches:
                return
            raise StoreBroken(f"{self.home} is in use by another EarthSignature server; stop it or give another --home") from error
        os.pwrite(handle, _WATCHES, 0)
        self._lock = handle

    def close(self) -> None:
        """Give the database, the lock and idle processes back."""
        self._makers.close()
        self.catalog.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def migrate(self) -> tuple[str | None, str]:
        """Bring the tables up to date; gives the versions before and after. Raises `StoreBroken` for the database of another store."""
        rasters_here = pairing.Partner(str(self.home), pairing.read_id(self.home), self._shelves.places())
        store = pairing.common_id(rasters_here, self.catalog.partner())
        versions = self.catalog.migrate()
        pairing.write_id(self.home, store)
        self.catalog.adopt(store)
        return versions

    def recover(self) -> None:
        """Clean up what interrupted calls left, and log it."""
        found = self._shelves.recover(self.catalog.partner().places)
        for name in found.removed:
            _LOG.info("removed %s, left by a call that was interrupted", name)
        for place in found.returned:
            _LOG.info("brought products/%s back from lost/", place)
        for place in found.lost:
            _LOG.warning("moved products/%s to lost/: the database does not know it", place)
        if found.lost:
            _LOG.warning(
                "%d products are in %s/lost, as after restoring an older backup of the database; restore a newer one and start again to "
                "have them back, or store them anew and delete lost/",
                len(found.lost),
                self.home,
            )

    @property
    def staging(self) -> Path:
        """Where products are made for `keep_all`."""
        return self._shelves.staging

    @contextmanager
    def making(self) -> Iterator[None]:
        """Leave no product half-made in `staging` when this ends early; for a store that nobody else writes to."""
        try:
            yield
        finally:
            for folder in filter(Path.is_dir, self.staging.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)

    def upload(self) -> Upload:
        """Make a place for the files of a new product."""
        return self._shelves.upload()

    def create(self, product: Product, upload: Upload, names: Iterable[str], *, all_layers: bool = False) -> Outcome:
        """Store a product with the uploaded layers of those names.

        "known" when the same is there already: properties, footprint, and the pixels of the given layers (`all_layers`: and no layer
        beside them). Raises `AlreadyExists` for another product of that id, `BadSignature` for what cannot be stored.
        """
        folder = upload.prepared()
        stored = made_of_rasters(product, {name: _given(upload, name) for name in {*V1_LAYERS, *names}}, folder)
        return self._keep(stored, folder, all_layers=all_layers)

    def create_from_classes(self, product: Product, classes: list[vectors.ClassPolygon], upload: Upload) -> Outcome:
        """Store a product that came as polygons, with the rasters that v1 readers get; like `create`."""
        folder = upload.prepared()
        return self._keep(made_of_classes(product, classes, folder), folder, all_layers=False)

    def keep_all(self, made: Sequence[tuple[Stored, Path]]) -> list[Outcome | EarthSelfError]:
        """Store products that were made in folders of `staging`, all that are new in one transaction; what `create` would say of each.

        Synced once, so that many small products cost little more than one.
        """
        there = self.catalog.ids_of([stored.product.product_id for stored, _ in made])
        new: dict[str, tuple[Stored, Path]] = {}
        for stored, folder in made:
            if stored.product.product_id not in there:
                new.setdefault(stored.product.product_id, (stored, folder))
        places = [_new_place(stored.product) for stored, _ in new.values()]
        moved = self._shelves.move_in([folder for _, folder in new.values()], places)
        rows = [replace(stored, folder=place) for (stored, _), place in zip(new.values(), places, strict=True)]
        written = self._written(moved, lambda: self.catalog.put_all(rows))
        for one, (_, folder) in zip(moved, new.values(), strict=True):
            one.keep() if written else one.take_back(folder)
        outcomes: list[Outcome | EarthSelfError] = []
        for stored, folder in made:
            if written and new.get(stored.product.product_id, (None, None))[1] is folder:
                outcomes.append("created")
                continue
            try:
                outcomes.append(self._keep(stored, folder, all_layers=True))
            except EarthSelfError as error:
                outcomes.append(error)
            shutil.rmtree(folder, ignore_errors=True)
        return outcomes

    def take(self, stored: Stored, source: Path) -> Outcome:
        """Store a product of another store, with copies of its files; raises `StoreBroken` where they are not what it says."""
        name = stored.product.product_id
        known = self.catalog.get(name)
        if known is not None and known.folder is not None:
            _compare(known, stored, all_layers=True)
            if self._is_whole(known, self._shelves.products / known.folder):
                return "known"
        with self.upload() as upload:
            folder = upload.prepared()
            names = [rasters.file_name(layer.name) for layer in stored.layers] + ([CLASSES] if stored.classes_sha256 else [])
            try:
                for file in names:
                    shutil.copyfile(source / file, folder / file)
            except FileNotFoundError as error:
                raise StoreBroken(f"{error.filename} is gone, which product {name} needs; export again from a store that has it") from error
            for layer in stored.layers:
                if not rasters.is_whole(folder / rasters.file_name(layer.name), layer):
                    raise StoreBroken(
                        f"{source}/{rasters.file_name(layer.name)} is damaged: its pixels are not those of {name}; "
                        "delete that folder and export again"
                    )
            return self._keep(stored, folder, all_layers=True)

    def find(self, query: Query, *, details: bool = True) -> Iterator[Stored]:
        """Give the products that match, newest first; without `details` they come without layers and codes."""
        return self.catalog.find(query, details=details)

    def supersede(self, product_id: str, newer: str) -> bool:
        """Note that a newer product of the same observation supersedes one; False when that was known. Raises `NotFound`."""
        return self.catalog.supersede(product_id, newer)

    def delete(self, product_id: str) -> None:
        """Remove a product with its rasters; raises `NotFound`, and `Unavailable` while a backup is made."""
        stored = self.get(product_id)
        with pairing.held(self.home, exclusive=True):
            if stored.folder is None:
                gone = self.catalog.remove(product_id, None)
            else:
                with self._shelves.leaving(stored.folder) as leave:
                    gone = self.catalog.remove(product_id, stored.folder)
                    if gone:
                        leave()
        if not gone:
            raise Unavailable(f"product {product_id} was changed by another call; try again")

    def get(self, product_id: str) -> Stored:
        """Give one product; raises `NotFound`."""
        stored = self.catalog.get(product_id)
        if stored is None:
            raise NotFound(f"product {product_id!r} is not stored; list what there is with ListProductIds or `earthsignature list`")
        return stored

    def path(self, stored: Stored, layer: str) -> Path:
        """Give the file of a layer; raises `NotFound` when the product has none of that name, `StoreBroken` for a file gone or cut."""
        if stored.folder is None:
            raise NotFound(f"product {stored.product.product_id} is only described, it has no segmentation; store it with its rasters")
        if layer not in {known.name for known in stored.layers}:
            has = ", ".join(known.name for known in stored.layers)
            raise NotFound(f"product {stored.product.product_id} has no layer {layer!r}; it has {has}")
        path = self._file(stored, rasters.file_name(layer))
        size = next(known.size for known in stored.layers if known.name == layer)
        if path.stat().st_size != size:
            raise StoreBroken(f"products/{stored.folder}/{path.name} has {path.stat().st_size} bytes and not {size}; {_mend(stored)}")
        return path

    def polygons(self, stored: Stored, sieve_ha: float) -> bytes:
        """Give the land cover as a FeatureCollection in geobuf bytes: the product's own polygons, or those of its pixels (kept).

        Raises `TooMuch` where it has more patches than polygons can be made of, `Unavailable` when the call that runs has ended.
        """
        if stored.classes_sha256:
            return self._file(stored, CLASSES).read_bytes()
        kept = self._shelves.products / str(stored.folder) / f"classes-{sieve_ha:g}ha.geobuf"
        if kept.is_file():
            return kept.read_bytes()
        pixels, product = self.path(stored, "segmentation"), stored.product
        made = self._makers.make(Job(str(pixels.absolute()), sieve_ha, product.product_id, product.properties))
        try:
            self._shelves.write(kept, made)
        except OSError as error:
            _LOG.warning("%s cannot be kept (%s); it is made again when it is asked for", kept, error)
        return made

    def statistics(self) -> Statistics:
        """Count what is there."""
        return self.catalog.statistics()

    def _file(self, stored: Stored, name: str) -> Path:
        path = self._shelves.products / str(stored.folder) / name
        if not path.is_file():
            there = self.catalog.get(stored.product.product_id)
            if there is None or there.folder != stored.folder:
                raise NotFound(f"product {stored.product.product_id} was removed or stored anew just now; ask for it again")
            raise StoreBroken(f"products/{stored.folder}/{name} is gone from the store; {_mend(stored)}")
        return path

    def _keep(self, stored: Stored, folder: Path, *, all_layers: bool) -> Outcome:
        """Move the finished folder in and write its row; where the product is there, give it back what of it was lost."""
        known = self.catalog.get(stored.product.product_id)
        for _ in range(_TRIES):
            if known is not None and known.folder is not None:
                _compare(known, stored, all_layers=all_layers)
                self._heal(known, known.folder, stored, folder)
                return "known"
            if self._insert(stored, folder, described=known is not None):
                return "created"
            known = self.catalog.get(stored.product.product_id)
        raise Unavailable(f"product {stored.product.product_id} is changed by other calls at the same time; try again")

    def _insert(self, stored: Stored, folder: Path, *, described: bool) -> bool:
        """Move a finished folder in with its row, in the place of a description where there is one; False when another call was faster."""
        place = _new_place(stored.product)
        (moved,) = self._shelves.move_in([folder], [place])
        written = self._written([moved], lambda: self.catalog.put(replace(stored, folder=place), described=described))
        if written:
            moved.keep()
        else:
            moved.take_back(folder)
        return written

    def _written(self, moved: Sequence[Moved], write: Callable[[], bool]) -> bool:
        """Write the rows of folders that were moved in; where that fails, take the folders out that no row names."""
        try:
            return write()
        except Exception:
            # Where the database cannot even say whether the rows are there, the notes stay, and the next start asks again.
            owned = self.catalog.partner().places
            for one in moved:
                if one.name not in owned:
                    one.take_out()
            raise

    def _is_whole(self, stored: Stored, folder: Path) -> bool:
        files = {layer: folder / rasters.file_name(layer.name) for layer in stored.layers}
        if stored.classes_sha256 and not (folder / CLASSES).is_file():
            return False
        return all(path.is_file() and path.stat().st_size == layer.size and rasters.is_whole(path, layer) for layer, path in files.items())

    def _heal(self, known: Stored, place: str, new: Stored, folder: Path) -> None:
        """Put back what the product lost or what cannot be read any more; the new files hold the same."""
        kept = self._shelves.products / place
        rows = {layer.name: layer for layer in known.layers}
        for layer in new.layers:
            name = rasters.file_name(layer.name)
            if not rasters.is_whole(kept / name, rows[layer.name]):
                self._shelves.put_back(folder / name, place)
                _LOG.warning("products/%s/%s was gone or damaged, and is whole again", place, name)
            size = (kept / name).stat().st_size
            if size != rows[layer.name].size:
                self.catalog.resize(known.product.product_id, layer.name, size)
        if new.classes_sha256 and not (kept / CLASSES).is_file():
            self._shelves.put_back(folder / CLASSES, place)


def _given(upload: Upload, layer: str) -> Path:
    path = upload.path(layer)
    path.touch()  # a layer that nobody sent is refused like an empty one
    return path


def _new_place(product: Product) -> str:
    return f"{product.creation_date:%Y-%m}/{_UNSAFE.sub('_', product.product_id)[:100]}-{uuid.uuid4().hex[:8]}"


def _compare(known: Stored, new: Stored, *, all_layers: bool) -> None:
    name = known.product.product_id
    there: Mapping[str, str] = {layer.name: layer.sha256 for layer in known.layers}
    differs = [] if known.digest == new.digest else ["properties or footprint"]
    if new.classes_sha256:
        differs += [] if known.classes_sha256 == new.classes_sha256 else ["polygons"]
    else:
        differs += [layer.name for layer in new.layers if there.get(layer.name) != layer.sha256]
    if all_layers:
        differs += [layer for layer in there if layer not in {x.name for x in new.layers}]
    if differs:
        what = ", ".join(differs)
        raise AlreadyExists(
            f"product {name} is stored already with other content (different: {what}); use another id, or keep what is there"
        )


def _mend(stored: Stored) -> str:
    return f"restore it from a backup, or store product {stored.product.product_id} again"
