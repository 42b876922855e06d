"""Compare what two runs left: pixels, georeference, tables, pictures, documents; each difference with the place where it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMES = ("datetime", "start_datetime", "end_datetime", "created", "updated", "processing:datetime")
_NAMES = ("title", "description", "processing:software", "earthself:run", "earthself:signatures")
_NOT_COMPARED = (*_TIMES, *_NAMES)
"""Fields of documents that say when, for whom and by which version something was made, not what it is.

A reused signature may cover more than a new one, and is called after what it covers: the products are compared instead.
"""
_WARNINGS = "earthself:warnings"
_CLOSE = 1e-9


@dataclass(frozen=True)
class Difference:
    """One way in which something is not what it was."""

    where: str
    """File, and the place in it."""
    what: str
    """What was there, and what is there now."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def rasters(old: Path, new: Path) -> Iterator[Difference]:
    """Compare size, georeference and, window by window, all pixels of the bands that both name."""
    import rasterio

    with rasterio.open(old) as one, rasterio.open(new) as other:
        same_grid = True
        for name in ("crs", "transform", "width", "height", "nodata", "dtypes"):
            before, after = getattr(one, name), getattr(other, name)
            if before != after:
                same_grid = False
                yield Difference(old.name, f"{name} was {_short(before)}, is {_short(after)}")
        bands = {text or f"band {index + 1}": index + 1 for index, text in enumerate(one.descriptions)}
        again = {text or f"band {index + 1}": index + 1 for index, text in enumerate(other.descriptions)}
        for name, index in bands.items():
            if name not in again:
                yield Difference(f"{old.name} {name}", "is not made any more")
            elif same_grid:
                yield from _band(one, index, other, again[name], f"{old.name} {name}")


def _band(one: Any, index: int, other: Any, again: int, where: str) -> Iterator[Difference]:  # noqa: ANN401 (rasterio datasets)
    """Count the pixels of a band that differ; the first of them is named."""
    import numpy as np

    count, first = 0, ""
    for _, window in one.block_windows(1):
        before, after = one.read(index, window=window), other.read(again, window=window)
        different = before != after
        if before.dtype.kind == "f":
            different &= ~(np.isnan(before) & np.isnan(after))
        if different.any():
            count += int(different.sum())
            if not first:
                row, column = (int(value[0]) for value in np.nonzero(different))
                x, y = one.xy(row + window.row_off, column + window.col_off)
                place = f"column {column + window.col_off}, row {row + window.row_off} ({x:.1f}, {y:.1f})"
                first = f"the first at {place}, was {before[row, column]}, is {after[row, column]}"
    if count:
        yield Difference(where, f"{count} of {one.width * one.height} pixels differ, {first}")


def tables(old: Path, new: Path) -> Iterator[Difference]:
    """Compare two tables (CSV or Parquet) cell by cell; numbers to 1e-9 of their value."""
    import pandas as pd

    before, after = ((pd.read_parquet if path.suffix == ".parquet" else pd.read_csv)(path) for path in (old, new))
    if list(before.columns) != list(after.columns):
        yield Difference(old.name, f"columns were {list(before.columns)}, are {list(after.columns)}")
        return
    if len(before) != len(after):
        yield Difference(old.name, f"there were {len(before)} rows, there are {len(after)}")
    for number, (one, other) in enumerate(zip(before.to_dict("records"), after.to_dict("records"), strict=False)):
        for column, value in one.items():
            if not _same(value, other[column]):
                yield Difference(f"{old.name} row {number + 1} {column}", f"was {value}, is {other[column]}")


def pictures(old: Path, new: Path) -> Iterator[Difference]:
    """Compare the pixels of two pictures."""
    import numpy as np
    from PIL import Image

    with Image.open(old) as one, Image.open(new) as other:
        before, after = np.asarray(one.convert("RGBA")), np.asarray(other.convert("RGBA"))
    if before.shape != after.shape:
        yield Difference(old.name, f"was {before.shape[1]} x {before.shape[0]}, is {after.shape[1]} x {after.shape[0]} pixels")
        return
    different = (before != after).any(axis=2)
    if different.any():
        row, column = (int(value[0]) for value in np.nonzero(different))
        yield Difference(old.name, f"{int(different.sum())} of {different.size} pixels differ, the first at column {column}, row {row}")


def documents(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> Iterator[Difference]:
    """Compare what a new STAC item says with what the old one said; fields of times, versions and files aside.

    The old one may say more: publishing adds to what a step leaves.
    """
    for key in ("id", "geometry", "bbox"):
        yield from values(old.get(key), new.get(key), f"{name} {key}")
    for key, value in new["properties"].items():
        if key == _WARNINGS:
            said = old["properties"].get(key) or []
            yield from (Difference(f"{name} {key}", f"did not say: {each}") for each in value if each not in said)
        elif key not in _NOT_COMPARED:
            yield from values(old["properties"].get(key), value, f"{name} {key}")


def values(before: Any, after: Any, where: str) -> Iterator[Difference]:  # noqa: ANN401 (any JSON value)
    """Compare two JSON values; the old one may have further keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in after:
            yield from values(before.get(key), after[key], f"{where}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from values(one, other, f"{where}/{index}")
    elif not _same(before, after):
        yield Difference(where, f"was {_short(before)}, is {_short(after)}")


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 (any JSON value)
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    if numbers and not (isinstance(one, bool) or isinstance(other, bool)):
        return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "..."
