"""Validation samples: places whose true class a person knows. Read strictly: one that is dropped in silence makes a map look validated."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthself.data import legends
from earthself.data.errors import DataError
from earthself.processing.errors import BadInput

FILES = ("validation_samples.geojson", "validation_samples.csv")
"""Names of the file beside the input catalog: points with the property `code`, or columns `lon,lat,code`."""


@dataclass(frozen=True)
class Place:
    """One sample."""

    lon: float
    """Degrees, -180 to 180."""
    lat: float
    """Degrees, -90 to 90."""
    code: int
    """True class in the legend of the map."""


def read_places(folder: Path, legend_id: str) -> list[Place] | None:
    """Read the samples beside a catalog, their codes brought to the map's legend; None where there is no file of them.

    Raises `BadInput` naming the sample for what is no point in lon/lat, or has a code that the legend cannot express (0 included).
    """
    paths = [folder / name for name in FILES if (folder / name).is_file()]
    if not paths:
        return None
    if len(paths) > 1:
        raise BadInput(f"there are {' and '.join(FILES)}; leave one of them, so that it is clear which samples count")
    path, places = paths[0], list[Place]()
    legend = legends.legend(legend_id)
    try:
        for lon, lat, code in _points(path):
            places.append(_place(float(lon), float(lat), float(code), legend))
    except (DataError, LookupError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path.name} cannot be used, sample {len(places) + 1}: {error}; "
            "it needs points in lon/lat, each with its true CORINE code as 'code'"
        ) from error
    return places


def _points(path: Path) -> Iterator[tuple[Any, Any, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from ((row["lon"], row["lat"], row["code"]) for row in csv.DictReader(file))
        return
    for feature in json.loads(path.read_text(encoding="utf-8-sig"))["features"]:
        lon, lat = feature["geometry"]["coordinates"][:2]
        yield lon, lat, feature["properties"]["code"]


def _place(lon: float, lat: float, code: float, legend: legends.Legend) -> Place:
    if not (abs(lon) <= 180 and abs(lat) <= 90):
        raise ValueError(f"lon {lon:g}, lat {lat:g} is no place on the earth (were they swapped?)")
    if not code.is_integer():
        raise ValueError(f"code {code:g} is no whole number")
    truth = legends.at_level(int(code), legend.level)
    if truth not in legend:
        raise ValueError(f"code {code:g} is no class of legend {legend.id}; leave out places whose class is not known")
    return Place(lon, lat, truth)
