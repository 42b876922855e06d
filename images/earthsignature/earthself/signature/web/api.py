"""The answers of the STAC API, behind stac-fastapi's routes; each is written as JSON here, without validating it once more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import attr
from earthself.signature.errors import NotFound
from earthself.signature.filters import Query
from earthself.signature.web import collection as described
from earthself.signature.web import fields, items, pages, requests
from earthself.signature.web.addresses import COLLECTION, addresses
from earthself.signature.web.answers import JSON, answer, page, wants_page
from earthself.signature.web.search import Products, Wanted
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.types.core import BaseCoreClient
from starlette.requests import Request
from starlette.responses import Response

_SCHEMA = "application/schema+json"
_GET_NAMES = {"filter_expr": "filter", "filter_crs": "filter-crs", "filter_lang": "filter-lang"}


@attr.s
class Api(BaseCoreClient):
    """stac-fastapi's client; its methods run in threads."""

    products: Products = attr.ib(kw_only=True)

    def landing_page(self, **kwargs: Any) -> Any:  # noqa: ANN401 - stac-fastapi's own signature, here and below
        """Give the root catalogue; browsers get a page."""
        at = addresses(kwargs["request"])
        if wants_page(kwargs["request"].headers.get("accept", "")):
            newest = self.products.search(Wanted(Query(), limit=12)).found
            return page(pages.home(self.products.overview(), newest, at))
        root: dict[str, Any] = dict(super().landing_page(**kwargs))
        root["links"] = [
            *root["links"],
            {"rel": "child", "type": JSON, "href": at.collection, "title": described.TITLE},
            {"rel": "related", "type": "text/html", "href": f"{at.root}results", "title": "Published results"},
            {"rel": "related", "type": JSON, "href": f"{at.root}legends", "title": "Legends"},
        ]
        return answer(root, headers={"Vary": "Accept"})

    def conformance(self, **_kwargs: Any) -> Any:  # noqa: ANN401
        """List what the server conforms to."""
        return answer({"conformsTo": self.conformance_classes()})

    def all_collections(self, **kwargs: Any) -> Any:  # noqa: ANN401
        """List the one collection."""
        at = addresses(kwargs["request"])
        links = [
            {"rel": "self", "type": JSON, "href": f"{at.root}collections"},
            {"rel": "root", "type": JSON, "href": at.root},
            {"rel": "parent", "type": JSON, "href": at.root},
        ]
        return answer(
            {"collections": [described.collection(at, self.products.overview())], "links": links, "numberMatched": 1, "numberReturned": 1}
        )

    def get_collection(self, collection_id: str, **kwargs: Any) -> Any:  # noqa: ANN401
        """Give the collection."""
        _check_collection(collection_id)
        return answer(described.collection(addresses(kwargs["request"]), self.products.overview()))

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:  # noqa: ANN401
        """Give one product."""
        _check_collection(collection_id)
        stored = self.products.get(item_id)
        return answer(items.item(stored, addresses(kwargs["request"])), items.GEOJSON)

    def item_collection(self, collection_id: str, **kwargs: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Give the products of the collection, page by page."""
        _check_collection(collection_id)
        request = kwargs.pop("request")
        return self._found(request, _by_name(kwargs), f"{addresses(request).collection}/items")

    def get_search(self, **kwargs: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Search with the parameters of the address."""
        request = kwargs.pop("request")
        return self._found(request, _by_name(kwargs), f"{addresses(request).root}search")

    def post_search(self, search_request: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Search with a body."""
        asked = search_request.model_dump(by_alias=True, exclude_unset=True, mode="json")
        return self._found(kwargs["request"], asked, f"{addresses(kwargs['request']).root}search")

    def _found(self, request: Request, asked: dict[str, Any], address: str) -> Response:
        at = addresses(request)
        found = self.products.search(requests.wanted(asked))
        features = [items.item(stored, at) for stored in found.found]
        if "fields" in asked or "fields" in request.query_params:
            by_post = request.method == "POST"
            chosen = fields.from_body(asked["fields"]) if by_post else fields.from_names(request.query_params["fields"])
            features = [chosen.of(feature) for feature in features]
        links = [
            {"rel": "root", "type": JSON, "href": at.root},
            {"rel": "self", "type": items.GEOJSON, "href": str(request.url)},
        ]
        if address.endswith("/items"):
            links.append({"rel": "collection", "type": JSON, "href": at.collection})
        if found.token is not None:
            links.append(_next(request, asked, address, found.token))
        content: dict[str, Any] = {"type": "FeatureCollection", "features": features, "links": links, "numberReturned": len(features)}
        if found.matched is not None:
            content["numberMatched"] = found.matched
        if address.endswith("/items"):
            content["timeStamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return answer(content, items.GEOJSON)


def _next(request: Request, asked: Mapping[str, Any], address: str, token: str) -> dict[str, Any]:
    if request.method == "POST":
        return {"rel": "next", "type": items.GEOJSON, "method": "POST", "href": address, "body": {**asked, "token": token}, "merge": False}
    given = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
    return {"rel": "next", "type": items.GEOJSON, "method": "GET", "href": f"{address}?{urlencode([*given, ('token', token)])}"}


def _by_name(given: Mapping[str, Any]) -> dict[str, Any]:
    return {_GET_NAMES.get(name, name): value for name, value in given.items() if value is not None}


def _check_collection(name: str) -> None:
    if name != COLLECTION:
        raise NotFound(f"collection {name[:80]!r} is not there; the only one is {COLLECTION}")


@attr.s
class Queryables(BaseFiltersClient):
    """What filters may ask."""

    def get_queryables(self, collection_id: str | None = None, **kwargs: Any) -> Any:  # noqa: ANN401
        """List the properties of the collection's items."""
        if collection_id is not None:
            _check_collection(collection_id)
        return answer(described.queryables(addresses(kwargs["request"]), of_collection=collection_id is not None), _SCHEMA)
