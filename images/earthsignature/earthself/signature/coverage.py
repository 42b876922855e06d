"""What a store covers, as a picture: where its products lie, and when they were acquired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from earthself.signature.rows import Stored

_CELLS = 4  # a degree
_DOTS = 200  # of the map that are told apart at a glance


@dataclass
class Coverage:
    """How many products there are of each place and month."""

    cells: np.ndarray[Any, np.dtype[np.int64]] = field(default_factory=lambda: np.zeros((180 * _CELLS, 360 * _CELLS), dtype=np.int64))
    """Products whose box meets a quarter of a degree; rows from south, columns from west."""
    segmented: Counter[str] = field(default_factory=Counter)
    """Products with a segmentation of each month, such as 2017-06."""
    described: Counter[str] = field(default_factory=Counter)
    """Products without."""


def coverage_of(products: Iterable[Stored]) -> Coverage:
    """Count them."""
    found = Coverage()
    for stored in products:
        footprint = stored.product.footprint
        for west, south, east, north in shapely.bounds(shapely.get_parts(footprint)).tolist():
            rows = slice(int((south + 90) * _CELLS), max(int(np.ceil((north + 90) * _CELLS)), int((south + 90) * _CELLS) + 1))
            columns = slice(int((west + 180) * _CELLS), max(int(np.ceil((east + 180) * _CELLS)), int((west + 180) * _CELLS) + 1))
            found.cells[rows, columns] += 1
        months = found.segmented if stored.folder is not None else found.described
        months[stored.product.creation_date.isoformat()[:7]] += 1
    return found


def draw(coverage: Coverage, path: Path) -> None:
    """Write the picture as PNG: a map in longitude and latitude above, products a month below."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 9), layout="constrained")
    place, time = figure.subplots(2, 1, height_ratios=[2.4, 1])
    where = np.argwhere(coverage.cells)
    total = sum(coverage.segmented.values()) + sum(coverage.described.values())
    if where.size:
        (south, west), (north, east) = where.min(axis=0) / _CELLS - (90, 180), (where.max(axis=0) + 1) / _CELLS - (90, 180)
        margin = max(1.0, 0.05 * max(north - south, east - west))
        shown = np.ma.masked_equal(_visible(coverage.cells, max(north - south, east - west)), 0)
        drawn = place.imshow(
            shown,
            origin="lower",
            extent=(-180, 180, -90, 90),
            cmap="viridis",
            norm=LogNorm(1, max(2, shown.max())),
            interpolation="nearest",
        )
        place.set_xlim(max(-180, west - margin), min(180, east + margin))
        place.set_ylim(max(-90, south - margin), min(90, north + margin))
        place.set_aspect(1 / max(0.1, np.cos(np.radians((south + north) / 2))))
        figure.colorbar(drawn, ax=place, label="products that meet a quarter of a degree", shrink=0.8)
    place.set_title(f"EarthSignature: {total:,} products, {sum(coverage.segmented.values()):,} with a segmentation")
    place.set_xlabel("longitude, degrees")
    place.set_ylabel("latitude, degrees")
    place.grid(alpha=0.3)
    place.set_anchor("W")
    months = _months(coverage)
    segmented = [coverage.segmented[month] for month in months]
    time.bar(range(len(months)), segmented, color="#2a7f62", label="with a segmentation")
    time.bar(range(len(months)), [coverage.described[month] for month in months], bottom=segmented, color="#b9c4cc", label="described only")
    step = max(1, len(months) // 12)
    time.set_xticks(range(0, len(months), step), months[::step], rotation=45, ha="right")
    time.set_ylabel("products a month")
    time.yaxis.get_major_locator().set_params(integer=True)
    if months:
        time.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    rough = path.with_name(path.name + ".part")
    figure.savefig(rough, format="png", dpi=110)
    rough.replace(path)


def _visible(cells: np.ndarray[Any, Any], degrees: float) -> np.ndarray[Any, Any]:
    """Give each place the most of the cells around it, where a cell would be smaller than a dot of the map."""
    side = next((side for side in (1, 2, 4, 8) if side * _DOTS >= degrees * _CELLS), 16)
    rows, columns = cells.shape[0] // side, cells.shape[1] // side
    most: np.ndarray[Any, Any] = cells.reshape(rows, side, columns, side).max(axis=(1, 3))
    return most


def _months(coverage: Coverage) -> list[str]:
    """Give all months from the first to the last, also those without a product."""
    known = sorted({*coverage.segmented, *coverage.described})
    if not known:
        return []
    first, last = (int(month[:4]) * 12 + int(month[5:]) - 1 for month in (known[0], known[-1]))
    return [f"{n // 12:04}-{n % 12 + 1:02}" for n in range(first, last + 1)]
