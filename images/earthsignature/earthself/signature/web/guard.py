"""Reading by token over HTTP: the same tokens as gRPC's, whole as `Bearer`, or as the password of `Basic` for browsers and QGIS."""

from __future__ import annotations

import base64
import binascii

from earthself.signature.access import Access
from earthself.signature.errors import AccessRefused, NotAuthenticated
from earthself.signature.web.answers import answer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = ("/_mgmt/ping", "/_mgmt/health")
"""What watches a server has no token."""
_ASKED = ('Bearer realm="EarthSignature"', 'Basic realm="EarthSignature: any name, your token as password", charset="UTF-8"')
"""Each in a line of its own: Chromium knows only the first of several in one."""


class Guard:
    """Turns requests away that have no token which may read; what it lets through is kept by nobody between."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Stand before the application."""
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through what may read."""
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in _OPEN:
            await self._app(scope, receive, send)
            return
        try:
            self._access.check(_metadata(Headers(scope=scope)), "read")
        except AccessRefused as error:
            refused = answer({"code": type(error).__name__, "description": str(error)}, headers={"Cache-Control": "no-store"})
            refused.status_code = 401 if isinstance(error, NotAuthenticated) else 403
            for asked in _ASKED:
                refused.headers.append("WWW-Authenticate", asked)
            await refused(scope, receive, send)
            return

        async def private(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = headers.get("Cache-Control", "no-cache").replace("public", "private")
                headers.add_vary_header("Authorization")
            await send(message)

        await self._app(scope, receive, private)


def _metadata(headers: Headers) -> list[tuple[str, str]]:
    said = headers.get("authorization")
    if said is None:
        return []
    kind, _, text = said.partition(" ")
    if kind.lower() != "basic":
        return [("authorization", said)]
    try:
        token = base64.b64decode(text.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        token = ""
    return [("authorization", f"Bearer {token}")]
