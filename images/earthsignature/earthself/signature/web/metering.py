"""Counts the requests of the web server by route, never by path: a path may hold anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from earthself.signature.metrics import Meters
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NONE = "none"


class Metering:
    """Stands before everything else, so that what is refused counts, too."""

    def __init__(self, app: ASGIApp, meters: Meters, routes: Callable[[], Iterable[BaseRoute]]) -> None:
        """`routes` are those of the application, which are not all there yet."""
        self._app, self._meters, self._routes = app, meters, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request by its route and the status of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._meters.request(self._route(scope)) as status:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status.append(str(message["status"]))
                await send(message)

            try:
                await self._app(scope, receive, noted)
            except Exception:
                status.append("500")  # which is said further out
                raise

    def _route(self, scope: Scope) -> str:
        found = next((route for route in self._routes() if route.matches(scope)[0] is not Match.NONE), None)
        path = str(getattr(found, "path", _NONE))
        return f"{path}/{{path}}" if isinstance(found, Mount) else path
