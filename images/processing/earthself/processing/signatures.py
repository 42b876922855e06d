"""Signature items as the mosaic needs them: checked once, sorted so that their order in the catalog cannot matter, opened when read."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from earthself.data import legends
from earthself.processing.errors import BadInput
from earthself.processing.placing import Placement, take
from earthself.processing.raster import Grid, readable
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pystac
    from rasterio.windows import Window

LAYERS = ("segmentation", "confidence", "flags")
_FOREIGN = 65535
"""In a lookup table of codes: not in the item's legend."""
_OBSERVATION = re.compile(r"^(?P<mission>[A-Z0-9]+)_(?P<tile>[0-9]{2}[A-Z]{3})_(?P<start>\d{8}T\d{6})_(?P<orbit>R\d{3})(?:_.*)?$")
_OPEN_FILES = 96


@dataclass(frozen=True)
class Signature:
    """One signature: what the vote needs of it."""

    id: str
    """The item's id."""
    datatake: str
    """Mission, start and orbit of the datatake: signatures that share it saw the ground at the same moment."""
    rank: tuple[Any, ...]
    """Sorts the signatures of one datatake: where several are clear on a pixel, the first counts."""
    paths: dict[str, Path]
    """File of each of `LAYERS`."""
    placement: Placement
    """From the map's pixels to this signature's."""
    bounds: tuple[float, float, float, float]
    """Left, bottom, right, top in the map's CRS."""
    codes: NDArray[np.uint16] = field(repr=False)
    """Code of the map's legend for each of the 65,536 values that the segmentation can hold."""

    def touches(self, grid: Grid) -> bool:
        """Whether the signature has pixels on that part of the map."""
        left, bottom, right, top = grid.bounds
        return self.bounds[0] < right and self.bounds[2] > left and self.bounds[1] < top and self.bounds[3] > bottom


class Files:
    """Keeps the files of the neighbourhood open: the windows of a row read the same signatures again and again."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def read(self, signature: Signature, layer: str, window: Window, *, outside: int) -> NDArray[Any]:
        """Read a layer of a signature at the map pixels of `window`."""
        path = signature.paths[layer]
        with readable(f"item {signature.id}: {layer} ({path})"):
            if path in self._open:
                self._open.move_to_end(path)
            else:
                import rasterio

                self._open[path] = rasterio.open(path)
                if len(self._open) > _OPEN_FILES:
                    self._open.popitem(last=False)[1].close()
            return take(self._open[path], signature.placement, window, outside=outside)

    def codes(self, signature: Signature, window: Window) -> NDArray[np.uint16]:
        """Read the segmentation in codes of the map's legend; raises `BadInput` where a value is not in the signature's legend."""
        raw = self.read(signature, "segmentation", window, outside=0)
        codes: NDArray[np.uint16] = signature.codes[raw]
        if codes.size and int(codes.max()) == _FOREIGN:
            foreign = sorted({int(value) for value in raw[codes == _FOREIGN]})
            raise BadInput(
                f"item {signature.id}: its segmentation holds code {', '.join(map(str, foreign[:5]))}, which its legend does not have; "
                "write the legend that the codes belong to into earthself:legend, or sign the product again"
            )
        return codes


def common_legend(items: Sequence[pystac.Item]) -> str:
    """Find the one legend of all items; raises `BadInput` where they differ and none was asked for."""
    found = sorted({_text(item, "earthself:legend") for item in items})
    if len(found) != 1:
        raise BadInput(
            f"the signatures carry the legends {', '.join(found)}; ask for one with --legend (a coarser one can be made of a finer one)"
        )
    return found[0]


def open_signatures(items: Sequence[pystac.Item], grid: Grid, legend_id: str) -> list[Signature]:
    """Check the items and sort them by datatake and rank; raises `BadInput` naming the item and what it lacks."""
    return sorted((_signature(item, grid, legend_id) for item in items), key=lambda one: (one.datatake, one.rank))


def datatake(observation: str) -> str:
    """Cut out of an observation key what tells the moment: mission, start and orbit without the tile; another's key stays whole.

    >>> datatake("S2A_33UUP_20170613T101031_R022_H27V57")
    'S2A_20170613T101031_R022'
    """
    match = _OBSERVATION.match(observation)
    return f"{match['mission']}_{match['start']}_{match['orbit']}" if match else observation


def _signature(item: pystac.Item, grid: Grid, legend_id: str) -> Signature:
    from pyproj.exceptions import ProjError

    paths = {}
    for layer in LAYERS:
        asset = item.assets.get(layer)
        if asset is None:
            raise BadInput(f"item {item.id} has no asset {layer!r}; a mosaic needs {', '.join(LAYERS)} of each signature")
        paths[layer] = Path(asset.href)
    source = _shared_grid(item.id, paths)
    placement = Placement(source, grid)
    try:
        bounds = placement.target_bounds()
    except ProjError as error:
        raise BadInput(f"item {item.id} in {source.crs} cannot be placed on a map in {grid.crs}; leave out the item or the CRS") from error
    observation = _text(item, "earthself:observation")
    baseline = str(item.properties.get("earthself:baseline") or "")
    rank = (
        source.crs != grid.crs,
        -baseline_number(baseline),
        observation,
        item.id,
        str(item.assets["segmentation"].extra_fields.get("file:checksum", "")),
    )
    return Signature(
        id=item.id,
        datatake=datatake(observation),
        rank=rank,
        paths=paths,
        placement=placement,
        bounds=bounds,
        codes=_lookup(item.id, _text(item, "earthself:legend"), legend_id),
    )


def _shared_grid(item_id: str, paths: dict[str, Path]) -> Grid:
    import rasterio

    grids = {}
    for layer, path in paths.items():
        with readable(f"item {item_id}: {layer} ({path})"), rasterio.open(path) as dataset:
            grids[layer] = Grid.of(dataset)
    first = grids[LAYERS[0]]
    for layer, grid in grids.items():
        if grid != first:
            raise BadInput(f"item {item_id}: {layer} does not lie on the grid of {LAYERS[0]}; all layers of a signature share one grid")
    return first


def _lookup(item_id: str, own_id: str, wanted_id: str) -> NDArray[np.uint16]:
    own, wanted = legends.legend(own_id), legends.legend(wanted_id)
    if wanted.level > own.level:
        raise BadInput(
            f"item {item_id} carries legend {own_id}, which cannot be refined to {wanted_id}; ask for --legend {own_id} or a coarser one"
        )
    table = np.full(65536, _FOREIGN, np.uint16)
    table[0] = 0
    for entry in own.entries:
        table[entry.code] = legends.at_level(entry.code, wanted.level)
    return table


def _text(item: pystac.Item, name: str) -> str:
    value = item.properties.get(name)
    if not value:
        raise BadInput(f"item {item.id} has no property {name}; is it a signature, made by the step sign?")
    return str(value)


def baseline_number(baseline: str) -> int:
    """Baselines in their order of time; N9999 was processed outside the ground segment and yields to all others."""
    digits = re.sub(r"\D", "", baseline)
    return int(digits) % 9999 if digits else 0
