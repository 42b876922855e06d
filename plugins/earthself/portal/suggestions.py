"""What the portal answers to a need: the Cloud Suggest Engine's answer as JSON or as a page, made once for each state of what is known."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib import resources
from typing import Any

JSON, PAGE = "application/json", "text/html"
_MOST_KEPT = 32
"""Answers; a page with its plots has some 100 kB."""
_ANNOTATIONS = {"title", "description", "default"}
_kept: OrderedDict[tuple[str, ...], str] = OrderedDict()
_lock = threading.Lock()


def answered(document: Mapping[str, Any], kind: str) -> str:
    """Answer a need as the text of a JSON document or of a page; raises `BadNeed`, `UnknownCollection`, and where the database is away."""
    from earthself.benchmark.suggestion.engine import answer
    from earthself.benchmark.suggestion.knowledge import knowledge
    from earthself.benchmark.suggestion.need import Need

    need, known, today = Need.from_document(document), knowledge(), datetime.now(UTC).date()
    asked = sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    key = (kind, asked, known.state, today.isoformat())
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    found = answer(need, known, today)
    if kind == PAGE:
        from earthself.benchmark.suggestion import report

        text = report.html(found)
    else:
        from earthself.benchmark.suggestion import document as documents

        text = documents.text(found)
    with _lock:
        _kept[key] = text
        while len(_kept) > _MOST_KEPT:
            _kept.popitem(last=False)
    return text


def preferred(accept: str) -> str:
    """Say which kind a request's header `Accept` prefers: the page where it names HTML and nothing that is JSON as highly."""
    quality: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        said = next((word.removeprefix("q=") for word in parameters if word.startswith("q=")), "1")
        quality[kind] = float(said) if said.replace(".", "", 1).isdecimal() else 0.0
    return PAGE if quality.get(PAGE, 0.0) > quality.get(JSON, 0.0) else JSON


def schema(name: str) -> dict[str, Any]:
    """Give a schema of the engine: `need` or `answer`."""
    text = resources.files("earthself.benchmark").joinpath("schemas", f"{name}.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def described(name: str) -> dict[str, Any]:
    """Give a schema as it can stand inside an OpenAPI document, whose pointers begin elsewhere: with what it refers to in its place."""
    whole = schema(name)
    definitions = whole.pop("$defs", {})
    found: dict[str, Any] = _in_place(whole, definitions)
    return {key: value for key, value in found.items() if key not in ("$schema", "$id")}


def _in_place(value: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_in_place(one, definitions) for one in value]
    if not isinstance(value, dict):
        return value
    here = {key: _in_place(one, definitions) for key, one in value.items() if key != "$ref"}
    if "$ref" not in value:
        return here
    referred = _in_place(definitions[value["$ref"].removeprefix("#/$defs/")], definitions)
    return referred | here if set(here) <= _ANNOTATIONS else {"allOf": [referred], **here}
