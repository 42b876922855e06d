"""A STAC API over the sample's items: enough of the item-search standard that EODAG treats it like any other provider.

Collections, items, `GET` and `POST /search` with bbox, intersects, datetime, ids, collections, the query extension, sorting and
paging; rasters with byte ranges. It holds everything in memory and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from earthself.local.sample import COLLECTION, DATA
from shapely import STRtree, box
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

_PAGE = 10
_MAXIMUM = 1000

_CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#query",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
]


class BadQuery(HTTPException):
    """A search that cannot be understood; answered with status 400 and the reason."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail)


@dataclass(frozen=True)
class Query:
    """One search, from the query string or the body."""

    where: BaseGeometry | None
    """Items must intersect it (lon/lat)."""
    start: datetime | None
    """First instant, inclusive; None is open."""
    end: datetime | None
    """Last instant, inclusive; None is open."""
    ids: tuple[str, ...]
    """Any of these; empty means all."""
    collections: tuple[str, ...]
    """Any of these; empty means all."""
    properties: Mapping[str, Mapping[str, Any]]
    """Property -> operator -> value, all must hold."""
    newest_first: bool
    """Order of `datetime`; ties by id."""
    limit: int
    """Items on a page, 1 to 1000."""
    offset: int
    """Items before this page."""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Query:
        """Read a search body; raises `BadQuery` with what is wrong."""
        if body.get("bbox") and body.get("intersects"):
            raise BadQuery("give bbox or intersects, not both")
        try:
            where = shape(body["intersects"]) if body.get("intersects") else _box(body.get("bbox"))
            start, end = _interval(body.get("datetime"))
            limit, offset = int(body.get("limit", _PAGE)), int(body.get("token", 0))
        except (ValueError, TypeError, KeyError, AttributeError, ShapelyError) as error:
            raise BadQuery(f"the search cannot be read: {error}") from error
        if not 1 <= limit <= _MAXIMUM or offset < 0:
            raise BadQuery(f"limit {limit} must be from 1 to {_MAXIMUM}, and token {offset} at least 0")
        properties = body.get("query") or {}
        if not isinstance(properties, dict) or not all(isinstance(tests, dict) for tests in properties.values()):
            raise BadQuery("query must be an object of property -> {operator: value}")
        if unknown := {operator for tests in properties.values() for operator in tests} - set(_OPERATORS):
            raise BadQuery(f"operator {min(unknown)!r} is not known; known are {', '.join(_OPERATORS)}")
        return cls(
            where=where,
            start=start,
            end=end,
            ids=tuple(body.get("ids") or ()),
            collections=tuple(body.get("collections") or ()),
            properties=properties,
            newest_first=_descending(body.get("sortby")),
            limit=limit,
            offset=offset,
        )


class Catalogue:
    """The sample's items, searchable."""

    def __init__(self, folder: Path = DATA) -> None:
        self.items = {item["id"]: item for item in (json.loads(path.read_text()) for path in sorted(folder.glob("*.json")))}
        self._shapes = {name: shape(item["geometry"]) for name, item in self.items.items()}
        self._names = list(self._shapes)
        self._tree = STRtree(list(self._shapes.values()))

    def search(self, query: Query) -> list[dict[str, Any]]:
        """Return all matching items in the order asked for."""
        if query.where is None:
            names = self._names
        else:
            names = [self._names[index] for index in self._tree.query(query.where, predicate="intersects")]
        found = [item for item in (self.items[name] for name in names) if _matches(item, query)]
        found.sort(key=lambda item: str(item["id"]))
        return sorted(found, key=lambda item: str(item["properties"]["datetime"]), reverse=query.newest_first)


def application(folder: Path = DATA) -> Starlette:
    """Return the provider as an ASGI application."""
    catalogue = Catalogue(folder)

    def landing(request: Request) -> Response:
        base = _base(request)
        links = [
            {"rel": "self", "href": f"{base}/", "type": "application/json"},
            {"rel": "data", "href": f"{base}/collections", "type": "application/json"},
            {"rel": "conformance", "href": f"{base}/conformance", "type": "application/json"},
            *({"rel": "search", "href": f"{base}/search", "type": "application/geo+json", "method": method} for method in ("GET", "POST")),
        ]
        about = {"type": "Catalog", "stac_version": "1.1.0", "id": "earthself-sample", "title": "The sample of EarthSelf"}
        description = (folder / "ATTRIBUTION.md").read_text()
        return JSONResponse({**about, "description": description, "conformsTo": _CONFORMANCE, "links": links})

    def conformance(_request: Request) -> Response:
        return JSONResponse({"conformsTo": _CONFORMANCE})

    def collections(request: Request) -> Response:
        links = [{"rel": "self", "href": f"{_base(request)}/collections", "type": "application/json"}]
        return JSONResponse({"collections": [_collection(catalogue, _base(request))], "links": links})

    def collection(request: Request) -> Response:
        _known_collection(request)
        return JSONResponse(_collection(catalogue, _base(request)))

    def items(request: Request) -> Response:
        body = {**_from_query_string(request), "collections": [_known_collection(request)]}
        return _page(catalogue, body, request, method="GET")

    def item(request: Request) -> Response:
        _known_collection(request)
        name = request.path_params["item"]
        if name not in catalogue.items:
            raise HTTPException(404, f"there is no item {name!r}")
        return JSONResponse(_absolute(catalogue.items[name], _base(request)), media_type="application/geo+json")

    async def search(request: Request) -> Response:
        if request.method == "GET":
            return _page(catalogue, _from_query_string(request), request, method="GET")
        try:
            body = await request.json()
        except ValueError as error:
            raise BadQuery(f"the body is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise BadQuery("the body must be an object")
        return _page(catalogue, body, request, method="POST")

    routes = [
        Route("/", landing),
        Route("/conformance", conformance),
        Route("/collections", collections),
        Route("/collections/{collection}", collection),
        Route("/collections/{collection}/items", items),
        Route("/collections/{collection}/items/{item}", item),
        Route("/search", search, methods=["GET", "POST"]),
        Mount("/assets", StaticFiles(directory=folder)),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refuse})


def _page(catalogue: Catalogue, body: Mapping[str, Any], request: Request, method: str) -> Response:
    query = Query.from_body(body)
    found = catalogue.search(query)
    page = found[query.offset : query.offset + query.limit]
    base = _base(request)
    links: list[dict[str, Any]] = [{"rel": "root", "href": f"{base}/", "type": "application/json"}]
    following = query.offset + query.limit
    if following < len(found) and method == "POST":
        merged = {**body, "limit": query.limit, "token": str(following)}
        links.append(
            {"rel": "next", "href": f"{base}/search", "type": "application/geo+json", "method": "POST", "body": merged, "merge": False}
        )
    elif following < len(found):
        href = str(request.url.include_query_params(limit=query.limit, token=following))
        links.append({"rel": "next", "href": href, "type": "application/geo+json", "method": "GET"})
    counts = {"numberMatched": len(found), "numberReturned": len(page)}
    features = [_absolute(item, base) for item in page]
    return JSONResponse({"type": "FeatureCollection", "features": features, "links": links, **counts}, media_type="application/geo+json")


def _absolute(item: dict[str, Any], base: str) -> dict[str, Any]:
    """Return the item with the addresses that this server answers on."""
    place = f"{base}/collections/{COLLECTION}"
    assets = {name: {**asset, "href": f"{base}/assets/{asset['href']}"} for name, asset in item["assets"].items()}
    links = [
        {"rel": "self", "href": f"{place}/items/{item['id']}", "type": "application/geo+json"},
        {"rel": "collection", "href": place, "type": "application/json"},
        {"rel": "root", "href": f"{base}/", "type": "application/json"},
    ]
    return {**item, "assets": assets, "links": links}


def _collection(catalogue: Catalogue, base: str) -> dict[str, Any]:
    boxes = [item["bbox"] for item in catalogue.items.values()]
    times = sorted(item["properties"]["datetime"] for item in catalogue.items.values())
    whole = [min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)]
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": COLLECTION,
        "title": "Sentinel-2 L2A, the sample of EarthSelf",
        "description": "Parts of tile 33UUP on 13 June 2017, from BigEarthNet v2.0. Contains modified Copernicus Sentinel data (2017).",
        "license": "CDLA-Permissive-1.0",
        "extent": {"spatial": {"bbox": [whole]}, "temporal": {"interval": [[times[0], times[-1]]]}},
        "links": [
            {"rel": "self", "href": f"{base}/collections/{COLLECTION}", "type": "application/json"},
            {"rel": "items", "href": f"{base}/collections/{COLLECTION}/items", "type": "application/geo+json"},
            {"rel": "root", "href": f"{base}/", "type": "application/json"},
        ],
    }


def _matches(item: Mapping[str, Any], query: Query) -> bool:
    properties = item["properties"]
    when = _instant(properties["datetime"])
    if (query.start and when < query.start) or (query.end and when > query.end):
        return False
    if query.ids and item["id"] not in query.ids:
        return False
    if query.collections and item["collection"] not in query.collections:
        return False
    return all(
        name in properties and _OPERATORS[operator](properties[name], value)
        for name, tests in query.properties.items()
        for operator, value in tests.items()
    )


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Make a comparison that is false between things that have no order, such as a number and a text."""

    def compared(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - any JSON value
        try:
            return test(found, wanted)
        except TypeError:
            return False

    return compared


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": _compare(lambda found, wanted: bool(found == wanted)),
    "neq": _compare(lambda found, wanted: bool(found != wanted)),
    "lt": _compare(lambda found, wanted: bool(found < wanted)),
    "lte": _compare(lambda found, wanted: bool(found <= wanted)),
    "gt": _compare(lambda found, wanted: bool(found > wanted)),
    "gte": _compare(lambda found, wanted: bool(found >= wanted)),
    "startsWith": _compare(lambda found, wanted: str(found).startswith(str(wanted))),
    "endsWith": _compare(lambda found, wanted: str(found).endswith(str(wanted))),
    "contains": _compare(lambda found, wanted: str(wanted) in str(found)),
    "in": _compare(lambda found, wanted: found in wanted),
}


def _from_query_string(request: Request) -> dict[str, Any]:
    """Turn GET parameters into the body that POST would carry."""
    body: dict[str, Any] = dict(request.query_params)
    for name in ("ids", "collections"):
        if name in body:
            body[name] = body[name].split(",")
    try:
        if "bbox" in body:
            body["bbox"] = [float(number) for number in body["bbox"].split(",")]
        for name in ("intersects", "query"):
            if name in body:
                body[name] = json.loads(body[name])
    except ValueError as error:
        raise BadQuery(f"the search cannot be read: {error}") from error
    return body


def _box(numbers: Any) -> BaseGeometry | None:  # noqa: ANN401 - checked here
    if not numbers:
        return None
    if len(numbers) not in {4, 6}:
        raise ValueError(f"bbox has {len(numbers)} numbers, not 4 or 6")
    west, south, east, north = numbers if len(numbers) == 4 else (numbers[0], numbers[1], numbers[3], numbers[4])
    if west <= east:
        return box(west, south, east, north)
    return box(west, south, 180, north).union(box(-180, south, east, north))


def _interval(text: str | None) -> tuple[datetime | None, datetime | None]:
    if not text:
        return None, None
    start, _, end = text.partition("/") if "/" in text else (text, "", text)
    return _bound(start), _bound(end)


def _bound(text: str) -> datetime | None:
    return None if text in {"", ".."} else _instant(text)


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _descending(sortby: Any) -> bool:  # noqa: ANN401 - list of objects, or text
    """Only `datetime` can be sorted by; newest first where nothing is said, as catalogues do."""
    if not sortby:
        return True
    if isinstance(sortby, str):
        return sortby.startswith("-")
    return str(sortby[0].get("direction", "asc")).lower() == "desc"


def _known_collection(request: Request) -> str:
    name = str(request.path_params["collection"])
    if name != COLLECTION:
        raise HTTPException(404, f"there is no collection {name!r}, only {COLLECTION!r}")
    return name


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _refuse(_request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "error")
    return JSONResponse({"code": status, "description": detail}, status_code=status)
