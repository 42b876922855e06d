"""What a user may ask `land_cover_map` for: one JSON schema for the form, the REST API and the estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from earthself.operators.errors import BadRequest

if TYPE_CHECKING:
    from earthself.data.area import Area

MAX_PRODUCTS = 10_000
MAX_KM2 = 1_000_000
"""Geodesic size of an area: the map is one file, made by one process that walks over all of it."""
MAX_BOX_KM2 = 4 * MAX_KM2
"""Size of its bounding box, which is what that file covers."""
_EARTH_KM = 6371.0072
"""Radius of the sphere with the earth's surface."""
_LINE = r"^[^\x00-\x1f\x7f]*$"
"""Text that can stand in a command line, a document and a picture: one line, no control characters."""

SCHEMA: dict[str, dict[str, Any]] = {
    "area": {
        "title": "Area",
        "description": "[west, south, east, north] in degrees, as in [14.2, 48.2, 14.4, 48.3] (west > east crosses the antimeridian), or a "
        f"GeoJSON Polygon or MultiPolygon; longitude before latitude. At most {MAX_KM2:,} km2.",
        "type": ["object", "array"],
    },
    "start": {
        "title": "Start",
        "description": "First day or instant (RFC 3339), such as 2017-06-13 or 2017-06-13T10:00:00Z.",
        "type": "string",
    },
    "end": {
        "title": "End",
        "description": "First day or instant that is no longer part of the period, such as 2017-07-01.",
        "type": "string",
    },
    "collection": {
        "title": "Collection",
        "description": "EODAG collection id.",
        "type": "string",
        "minLength": 1,
        "pattern": _LINE,
        "default": "S2_MSI_L2A",
    },
    "provider": {
        "title": "Provider",
        "description": "EODAG provider; empty takes the configured order, the next one when one fails.",
        "type": ["null", "string"],
        "pattern": _LINE,
        "default": None,
        "examples": ["earth_search", "planetary_computer"],
    },
    "max_cloud_cover": {
        "title": "Most clouds",
        "description": "Percent of a product that may be cloudy.",
        "type": "number",
        "minimum": 0,
        "maximum": 100,
        "default": 60,
    },
    "mask": {
        "title": "Cloud mask",
        "description": "auto: the scene classification where there is one, else csmask; none maps clouds as if they were land cover.",
        "type": "string",
        "enum": ["auto", "scl", "csmask", "none"],
        "default": "auto",
    },
    "model": {
        "title": "Model",
        "description": "Name in the model registry.",
        "type": "string",
        "minLength": 1,
        "pattern": _LINE,
        "default": "baseline",
    },
    "max_products": {
        "title": "Most products",
        "description": "More are refused, with their number and an estimate, before anything is downloaded.",
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_PRODUCTS,
        "default": 200,
    },
    "staging_hours": {
        "title": "Wait for archives",
        "description": "Hours to wait for products that lie in a provider's archive and are online nowhere else; 0 does without them.",
        "type": "number",
        "minimum": 0,
        "maximum": 20,
        "default": 6,
    },
    "title": {
        "title": "Title",
        "description": "For people; shown in the report. One line.",
        "type": ["null", "string"],
        "pattern": _LINE,
        "maxLength": 200,
        "default": None,
    },
}
"""JSON schema of each key of the conf of `land_cover_map`; those without a default must be given."""


def params() -> dict[str, Any]:
    """Make the DAG's params, from which Airflow draws its form and checks a trigger's conf."""
    from airflow.sdk import Param

    return {name: Param(**schema) for name, schema in SCHEMA.items()}


def validated(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Check a conf and fill in the defaults; raises `BadRequest` naming the key, or `BadInput` for the area or the period."""
    import jsonschema

    unknown = sorted(set(conf) - set(SCHEMA))
    if unknown:
        raise BadRequest(f"{', '.join(unknown)} is not part of a request; known are {', '.join(SCHEMA)}")
    values = {name: conf.get(name, schema.get("default")) for name, schema in SCHEMA.items()}
    for name, schema in SCHEMA.items():
        if name not in conf and "default" not in schema:
            raise BadRequest(f"the request lacks {name}: {schema['description']}")
        try:
            jsonschema.validate(values[name], schema)
        except jsonschema.ValidationError as error:
            raise BadRequest(f"{name}: {error.message}; {schema['description']}") from None
    from earthself.data.area import Area
    from earthself.data.dates import parse_period

    parse_period(values["start"], values["end"])
    area = Area.from_conf(values["area"])
    _refuse_too_large(area)
    # To JSON schema 5.0 is an integer; to the tasks it is not.
    return values | {"area": area.geojson, "max_products": int(values["max_products"])}


def _refuse_too_large(area: Area) -> None:
    """Raise `BadRequest` with the size and the next step for an area that one run cannot map in a reasonable time."""
    west, south, east, north = area.unwrapped().bounds
    box = _EARTH_KM**2 * math.radians(east - west) * (math.sin(math.radians(north)) - math.sin(math.radians(south)))
    next_step = "order it in parts, each of them a run of its own"
    if (size := area.geodesic_m2 / 1e6) > MAX_KM2:
        raise BadRequest(f"the area has {size:,.0f} km2, more than {MAX_KM2:,} km2; {next_step}")
    if box > MAX_BOX_KM2:
        raise BadRequest(f"the area's parts lie in a box of {box:,.0f} km2, more than {MAX_BOX_KM2:,} km2; {next_step}")
