"""The web server put together: stac-fastapi for the catalogue, our own routes for what is drawn, one way to say what is wrong."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import orjson
import uvicorn
from brotli_asgi import BrotliMiddleware
from earthself.data.errors import EarthSelfError
from earthself.signature.access import Access, TokenFile
from earthself.signature.errors import BadSetting, OverTime, SignatureError
from earthself.signature.metrics import Meters, served
from earthself.signature.store import Store
from earthself.signature.tls import on_this_machine
from earthself.signature.web import collection, maps, requests
from earthself.signature.web.answers import JSON, answer
from earthself.signature.web.api import Api, Queryables
from earthself.signature.web.guard import Guard
from earthself.signature.web.metering import Metering
from earthself.signature.web.search import Products
from earthself.signature.web.shown import Results, ShownProducts
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.middleware import ProxyHeaderMiddleware
from stac_fastapi.api.models import ItemCollectionUri, create_get_request_model, create_post_request_model, create_request_model
from stac_fastapi.extensions.fields import FieldsConformanceClasses, FieldsExtension
from stac_fastapi.extensions.filter import FilterConformanceClasses, FilterExtension
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.extensions.query import QueryConformanceClasses, QueryExtension
from stac_fastapi.extensions.sort import SortConformanceClasses, SortExtension
from stac_fastapi.types.config import ApiSettings
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG = logging.getLogger(__name__)
LARGEST_BODY = 1_048_576
"""Bytes of a request's body."""
_STATUS = {65: 400, 69: 404, 75: 503}
_THREADS = 16
_EXAMPLE = '{"bbox": [15, 48, 16, 49], "limit": 10}'
_PICTURES = r"/(products|results)/.*(\.png|\.tif|/assets/.*)$"


@dataclass(frozen=True)
class WebSettings:
    """What to serve, and where."""

    home: Path
    """Folder of the store."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8081
    """TCP port, 0 for a free one."""
    database_url: str | None = None
    """SQLAlchemy URL; None: a file in the folder."""
    catalog: Path | None = None
    """`catalog.json` of the published results; None: there are none."""
    root_path: str = ""
    """Path at which a proxy shows this server, such as /data; links begin with it."""
    insecure: bool = False
    """Whether clear text is wanted where other machines can connect."""
    tokens: Path | None = None
    """List of tokens; only read where reading needs one."""
    read: Literal["open", "token"] = "open"
    """Whether reading needs a token."""
    metrics: str | None = None
    """Address of the metrics, host:port; None: they are not served."""


def application(store: Store, catalog: Path | None = None, access: Access | None = None, meters: Meters | None = None) -> FastAPI:
    """Make the application over a store that another process writes, and over the catalogue of published results.

    With `access` each request needs a token that may read; with `meters` all of them are counted, by route.
    """
    products = Products(store)
    extensions = _extensions()
    items: Any = create_request_model("ItemsGetRequest", ItemCollectionUri, extensions, request_type="GET")
    api = StacApi(
        settings=ApiSettings(
            stac_fastapi_title=collection.TITLE,
            stac_fastapi_description=collection.DESCRIPTION,
            stac_fastapi_version="1.0.0",
            enable_response_models=False,
        ),
        client=Api(products=products, landing_page_id="earthself"),
        extensions=extensions,
        exceptions={},
        response_class=JSONResponse,
        middlewares=_middlewares(access),
        app=FastAPI(openapi_url="/api", docs_url=None, redoc_url=None, title=collection.TITLE, version="1.0.0", lifespan=_lifespan),
        search_get_request_model=create_get_request_model(extensions),
        search_post_request_model=create_post_request_model(extensions, requests.PostedSearch),
        items_get_request_model=items,
    )
    app: FastAPI = api.app
    app.include_router(maps.router(ShownProducts(products), Results(catalog)))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    for kind, handler in (
        (EarthSelfError, _ours),
        (HTTPException, _theirs),
        (RequestValidationError, _invalid),
        (Exception, _unexpected),
    ):
        app.add_exception_handler(kind, handler)
    if meters is not None:
        app.add_middleware(Metering, meters=meters, routes=lambda: app.routes)
    return app


def _extensions() -> list[Any]:
    """Each extension serves both /search and the items of the collection."""
    filters = [
        *FilterExtension(client=Queryables()).conformance_classes,
        FilterConformanceClasses.BASIC_SPATIAL_FUNCTIONS,
        FilterConformanceClasses.ADVANCED_COMPARISON_OPERATORS,
    ]
    return [
        FieldsExtension(conformance_classes=[FieldsConformanceClasses.SEARCH, FieldsConformanceClasses.ITEMS]),
        SortExtension(conformance_classes=[SortConformanceClasses.SEARCH, SortConformanceClasses.ITEMS]),
        QueryExtension(conformance_classes=[QueryConformanceClasses.SEARCH, QueryConformanceClasses.ITEMS]),
        FilterExtension(client=Queryables(), conformance_classes=filters),
        TokenPaginationExtension(),
    ]


def _middlewares(access: Access | None) -> list[Middleware]:
    """From the inside out. Pictures and rasters are compressed already, and a range of bytes must stay one."""
    return [
        Middleware(_Bounded),
        Middleware(_Heads),
        *([Middleware(Guard, access=access)] if access else []),
        Middleware(BrotliMiddleware, quality=1, excluded_handlers=[_PICTURES]),
        Middleware(
            CORSMiddleware,
            allow_origins=["*"],  # read only, and without cookies: the STAC browser runs on any site, and sends a token itself
            allow_methods=["GET", "HEAD", "POST", "OPTIONS"],
            allow_headers=["Authorization", "Content-Type", "Range", "If-Range", "If-None-Match", "If-Modified-Since"],
            expose_headers=["Content-Range", "Accept-Ranges", "ETag", "WWW-Authenticate", "Retry-After"],
            max_age=600,
        ),
        Middleware(ProxyHeaderMiddleware),
    ]


class _Heads:
    """Answers HEAD wherever GET is answered; the server leaves the body out. Files do it themselves, without being read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = scope["type"] == "http" and scope["method"] == "HEAD" and "/assets/" not in scope["path"]
        await self._app({**scope, "method": "GET"} if head else scope, receive, send)


class _Bounded:
    """Refuses bodies that are too large before they are read, and those of searches that are no JSON object."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > LARGEST_BODY:
                await _said(413, "TooLarge", f"the body is larger than {LARGEST_BODY} bytes; ask for less at once")(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        if scope["path"].rstrip("/").endswith("/search"):
            if (wrong := _no_object(body)) is not None:
                await _said(400, "BadRequest", wrong)(scope, receive, send)
                return
            # Some clients say nothing of what they send, or that it is a form.
            headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
            scope = {**scope, "headers": [*headers, (b"content-type", JSON.encode())]}
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(given, None) or await receive()

        await self._app(scope, again, send)


def _no_object(body: bytes) -> str | None:
    """Say what is wrong with a body that is no JSON object; half characters (a lone surrogate) could not be answered with."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return f"the body is no JSON ({error}); send an object such as {_EXAMPLE}"
    return None if isinstance(found, dict) else f"the body is JSON, but no object; send one such as {_EXAMPLE}"


def _said(status: int, code: str, description: str, headers: dict[str, str] | None = None) -> Response:
    response = answer({"code": code, "description": description}, headers=headers)
    response.status_code = status
    return response


def _ours(request: Request, error: Any) -> Response:  # noqa: ANN401 - starlette's handlers take any exception, here and below
    status = 504 if isinstance(error, OverTime) else _STATUS.get(error.exit_code, 500)
    if status == 500:
        _LOG.error("%s %s: %s", request.method, request.url.path, error)
    return _said(status, type(error).__name__, str(error), {"Retry-After": "2"} if status == 503 else None)


def _theirs(_request: Request, error: Any) -> Response:  # noqa: ANN401
    return _said(error.status_code, "HTTPException", str(error.detail), dict(error.headers or {}))


def _invalid(_request: Request, error: Any) -> Response:  # noqa: ANN401
    wrong = [f"{'/'.join(str(part) for part in one['loc'][1:]) or 'the request'}: {one['msg']}" for one in error.errors()]
    return _said(400, "BadRequest", "; ".join(wrong)[:1000])


def _unexpected(request: Request, error: Exception) -> Response:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _said(500, "InternalError", "internal error; the server's log says more")


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    # So many searches at a time; the others wait their turn. Rasters have threads of their own.
    anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
    yield


class _Server(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


async def serve(settings: WebSettings, ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls `ready` with the port once it answers.

    Raises `BadSetting` for an address that others can reach, unless that is wanted, and where reading needs a token and there is no list
    of tokens; `SignatureError` when it cannot listen.
    """
    if not on_this_machine(settings.host) and not settings.insecure:
        raise BadSetting(
            f"{settings.host} can be reached from other machines, and this server has no TLS; put a proxy that has it before it on "
            "127.0.0.1, or say --insecure where a proxy or a private network encrypts (and --read token unless everybody may read)"
        )
    access = _access(settings)
    listening = _listen(settings.host, settings.port)
    store = Store(settings.home, settings.database_url)
    try:
        meters = Meters("earthsignature_web", ("route",))
        config = uvicorn.Config(
            application(store, settings.catalog, access, meters),
            root_path=settings.root_path,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,
            server_header=False,
        )
        with served(meters.registry, settings.metrics):
            await _Server(config, lambda: ready(int(listening.getsockname()[1]))).serve(sockets=[listening])
    finally:
        listening.close()
        store.close()


def _access(settings: WebSettings) -> Access | None:
    if settings.read == "open":
        return None  # whatever a proxy asked its users for is not ours to judge
    return Access(TokenFile(settings.tokens) if settings.tokens else None, read="token")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it; without it a small answer waits 40 ms for the client to acknowledge its headers.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        made.bind((host, port))
        made.listen(512)
    except OSError as error:
        made.close()
        raise SignatureError(
            f"cannot listen on {host}:{port} ({os.strerror(error.errno or 0)}); give another --port, or 0 for a free one"
        ) from error
    return made
