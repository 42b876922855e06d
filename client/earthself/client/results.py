"""Where a run's files are and how to read them: on this machine directly, else through the server's REST API."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from earthself.client.errors import ClientError, NotThere
from earthself.client.rest import Rest


@dataclass(frozen=True)
class ClassArea:
    """One row of the statistics."""

    code: int
    """CORINE code; 0 is observed without a class, -1 unobserved."""
    name: str
    """Name of the class in the legend."""
    hectares: float
    """Mapped area in an equal-area projection."""
    share: float
    """Part of the whole area, 0 to 1."""
    hectares_low: float | None = None
    """Lower end of the 95 % interval where the row is an estimate."""
    hectares_high: float | None = None
    """Upper end of the same."""


class ResultFolder:
    """The result folder of one run, here or on the server."""

    def __init__(self, rest: Rest, dag_id: str, run_id: str, folder: str) -> None:
        """Take the folder's path on the server; where this machine has it, it is read without the network."""
        self._rest = rest
        self._address = f"/earthself/api/v1/runs/{quote(dag_id, safe='')}/{quote(run_id, safe='')}/files"
        self._folder = Path(folder)
        self.local = self._folder.is_dir()

    def place(self, name: str) -> str:
        """Return where a file of the result is: a path on this machine, or else a URL."""
        return str(self._folder / name) if self.local else f"{self._rest.url}{self._address}/{quote(name)}"

    def read(self, name: str) -> bytes:
        """Read a file; raises `NotThere` when the run did not write it."""
        if not self.local:
            return self._rest.content(f"{self._address}/{quote(name)}")
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise NotThere(f"the run has no {name}; an empty result has none, see run.result") from None

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON document."""
        content: dict[str, Any] = json.loads(self.read(name))
        return content

    def areas(self) -> list[ClassArea]:
        """Read the statistics, largest class first, unclassified and unobserved last."""
        rows = [
            ClassArea(
                code=int(row["code"]),
                name=row["name"],
                hectares=float(row["hectares"]),
                share=float(row["share"]),
                hectares_low=_number(row.get("hectares_low")),
                hectares_high=_number(row.get("hectares_high")),
            )
            for row in csv.DictReader(io.StringIO(self.read("statistics.csv").decode()))
        ]
        return sorted(rows, key=lambda row: (row.code <= 0, -row.hectares))

    def to_xarray(self) -> Any:  # noqa: ANN401 - an xarray.DataArray; the package is optional
        """Open the map as a DataArray (band, y, x) with coordinates of its CRS; bands are code, confidence, observations.

        Needs xarray and rasterio, which the client does not install; with rioxarray the array is lazy and carries `.rio`.
        """
        try:
            import numpy as np
            import rasterio
            import xarray
        except ImportError as error:
            raise ClientError(f"to_xarray needs {error.name}; install it with `pip install xarray rasterio`") from error
        source: Any = self.place("land_cover.tif") if self.local else io.BytesIO(self.read("land_cover.tif"))
        if self.local and not Path(source).exists():
            raise NotThere("the run has no land_cover.tif; an empty result has none, see run.result")
        with rasterio.open(source) as raster:
            pixels = raster.read()
            transform, crs = raster.transform, raster.crs
            names = [name or f"band {number}" for number, name in enumerate(raster.descriptions, 1)]
            nodata = raster.nodata
        rows, columns = pixels.shape[1:]
        coordinates = {
            "band": names,
            "y": transform.f + transform.e * (np.arange(rows) + 0.5),
            "x": transform.c + transform.a * (np.arange(columns) + 0.5),
        }
        spatial = {"crs_wkt": crs.to_wkt(), "GeoTransform": " ".join(str(number) for number in transform.to_gdal())}
        array = xarray.DataArray(pixels, dims=("band", "y", "x"), coords=coordinates, name="land_cover")
        array.attrs = {"crs": crs.to_string(), "transform": tuple(transform)[:6], "_FillValue": nodata, "grid_mapping": "spatial_ref"}
        return array.assign_coords(spatial_ref=xarray.Variable((), 0, spatial))


def _number(text: str | None) -> float | None:
    return float(text) if text else None
