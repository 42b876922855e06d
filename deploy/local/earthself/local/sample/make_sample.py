"""Regenerates the sample from the package that it comes from: `python -m earthself.local.sample.make_sample [--out FOLDER]`.

The wheel of configilm 0.7.1 on the Python registry holds 21 patches of BigEarthNet v2 cut from one Sentinel-2 tile and
datatake, each band at its native resolution. Patches that touch become one product, because that is what they are: parts
of one observation. Needs lmdb, safetensors, rasterio, shapely and pip; none but shapely of them is needed to serve the sample.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from earthself.local.sample import COLLECTION, DATA

WHEEL = "configilm==0.7.1"
_LMDB = "configilm/extra/mock_data/BENv2/BigEarthNet-V2-LMDB/data.mdb"
_CLOUDY = "configilm/extra/mock_data/BENv2/metadata_for_patches_with_snow_cloud_or_shadow.parquet"

SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
"""Mission, level, datatake start, baseline, relative orbit, tile: shared by all patches."""

_EPSG = 32633
_WEST, _NORTH = 300_000, 5_400_000
"""Upper left corner of tile 33UUP in EPSG:32633, metres."""
_PATCH = 1200
"""Side of a patch, metres."""

BANDS: Mapping[str, tuple[int, str | None, float]] = {
    "B01": (60, "coastal", 0.443),
    "B02": (10, "blue", 0.49),
    "B03": (10, "green", 0.56),
    "B04": (10, "red", 0.665),
    "B05": (20, "rededge071", 0.704),
    "B06": (20, "rededge075", 0.74),
    "B07": (20, "rededge078", 0.783),
    "B08": (10, "nir", 0.842),
    "B8A": (20, "nir08", 0.865),
    "B09": (60, "nir09", 0.945),
    "B11": (20, "swir16", 1.61),
    "B12": (20, "swir22", 2.19),
}
"""Band -> resolution in metres, common name of the STAC extension eo 2.0, centre wavelength in micrometres."""


@dataclass(frozen=True)
class Patch:
    """One patch of 1200 m by 1200 m."""

    name: str
    column: int
    """Patches east of the tile's western edge."""
    row: int
    """Patches south of the tile's northern edge."""
    cloudy: bool
    """BigEarthNet says that it contains cloud or shadow."""
    bands: Mapping[str, np.ndarray[Any, np.dtype[np.uint16]]]
    """Band -> digital numbers at native resolution: 120, 60 or 20 pixels square."""


@dataclass(frozen=True)
class Product:
    """Patches that touch each other, as one product."""

    patches: tuple[Patch, ...]

    @property
    def part(self) -> str:
        """The part's name in the identity: column and row of the upper left corner of its box."""
        return f"P{self.column:02d}{self.row:02d}"

    @property
    def id(self) -> str:
        """The product's id."""
        return f"{SCENE}_{self.part}"

    @property
    def column(self) -> int:
        """Westernmost column of patches."""
        return min(patch.column for patch in self.patches)

    @property
    def row(self) -> int:
        """Northernmost row of patches."""
        return min(patch.row for patch in self.patches)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches in its box."""
        return max(p.row for p in self.patches) - self.row + 1, max(p.column for p in self.patches) - self.column + 1

    def mosaic(self, band: str) -> np.ndarray[Any, np.dtype[np.uint16]]:
        """Lay the patches out on the box's grid, shape (rows, columns) at the band's resolution, 0 where there is none."""
        side = _PATCH // BANDS[band][0]
        rows, columns = self.shape
        mosaic = np.zeros((rows * side, columns * side), np.uint16)
        for patch in self.patches:
            top, left = (patch.row - self.row) * side, (patch.column - self.column) * side
            mosaic[top : top + side, left : left + side] = patch.bands[band]
        return mosaic


def main(arguments: list[str] | None = None) -> int:
    """Make the sample anew; exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write (replaced as a whole)")
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {WHEEL}; downloaded with pip where it is not given")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = options.wheel or _download(Path(scratch))
        products = group(read_patches(wheel, Path(scratch)))
    write(products, options.out)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{len(products)} products of {sum(len(p.patches) for p in products)} patches, {size / 1e6:.1f} MB in {options.out}")
    return 0


def read_patches(wheel: Path, scratch: Path) -> list[Patch]:
    """Read the patches of the scene out of the wheel, in the order of their names."""
    import lmdb
    import pyarrow.parquet
    from safetensors.numpy import load

    with zipfile.ZipFile(wheel) as archive:
        database = Path(archive.extract(_LMDB, scratch))
        table = pyarrow.parquet.read_table(archive.open(_CLOUDY), columns=["patch_id", "contains_cloud_or_shadow"])
    cloudy = {row["patch_id"] for row in table.to_pylist() if row["contains_cloud_or_shadow"]}
    patches = []
    with lmdb.open(str(database), subdir=False, readonly=True, lock=False) as environment, environment.begin() as transaction:
        for key, value in transaction.cursor():
            name = key.decode()
            if not name.startswith(f"{SCENE}_"):
                continue
            bands = load(bytes(value))
            for band, (resolution, _, _) in BANDS.items():
                side = _PATCH // resolution
                if bands[band].shape != (side, side) or bands[band].dtype != np.uint16 or not bands[band].all():
                    raise ValueError(f"{name} {band} is not {side}x{side} uint16 without 0: this is not the package that was expected")
            column, row = (int(text) for text in name.rsplit("_", 2)[1:])
            patches.append(Patch(name, column, row, name in cloudy, {band: bands[band] for band in BANDS}))
    return sorted(patches, key=lambda patch: patch.name)


def group(patches: Iterable[Patch]) -> list[Product]:
    """Join patches that share an edge, or a chain of such neighbours."""
    left = {(patch.column, patch.row): patch for patch in patches}
    products = []
    while left:
        reached = [left.pop(next(iter(left)))]
        for patch in reached:  # grows while it is walked
            for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                neighbour = left.pop((patch.column + step[0], patch.row + step[1]), None)
                if neighbour:
                    reached.append(neighbour)
        products.append(Product(tuple(sorted(reached, key=lambda patch: patch.name))))
    return sorted(products, key=lambda product: product.id)


def write(products: Iterable[Product], out: Path) -> None:
    """Write one folder of COGs and one STAC item per product, and the licence, replacing `out`."""
    licence = (DATA / "ATTRIBUTION.md").read_text()
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        fresh = Path(temporary) / "data"
        for product in products:
            folder = fresh / product.id
            folder.mkdir(parents=True)
            assets = {band: _write_band(product, band, folder / f"{band}.tif") for band in BANDS}
            (fresh / f"{product.id}.json").write_text(json.dumps(_item(product, assets), indent=1) + "\n")
        (fresh / "ATTRIBUTION.md").write_text(licence)
        if out.exists():
            shutil.rmtree(out)
        fresh.rename(out)


def _write_band(product: Product, band: str, path: Path) -> dict[str, Any]:
    """Write one band as COG at its native resolution and describe it as a STAC asset."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.transform import from_origin

    resolution, common_name, wavelength = BANDS[band]
    pixels = product.mosaic(band)
    transform = from_origin(_WEST + product.column * _PATCH, _NORTH - product.row * _PATCH, resolution, resolution)
    profile = {"driver": "COG", "dtype": "uint16", "count": 1, "height": pixels.shape[0], "width": pixels.shape[1], "nodata": 0}
    layout = {"compress": "DEFLATE", "level": 9, "predictor": 2, "blocksize": 256, "overview_resampling": "average"}
    with rasterio.open(path, "w", crs=CRS.from_epsg(_EPSG), transform=transform, **profile, **layout) as raster:
        raster.write(pixels, 1)
        raster.set_band_description(1, band)
    content = path.read_bytes()
    described = {"name": band, "eo:center_wavelength": wavelength} | ({"eo:common_name": common_name} if common_name else {})
    return {
        "href": f"{product.id}/{band}.tif",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "title": f"{band}, {resolution} m",
        "roles": ["data", "reflectance"],
        "gsd": resolution,
        "data_type": "uint16",
        "nodata": 0,
        "unit": "1",
        "raster:scale": 0.0001,
        "raster:spatial_resolution": resolution,
        "bands": [described],
        "proj:code": f"EPSG:{_EPSG}",
        "proj:shape": list(pixels.shape),
        "proj:transform": [*transform[:6]],
        "file:size": len(content),
        "file:checksum": "1220" + hashlib.sha256(content).hexdigest(),
    }


def _item(product: Product, assets: dict[str, Any]) -> dict[str, Any]:
    """Describe a product as a STAC 1.1 item; hrefs are relative to the item, the provider makes them absolute."""
    from rasterio.warp import transform_geom

    footprint = transform_geom(f"EPSG:{_EPSG}", "OGC:CRS84", _outline(product), precision=7)
    corners = [point for ring in footprint["coordinates"] for point in ring]
    cloudy = [patch.name for patch in product.patches if patch.cloudy]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
            "https://stac-extensions.github.io/file/v2.1.0/schema.json",
            "https://stac-extensions.github.io/grid/v1.1.0/schema.json",
            "https://stac-extensions.github.io/sat/v1.1.0/schema.json",
        ],
        "id": product.id,
        "collection": COLLECTION,
        "geometry": footprint,
        "bbox": [min(x for x, _ in corners), min(y for _, y in corners), max(x for x, _ in corners), max(y for _, y in corners)],
        "properties": {
            "title": f"Sentinel-2 L2A, tile 33UUP, part {product.part} ({len(product.patches)} patches of BigEarthNet v2)",
            "description": (
                "Patches of BigEarthNet v2.0 that touch each other, put together at their place in the tile. They were cut from an "
                "L2A product that the authors made from L1C with sen2cor (hence baseline N9999): digital numbers are 10,000 times the "
                "surface reflectance and carry no offset. There is no scene classification (SCL), and 0 marks where the box holds no "
                "patch. eo:cloud_cover is an upper bound: the share of the patches that BigEarthNet's metadata mark as containing "
                "cloud or cloud shadow."
            ),
            "datetime": "2017-06-13T10:10:31Z",
            "platform": "sentinel-2a",
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "gsd": 10,
            "license": "CDLA-Permissive-1.0",
            "eo:cloud_cover": round(100 * len(cloudy) / len(product.patches), 1),
            "grid:code": "MGRS-33UUP",
            "sat:relative_orbit": 22,
            "proj:code": f"EPSG:{_EPSG}",
            "s2:mgrs_tile": "33UUP",
            "s2:processing_baseline": "99.99",
            "s2:product_type": "S2MSI2A",
            "earthself:part": product.part,
            "earthself:patches": [patch.name for patch in product.patches],
        },
        "links": [],
        "assets": assets,
    }


def _outline(product: Product) -> dict[str, Any]:
    """Return the union of the patches as GeoJSON in metres, with a vertex every 300 m: a straight edge in UTM is a curve in degrees."""
    from shapely import box, segmentize, union_all
    from shapely.geometry import mapping

    squares = []
    for patch in product.patches:
        west, north = _WEST + patch.column * _PATCH, _NORTH - patch.row * _PATCH
        squares.append(box(west, north - _PATCH, west + _PATCH, north))
    outline: dict[str, Any] = mapping(segmentize(union_all(squares), 300))
    return outline


def _download(folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(folder), WHEEL],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


if __name__ == "__main__":
    sys.exit(main())
