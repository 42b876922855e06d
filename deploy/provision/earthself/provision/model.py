"""What is ordered, what it is made of, and how each part stands."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from earthself.provision.errors import BadOrder

_ID = re.compile(r"[a-z][a-z0-9-]{2,38}[a-z0-9]", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", re.ASCII)


class Level(StrEnum):
    """How deep an environment goes."""

    WAAS = "waas"
    KAAS = "kaas"


@dataclass(frozen=True)
class Quota:
    """The most that an environment may use."""

    cpus: float = 4.0
    memory_gib: float = 16.0
    storage_gb: float = 100.0
    """10^9 bytes."""


@dataclass(frozen=True)
class Order:
    """An environment that was approved. Names of what is made come from the request's id alone, never from what people typed."""

    request: str
    """Id of the request: letters, digits and hyphens, as a DNS label."""
    team: str
    """Of Airflow; may be empty."""
    owner: str
    """User name."""
    level: Level
    until: date
    """The last day."""
    quota: Quota = field(default_factory=Quota)
    repository: str = ""
    """Address of the creator's git repository; empty: one is made."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.request):
            raise BadOrder(f"request {self.request[:80]!r} cannot name what is made; it needs 4 to 40 of a-z, 0-9 and -, a letter first")
        if min(asdict(self.quota).values()) <= 0:
            raise BadOrder(f"quota {self.quota} leaves nothing to use; give more than 0 of each")


@dataclass(frozen=True)
class Resource:
    """One thing that is made, and taken away, as a whole."""

    kind: str
    """What it is, as the engine calls it."""
    name: str
    """Its name there; the same order gives the same."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it is made: plain JSON, never a secret."""
    needs: Sequence[str] = ()
    """Keys of the resources that are there before it, and stay until it is gone."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadOrder(f"{self.kind} {self.name[:80]!r}: this is no name; it needs 1 to 63 of a-z, 0-9, . and -")

    @property
    def key(self) -> str:
        """What tells it from the others of its environment."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Plan:
    """What would be made, each part after those that it needs."""

    engine: str
    order: Order
    resources: Sequence[Resource]
    notes: Sequence[str] = ()
    """What whoever approves should know: quotas that are nearly used up, what the engine cannot enforce."""
    euros: float | None = None
    """What it is expected to cost in a month; None: nobody knows."""

    def __post_init__(self) -> None:
        keys = [one.key for one in self.resources]
        if len(set(keys)) < len(keys):
            raise BadOrder(f"{self.engine} plans {next(key for key in keys if keys.count(key) > 1)} twice")
        for number, one in enumerate(self.resources):
            if missing := set(one.needs) - set(keys[:number]):
                raise BadOrder(f"{self.engine} plans {one.key} before {', '.join(sorted(missing))}, which it needs")

    @property
    def digest(self) -> str:
        """What was approved: another plan has another one."""
        said = {"engine": self.engine, "order": asdict(self.order), "resources": [asdict(one) for one in self.resources]}
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()

    def resource(self, key: str) -> Resource:
        """Give a part; raises `BadOrder` for one that was not planned."""
        for one in self.resources:
            if one.key == key:
                return one
        raise BadOrder(f"{self.order.request} has no {key} in its plan")


class Status(StrEnum):
    """How a resource stands, by the engine's own word."""

    ABSENT = "absent"
    MAKING = "making"
    READY = "ready"
    BROKEN = "broken"


@dataclass(frozen=True)
class Observed:
    """What the engine sees of a resource."""

    status: Status
    id: str = ""
    """What the engine calls it, where that is not its name."""
    message: str = ""
    """What is wrong with it, bounded, without secrets."""


class Stage(StrEnum):
    """How far the journal says that a resource is."""

    PLANNED = "planned"
    BEGUN = "begun"
    """It may be there: whoever died in between leaves this."""
    MADE = "made"
    GOING = "going"
    """It is being taken away."""
    GONE = "gone"


@dataclass(frozen=True)
class Written:
    """A resource as the journal has it."""

    request: str
    number: int
    """Its place in the plan."""
    engine: str
    resource: Resource
    stage: Stage
    id: str
    error: str
    """Why it could not be made or taken away; empty where it could."""
    hopeless: bool = False
    """Whether trying again is no use."""
