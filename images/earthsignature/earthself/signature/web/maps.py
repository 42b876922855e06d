"""Addresses of everything that is drawn: tiles, previews, figures, files and legends.

Rasters are read in a few threads of their own: that bounds the memory, and neither the event loop nor searches wait for them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from earthself.signature.errors import NotFound
from earthself.signature.web import drawing, legend, looks, pages
from earthself.signature.web.addresses import addresses, slug
from earthself.signature.web.answers import CHECKED, answer, page, wants_page
from earthself.signature.web.shown import Picture, Results, Shown, ShownProducts
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import FileResponse, Response

_PNG = "image/png"
_THREADS = 8
_LASTING = "public, max-age=86400"
_READS = ["GET", "HEAD"]
_Part = Annotated[str, Path(max_length=255 * 12)]  # an id whose every character needs four bytes, encoded
_Level = Annotated[int, Path(ge=0, le=24)]
_Number = Annotated[int, Path(ge=0, le=2**24)]


def router(products: ShownProducts, results: Results) -> APIRouter:
    """Make the routes of products, results and legends."""
    made = APIRouter()
    for kind, source in (("products", products), ("results", results)):
        _add(made, kind, source.shown)

    def listed(request: Request) -> Response:
        if wants_page(request.headers.get("accept", "")):
            return page(pages.results(results.listed(), addresses(request)))
        return answer(pages.results_document(results.listed(), addresses(request)), headers={"Vary": "Accept"})

    def api(request: Request) -> Response:
        return page(pages.api(request.app.openapi(), addresses(request)))

    made.add_api_route("/results", listed, methods=_READS, name="results", response_class=Response)
    # The name is the one that stac-fastapi links as its documentation.
    made.add_api_route("/api.html", api, methods=_READS, name="swagger_ui_html", include_in_schema=False)
    made.add_api_route("/legends", _legends, methods=_READS, response_class=Response)
    made.add_api_route("/legends/{name}.{form}", _legend, methods=_READS, response_class=Response)
    return made


def _add(made: APIRouter, kind: str, find: Callable[[str], Shown]) -> None:
    """Add the routes of one kind; each finds the thing by its id first."""

    def tile(*, request: Request, name: _Part, layer: _Part, z: _Level, x: _Number, y: _Number) -> Response:
        shown = find(name)
        picture = shown.picture(layer)
        return _kept(request, shown, picture, f"{z}/{x}/{y}", lambda: drawing.tile(picture, z, x, y))

    def preview(request: Request, name: _Part, layer: _Part, size: Annotated[int, Query()] = 512) -> Response:
        shown = find(name)
        picture = shown.picture(layer)
        return _kept(request, shown, picture, f"preview {size}", lambda: drawing.preview(picture, size))

    def tilejson(request: Request, name: _Part, layer: _Part) -> Response:
        shown = find(name)
        return answer(_tilejson(request, shown, shown.picture(layer)), headers={"Cache-Control": CHECKED})

    def statistics(name: _Part, layer: _Part) -> Response:
        return answer(drawing.counted(find(name).picture(layer)), headers={"Cache-Control": CHECKED})

    def point(
        name: _Part, layer: _Part, lon: Annotated[float, Query(ge=-180, le=180)], lat: Annotated[float, Query(ge=-90, le=90)]
    ) -> Response:
        return answer(drawing.point(find(name).picture(layer), lon, lat), headers={"Cache-Control": CHECKED})

    def capabilities(request: Request, name: _Part) -> Response:
        return page(pages.capabilities(find(name), addresses(request)), "application/xml")

    def viewer(request: Request, name: _Part) -> Response:
        return page(pages.viewer(find(name), addresses(request)))

    def file(name: _Part, file: _Part) -> Response:
        shown = find(name)
        if file not in shown.files:
            raise NotFound(f"{shown.name} has no file {file[:80]!r}; it has {', '.join(shown.files) or 'none'}")
        path, media_type = shown.files[file]
        # Ranges, HEAD and If-Range are Starlette's work; with them GDAL reads a window of a raster only.
        return FileResponse(path, media_type=media_type, headers={"Cache-Control": CHECKED, "X-Content-Type-Options": "nosniff"})

    below = f"/{kind}/{{name}}"
    for path, endpoint in (
        ("/assets/{file}", file),
        ("/map", viewer),
        ("/WMTSCapabilities.xml", capabilities),
        ("/{layer}/tiles/{z}/{x}/{y}.png", tile),
        ("/{layer}/tilejson.json", tilejson),
        ("/{layer}/preview.png", preview),
        ("/{layer}/statistics.json", statistics),
        ("/{layer}/point.json", point),
    ):
        made.add_api_route(below + path, _drawing(endpoint), methods=_READS, name=f"{kind} {endpoint.__name__}", response_class=Response)


def _drawing(function: Callable[..., Response]) -> Callable[..., Awaitable[Response]]:
    """Run a function where rasters are read; it keeps its parameters for FastAPI."""

    @functools.wraps(function)
    async def run(**given: Any) -> Response:  # noqa: ANN401 - whatever the function takes
        return await to_thread.run_sync(functools.partial(function, **given), limiter=_threads())

    return run


@functools.cache
def _threads() -> CapacityLimiter:
    return CapacityLimiter(_THREADS)


def _tilejson(request: Request, shown: Shown, picture: Picture) -> dict[str, Any]:
    at, lies = addresses(request), drawing.place(picture)
    west, south, east, north = lies.bounds
    middle = (west + east + (360 if west > east else 0)) / 2
    return {
        "tilejson": "3.0.0",
        "name": f"{shown.title}: {picture.title}",
        "version": "1.0.0",
        "scheme": "xyz",
        "tiles": [f"{at.root}{shown.kind}/{slug(shown.name)}/{picture.name}/tiles/{{z}}/{{x}}/{{y}}.png"],
        "minzoom": lies.minzoom,
        "maxzoom": lies.maxzoom,
        "bounds": lies.unwrapped,
        "center": [middle if middle <= 180 else middle - 360, (south + north) / 2, lies.minzoom],
        "legend": at.legend(picture.look.name, "json"),
    }


def _kept(request: Request, shown: Shown, picture: Picture, what: str, draw: Callable[[], bytes]) -> Response:
    """Answer with a picture, or with 304 where the client has it already: then nothing is read or drawn."""
    state = hashlib.sha256(f"{picture.state} {picture.name} {picture.band} {what}".encode()).hexdigest()[:32]
    headers = {"ETag": f'"{state}"', "Cache-Control": _LASTING if shown.lasting else CHECKED}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in known:
        return Response(status_code=304, headers=headers)
    return Response(draw(), media_type=_PNG, headers=headers)


def _legends(request: Request) -> Response:
    """List all legends."""
    at = addresses(request)
    listed = [{"name": name, "title": looks.look(name).title, "href": at.legend(name, "json")} for name in looks.names()]
    return answer({"legends": listed})


def _legend(name: _Part, form: str) -> Response:
    """Give a legend as JSON, PNG or SVG."""
    return legend.written(looks.look(name), form)
