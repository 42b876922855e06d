"""Read the public data sets, and a person's own files, that the baseline is trained on; docs/models.md describes the folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.processing.errors import BadInput
from earthself.processing.training.features import BANDS
from earthself.processing.training.truth import BUILT, FIELD, KIND_OF_CODE, OBSCURED, OTHER, UNLABELLED, Bounds, Scene, blocks, order

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLEAR_SCL = (2, 4, 5, 6, 7, 11)
"""Classes of the scene classification whose pixels count as clear."""
SEEN_SCL = (*CLEAR_SCL, 10)
"""Classes through which the ground shows: with thin cirrus (10)."""
OBSCURED_SCL = (3, 8, 9, 11)
"""Classes from which `OBSCURED` is learnt. Thin cirrus (10) is not: the ground is seen through it."""

_PARCELS = {11: FIELD, 13: FIELD, 60: BUILT, 99: OTHER}
_BLOCK = 20
"""Side in pixels of the squares that count as one in the bootstrap over a CORINE patch."""
_NEAR = 6
"""BigEarthNet patches (1.2 km each) closer than this belong to one site."""
_PATCH = re.compile(r"(?P<id>S2[AB]_MSIL2A_(?P<day>\d{8})T\d{6}_N\d{4}_R\d{3}_(?P<tile>T\w{5})_(?P<h>\d+)_(?P<v>\d+))")


def read_truth(folder: Path) -> Iterator[Scene]:
    """Give every labelled scene below `folder`; raises `BadInput` for files that are not as docs/models.md says."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder; docs/models.md says where the public files are and how to lay them out")
    yield from _parcel_scenes(folder / "worldcereal")
    yield from _patch_scenes(folder / "bigearthnet_v2")
    yield from _own_scenes(folder / "own")


def read_patches(folder: Path) -> dict[str, tuple[str, NDArray[np.float32]]]:
    """Give site and reflectance of every BigEarthNet v2 patch below `folder`, by the patch's id."""
    return {patch: (site, _read_patch(paths)) for patch, (site, paths) in _patch_files(folder).items()}


def _patch_files(folder: Path) -> dict[str, tuple[str, list[Path]]]:
    files: dict[str, list[Path]] = {}
    places: dict[str, tuple[str, int, int]] = {}
    for path in sorted(folder.rglob("*_B*.tif")) + sorted(folder.rglob("*_12b.tif")):
        found = _PATCH.match(path.name)
        if found:
            files.setdefault(found["id"], []).append(path)
            places[found["id"]] = (found["tile"], int(found["h"]), int(found["v"]))
    sites = _near(places)
    return {patch: (sites[patch], paths) for patch, paths in files.items()}


def interpreted() -> dict[str, list[tuple[int, int, int, int, int]]]:
    """Give the rectangles interpreted by eye, by patch id: code (0 cloud or shadow), first column, first row, end column, end row."""
    text = resources.files("earthself.processing.training").joinpath("interpreted.json").read_text(encoding="utf-8")
    return {patch: [tuple(r) for r in rectangles] for patch, rectangles in json.loads(text)["rectangles"].items()}


def _parcel_scenes(folder: Path) -> Iterator[Scene]:
    import netCDF4

    for path in sorted(folder.glob("S2_L2A_10m_*.nc")):
        key = path.stem.split("_")[3]
        coarse = folder / path.name.replace("_10m_", "_20m_")
        labels = next(iter(sorted(folder.glob(f"OUTPUT_*_{key}_*.nc"))), None)
        if not coarse.is_file() or labels is None:
            raise BadInput(f"{path} stands alone; {coarse.name} and OUTPUT_*_{key}_*.nc belong beside it")
        with netCDF4.Dataset(path) as fine, netCDF4.Dataset(coarse) as rough, netCDF4.Dataset(labels) as truth:
            for data in (fine, rough, truth):
                data.set_auto_maskandscale(False)
            numbers = np.stack([fine[b][:] if b in fine.variables else _twice(rough[b][:]) for b in BANDS], axis=1)
            classes, cover = _twice(rough["SCL"][:]), truth["LC"][:]
            days = _days(fine["timestamp"])
            site = f"parcels {fine['B02'].tile} {days[0].year}-{days[-1].year}"
            bounds = _cube_bounds(fine)
        for day, number, scl in zip(days, numbers, classes, strict=True):
            yield _parcel_scene(site, day, number, scl, cover, bounds=bounds)


def _cube_bounds(cube: Any) -> Bounds:  # noqa: ANN401 (a netCDF data set, which has no types)
    x, y = cube["x"][:], cube["y"][:]
    half = abs(float(x[1] - x[0])) / 2
    return _degrees(cube["spatial_ref"].crs_wkt, (x.min() - half, y.min() - half, x.max() + half, y.max() + half))


def _parcel_scene(
    site: str, day: date, numbers: NDArray[np.uint16], scl: NDArray[np.uint8], cover: NDArray[np.uint16], *, bounds: Bounds
) -> Scene:
    kind = np.full(cover.shape, UNLABELLED, np.int8)
    for label, meaning in _PARCELS.items():
        kind[cover == label] = meaning
    kind[np.isin(scl, OBSCURED_SCL)] = OBSCURED
    # A date is one cluster: its pixels share sun, air and stage of the crops.
    one = np.zeros(cover.shape, np.int32)
    return Scene(site, day, _reflectance(numbers), kind, np.isin(scl, CLEAR_SCL), np.isin(scl, SEEN_SCL), one, "parcels", bounds)


def _patch_scenes(folder: Path) -> Iterator[Scene]:
    import rasterio

    drawn = interpreted()
    maps = {found["id"]: path for path in sorted(folder.rglob("*_reference_map.tif")) if (found := _PATCH.match(path.name))}
    for patch, (site, paths) in _patch_files(folder).items():
        if patch not in maps and patch not in drawn:
            continue
        reflectance, bounds = _read_patch(paths), _bounds(paths[0])
        day = datetime.strptime(_PATCH.match(patch)["day"], "%Y%m%d").replace(tzinfo=UTC).date()  # type: ignore[index]
        clear = _there(reflectance)
        if patch in maps:
            with rasterio.open(maps[patch]) as data:
                kind = _kinds(data.read(1))
            yield Scene(site, day, reflectance, kind, clear, clear, blocks(kind.shape, _BLOCK), "corine", bounds)
        else:
            kind, block = np.full(clear.shape, UNLABELLED, np.int8), np.zeros(clear.shape, np.int32)
            for number, (code, x0, y0, x1, y1) in enumerate(drawn[patch]):
                kind[y0:y1, x0:x1] = KIND_OF_CODE.get(code, OBSCURED)
                block[y0:y1, x0:x1] = number
            yield Scene(site, day, reflectance, kind, clear, clear, block, "interpreted", bounds)


def _own_scenes(folder: Path) -> Iterator[Scene]:
    import rasterio

    for path in sorted(folder.glob("*/*_codes.tif")):
        image = path.with_name(path.name.removesuffix("_codes.tif") + ".tif")
        found = re.match(r"\d{8}", image.name)
        if not image.is_file() or not found:
            raise BadInput(f"{path}: beside it belongs {image.name}, and its name must begin with the date as YYYYMMDD")
        with rasterio.open(image) as pixels, rasterio.open(path) as codes:
            if pixels.shape != codes.shape or pixels.transform != codes.transform or pixels.crs != codes.crs:
                raise BadInput(
                    f"{path} and {image.name} have different grids ({codes.shape} and {pixels.shape}); resample the codes by nearest"
                )
            numbers = pixels.read([i + 1 for i in order(pixels.descriptions, str(image))]).astype(np.float32)
            scale, offset = pixels.scales[0], pixels.offsets[0]
            if not np.issubdtype(np.dtype(pixels.dtypes[0]), np.floating) and scale == 1:
                raise BadInput(
                    f"{image} holds integers without a scale; set scale and offset (gdal_edit.py -scale 0.0001 -offset -0.1, say)"
                )
            reflectance = np.where(numbers == 0, np.nan, numbers * scale + offset).astype(np.float32)
            kind = _kinds(codes.read(1))
        day = datetime.strptime(found[0], "%Y%m%d").replace(tzinfo=UTC).date()
        clear = _there(reflectance)
        yield Scene(path.parent.name, day, reflectance, kind, clear, clear, blocks(kind.shape, _BLOCK), "own", _bounds(image))


def _kinds(codes: NDArray[Any]) -> NDArray[np.int8]:
    """Kinds of CORINE codes of any level."""
    first = codes.astype(np.int64)
    while (first > 9).any():
        first = np.where(first > 9, first // 10, first)
    kind = np.full(codes.shape, UNLABELLED, np.int8)
    for code, meaning in KIND_OF_CODE.items():
        kind[first == code] = meaning
    return kind


def _reflectance(numbers: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Both data sets are older than ESA's offset of 2022 and carry none (data sets' own documents; dark pixels are below 0.1)."""
    return np.where(numbers == 0, np.nan, numbers / np.float32(10000)).astype(np.float32)


def _read_patch(paths: list[Path]) -> NDArray[np.float32]:
    import rasterio

    bands: dict[str, NDArray[np.uint16]] = {}
    for path in paths:
        with rasterio.open(path) as data:
            names = data.descriptions if data.count > 1 else (path.stem.rsplit("_", 1)[1],)
            bands |= dict(zip(names, data.read(), strict=True))
    height = max(b.shape[0] for b in bands.values())
    chosen = [list(bands.values())[i] for i in order(list(bands), str(paths[0]))]
    return _reflectance(np.stack([b if b.shape[0] == height else _twice(b) for b in chosen]))


def _bounds(path: Path) -> Bounds:
    import rasterio

    with rasterio.open(path) as data:
        if data.crs is None:
            raise BadInput(f"{path} has no coordinate system, so no map can say that it meets this place; set it (gdal_edit.py -a_srs)")
        return _degrees(data.crs, data.bounds)


def _degrees(crs: Any, bounds: Iterable[float]) -> Bounds:  # noqa: ANN401 (whatever rasterio takes for one)
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(crs, "EPSG:4326", *bounds)
    return west, south, east, north


def _there(reflectance: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(reflectance).all(axis=0))


def _near(places: dict[str, tuple[str, int, int]]) -> dict[str, str]:
    """Name a site for each patch: patches of a tile that neighbour each other, directly or over others, share one."""
    left, sites = dict(places), {}
    while left:
        patch, place = next(iter(left.items()))
        group, wave = {patch: place}, {patch: place}
        while wave:
            wave = {p: q for p, q in left.items() if p not in group and any(_close(q, w) for w in wave.values())}
            group |= wave
        tile, h, v = min(group.values())
        for member in group:
            sites[member] = f"{tile} {h}_{v}"
            del left[member]
    return sites


def _close(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and max(abs(one[1] - other[1]), abs(one[2] - other[2])) < _NEAR


def _twice(values: NDArray[Any]) -> NDArray[Any]:
    return values.repeat(2, axis=-2).repeat(2, axis=-1)


def _days(timestamps: Any) -> list[date]:  # noqa: ANN401 (a netCDF variable, which has no types)
    start = datetime.fromisoformat(timestamps.units.split("since ")[1]).replace(tzinfo=UTC)
    seconds: Iterable[int] = timestamps[:].tolist()
    return [(start + timedelta(seconds=s)).date() for s in seconds]
