"""The bodies of requests: JSON objects of moderate size, from this site or from a program."""

from __future__ import annotations

import json
from typing import Any

from earthself.portal import rights
from fastapi import HTTPException, Request, status

MOST_BYTES = 4 * 2**20


async def json_object(request: Request) -> dict[str, Any]:
    """Read the body: a JSON object of moderate size from this site or from a program."""
    rights.require_same_origin(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "send JSON with the header Content-Type: application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, f"the request is larger than {MOST_BYTES} bytes; simplify the area")
    try:
        conf = json.loads(body)
        json.dumps(conf, ensure_ascii=False).encode()  # halves of characters (surrogates) are no text that could be written anywhere
    except ValueError as error:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, f"the body is not JSON: {error}") from None
    if not isinstance(conf, dict):
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, "the body is not a JSON object")
    return conf
