"""What an operator writes down about clouds: a YAML or JSON document as `offers.schema.json` says, or a table (`from_table`).

OVH, CloudFerro and CREODIAS, the Open Telekom Cloud and Outscale come this way: no open file of their prices exists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers.checks import check, check_source
from earthself.benchmark.offers.from_table import Said, table
from earthself.benchmark.offers.model import (
    Allocation,
    Carbon,
    Certificate,
    Cloud,
    EgressPrice,
    Offer,
    Price,
    Rate,
    Region,
    Row,
    Source,
    StorageKind,
    StoragePrice,
    Tier,
)  # fmt: skip

MOST_BYTES = 20_000_000
_DOCUMENTS = (".yaml", ".yml", ".json")
_NUMBERS = {"int": re.compile(r"-?(0|[1-9][0-9]*)$"), "float": re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$")}
_MADE: Mapping[str, type[Any]] = {
    "clouds": Cloud, "regions": Region, "offers": Offer, "prices": Price, "storage_prices": StoragePrice, "egress_prices": EgressPrice,
    "rates": Rate, "certificates": Certificate, "carbon": Carbon,
}  # fmt: skip
_KEYS: Mapping[str, tuple[str, ...]] = {
    "clouds": ("cloud",), "regions": ("cloud", "region"), "offers": ("cloud", "offer"),
    "prices": ("cloud", "region", "zone", "offer", "allocation", "term_months"), "storage_prices": ("cloud", "region", "kind", "name"),
    "egress_prices": ("cloud", "region"), "rates": ("currency",), "certificates": ("cloud", "region", "name"),
    "carbon": ("cloud", "region", "country"),
}  # fmt: skip


def rows(file: Path, said: Said | None = None) -> Iterator[Row]:
    """Give what a file says; `said` is for tables, which do not name their source.

    Raises `BadOffers` with the file, the place in it, the value, and what it may be.
    """
    if (size := file.stat().st_size) > MOST_BYTES:
        raise BadOffers(f"{file} has {size} bytes; at most {MOST_BYTES} are read at once: take it apart")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadOffers(f"{file} is not in UTF-8 ({error}); save it so") from error
    kind = file.suffix.lower()
    if kind == ".csv":
        return table(text, file.name, said or Said())
    if kind in _DOCUMENTS:
        if said is not None and said != Said():
            raise BadOffers(f"{file} says itself where it is from (source:); name no other source, address or day")
        return _document(_parsed(text, file.name, kind), file.name)
    raise BadOffers(f"{file} ends with {kind or 'nothing'}; it must end with .csv or {', '.join(_DOCUMENTS)}")


def _document(document: Any, name: str) -> Iterator[Row]:  # noqa: ANN401 - whatever was in the file
    _validate(document, name)
    today = datetime.now(UTC).date()
    of_all = _source(document["source"], f"{name}, source", today)
    seen: dict[tuple[object, ...], str] = {}
    for group in _MADE:
        for number, values in enumerate(document.get(group, ())):
            place = f"{name}, {group}[{number}]"
            own = values.get("source")
            source = of_all if own is None else _source(own, f"{place}.source", today)
            try:
                row = _row(group, values, source)
                check(row, today)
            except BadOffers as error:
                raise BadOffers(f"{place}: {error}") from error
            key = (group, source.name, source.day, *(getattr(row, each) for each in _KEYS[group]))
            if key in seen:
                raise BadOffers(f"{place} says the same thing as {seen[key]}; leave one of them out")
            seen[key] = f"{group}[{number}]"
            yield row


def _row(group: str, values: Mapping[str, Any], source: Source) -> Row:
    found = {name: value for name, value in values.items() if name != "source"}
    if "valid_until" in found:
        found["valid_until"] = _day(found["valid_until"])
    if group == "prices":
        found["allocation"] = Allocation(found.get("allocation", Allocation.ON_DEMAND))
    if "kind" in found:
        found["kind"] = StorageKind(found["kind"])
    if "zones" in found:
        found["zones"] = tuple(found["zones"])
    if "tiers" in found:
        found["tiers"] = tuple(Tier(tier.get("up_to_gb"), tier["amount"]) for tier in found["tiers"])
    row: Row = _MADE[group](source=source, **found)
    return row


def _source(values: Mapping[str, str], place: str, today: date) -> Source:
    try:
        source = Source(values["name"], values.get("url", ""), _day(values["day"]))
        check_source(source, today)
    except BadOffers as error:
        raise BadOffers(f"{place}: {error}") from error
    return source


def _day(said: str) -> date:
    try:
        return date.fromisoformat(said)
    except ValueError as error:
        raise BadOffers(f"{said!r} is no day ({error}); write YYYY-MM-DD") from error


def _validate(document: Any, name: str) -> None:  # noqa: ANN401 - whatever was in the file
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(document))
    if error is None:
        return
    hint = ""
    if isinstance(error.instance, str) and error.validator == "type" and "," in error.instance:
        hint = "; numbers have a decimal point, no comma"
    elif error.validator == "type" and isinstance(error.instance, (int, float)):
        hint = '; write names in "quotes" where they look like numbers'
    elif error.validator == "additionalProperties":
        hint = f"; known are {', '.join(error.schema['properties'])}"
    raise BadOffers(f"{name}, {error.json_path.removeprefix('$').removeprefix('.') or 'the document'}: {error.message[:300]}{hint}")


@cache
def _validator() -> Any:  # noqa: ANN401 - a jsonschema validator
    from jsonschema import Draft202012Validator

    text = resources.files("earthself.benchmark").joinpath("schemas/offers.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def _parsed(text: str, name: str, kind: str) -> Any:  # noqa: ANN401 - whatever is in the file
    import yaml  # type: ignore[import-untyped]

    try:
        if kind == ".json":
            return json.loads(text, object_pairs_hook=_once)
        _no_aliases(yaml.parse(text, Loader=yaml.CSafeLoader), yaml.AliasEvent)
        return yaml.load(text, Loader=_loader())  # noqa: S506 - a safe loader that knows fewer types
    except BadOffers as error:
        raise BadOffers(f"{name}, {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else "somewhere"
        raise BadOffers(
            f"{name}, {where}: this is no YAML ({getattr(error, 'problem', None) or error}); look for indents and colons"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadOffers(f"{name} cannot be read as {kind[1:].upper()} ({error}); mend it there") from error


def _no_aliases(events: Iterable[Any], alias: type[Any]) -> None:
    """Refuse what stands for something else: a few lines of it can stand for more than any memory holds."""
    if any(isinstance(event, alias) for event in events):
        raise BadOffers("there is a YAML alias (*name); write the value out")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what is said twice: whoever types would not notice that only the last one counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise BadOffers(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one place; leave one out")
    return found


@cache
def _loader() -> Any:  # noqa: ANN401 - a class of PyYAML
    """Give a loader for which days are texts, `NO` is Norway, and 1:30 no number of seconds."""
    import yaml

    class Loader(yaml.CSafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    for tag, pattern in _NUMBERS.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, list("-0123456789"))

    def mapping(loader: Any, node: Any) -> dict[str, Any]:  # noqa: ANN401
        pairs = [(loader.construct_object(key, deep=True), loader.construct_object(value, deep=True)) for key, value in node.value]
        if not all(isinstance(key, str) for key, _ in pairs):
            raise BadOffers(f"line {node.start_mark.line + 1}: a name is no text; write names of fields")
        try:
            return _once(pairs)
        except BadOffers as error:
            raise BadOffers(f"line {node.start_mark.line + 1}: {error}") from error

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    return Loader
