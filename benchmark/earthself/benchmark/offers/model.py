"""What a cloud offers, in the shape of the Spare Cores schema, each row with where it comes from and of which day it is.

What a source does not say is None, never 0 and never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Allocation(StrEnum):
    """How a machine is paid for."""

    ON_DEMAND = "ondemand"
    SPOT = "spot"
    """May be taken away at any time."""
    RESERVED = "reserved"
    """For a term, whether it is used or not."""


class StorageKind(StrEnum):
    """What a byte is kept in."""

    OBJECT = "object"
    BLOCK = "block"
    FILE = "file"


@dataclass(frozen=True)
class Source:
    """Where a row comes from."""

    name: str
    """Such as `apache-libcloud 3.9.1`, `Spare Cores`, or the name of the operator's file."""
    url: str
    """Where it can be looked up; may be empty."""
    day: date
    """Of which day the facts are: the day they were observed, not the day they were read in."""


@dataclass(frozen=True)
class Cloud:
    """One provider of infrastructure."""

    cloud: str
    """Id, lower case: `ovh`, `aws`, `cloudferro`."""
    name: str
    source: Source
    homepage: str = ""
    country: str | None = None
    """Of the company's seat, ISO 3166-1 alpha-2."""


@dataclass(frozen=True)
class Region:
    """Where a cloud has machines."""

    cloud: str
    region: str
    name: str
    source: Source
    country: str | None = None
    """ISO 3166-1 alpha-2."""
    city: str | None = None
    longitude: float | None = None
    """Degrees, EPSG:4326."""
    latitude: float | None = None
    zones: Sequence[str] = ()


@dataclass(frozen=True)
class Offer:
    """A kind of machine."""

    cloud: str
    offer: str
    """What the cloud calls it: `b3-8`, `m5.large`."""
    source: Source
    vcpus: float | None = None
    memory_gib: float | None = None
    architecture: str | None = None
    """`x86_64` or `aarch64`."""
    cpu_model: str | None = None
    gpus: float | None = None
    """0.0 where the source says that there is none."""
    gpu_model: str | None = None
    gpu_memory_gib: float | None = None
    """Of each."""
    disk_gb: float | None = None
    """Local disk that comes with it, 10^9 bytes."""
    disk_kind: str | None = None
    """`ssd`, `nvme ssd`, `hdd`, `network`."""
    network_gbps: float | None = None
    """What its specification promises, 10^9 bits a second."""


@dataclass(frozen=True)
class Price:
    """What an hour of an offer costs in a region (or one of its zones)."""

    cloud: str
    region: str
    offer: str
    allocation: Allocation
    amount: float
    """For an hour, above 0."""
    currency: str
    """ISO 4217."""
    source: Source
    zone: str = ""
    """Empty: all zones of the region."""
    upfront: float = 0.0
    """To be paid once for the whole term, in the same currency."""
    term_months: int | None = None
    """Of a reservation."""
    valid_until: date | None = None


@dataclass(frozen=True)
class StoragePrice:
    """What keeping bytes costs."""

    cloud: str
    region: str
    kind: StorageKind
    amount: float
    """For 10^9 bytes and a month (30 days)."""
    currency: str
    source: Source
    name: str = ""
    """What the cloud calls it."""
    valid_until: date | None = None


@dataclass(frozen=True)
class Tier:
    """A stretch of a tiered price."""

    up_to_gb: float | None
    """Of a month's bytes, 10^9; None: without end."""
    amount: float
    """For each 10^9 bytes within the stretch; 0 is free of charge."""


@dataclass(frozen=True)
class EgressPrice:
    """What bytes cost that leave a cloud's region for the internet."""

    cloud: str
    region: str
    tiers: Sequence[Tier]
    """In order; the last one without end."""
    currency: str
    source: Source
    valid_until: date | None = None


@dataclass(frozen=True)
class Rate:
    """What a currency was worth on a day."""

    currency: str
    """ISO 4217."""
    euros: float
    """For one unit of it."""
    source: Source


@dataclass(frozen=True)
class Certificate:
    """What somebody certifies about a cloud."""

    cloud: str
    name: str
    """`eu-hosting`, `iso-27001`, `secnumcloud`, `c5`, or another one."""
    source: Source
    region: str = ""
    """Empty: all of its regions."""
    valid_until: date | None = None


@dataclass(frozen=True)
class Carbon:
    """How much carbon dioxide its electricity stands for."""

    grams_per_kwh: float
    """Of CO2 equivalents."""
    source: Source
    cloud: str = ""
    region: str = ""
    """Of this region; else of a whole country."""
    country: str = ""
    """ISO 3166-1 alpha-2, where it is that of the country's grid."""


Row = Cloud | Region | Offer | Price | StoragePrice | EgressPrice | Rate | Certificate | Carbon


@dataclass(frozen=True)
class Offers:
    """Everything that the catalogue knows at one moment; what is older under the same key is left out."""

    clouds: Sequence[Cloud] = ()
    regions: Sequence[Region] = ()
    offers: Sequence[Offer] = ()
    prices: Sequence[Price] = ()
    storage_prices: Sequence[StoragePrice] = ()
    egress_prices: Sequence[EgressPrice] = ()
    rates: Sequence[Rate] = ()
    certificates: Sequence[Certificate] = ()
    carbon: Sequence[Carbon] = ()
