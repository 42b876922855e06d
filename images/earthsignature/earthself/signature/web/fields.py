"""The fields extension: parts of an item that a client wants, or wants to be without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from earthself.signature.errors import BadSignature

_USUAL = frozenset(("geometry", "bbox", "links", "assets", "properties.datetime"))
"""Given when nothing is named, beside what is always given."""
_ALWAYS = frozenset(("type", "stac_version", "id", "collection"))
"""Without these nobody could tell what the rest is about."""
_MOST = 100


@dataclass(frozen=True)
class Fields:
    """Names with dots for what lies within: `properties.eo:cloud_cover`."""

    include: frozenset[str] | None
    """Wanted; None: all."""
    exclude: frozenset[str]
    """Not wanted; what lies in both is wanted."""

    def of(self, item: dict[str, Any]) -> dict[str, Any]:
        """Give the part of an item that is asked for."""
        if self.include is None:
            made = dict(item)
        else:
            made = {}
            for name in self.include | _ALWAYS:
                _copy(item, made, name.split("."))
        for name in self.exclude - _ALWAYS:
            _drop(made, name.split("."))
        return made


def from_names(text: str) -> Fields:
    """Read the value of a GET request: names with commas between them, `-geometry` leaves out; raises `BadSignature` for too many."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    included = {name.lstrip("+") for name in names if not name.startswith("-")}
    excluded = {name[1:] for name in names if name.startswith("-")}
    return _checked(included or (None if excluded else ()), excluded)


def from_body(given: Mapping[str, Any] | None) -> Fields:
    """Read the value of a POST request; raises `BadSignature` for one that is null, or names too many.

    Only to leave something out leaves all else; an empty `include` means the usual fields.
    """
    if given is None:
        raise BadSignature('fields is null; send {"include": [...], "exclude": [...]}, or leave it out')
    included, excluded = given.get("include") or (), given.get("exclude") or ()
    return _checked(included if included or "include" in given or not excluded else None, excluded)


def _checked(included: Iterable[str] | None, excluded: Iterable[str]) -> Fields:
    wanted, unwanted = None if included is None else frozenset(included) or _USUAL, frozenset(excluded)
    if len(wanted or ()) + len(unwanted) > _MOST:
        raise BadSignature(f"fields names {len(wanted or ()) + len(unwanted)} fields; name at most {_MOST}")
    asked = wanted if wanted is not None and wanted is not _USUAL else frozenset()
    return Fields(wanted, frozenset(name for name in unwanted if not any(f"{one}.".startswith(f"{name}.") for one in asked)))


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
