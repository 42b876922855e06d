"""Products in a folder: rasters as files, the rest in the catalogue; each product whole or not at all.

How that holds when the server dies at any moment: uploads and new rasters lie in `staging/`; a finished product's folder moves
in one rename to `products/`, and belongs to a product from the commit of its row on. At start, under the store's lock, `staging/` and
every folder that no row names are removed. Files are synced before the rename, the rename before the row.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from earthself.data.area import Area
from earthself.signature import geobuf, rasters, vectors
from earthself.signature.catalog import Catalog, IdTaken, Statistics, Stored
from earthself.signature.errors import AlreadyExists, BadSignature, NotFound, StoreBroken
from earthself.signature.filters import Query, check_legend
from earthself.signature.product import Product
from earthself.signature.rasters import Layer

_LOG = logging.getLogger(__name__)
Outcome = Literal["created", "known"]
V1_LAYERS = ("segmentation", "cloud_mask")
"""What every product has."""
_CLASSES = "classes.geobuf"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


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


class Store:
    """All products below one folder. `open` it for serving; several threads may use it."""

    def __init__(self, home: Path, database_url: str | None = None) -> None:
        """Point at a store without touching it. The database is `earthsignature.sqlite` in the folder unless a URL says otherwise."""
        self.home = home
        self.catalog = Catalog(database_url or f"sqlite:///{(home / 'earthsignature.sqlite').absolute()}")
        self._staging = home / "staging"
        self._products = home / "products"
        self._lock: int | None = None

    @classmethod
    def open(cls, home: Path, database_url: str | None = None) -> Store:
        """Lock the store, bring its tables up to date and clean up after a crash; raises `StoreBroken` when it is in use."""
        home.mkdir(parents=True, exist_ok=True)
        store = cls(home, database_url)
        store.lock()
        before, after = store.catalog.migrate()
        if before != after:
            _LOG.info("tables brought from version %s to %s", before or "none", after)
        for name in store.recover():
            _LOG.info("removed %s, left by a call that was interrupted", name)
        return store

    def lock(self) -> None:
        """Take the store for this process, until it closes or dies."""
        self._lock = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            self._lock = None
            raise StoreBroken(f"{self.home} is in use by another EarthSignature server; stop it or give another --home") from error

    def close(self) -> None:
        """Give the database and the lock back."""
        self.catalog.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def recover(self) -> list[str]:
        """Remove what an interrupted `create` left; gives the names of what was removed."""
        removed = [f"staging/{path.name}" for path in self._staging.iterdir()] if self._staging.exists() else []
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(parents=True)
        self._products.mkdir(exist_ok=True)
        owned = self.catalog.folders()
        for shelf in filter(Path.is_dir, self._products.iterdir()):
            for folder in filter(Path.is_dir, shelf.iterdir()):
                if f"{shelf.name}/{folder.name}" not in owned:
                    shutil.rmtree(folder)
                    removed.append(f"products/{shelf.name}/{folder.name}")
            if not any(shelf.iterdir()):
                shelf.rmdir()
        return removed

    def upload(self) -> Upload:
        """Make a place for the files of a new product."""
        folder = self._staging / uuid.uuid4().hex
        folder.mkdir()
        return Upload(folder)

    def create(self, product: Product, upload: Upload, names: Iterable[str], *, all_layers: bool = False) -> Outcome:
        """Store a product with the uploaded layers of those names.

        "known" when the same is there already: properties, footprint, and the pixels of the given layers (`all_layers`: and no layer
        beside them). Raises `AlreadyExists` for another product of that id, `BadSignature` for what cannot be stored.
        """
        folder = upload.prepared()
        layers = tuple(rasters.store_layer(_given(upload, name), name, folder) for name in sorted({*V1_LAYERS, *names}))
        _check_together(product, layers)
        return self._keep(Stored(product, layers, "", product.digest(), None), folder, all_layers=all_layers)

    def create_from_classes(self, product: Product, classes: list[vectors.ClassPolygon], upload: Upload) -> Outcome:
        """Store a product that came as polygons, with the rasters that v1 readers get; like `create`."""
        if "legend" in product.properties:
            check_legend(product.properties["legend"], {c.category for c in classes})
        if not any(product.footprint.intersects(c.geometry) for c in classes):
            raise BadSignature(f"product {product.product_id}: no polygon lies in its footprint; send theirs, or none")
        folder = upload.prepared()
        vectors.rasterize_classes(classes, upload.path("segmentation"), upload.path("cloud_mask"))
        layers = tuple(rasters.store_layer(upload.path(name), name, folder) for name in sorted(V1_LAYERS))
        # A polygon smaller than a pixel has no pixels, but its category is found all the same.
        none = dict.fromkeys((c.category for c in classes), 0)
        layers = tuple(replace(layer, counts=none | layer.counts) if layer.name == "segmentation" else layer for layer in layers)
        features = [c.feature(product.product_id) for c in classes]
        (folder / _CLASSES).write_bytes(geobuf.encode(_collection(product, features)).SerializeToString())
        return self._keep(Stored(product, layers, "", product.digest(), vectors.classes_digest(classes)), folder, all_layers=False)

    def find(self, query: Query) -> Iterator[Stored]:
        """Give the products that match, newest first."""
        return self.catalog.find(query)

    def get(self, product_id: str) -> Stored:
        """Give one product; raises `NotFound`."""
        stored = self.catalog.get(product_id)
        if stored is None:
            raise NotFound(f"product {product_id!r} is not stored; list what there is with ListProductIds or `earthsignature list`")
        return stored

    def path(self, stored: Stored, layer: str) -> Path:
        """Give the file of a layer; raises `NotFound` when the product has none of that name, `StoreBroken` when its file is gone."""
        if layer not in {known.name for known in stored.layers}:
            has = ", ".join(known.name for known in stored.layers)
            raise NotFound(f"product {stored.product.product_id} has no layer {layer!r}; it has {has}")
        path = self._products / stored.folder / rasters.file_name(layer)
        if not path.is_file():
            raise StoreBroken(f"products/{stored.folder}/{path.name} is gone from the store; restore it from a backup")
        return path

    def polygons(self, stored: Stored, sieve_ha: float) -> bytes:
        """Give the land cover as a FeatureCollection in geobuf bytes: the product's own polygons, or those of its pixels (kept)."""
        home = self._products / stored.folder
        kept = home / (_CLASSES if stored.classes_sha256 else f"classes-{sieve_ha:g}ha.geobuf")
        if not kept.is_file():
            classes = vectors.polygonize(self.path(stored, "segmentation"), sieve_ha)
            features = [c.feature(stored.product.product_id) for c in classes]
            rough = self._staging / uuid.uuid4().hex
            rough.write_bytes(geobuf.encode(_collection(stored.product, features)).SerializeToString())
            rough.replace(kept)
        return kept.read_bytes()

    def statistics(self) -> Statistics:
        """Count what is there."""
        return self.catalog.statistics()

    def _keep(self, stored: Stored, folder: Path, *, all_layers: bool) -> Outcome:
        """Move the finished folder in and write its row, unless the product is there."""
        name = stored.product.product_id
        known = self.catalog.get(name)
        if known is None:
            place = f"{stored.product.creation_date:%Y-%m}/{_UNSAFE.sub('_', name)[:100]}-{uuid.uuid4().hex[:8]}"
            self._move_in(folder, place)
            try:
                self.catalog.insert(replace(stored, folder=place))
                return "created"
            except IdTaken:
                shutil.rmtree(self._products / place)
                known = self.get(name)
            # Any other error leaves the folder to the next start, which knows whether the row was written.
        _compare(known, stored, all_layers=all_layers)
        return "known"

    def _move_in(self, folder: Path, place: str) -> None:
        """Put a finished folder where products lie, safe against a power cut."""
        target = self._products / place
        target.parent.mkdir(exist_ok=True)
        for path in (*folder.iterdir(), folder):
            _sync(path)
        folder.rename(target)
        for path in (target.parent, self._products):
            _sync(path)


def _given(upload: Upload, layer: str) -> Path:
    path = upload.path(layer)
    path.touch()  # a layer that nobody sent is refused like an empty one
    return path


def _check_together(product: Product, layers: tuple[Layer, ...]) -> None:
    first = next(layer for layer in layers if layer.name == "segmentation")
    for layer in layers:
        if layer.grid != first.grid:
            raise BadSignature(f"{layer.name} has {layer.grid}, but segmentation has {first.grid}; send all layers on the same grid")
    if "legend" in product.properties:
        check_legend(product.properties["legend"], first.counts)
    covered = Area.from_conf(first.grid.outline()).geometry.intersection(product.footprint).area / product.footprint.area
    if covered < 0.5:
        raise BadSignature(
            f"the rasters ({first.grid}) cover {100 * covered:.0f} % of the product's footprint; "
            "check their CRS, transform and size, and that the footprint is longitude, latitude"
        )


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


def _collection(product: Product, features: list[dict[str, object]]) -> dict[str, object]:
    return {"type": "FeatureCollection", "features": features, "id": product.product_id, "properties": dict(product.properties)}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
