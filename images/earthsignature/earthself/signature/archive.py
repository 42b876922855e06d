"""A whole database in a folder, to be moved, checked or kept as a backup: GeoParquet for what is known, COGs beside it.

    archive.json                    says that the archive is whole: which table, how many products; written last
    products-20260102T030405Z.parquet   GeoParquet 1.1: one row a product, with its layers and its histogram
    products/2017-06/ID-abcd1234/   the rasters, as in the store

    store-id                        of which store this is the archive; no other is exported into it

An export shows one moment of the store and may run beside its server. Into the same folder again it adds only what is new, and the archive
before counts until the new one is whole. An import verifies every pixel. A raster that is gone or damaged keeps no other from being saved
or given back.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from earthself.signature import pairing, rasters
from earthself.signature.errors import AlreadyExists, BadSetting, BadSignature, NotFound, StoreBroken, Unavailable
from earthself.signature.product import restored
from earthself.signature.rasters import Grid, Layer
from earthself.signature.rows import CodeShare, Stored, rows_of
from earthself.signature.store import Store
from earthself.signature.tables import VERSION

_FORMAT = "earthsignature-archive:1"
_LIST = "archive.json"
_BATCH = 2000
_SHOWN = 1000
_BOX = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])
_LAYER = pa.struct(
    [
        ("name", pa.string()),
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64())),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("data_type", pa.string()),
        ("sha256", pa.string()),
        ("size", pa.int64()),
    ]
)
_CODE = pa.struct([("code", pa.int32()), ("pixels", pa.int64()), ("share", pa.float64()), ("hectares", pa.float64())])
_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {
        "geometry": {
            "encoding": "WKB",
            "geometry_types": ["Polygon", "MultiPolygon"],
            "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
        }
    },
}
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("datetime", pa.timestamp("us", "UTC")),
        ("published", pa.timestamp("us", "UTC")),
        ("product:type", pa.string()),
        ("eo:cloud_cover", pa.float64()),
        ("geometry", pa.binary()),
        ("bbox", _BOX),
        ("properties", pa.string()),
        ("digest", pa.string()),
        ("classes_sha256", pa.string()),
        ("folder", pa.string()),
        ("superseded_by", pa.string()),
        ("layers", pa.list_(_LAYER)),
        ("codes", pa.list_(_CODE)),
    ],
    metadata={b"geo": json.dumps(_GEO).encode()},
)
"""Columns of the table: names of STAC where it has them; `properties` is JSON, `folder` is below `products/`."""


@dataclass(frozen=True)
class Archive:
    """What `archive.json` says."""

    format: str
    """Name and version of the format."""
    made: str
    """Date and time of the moment that it shows, UTC."""
    tables: str
    """Version of the tables that it came from."""
    table: str
    """File name of the GeoParquet."""
    sha256: str
    """Of that file."""
    products: int
    """Rows of it."""
    segmented: int
    """How many of them have rasters."""


@dataclass
class Moved:
    """How far an export or an import is."""

    products: int = 0
    """Products done."""
    new: int = 0
    """How many of them were not at the other side before."""
    of: int = 0
    """How many there are; 0 while that is not known."""
    failed: int = 0
    """Products that are not at the other side now, or not whole."""
    errors: list[str] = field(default_factory=list)
    """What is wrong with the first thousand of those."""

    def fail(self, why: str) -> None:
        """Count one that could not be moved."""
        self.failed += 1
        if len(self.errors) < _SHOWN:
            self.errors.append(why)


Progress = Callable[[Moved], None]


def export(store: Store, target: Path, progress: Progress, now: datetime | None = None) -> tuple[Archive, Moved]:
    """Write an archive of the store as it is now; what of it could not be saved is counted as failed.

    Rasters are linked where the folder is on the same file system, else copied. Raises `Unavailable` while products are being deleted or
    another export writes there, `BadSetting` for a folder that is in use for something else.
    """
    moment = now or datetime.now(UTC)
    moved = Moved()
    with _claimed(target, store.home), pairing.held(store.home, exclusive=False):
        table = target / f"products-{moment:%Y%m%dT%H%M%S%fZ}.parquet"
        kept = _write_table(store, table, moved, progress)
        segmented = _link_rasters(store.home / "products", target / "products", kept, moved, progress)
        archive = Archive(_FORMAT, moment.isoformat(), VERSION, table.name, _sha256(table), moved.products, segmented)
        os.sync()
        rough = target / f"{_LIST}.part"
        rough.write_text(json.dumps(asdict(archive), indent=1) + "\n")
        rough.replace(target / _LIST)
        os.sync()
        _forget_others(target, table, kept)
    return archive, moved


@contextmanager
def _claimed(target: Path, home: Path) -> Iterator[None]:
    """Hold a folder for one export: an empty one, or the archive of the same store. What else lies there would be deleted."""
    here, there = target.resolve(), home.resolve()
    if here == there or there in here.parents or here in there.parents:
        raise BadSetting(f"{target} and the store {home} lie in each other; export into a folder of its own, best on another disk")
    target.mkdir(parents=True, exist_ok=True)
    of, store = pairing.read_id(target), pairing.read_id(home)
    ours = [name for name in ("products", _LIST) if (target / name).exists()] + [path.name for path in target.glob("products-*.parquet*")]
    if of != store and (of or ours):
        whose = "is the archive of another store" if of else f"has {', '.join(ours[:3])} that no export of this store made"
        raise BadSetting(f"{target} {whose}, which this export would delete; give an empty folder")
    pairing.write_id(target, str(store))
    handle = os.open(target / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(f"another export writes into {target}; let it finish, then try again") from error
        yield
    finally:
        os.close(handle)


def read_archive(folder: Path) -> Archive:
    """Read what an archive says of itself and check its table; raises `BadSignature` for one that is not whole."""
    path = folder / _LIST
    try:
        archive = Archive(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise BadSignature(f"{folder} is no archive, or one whose export did not end; export again into the same folder") from None
    except (OSError, ValueError, TypeError) as error:
        raise BadSignature(f"{path} cannot be read ({error}); export again into the same folder") from error
    if archive.format != _FORMAT:
        raise BadSignature(f"{folder} is an archive of the format {archive.format}; this program reads {_FORMAT}")
    table = folder / Path(archive.table).name
    if not table.is_file() or _sha256(table) != archive.sha256:
        raise BadSignature(f"{table} is gone or was changed since the export; export again into the same folder")
    return archive


def import_archive(store: Store, folder: Path, progress: Progress) -> Moved:
    """Store all products of an archive in an opened store, those that are there already count as done, and get back what they lost.

    One with a raster that is not what the archive says, or that is there with other content, is counted as failed; the others go on.
    Raises `BadSignature` for an archive that is not whole, `StoreFull` where there is no room.
    """
    archive = read_archive(folder)
    moved = Moved(of=archive.products)
    superseded: list[tuple[str, str]] = []
    for batch in _read_table(folder / archive.table):
        described = [one for one in batch if one.folder is None]
        known = store.catalog.insert_new(rows_of(described, datetime.now(UTC)))
        moved.new += len(described) - len(known)
        for one in described:
            there = known.get(one.product.product_id)
            if there is not None and not there.segmented and there.digest != one.digest:
                moved.fail(f"product {one.product.product_id} is described already with other content; it stays as it is")
        moved.products += len(described)
        for one in batch:
            if one.folder is not None:
                try:
                    moved.new += store.take(one, folder / "products" / one.folder) == "created"
                except (StoreBroken, AlreadyExists) as error:
                    moved.fail(str(error))
                moved.products += 1
                progress(moved)
        superseded += [(one.product.product_id, one.superseded_by) for one in batch if one.superseded_by is not None]
        progress(moved)
    _mark_superseded(store, superseded)
    return moved


def _mark_superseded(store: Store, pairs: list[tuple[str, str]]) -> None:
    """Tell products that were there before what supersedes them by now, where both are there and the store knows no other."""
    for old, newer in pairs:
        known = store.catalog.get(old)
        if known is not None and known.superseded_by is None:
            try:
                store.supersede(old, newer)
            except NotFound:
                continue  # gone from the store that was exported, too


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_table(store: Store, table: Path, moved: Moved, progress: Progress) -> dict[str, list[Layer]]:
    """Write all rows of one moment; gives the folders of those with rasters, and their layers."""
    rough = table.with_name(table.name + ".part")
    kept: dict[str, list[Layer]] = {}
    with pq.ParquetWriter(rough, SCHEMA, compression="zstd") as writer:
        for batch in store.catalog.snapshot():
            writer.write_batch(pa.RecordBatch.from_pylist([_row(one) for one in batch], SCHEMA))
            kept |= {one.folder: list(one.layers) for one in batch if one.folder is not None}
            moved.products += len(batch)
            progress(moved)
    rough.replace(table)
    return kept


def _row(stored: Stored) -> dict[str, Any]:
    product, (west, south, east, north) = stored.product, stored.product.footprint.bounds
    return {
        "id": product.product_id,
        "datetime": product.creation_date,
        "published": product.publication_date,
        "product:type": product.product_type,
        "eo:cloud_cover": product.cloud_cover,
        "geometry": shapely.to_wkb(product.footprint, byte_order=1),
        "bbox": {"xmin": west, "ymin": south, "xmax": east, "ymax": north},
        "properties": json.dumps(dict(product.properties)),
        "digest": stored.digest,
        "classes_sha256": stored.classes_sha256,
        "folder": stored.folder,
        "superseded_by": stored.superseded_by,
        "layers": [{**asdict(layer), **asdict(layer.grid)} for layer in stored.layers],
        "codes": [code._asdict() for code in stored.codes],
    }


def _read_table(table: Path) -> Iterator[list[Stored]]:
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(_BATCH):
            yield [_stored(row) for row in batch.to_pylist()]


def _stored(row: dict[str, Any]) -> Stored:
    product = restored(row["id"], shapely.from_wkb(row["geometry"]), json.loads(row["properties"]))
    if product.digest() != row["digest"]:
        raise StoreBroken(f"the archive's row of product {row['id']} does not have the digest {row['digest']}; export again")
    layers = tuple(
        Layer(la["name"], Grid(la["crs"], tuple(la["transform"]), la["width"], la["height"]), la["data_type"], la["sha256"], la["size"])
        for la in row["layers"]
    )
    codes = tuple(CodeShare(**code) for code in row["codes"])
    return Stored(product, layers, row["folder"], row["digest"], row["classes_sha256"], codes, row["superseded_by"])


def _link_rasters(source: Path, target: Path, kept: dict[str, list[Layer]], moved: Moved, progress: Progress) -> int:
    """Give the archive the rasters that it does not have yet."""
    moved.of = len(kept)
    for place, layers in kept.items():
        sizes = {rasters.file_name(layer.name): layer.size for layer in layers}
        there = target / place
        if not _has(there, sizes):
            if not _has(source / place, sizes):
                moved.fail(
                    f"products/{place} of the store lacks a raster or has it damaged; import an archive that has it, or store it again"
                )
                continue
            moved.new += 1
            rough = target / f"{place}.part"
            shutil.rmtree(rough, ignore_errors=True)
            rough.mkdir(parents=True)
            for file in (source / place).iterdir():
                _link(file, rough / file.name)
            shutil.rmtree(there, ignore_errors=True)
            rough.rename(there)
        progress(moved)
    return len(kept)


def _has(folder: Path, sizes: dict[str, int]) -> bool:
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # files of a store are never written again
    except OSError:
        shutil.copyfile(source, target)


def _forget_others(target: Path, table: Path, kept: dict[str, list[Layer]]) -> None:
    """Remove what only earlier archives of the folder named."""
    for old in target.glob("products-*.parquet*"):
        if old != table:
            old.unlink()
    for shelf in filter(Path.is_dir, (target / "products").glob("*")):
        for folder in filter(Path.is_dir, shelf.iterdir()):
            if f"{shelf.name}/{folder.name}" not in kept:
                shutil.rmtree(folder)
