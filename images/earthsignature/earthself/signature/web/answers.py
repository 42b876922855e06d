"""How answers are written: JSON quickly, and pages that cannot run what a product says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

JSON = "application/json"
CHECKED = "no-cache"
"""Of what may change: browsers ask whether it did."""
_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'"
)


def answer(content: Any, media_type: str = JSON, headers: Mapping[str, str] | None = None) -> Response:  # noqa: ANN401 - any JSON
    """Write JSON."""
    return Response(orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), media_type=media_type, headers=dict(headers or {}))


def page(text: str, media_type: str = "text/html") -> Response:
    """Write a page; scripts come from this server's files only, so that no text of a product can become one."""
    headers = {"Cache-Control": CHECKED, "Vary": "Accept", "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type=media_type, headers=headers)
