"""Makes client/earthself/client/land.bin from the world map that EODAG ships: `python tests/client/make_land.py`."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from earthself.client.land import CELL, COLUMNS, ROWS


def land_cells() -> bytes:
    """One bit a half-degree cell, 1 where Natural Earth's 1:110 million map has land within a quarter of a degree."""
    import eodag
    import shapefile
    from shapely import STRtree, box
    from shapely.geometry import shape

    world = Path(eodag.__file__).with_name("resources") / "shp" / "ne_110m_admin_0_map_units.shp"
    with shapefile.Reader(str(world)) as reader:
        countries = [shape(record.__geo_interface__) for record in reader.iterShapes()]
    margin = CELL / 2
    cells = [
        box(-180 + CELL * column - margin, 90 - CELL * (row + 1) - margin, -180 + CELL * (column + 1) + margin, 90 - CELL * row + margin)
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]
    touched = np.zeros(ROWS * COLUMNS, np.uint8)
    touched[STRtree(cells).query(countries, predicate="intersects")[1]] = 1
    return np.packbits(touched).tobytes()


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[2] / "client" / "earthself" / "client" / "land.bin"
    target.write_bytes(zlib.compress(land_cells(), 9))
    print(f"{target}: {target.stat().st_size} bytes")
