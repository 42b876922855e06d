"""The query extension, an older way to ask for properties: it becomes a filter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from earthself.signature.errors import BadSignature
from earthself.signature.web import cql
from earthself.signature.web.narrowing import Columns

_QUERY = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_PATTERNS = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}


def from_query(query: Any, columns: Columns) -> cql.Filter:  # noqa: ANN401 - what a stranger sent
    """Read the query extension's `{property: {operator: value}}`; raises `BadSignature` for an operator that there is not."""
    if not isinstance(query, Mapping):
        raise BadSignature(f"query is {cql.short(query)}; write it like {{'eo:cloud_cover': {{'lt': 20}}}}")
    args: list[Any] = []
    for name, asked in query.items():
        if not isinstance(asked, Mapping):
            raise BadSignature(f"query: {cql.short(name)} has no operator; write it like {{'eo:cloud_cover': {{'lt': 20}}}}")
        args += [_queried(name, operation, value, columns) for operation, value in asked.items()]
    if not args:
        raise BadSignature("query is empty; write it like {'eo:cloud_cover': {'lt': 20}}, or leave it out")
    return cql.from_json({"op": "and", "args": args} if len(args) > 1 else args[0])


def _queried(name: str, operation: str, value: Any, columns: Columns) -> cql.Json:  # noqa: ANN401
    known = cql.bare(name)
    column, prop = columns.properties.get(known), {"property": known}
    if known == columns.classes_name and operation in ("in", "contains"):
        return {"op": "a_overlaps", "args": [prop, value if isinstance(value, list) else [value]]}
    if column is not None and column.kind == "number":
        value = [_number(v) for v in value] if isinstance(value, list) else _number(value)
    if operation == "in":
        if not isinstance(value, list):
            raise BadSignature(f"query: in needs a list, not {cql.short(value)}")
        among = {"op": "in", "args": [prop, value]}
        return among if column is not None else {"op": "or", "args": [among, {"op": "a_overlaps", "args": [prop, value]}]}
    if operation in _PATTERNS:
        return {"op": "like", "args": [prop, _PATTERNS[operation].format(re.sub(r"([\\%_])", r"\\\1", str(value)))]}
    if operation in _QUERY:
        return {"op": _QUERY[operation], "args": [prop, value]}
    raise BadSignature(f"query: operator {cql.short(operation)} is not known; known are {', '.join([*_QUERY, *_PATTERNS, 'in'])}")


def _number(value: Any) -> Any:  # noqa: ANN401
    """Numbers arrive as text from forms and command lines."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
