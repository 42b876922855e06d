"""A Spare Cores dump (SQLite, CC BY-SA 4.0), as the tables of `sparecores-crawler` are: given by the user, opened for reading only.

Rows that are not active are left out, and so is what is not for Linux. Where a source has a number for itself and a name for its interface,
the name counts, since users and other sources say that. `green_energy` is no carbon intensity, and is not taken for one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers.checks import check
from earthself.benchmark.offers.model import (
    Allocation,
    Certificate,
    Cloud,
    EgressPrice,
    Offer,
    Price,
    Region,
    Row,
    Source,
    StorageKind,
    StoragePrice,
    Tier,
)  # fmt: skip

NAME, URL = "Spare Cores", "https://sparecores.com/"
_MEANT: Mapping[str, str] = {
    "gpu_count": "accelerator_count", "gpu_memory_min": "accelerator_memory_min", "gpu_manufacturer": "accelerator_manufacturer",
    "gpu_model": "accelerator_model", "network_speed": "network_speed_baseline",
}  # fmt: skip
"""Columns of dumps from before version 0.10 (0.6 for the last one), and what they are called since."""
_NEEDED: Mapping[str, frozenset[str]] = {
    table: frozenset([*columns.split(), "status", "observed_at"])
    for table, columns in {
        "vendor": "vendor_id name homepage country_id",
        "vendor_compliance_link": "vendor_id compliance_framework_id",
        "region": "vendor_id region_id name api_reference display_name country_id city lon lat",
        "zone": "vendor_id region_id zone_id api_reference",
        "storage": "vendor_id storage_id name storage_type",
        "server": "vendor_id server_id api_reference vcpus memory_amount cpu_architecture accelerator_count storage_size storage_type",
        "server_price": "vendor_id region_id zone_id server_id operating_system allocation unit price price_upfront currency",
        "storage_price": "vendor_id region_id storage_id unit price currency",
        "traffic_price": "vendor_id region_id direction unit price price_tiered currency",
    }.items()
}
_CERTIFICATES = {"iso27001": "iso-27001", "soc2t2": "soc-2-type-2"}
_ARCHITECTURES = {"arm64": "aarch64"}
_GB_OF = {"gb_month": 1.0, "gb": 1.0, "gib": 1.073741824}
"""10^9 bytes of a unit; what a month's bytes cost."""
Found = Mapping[str, Any]
Place = tuple[str, str]
"""Vendor's id, and an id of that vendor."""


def rows(file: Path, left_out: Callable[[str], None] = lambda _: None) -> Iterator[Row]:
    """Give what a dump says; `left_out` hears why, for each row that is not taken. Raises `BadOffers` where the file is no such dump."""
    with closing(_open(file)) as dump:
        _look(dump, file)
        reader = _Reader(dump, left_out)
        try:
            yield from reader.rows()
        except (sqlite3.Error, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise BadOffers(f"{file} cannot be read to its end ({type(error).__name__}: {error}); fetch the dump again") from error


class _Reader:
    def __init__(self, dump: sqlite3.Connection, left_out: Callable[[str], None]) -> None:
        self._dump, self._left_out = dump, left_out
        self._source = cache(lambda day: Source(NAME, URL, date.fromisoformat(day)))
        self._regions: dict[Place, str] = {}
        self._zones: dict[tuple[str, str, str], str] = {}
        self._offers: dict[Place, str] = {}
        self._storages: dict[Place, str] = {}

    def rows(self) -> Iterator[Row]:
        for row in self._all():
            try:
                check(row)
            except BadOffers as error:
                self._left_out(f"{type(row).__name__}: {str(error).partition(' is ')[0]} cannot be")
                continue
            yield row

    def _all(self) -> Iterator[Row]:
        for name, make in {
            "vendor": self._cloud, "vendor_compliance_link": self._certificate, "zone": self._zone, "region": self._region,
            "server": self._offer, "server_price": self._price, "storage": self._storage, "storage_price": self._storage_price,
            "traffic_price": self._egress,
        }.items():  # fmt: skip
            for row in self._dump.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - names of ours
                found = {_MEANT.get(column, column): row[column] for column in row.keys()}  # noqa: SIM118 - a row is no mapping
                if _word(found["status"]) not in ("active", "planned_for_retirement"):
                    self._left_out(f"{name}: not active")
                else:
                    yield from make(found, self._source(str(found["observed_at"])[:10]))

    def _cloud(self, found: Found, source: Source) -> Iterator[Row]:
        yield Cloud(found["vendor_id"], found["name"], source, homepage=found["homepage"] or "", country=found["country_id"])

    def _certificate(self, found: Found, source: Source) -> Iterator[Row]:
        name = str(found["compliance_framework_id"])
        yield Certificate(found["vendor_id"], _CERTIFICATES.get(name, name), source)

    def _zone(self, found: Found, _source: Source) -> Iterator[Row]:
        self._zones[found["vendor_id"], found["region_id"], found["zone_id"]] = found["api_reference"]
        return iter(())

    def _region(self, found: Found, source: Source) -> Iterator[Row]:
        cloud, number = found["vendor_id"], found["region_id"]
        self._regions[cloud, number] = found["api_reference"]
        yield Region(
            cloud, found["api_reference"], found["display_name"] or found["name"], source, country=found["country_id"], city=found["city"],
            longitude=found["lon"], latitude=found["lat"],
            zones=tuple(sorted(zone for place, zone in self._zones.items() if place[:2] == (cloud, number))),
        )  # fmt: skip

    def _offer(self, found: Found, source: Source) -> Iterator[Row]:
        self._offers[found["vendor_id"], found["server_id"]] = found["api_reference"]
        architecture = _word(found["cpu_architecture"])
        gpus = 0.0 if _word(found.get("accelerator_type")) == "tpu" else found["accelerator_count"]
        memory = found.get("accelerator_memory_min")
        yield Offer(
            found["vendor_id"], found["api_reference"], source,
            vcpus=found["vcpus"],
            memory_gib=found["memory_amount"] / 1024,
            architecture=_ARCHITECTURES.get(architecture, architecture),
            cpu_model=_joined(found, "cpu_manufacturer", "cpu_family", "cpu_model"),
            gpus=gpus,
            gpu_model=_joined(found, "accelerator_manufacturer", "accelerator_model") if gpus else None,
            gpu_memory_gib=memory / 1024 if gpus and memory else None,
            disk_gb=found["storage_size"],
            disk_kind=_word(found["storage_type"]).replace("_", " ") or None if found["storage_size"] else None,
            network_gbps=found.get("network_speed_baseline") or None,
        )  # fmt: skip

    def _price(self, found: Found, source: Source) -> Iterator[Row]:
        cloud = found["vendor_id"]
        offer, region = self._offers.get((cloud, found["server_id"])), self._regions.get((cloud, found["region_id"]))
        zone = self._zones.get((cloud, found["region_id"], found["zone_id"]))
        if offer is None or region is None or zone is None:
            return self._left_out("server_price: its machine, region or zone is not active")
        if _word(found["operating_system"]) != "linux":
            return self._left_out("server_price: not for Linux")
        if _word(found["unit"]) != "hour":
            return self._left_out("server_price: not by the hour")
        if not found["price"] > 0:
            return self._left_out("server_price: 0")
        allocation = Allocation(_word(found["allocation"]))
        yield Price(
            cloud, region, offer, allocation, found["price"], found["currency"], source, zone=zone, upfront=found["price_upfront"] or 0.0
        )

    def _storage(self, found: Found, _source: Source) -> Iterator[Row]:
        self._storages[found["vendor_id"], found["storage_id"]] = found["name"]
        return iter(())

    def _storage_price(self, found: Found, source: Source) -> Iterator[Row]:
        cloud, unit = found["vendor_id"], _GB_OF.get(_word(found["unit"]))
        region, name = self._regions.get((cloud, found["region_id"])), self._storages.get((cloud, found["storage_id"]))
        if region is None or name is None or unit is None or not found["price"] > 0:
            return self._left_out("storage_price: 0, of another unit, or of what is not active")
        yield StoragePrice(cloud, region, StorageKind.BLOCK, found["price"] / unit, found["currency"], source, name=name)

    def _egress(self, found: Found, source: Source) -> Iterator[Row]:
        cloud, unit = found["vendor_id"], _GB_OF.get(_word(found["unit"]))
        region = self._regions.get((cloud, found["region_id"]))
        if _word(found["direction"]) not in ("out", "outbound"):
            return
        tiers = _tiers(found, unit or 1.0)
        if region is None or unit is None or tiers is None:
            return self._left_out("traffic_price: of another unit, with gaps, or of what is not active")
        yield EgressPrice(cloud, region, tiers, found["currency"], source)


def _tiers(found: Found, unit: float) -> tuple[Tier, ...] | None:
    """Give the tiers of a price; None where they do not join, or have an end."""
    said = json.loads(found["price_tiered"] or "[]")
    if not said:
        return (Tier(None, found["price"] / unit),)
    tiers = sorted((float(each["lower"]), float(each["upper"]), float(each["price"])) for each in said)
    ends = [0.0, *(upper for _, upper, _ in tiers)]
    if any(abs(lower - end) > 1 for end, (lower, _, _) in zip(ends, tiers, strict=False)) or ends[-1] != float("inf"):
        return None
    return tuple(Tier(None if upper == float("inf") else upper * unit, price / unit) for _, upper, price in tiers)


def _word(said: object) -> str:
    """Give a member of an enumeration in one spelling: dumps hold its name, `GB_MONTH`, exports its value, `GB/month`."""
    return "" if said is None else str(said).lower().replace("/", "_").replace("-", "_").replace(" ", "_")


def _joined(found: Found, *names: str) -> str | None:
    return " ".join(str(found[name]).strip() for name in names if found.get(name)) or None


def _open(file: Path) -> sqlite3.Connection:
    try:
        dump = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise BadOffers(f"{file} cannot be opened ({error}); name a Spare Cores dump") from error
    dump.row_factory = sqlite3.Row
    return dump


def _look(dump: sqlite3.Connection, file: Path) -> None:
    for table, needed in _NEEDED.items():
        try:
            dump.execute("PRAGMA trusted_schema=OFF")
            columns = {_MEANT.get(row["name"], row["name"]) for row in dump.execute(f'PRAGMA table_info("{table}")')}
        except sqlite3.DatabaseError as error:
            raise BadOffers(f"{file} is no SQLite file ({error}); unpack it first, where it ends with .bz2 or .gz") from error
        if missing := sorted(needed - columns):
            raise BadOffers(
                f"{file} is no Spare Cores dump that can be read: its table {table} has no {', '.join(missing)}; "
                "give one of the versions 0.3 to 0.10 of sparecores-crawler"
            )
