"""Clouds and shadows from the pixels alone, with the ONNX models of `ukis-csmask` (DLR, Apache-2.0): L1C, and L2A without SCL.

Source: Wieland, Fichtner, Martinis (2022), doi:10.5194/isprs-archives-XLIII-B3-2022-217-2022. The models want reflectance
of blue, green, red, nir (and swir16, swir22) at about 30 m, normalised by the mean and deviation in the JSON beside each
model, in tiles of 256; they answer with scores for 0 background, 1 cloud, 2 cloud shadow.

Tiles lie on one grid that begins at the product's corner, and only a tile's inner 192 pixels are used: a pixel gets the
same answer whatever window of the product is processed. Only the models are taken from the package, not its tiling, which
depends on the image's size.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.data.flags import CLOUD, SHADOW
from earthself.processing.errors import BadInput, NotInstalled
from earthself.processing.masks import FARTHEST, MaskOptions
from earthself.processing.masks.dilate import dilated
from earthself.processing.scene import is_l1c

if TYPE_CHECKING:
    from earthself.processing.raster import Grid
    from earthself.processing.scene import Place, Scene
    from numpy.typing import NDArray
    from rasterio.windows import Window

_PIXEL = 10
"""Metres a side of a pixel that tiles, reach and cells are counted in."""
CELL = 3
"""10 m pixels a side of a model pixel: 30 m."""
TILE = 256
"""Model pixels a side that the network takes."""
EDGE = 32
"""Model pixels (960 m) at each side of a tile that are looked at but not used."""
CORE = TILE - 2 * EDGE

FOUR = ("B02", "B03", "B04", "B08")
"""Bands that are read of every product."""
_SIX = (*FOUR, "B11", "B12")
_BAND_NAMES = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir16": "B11", "swir22": "B12"}


def bands_of(has: Callable[[str], bool], product: Grid) -> tuple[str, ...]:
    """Bands that will be read of a product, of which `has` says what it has: four or six, for the model of that name.

    The model with six bands finds more clouds, but sees shadows everywhere in products that do not fill one of its tiles
    (docs/decisions/sign-csmask-tiles.md). Raises `BadInput` for a product whose finest pixels are not of 10 m.
    """
    if not math.isclose(product.resolution, _PIXEL, rel_tol=1e-6):
        raise BadInput(
            f"csmask needs {', '.join(FOUR)} at {_PIXEL} m; the product's finest pixels have {product.resolution:g} ({product.crs}): "
            "take the product from another provider, or a mask that does not look at it (--mask scl or none)"
        )
    fills_a_tile = min(product.width, product.height) >= TILE * CELL
    return _SIX if fills_a_tile and all(has(band) for band in _SIX) else FOUR


def window_for(place: Place) -> tuple[int, int, int, int]:
    """All pixels of the tiles that the signature touches: first column, first row, width, height in 10 m pixels, inside the product."""
    columns, rows = _tiles(place.column, place.width), _tiles(place.row, place.height)
    left, top = max(0, (columns.start * CORE - EDGE) * CELL), max(0, (rows.start * CORE - EDGE) * CELL)
    right = min(place.product.width, (columns.stop * CORE + EDGE) * CELL)
    bottom = min(place.product.height, (rows.stop * CORE + EDGE) * CELL)
    return left, top, right - left, bottom - top


def _tiles(first: int, size: int) -> range:
    """Tiles of one axis whose cores hold the pixels, and those that may grow into them."""
    reach = math.ceil(FARTHEST / _PIXEL)
    start = max(0, (first - reach) // CELL // CORE)
    return range(start, -(-(first + size + reach) // (CELL * CORE)))


@dataclass(frozen=True)
class _Network:
    """One of the package's models with its normalisation."""

    session: Any
    """An onnxruntime session."""
    bands: tuple[str, ...]
    """Sentinel-2 bands in the order of the input."""
    mean: NDArray[np.float32]
    """Per band, shaped to broadcast over (bands, rows, columns)."""
    deviation: NDArray[np.float32]
    """Per band, likewise."""
    version: str
    """Such as `1.0.0-6BL2A`."""

    def classes(self, reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Classify one tile (bands, 256, 256): 0 background, 1 cloud, 2 shadow."""
        given = ((reflectance - self.mean) / self.deviation).astype(np.float32)[None]
        scores = self.session.run(None, {self.session.get_inputs()[0].name: given})[0]
        found: NDArray[np.uint8] = np.argmax(scores[0], axis=0).astype(np.uint8)
        return found


def models_folder() -> Path:
    """Find the package's models; raises `NotInstalled` with the command that installs them."""
    found = importlib.util.find_spec("ukis_csmask")
    if found is None or not found.submodule_search_locations:
        raise NotInstalled(
            "the mask csmask needs the package ukis-csmask: pip install 'earthself-processing[csmask]', or choose --mask none"
        )
    return Path(next(iter(found.submodule_search_locations)))


@lru_cache(maxsize=2)
def load(bands: tuple[str, ...], level: str, threads: int) -> _Network:
    """Open the model for 4 or 6 bands and level `l1c` or `l2a`, once a process; raises `NotInstalled`."""
    import onnxruntime

    path = models_folder() / f"model_{len(bands)}b_{level}.onnx"
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    statistics = about["data"]["dataset_statistics"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would burn the cores of other steps
    mean, deviation = (np.array(values, np.float32)[:, None, None] for values in statistics["img"])
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return _Network(session, tuple(_BAND_NAMES[name] for name in statistics["band_names"]), mean, deviation, str(about["model"]["version"]))


class CsMask:
    """Flag bits from the network; all tiles of the scene are classified when it is made, into a file in `scratch`."""

    def __init__(self, scene: Scene, options: MaskOptions, scratch: Path, threads: int = 1) -> None:
        network = load(bands_of(scene.has, scene.place.product), "l1c" if is_l1c(scene.item) else "l2a", threads)
        place = scene.place
        self._place, self._radius = place, options.dilate / (CELL * _PIXEL)
        columns, rows = _tiles(place.column, place.width), _tiles(place.row, place.height)
        self._first = (rows.start * CORE, columns.start * CORE)
        shape = (len(rows) * CORE, len(columns) * CORE)
        self._classes = np.memmap(scratch / f"csmask-{id(self):x}", np.uint8, "w+", shape=shape)
        self.version = network.version
        """Version of the model, for the record."""
        for row in rows:
            for column in columns:
                core = self._tile(scene, network, row, column)
                top, left = (row - rows.start) * CORE, (column - columns.start) * CORE
                self._classes[top : top + CORE, left : left + CORE] = core

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Flag bits for `window` of the signature's grid, (rows, columns)."""
        column, row = self._place.column + int(window.col_off), self._place.row + int(window.row_off)
        width, height, margin = int(window.width), int(window.height), math.ceil(self._radius)
        c0, r0 = max(0, column // CELL - margin), max(0, row // CELL - margin)
        c1, r1 = -(-(column + width) // CELL) + margin, -(-(row + height) // CELL) + margin
        classes = self._classes[r0 - self._first[0] : r1 - self._first[0], c0 - self._first[1] : c1 - self._first[1]]
        flags = np.zeros(classes.shape, np.uint8)
        for value, bit in ((1, CLOUD), (2, SHADOW)):
            flags[dilated(np.asarray(classes == value), self._radius)] |= bit
        fine = flags.repeat(CELL, 0).repeat(CELL, 1)
        dc, dr = column - c0 * CELL, row - r0 * CELL
        out: NDArray[np.uint8] = fine[dr : dr + height, dc : dc + width]
        return out

    def _tile(self, scene: Scene, network: _Network, row: int, column: int) -> NDArray[np.uint8]:
        """Classify the core of one tile; beyond the product's edge its pixels are mirrored, nodata counts as clear."""
        product = self._place.product
        r0, c0 = row * CORE - EDGE, column * CORE - EDGE
        top, left = max(0, r0), max(0, c0)
        bottom, right = min(r0 + TILE, -(-product.height // CELL)), min(c0 + TILE, -(-product.width // CELL))
        if bottom <= top or right <= left:
            return np.zeros((CORE, CORE), np.uint8)
        reflectance, valid = self._cells(scene, network.bands, (left, top, right - left, bottom - top))
        if not valid.any():
            return np.zeros((CORE, CORE), np.uint8)
        around = ((top - r0, r0 + TILE - bottom), (left - c0, c0 + TILE - right))
        classes = network.classes(np.pad(reflectance, ((0, 0), *around), mode="symmetric"))
        classes[~np.pad(valid, around, mode="constant")] = 0
        return classes[EDGE : EDGE + CORE, EDGE : EDGE + CORE]

    def _cells(
        self, scene: Scene, bands: tuple[str, ...], where: tuple[int, int, int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Average reflectance to 30 m over the pixels with data; `where` in model pixels of the product."""
        column, row, width, height = (value * CELL for value in where)
        out = np.zeros((len(bands), where[3], where[2]), np.float32)
        valid = np.ones((where[3], where[2]), np.bool_)
        for index, band in enumerate(bands):
            pixels = scene.reflectance(scene.read_product(band, column, row, width, height))
            known = np.isfinite(pixels)
            count = _sums(known.astype(np.float32))
            out[index] = _sums(np.where(known, pixels, 0)) / np.maximum(count, 1)
            valid &= count > 0
        return out, valid


def _sums(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum the blocks of `CELL` x `CELL` pixels."""
    rows, columns = pixels.shape
    total: NDArray[np.float32] = pixels.reshape(rows // CELL, CELL, columns // CELL, CELL).sum(axis=(1, 3))
    return total
