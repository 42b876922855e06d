"""How answers are written: JSON quickly, and pages that cannot run what a product says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

JSON = "application/json"
_WEIGHT = re.compile(r"[01](\.\d{0,3})?", re.ASCII)
CHECKED = "no-cache"
"""Of what may change: browsers ask whether it did."""
_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'"
)


def wants_page(accept: str) -> bool:
    """Tell from the header Accept whether a browser asks: a page is preferred to JSON then."""
    weights = {"text/html": 0.0, JSON: 0.0}
    for part in accept.split(","):
        kind, *settings = (text.strip() for text in part.split(";"))
        said = next((text[2:] for text in settings if text.startswith("q=")), "1")
        weights[kind] = float(said) if _WEIGHT.fullmatch(said) else 0.0
    return weights["text/html"] >= weights[JSON] and weights["text/html"] > 0


def answer(content: Any, media_type: str = JSON, headers: Mapping[str, str] | None = None) -> Response:  # noqa: ANN401 - any JSON
    """Write JSON."""
    return Response(orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), media_type=media_type, headers=dict(headers or {}))


def page(text: str, media_type: str = "text/html") -> Response:
    """Write a page; scripts come from this server's files only, so that no text of a product can become one."""
    headers = {"Cache-Control": CHECKED, "Vary": "Accept", "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type=media_type, headers=headers)
