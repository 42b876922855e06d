"""Labelled pixels of all sources in one form: features, what the ground is, and where and when it was seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.data.area import Area
from earthself.processing.errors import BadInput
from earthself.processing.training.features import BANDS, features

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bounds = tuple[float, float, float, float]
"""West, south, east, north in degrees (WGS 84); west > east over the antimeridian."""


@dataclass(frozen=True)
class Kind:
    """One output of the network."""

    code: int
    """CORINE code at level 1, or 0 for what is learnt only to be told apart."""
    name: str
    """For people."""


KINDS = (
    Kind(1, "built-up land"),
    Kind(2, "fields and grassland"),
    Kind(3, "forest"),
    Kind(0, "water that the rule does not confirm"),
    Kind(0, "cloud, cloud shadow or snow"),
    Kind(0, "land outside the parcel register, mostly village"),
)
"""What the network tells apart, in the order of its outputs."""
BUILT, FIELD, FOREST, WATER, OBSCURED, OTHER = range(len(KINDS))
GROUND = (BUILT, FIELD, FOREST, WATER, OTHER)
"""Kinds of land, as against what hides it."""
UNLABELLED = -1

CODE_OF_KIND = np.array([1, 2, 3, 5, 0, 0], np.uint8)
"""True CORINE code of each kind: water is water, though the network itself may not say so."""
KIND_OF_CODE = {1: BUILT, 2: FIELD, 3: FOREST, 5: WATER}
"""Kind of each CORINE level-1 code; wetlands (4) have no labelled pixel."""

SOURCES = ("corine", "parcels", "interpreted", "own")
"""Where labels come from: a CORINE map, a parcel register, rectangles interpreted by eye, a person's own files."""

CLEAR_DATE = 0.3
"""Share of a scene's pixels that must be clear for its date to count as clear."""


@dataclass(frozen=True)
class Scene:
    """One image with its labels, before its pixels are pooled."""

    site: str
    """Name of the place; sites are kilometres apart and are left out one at a time."""
    day: date
    """Of the acquisition."""
    reflectance: NDArray[np.float32]
    """(bands, h, w), 0-1, NaN where there is none."""
    kind: NDArray[np.int8]
    """(h, w): index into `KINDS`, or `UNLABELLED`."""
    clear: NDArray[np.bool_]
    """(h, w): False where cloud, cloud shadow or nodata."""
    seen: NDArray[np.bool_]
    """(h, w): True where the ground shows, thin cirrus or not; training uses it, scores do not."""
    block: NDArray[np.int32]
    """(h, w): pixels of one number are not independent (a field, a block of pixels, a whole date)."""
    source: str
    """`corine`, `parcels`, `interpreted` or `own`."""
    bounds: Bounds
    """Of all its pixels."""


@dataclass(frozen=True)
class Truth:
    """Labelled pixels, one row each."""

    features: NDArray[np.float32]
    """(n, COUNT)."""
    reflectance: NDArray[np.float32]
    """(n, bands)."""
    kind: NDArray[np.int8]
    """(n)."""
    site: NDArray[np.int16]
    """(n): index into `sites`."""
    day: NDArray[np.int32]
    """(n): proleptic ordinal of the date."""
    season: NDArray[np.int8]
    """(n): 0 December-February, 1 March-May, 2 June-August, 3 September-November."""
    block: NDArray[np.int32]
    """(n): cluster for the bootstrap, unique over all scenes."""
    clear: NDArray[np.bool_]
    """(n): a clear pixel on a clear date; scores use no other."""
    seen: NDArray[np.bool_]
    """(n): the ground shows, on whatever date."""
    source: NDArray[np.int8]
    """(n): index into `sources`."""
    sites: tuple[str, ...]
    """Names of the sites."""
    bounds: tuple[Bounds, ...]
    """Of each site: the least that hold all its scenes."""
    sources: tuple[str, ...] = SOURCES
    """Names of the sources."""

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Truth:
        """Take some of the rows."""
        columns = ("features", "reflectance", "kind", "site", "day", "season", "block", "clear", "seen", "source")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})

    def of(self, *sources: str) -> NDArray[np.bool_]:
        """Rows of the named sources, (n)."""
        return np.isin(self.source, [self.sources.index(name) for name in sources])

    def at(self, site: str) -> NDArray[np.bool_]:
        """Rows of one site, (n)."""
        return np.asarray(self.site == self.sites.index(site))


def pool(scenes: Iterable[Scene]) -> Truth:
    """Turn scenes into rows: the labelled pixels with a finite reflectance. Raises `BadInput` where nothing is labelled."""
    sites: dict[str, Bounds] = {}
    columns: dict[str, list[NDArray[Any]]] = {}
    first_block = 0
    for scene in scenes:
        sites[scene.site] = _around(sites.get(scene.site, scene.bounds), scene.bounds)
        rows = _rows(scene, first_block) | {
            "site": np.full(1, list(sites).index(scene.site), np.int16),
            "source": np.full(1, SOURCES.index(scene.source), np.int8),
        }
        first_block += int(scene.block.max()) + 1
        n = len(rows["kind"])
        for name, column in rows.items():
            columns.setdefault(name, []).append(column if len(column) == n else np.repeat(column, n))
    if not columns or not sum(len(c) for c in columns["kind"]):
        raise BadInput("no labelled pixel was found; docs/models.md describes the folder that --truth wants")
    arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Truth(**arrays, sites=tuple(sites), bounds=tuple(sites.values()))


def _around(one: Bounds, other: Bounds) -> Bounds:
    return one if one == other else Area(Area.from_conf(one).geometry | Area.from_conf(other).geometry).bounds


def _rows(scene: Scene, first_block: int) -> dict[str, NDArray[Any]]:
    chosen = (scene.kind != UNLABELLED) & np.isfinite(scene.reflectance).all(axis=0)
    clear_date = bool(scene.clear.mean() >= CLEAR_DATE)
    return {
        "features": features(scene.reflectance)[:, chosen].T,
        "reflectance": scene.reflectance[:, chosen].T.astype(np.float32),
        "kind": scene.kind[chosen],
        "day": np.full(1, scene.day.toordinal(), np.int32),
        "season": np.full(1, scene.day.month % 12 // 3, np.int8),
        "block": scene.block[chosen] + first_block,
        "clear": scene.clear[chosen] & clear_date,
        "seen": scene.seen[chosen],
    }


def blocks(shape: tuple[int, int], side: int) -> NDArray[np.int32]:
    """Number squares of `side` pixels over (h, w), row by row."""
    rows, columns = np.indices(shape) // side
    return np.asarray(rows * (columns.max() + 1) + columns, np.int32)


def order(bands: Sequence[str], where: str) -> list[int]:
    """Positions of `BANDS` among `bands`; raises `BadInput` naming the missing ones."""
    missing = [name for name in BANDS if name not in bands]
    if missing:
        raise BadInput(f"{where} lacks {', '.join(missing)}; band descriptions must name {', '.join(BANDS)}")
    return [list(bands).index(name) for name in BANDS]
