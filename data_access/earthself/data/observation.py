"""What a product is a product of: mission, place, datatake start, orbit, part - and the baseline that it was processed with.

Catalogues hold the same observation several times: copies under other names, and reprocessings. Whoever counts them twice gets
a wrong map, so each product gets an identity here, read from whatever its catalogue states.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from earthself.data.dates import parse_instant
from earthself.data.errors import BadInput

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

# Naming convention of compact Sentinel-2 products (Sentinel-2 Products Specification Document, issue 14.9, 3.4), with or without
# baseline and discriminator, and with whatever a provider that cuts tiles appends.
_NAME = re.compile(
    r"(?P<mission>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<start>\d{8}T\d{6})(?:_N(?P<baseline>\d{4}))?_R(?P<orbit>\d{3})"
    r"_T(?P<place>\d{2}[A-Z]{3})(?:_(?P<made>\d{8}T\d{6}))?(?:_(?P<part>[A-Za-z0-9_-]+))?(?:\.SAFE)?(?:\.zip)?",
    re.ASCII,
)
# Items of Earth Search: mission, tile, day, and a number for each product of that tile and day.
_SHORT = re.compile(r"(?P<mission>S2[A-D])_(?P<place>\d{1,2}[A-Z]{3})_(?P<day>\d{8})_(?P<number>\d+)_L(?:1C|2A)", re.ASCII)
_TILE = re.compile(r"(?:MGRS-|T)?(?P<zone>\d{1,2})(?P<square>[C-HJ-NP-X][A-Z]{2})", re.ASCII)
_DATATAKE = re.compile(r"G(?P<mission>S2[A-D])_(?P<start>\d{8}T\d{6})_\d{6}_N(?P<baseline>\d{2}\.\d{2})", re.ASCII)
_PLATFORM = re.compile(r"s(?:entinel)?-?\s?2([a-d])", re.IGNORECASE | re.ASCII)

_NAME_PROPERTIES = ("s2:product_uri", "sentinel:product_id", "title")
_BASELINE_PROPERTIES = ("earthself:baseline", "s2:processing_baseline", "processing:version", "sentinel:processing_baseline")
_MADE_PROPERTIES = ("s2:generation_time", "processing:datetime", "published", "created", "updated")
_PRIVATE_BASELINE = "N9999"
_REDRAWN = 0.02


@dataclass(frozen=True)
class Observation:
    """The identity of one product."""

    mission: str
    """`S2A` ... `S2D`."""
    place: str
    """Tile of the Military Grid Reference System, such as `33UUP`, or a track."""
    start: datetime
    """Start of the datatake, UTC, whole seconds (where a catalogue states none: the acquisition time of the item)."""
    orbit: int | None
    """Relative orbit, 1 to 143."""
    part: str | None = None
    """Which part of the tile, where a provider cuts tiles into parts."""
    baseline: str | None = None
    """Processing baseline as `N0510`; `N9999` for products made outside the ground segment."""

    @property
    def key(self) -> str:
        """What two copies or reprocessings of one observation share, as `S2A_33UUP_20170613T101031_R022[_PART]`."""
        orbit = "R000" if self.orbit is None else f"R{self.orbit:03d}"
        key = f"{self.mission}_{self.place}_{self.start:%Y%m%dT%H%M%S}_{orbit}"
        return f"{key}_{self.part}" if self.part else key

    @classmethod
    def from_name(cls, name: str) -> Observation:
        """Read the name of a Sentinel-2 product; raises `BadInput` when it is none."""
        found = _NAME.fullmatch(name.strip())
        if not found:
            raise BadInput(
                f"{name!r} is not a Sentinel-2 product name such as S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608"
            )
        baseline = found["baseline"]
        return cls(
            mission=found["mission"],
            place=found["place"],
            start=_compact(found["start"]),
            orbit=int(found["orbit"]),
            part=found["part"],
            baseline=f"N{baseline}" if baseline else None,
        )

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Observation:
        """Read a STAC item of any catalogue; raises `BadInput` when mission, tile or time cannot be told."""
        return _read(item)


def baseline_of(item: Mapping[str, Any]) -> str | None:
    """The processing baseline as `N0510`, or None where the item says nothing."""
    properties = item.get("properties") or {}
    for key in _BASELINE_PROPERTIES:
        if made := _baseline(properties.get(key)):
            return made
    for name in _names(item):
        if (found := _NAME.fullmatch(name)) and found["baseline"]:
            return f"N{found['baseline']}"
    found = _DATATAKE.fullmatch(str(properties.get("s2:datatake_id", "")))
    return f"N{found['baseline'].replace('.', '')}" if found else None


def baselines_of(item: Mapping[str, Any]) -> set[str]:
    """All processing baselines that an item states in its properties and in its names; more than one is a contradiction."""
    properties = item.get("properties") or {}
    named = (_NAME.fullmatch(name) for name in _names(item))
    said = [_baseline(properties.get(key)) for key in _BASELINE_PROPERTIES] + [_baseline(n["baseline"]) for n in named if n]
    return {baseline for baseline in said if baseline is not None}


def made_of(item: Mapping[str, Any]) -> datetime | None:
    """When the product was generated, else published; None where the item says nothing."""
    properties = item.get("properties") or {}
    if value := _instant(properties.get(_MADE_PROPERTIES[0])):
        return value
    for name in _names(item):
        if (found := _NAME.fullmatch(name)) and found["made"]:
            return _compact(found["made"])
    return next((value for key in _MADE_PROPERTIES[1:] if (value := _instant(properties.get(key)))), None)


def observed_at(item: Mapping[str, Any]) -> datetime | None:
    """The acquisition time of an item."""
    properties = item.get("properties") or {}
    return _instant(properties.get("datetime")) or _instant(properties.get("start_datetime"))


def newest_of_each(
    items: Iterable[dict[str, Any]], within: BaseGeometry | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Sort copies and reprocessings out: gives (used, superseded), both newest observation first.

    Items of one `earthself:observation` are the same observation. Of those the highest baseline is used, then the latest generated;
    `N9999`, which says nothing about the processor, ranks below every numbered baseline. Others are superseded where the used ones
    show their ground too, but for a fiftieth (footprints are drawn anew by every processor); what shows more - a piece that a change of
    the datastrip leaves of a tile, the rest of a tile of which only a part was reprocessed - is used as well. Only ground `within` a
    geometry counts (longitude, latitude; None is everywhere). A superseded item gets `earthself:superseded_by`, one that is used
    beside a newer one `earthself:beside`.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        item["properties"].pop("earthself:superseded_by", None)
        item["properties"].pop("earthself:beside", None)
        groups.setdefault(str(item["properties"]["earthself:observation"]), []).append(item)
    used: list[dict[str, Any]] = []
    superseded: list[dict[str, Any]] = []
    for group in groups.values():
        group.sort(key=_rank, reverse=True)
        kept = group[:1]
        for item in group[1:]:
            if shows_more(item, kept, within):
                if newer := [each["id"] for each in kept if baseline_of(each) != baseline_of(item)]:
                    item["properties"]["earthself:beside"] = newer[0]
                kept.append(item)
            else:
                item["properties"]["earthself:superseded_by"] = max(kept, key=lambda newer: _shared(newer, item))["id"]
                superseded.append(item)
        used.extend(kept)
    return sorted(used, key=_newest_first, reverse=True), sorted(superseded, key=_newest_first, reverse=True)


def _read(item: Mapping[str, Any]) -> Observation:
    properties = item.get("properties") or {}
    short = _SHORT.fullmatch(str(item.get("id", "")))
    for name in _names(item):
        if _NAME.fullmatch(name):
            made = Observation.from_name(name)
            part = _part(properties) or made.part
            return replace(made, part=part, baseline=baseline_of(item))
    datatake = _DATATAKE.fullmatch(str(properties.get("s2:datatake_id", "")))
    platform = _PLATFORM.search(str(properties.get("platform", "")))
    mission = (datatake or short or {"mission": f"S2{platform[1].upper()}" if platform else None})["mission"]
    place = _place(properties) or (_tile(short["place"]) if short else None)
    start = _compact(datatake["start"]) if datatake else observed_at(item)
    if not mission or not place or start is None:
        raise BadInput(f"item {item.get('id')!r} does not say which Sentinel-2 observation it is: it needs platform, tile and time")
    # Without the datatake the number tells apart what Earth Search holds of one tile and day; merging by guess could lose pixels.
    part = _part(properties) or (short["number"] if short and not datatake else None)
    return Observation(mission, place, start.replace(microsecond=0), _orbit(properties), part, baseline_of(item))


def _names(item: Mapping[str, Any]) -> list[str]:
    properties = item.get("properties") or {}
    return [str(v) for v in (*(properties.get(key) for key in _NAME_PROPERTIES), item.get("id")) if v]


def _part(properties: Mapping[str, Any]) -> str | None:
    value = properties.get("earthself:part")
    return None if value in (None, "") else str(value)


def _place(properties: Mapping[str, Any]) -> str | None:
    square = str(properties.get("mgrs:latitude_band", "")) + str(properties.get("mgrs:grid_square", ""))
    candidates = (properties.get("grid:code"), properties.get("s2:mgrs_tile"), f"{properties.get('mgrs:utm_zone', '')}{square}")
    return next((tile for value in candidates if (tile := _tile(str(value or "")))), None)


def _tile(text: str) -> str | None:
    found = _TILE.fullmatch(text)
    return f"{int(found['zone']):02d}{found['square']}" if found else None


def _orbit(properties: Mapping[str, Any]) -> int | None:
    value = properties.get("sat:relative_orbit")
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _baseline(value: Any) -> str | None:  # noqa: ANN401 - whatever a catalogue states
    """`05.10`, `5.1` (a number that lost its zeros), `0510`, `N0510` -> `N0510`."""
    if isinstance(value, float):
        value = f"{value:05.2f}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:04d}"
    found = re.fullmatch(r"[Nn]?(\d{2})\.?(\d{2})", str(value or "").strip(), re.ASCII)
    return f"N{found[1]}{found[2]}" if found else None


def _instant(value: Any) -> datetime | None:  # noqa: ANN401 - whatever a catalogue states
    try:
        return parse_instant(value) if value else None
    except BadInput:
        return None


def _compact(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadInput(f"{text!r} in a product name is no time of the calendar") from error


def _rank(item: dict[str, Any]) -> tuple[int, float, str]:
    baseline, made = baseline_of(item), made_of(item)
    number = -1 if baseline is None else 0 if baseline == _PRIVATE_BASELINE else int(baseline[1:])
    return number, made.timestamp() if made else 0.0, str(item["id"])


def _newest_first(item: dict[str, Any]) -> tuple[float, str]:
    when = observed_at(item)
    return when.timestamp() if when else 0.0, str(item["id"])


def _shared(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Size of the ground that two products show, in square degrees; 0 where a footprint is not stated."""
    from shapely import make_valid
    from shapely.geometry import shape

    if not one.get("geometry") or not other.get("geometry"):
        return 0.0
    return float(make_valid(shape(one["geometry"])).intersection(make_valid(shape(other["geometry"]))).area)


def shows_more(item: Mapping[str, Any], kept: list[dict[str, Any]], within: BaseGeometry | None = None) -> bool:
    """Whether a product shows ground that none of others does; no where a footprint is not stated."""
    from shapely import make_valid
    from shapely.geometry import shape
    from shapely.ops import unary_union

    if not all(each.get("geometry") for each in (item, *kept)):
        return False
    own, *others = (make_valid(shape(each["geometry"])) for each in (item, *kept))
    ground = own if within is None else own.intersection(within)
    return bool(ground.difference(unary_union(others)).area > _REDRAWN * ground.area)
