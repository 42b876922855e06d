"""What a service needs: checked whole against its schema, then held against itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from earthself.benchmark.errors import BadNeed
from earthself.benchmark.offers.model import Allocation
from earthself.benchmark.suggestion.profile import Profile, profile
from earthself.data.sentinel2 import TILE_MEGAPIXELS

MONTH_HOURS = 720.0
"""Of a month of 30 days, which is what all amounts are for."""
_M2_A_PIXEL = 100.0
_LARGEST = 10 * 2**20
"""Bytes of a document; areas with many corners are long."""
_SCHEMA = Path(__file__).parents[1] / "schemas" / "need.schema.json"
_NEXT = "docs/suggest.md describes a need"
_WEIGHTS = {"cost": 0.6, "time": 0.4}
_EU = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU",
    "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
]  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The least that a machine must have; None: it does not matter."""

    vcpus: float | None = None
    memory_gib: float | None = None
    gpus: float | None = None
    gpu_memory_gib: float | None = None
    disk_gb: float | None = None
    """10^9 bytes."""
    architecture: str | None = None


@dataclass(frozen=True)
class Need:
    """What a service needs in a month; make one with `Need.from_document`."""

    tiles: float
    """How many tiles of 10,980 x 10,980 pixels of 10 m."""
    profile: Profile
    """What a tile asks of a machine."""
    title: str = ""
    level: str = "waas"
    collections: Sequence[str] = ()
    machine: Machine = field(default_factory=Machine)
    machines: int = 1
    """How many may work at once."""
    hours_per_month: float | None = None
    """How long machines are paid for; None: as long as they work."""
    storage_gb: float = 0.0
    egress_gb: float = 0.0
    deadline_hours: float | None = None
    budget_euros: float | None = None
    clouds: Sequence[str] | None = None
    not_clouds: Sequence[str] = ()
    regions: Sequence[str] | None = None
    countries: Sequence[str] | None = None
    """Member states where the European Union was named."""
    certificates: Sequence[str] = ()
    allocations: Sequence[str] = (Allocation.ON_DEMAND.value,)
    weights: Mapping[str, float] = field(default_factory=lambda: dict(_WEIGHTS))
    """Of `cost`, `time`, `carbon` and `data`; their sum is 1."""
    weights_assumed: bool = True
    """Whether the weights are ours and not the need's."""

    @classmethod
    def from_document(cls, document: object) -> Need:
        """Read a need; raises `BadNeed` with the place, the value and what may stand there, also for one that contradicts itself."""
        _check(document)
        said: dict[str, Any] = dict(document)  # type: ignore[call-overload]
        given = said.get("weights")
        weights = {name: float(value) for name, value in (given or _WEIGHTS).items() if value > 0}
        need = cls(
            tiles=_tiles(said["work"]),
            profile=profile(said.get("profile", "land_cover_map")),
            title=said.get("title", ""),
            level=said.get("level", "waas"),
            collections=tuple(said.get("collections", ())),
            machine=Machine(**said.get("machine", {})),
            machines=said.get("machines", 1),
            hours_per_month=said.get("hours_per_month", None if said.get("level", "waas") == "waas" else MONTH_HOURS),
            storage_gb=said.get("storage_gb", 0.0),
            egress_gb=said.get("egress_gb", 0.0),
            deadline_hours=said.get("deadline_hours"),
            budget_euros=said.get("budget_euros"),
            clouds=_lower(said.get("clouds")),
            not_clouds=_lower(said.get("not_clouds")) or (),
            regions=tuple(said["regions"]) if "regions" in said else None,
            countries=_countries(said["countries"]) if "countries" in said else None,
            certificates=tuple(said.get("certificates", ())),
            allocations=tuple(said.get("allocations", (Allocation.ON_DEMAND.value,))),
            weights={name: value / sum(weights.values()) for name, value in weights.items()},
            weights_assumed=given is None,
        )
        if why := next(need._disagreements(said), None):
            raise BadNeed(f"the need contradicts itself: {why}")
        return need

    def to_document(self) -> dict[str, Any]:
        """Give it as plain types, with all that was left open filled in."""
        return asdict(self) | {"weights": dict(self.weights)}

    def _disagreements(self, said: Mapping[str, Any]) -> Iterator[str]:
        """Say what no cloud could fulfil, for a reason that lies in the need itself."""
        if both := sorted(set(self.clouds or ()) & set(self.not_clouds)):
            yield f"clouds and not_clouds both name {', '.join(both)}; leave it out of one of them"
        if not self.weights:
            yield "weights are all 0, so that nothing matters; give one of them a value"
        if self.weights.get("data") and not self.collections:
            yield "weights.data counts the nearness of data, but collections names none"
        if "hours_per_month" in said and self.level == "waas":
            yield "hours_per_month is for kaas and iaas; waas is paid while it works"
        if self.hours_per_month and self.deadline_hours and self.deadline_hours > self.hours_per_month:
            yield f"deadline_hours is {self.deadline_hours:g}, but machines stand for {self.hours_per_month:g} hours_per_month only"
        if self.machine.gpu_memory_gib and self.machine.gpus == 0:
            yield "machine.gpu_memory_gib asks for a GPU and machine.gpus for none"


def read_need(text: str, name: str, *, profile: tuple[str, str] | None = None) -> Need:
    """Read a need from JSON or YAML, with another profile (text, name) if one is given; raises `BadNeed` with the file's name."""
    document = _document(text, name)
    if profile is not None and isinstance(document, dict):
        document["profile"] = _document(*profile)
        name = f"{name} with {profile[1]}"
    try:
        return Need.from_document(document)
    except BadNeed as error:
        raise BadNeed(f"{name}: {error}") from error


def _document(text: str, name: str) -> object:
    import yaml  # type: ignore[import-untyped]

    if len(text) > _LARGEST:
        raise BadNeed(f"{name} is longer than {_LARGEST >> 20} MiB; simplify its area")
    try:
        found: object = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise BadNeed(f"{name} is neither JSON nor YAML: {' '.join(str(error).split())[:200]}; {_NEXT}") from error
    return found


def _check(document: object) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    error = best_match(validator.iter_errors(document))
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path) or "the need"
        raise BadNeed(f"{place}: {error.message[:300]}; {_NEXT}")
    if found := _endless(document):
        raise BadNeed(f"{found} is no finite number; {_NEXT}")


def _endless(value: object, place: str = "") -> str:
    """Name the place of a number that YAML knows and JSON does not: no limit can be held against it."""
    if isinstance(value, Mapping):
        return next((found for name, one in value.items() if (found := _endless(one, f"{place}.{name}".strip(".")))), "")
    if isinstance(value, list):
        return next((found for number, one in enumerate(value) if (found := _endless(one, f"{place}.{number}"))), "")
    return place if isinstance(value, float) and not math.isfinite(value) else ""


def _tiles(work: Mapping[str, Any]) -> float:
    if "tiles" in work:
        return float(work["tiles"])
    from earthself.data.area import Area
    from earthself.data.errors import BadInput

    try:
        area = Area.from_conf(work["area"])
    except BadInput as error:
        raise BadNeed(f"work.area: {error}") from error
    return area.geodesic_m2 / _M2_A_PIXEL / 1e6 / TILE_MEGAPIXELS * float(work["times"])


def _countries(named: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({country for name in named for country in (_EU if name == "EU" else (name,))}))


def _lower(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(name.lower() for name in names)
