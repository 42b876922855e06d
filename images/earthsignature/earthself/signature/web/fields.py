"""The fields extension: parts of an item that a client wants, or wants to be without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from earthself.signature.errors import BadSignature

_USUAL = frozenset(("type", "stac_version", "id", "geometry", "bbox", "links", "assets", "properties.datetime", "collection"))
"""Given when nothing, or only what to leave out, is named."""
_ALWAYS = frozenset(("id", "collection"))
_MOST = 100


@dataclass(frozen=True)
class Fields:
    """Names with dots for what lies within: `properties.eo:cloud_cover`."""

    include: frozenset[str]
    """Wanted; empty: the usual ones where `exclude` is empty, too, else all."""
    exclude: frozenset[str]
    """Not wanted; a name in both is wanted."""

    def of(self, item: dict[str, Any]) -> dict[str, Any]:
        """Give the part of an item that is asked for."""
        if self.include:
            made: dict[str, Any] = {}
            for name in self.include | _ALWAYS:
                _copy(item, made, name.split("."))
        else:
            made = dict(item)
        for name in sorted(self.exclude - self.include - _ALWAYS):
            _drop(made, name.split("."))
        return made


def from_names(names: Iterable[str]) -> Fields:
    """Read the names of a GET request: `-geometry` leaves out."""
    given = [name.strip() for name in names if name.strip()]
    return fields({name.lstrip("+") for name in given if not name.startswith("-")}, {name[1:] for name in given if name.startswith("-")})


def fields(include: Iterable[str] | None, exclude: Iterable[str] | None) -> Fields:
    """Check the names; raises `BadSignature` where there are too many."""
    wanted, unwanted = frozenset(include or ()), frozenset(exclude or ())
    if len(wanted) + len(unwanted) > _MOST:
        raise BadSignature(f"fields names {len(wanted) + len(unwanted)} fields; name at most {_MOST}")
    return Fields(wanted if wanted or unwanted else _USUAL, unwanted)


def _copy(source: Any, target: dict[str, Any], path: list[str]) -> None:  # noqa: ANN401 - any JSON
    key, *rest = path
    if not isinstance(source, dict) or key not in source:
        return
    if not rest:
        target[key] = source[key]
    elif isinstance(source[key], dict):
        inner = target.get(key)
        if inner is source[key]:
            return  # wanted as a whole
        target[key] = inner if isinstance(inner, dict) else {}
        _copy(source[key], target[key], rest)


def _drop(made: dict[str, Any], path: list[str]) -> None:
    key, *rest = path
    if key not in made:
        return
    if not rest:
        del made[key]
    elif isinstance(made[key], dict):
        made[key] = dict(made[key])
        _drop(made[key], rest)
