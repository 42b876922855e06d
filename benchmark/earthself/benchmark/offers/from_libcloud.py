"""The prices inside apache-libcloud (Apache-2.0), read as a file: importing the library costs half a second and a HTTP client.

Only what can be dated and is said to be dollars an hour is taken. Its scripts renew EC2's prices; the file's `updated` is the day of
those. Azure's have not changed since August 2020, which is the day they get. Left out: Google's, which are prices of a core and of a GiB,
without a table of what its machines have; and Outscale, Rackspace, CloudSigma, Gandi and the rest, typed in by hand before 2020, in
currencies that nothing names. The file has 0.0 where a machine is not sold, or its script found no price.
"""

from __future__ import annotations

import hashlib
import json
import runpy
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers.model import Allocation, Offer, Price, Row, Source

URL = "https://libcloud.apache.org/"
MOST_BYTES = 50_000_000
_CURRENCY = "USD"
"""As libcloud's page on pricing says; its scripts for EC2 and Azure read dollars an hour."""
_AZURE_SEEN = "39597d17c0c862f0dd1b23cdaf10a27b435d15b9b6731cf51d071e477babb058", date(2020, 8, 30)
"""Digest of the section of that day; one that differs was renewed."""
_LOW_PRIORITY = "lowpriority"


def rows(file: Path | None = None, left_out: Callable[[str], None] = lambda _: None) -> Iterator[Row]:
    """Give EC2's and Azure's machines with Linux, from the package or from a newer file of its kind (`libcloud.pricing` can fetch one).

    `left_out` hears why, for each price that is not taken. Raises `BadOffers` for a file that is not of that kind.
    """
    path = file or _package() / "data" / "pricing.json"
    prices, updated = _read(path)
    name = f"apache-libcloud {version('apache-libcloud')}" if file is None else f"apache-libcloud {path.name}"
    yield from _ec2(_section(prices, "ec2_linux", path), Source(name, URL, updated), left_out)
    azure = _section(prices, "azure_linux", path)
    yield from _azure(azure, Source(name, URL, _AZURE_SEEN[1] if _digest(azure) == _AZURE_SEEN[0] else updated), left_out)


def _ec2(section: Mapping[str, Mapping[str, float]], source: Source, left_out: Callable[[str], None]) -> Iterator[Row]:
    sizes = runpy.run_path(str(_package() / "compute" / "constants" / "ec2_instance_types.py"))["INSTANCE_TYPES"]
    for offer, regions in section.items():
        if "." not in offer:  # the price of a whole host, under the name of its family
            left_out("whole hosts")
            continue
        yield _size(offer, sizes.get(offer), source)
        for region, amount in _amounts(regions, left_out):
            yield Price("aws", region, offer, Allocation.ON_DEMAND, amount, _CURRENCY, source)


def _size(offer: str, size: Mapping[str, Any] | None, source: Source) -> Offer:
    if size is None:
        return Offer("aws", offer, source)
    extra = size["extra"]
    gpus = extra.get("gpu")
    processor = str(extra.get("physicalProcessor") or "")
    return Offer(
        "aws", offer, source,
        vcpus=float(extra["vcpu"]),
        memory_gib=size["ram"] / 1024,
        architecture="aarch64" if "Graviton" in processor else "x86_64" if processor.startswith(("Intel", "AMD", "High")) else None,
        cpu_model=processor or None,
        gpus=float(gpus) if gpus else None,
    )  # fmt: skip


def _azure(section: Mapping[str, Mapping[str, float]], source: Source, left_out: Callable[[str], None]) -> Iterator[Row]:
    for size, regions in section.items():
        spot = size.startswith(_LOW_PRIORITY)
        offer = size.replace(_LOW_PRIORITY, "standard", 1) if spot else size
        if not spot or offer not in section:
            yield Offer("azure", offer, source)
        for region, amount in _amounts(regions, left_out):
            yield Price("azure", region, offer, Allocation.SPOT if spot else Allocation.ON_DEMAND, amount, _CURRENCY, source)


def _amounts(regions: Mapping[str, Any], left_out: Callable[[str], None]) -> Iterator[tuple[str, float]]:
    for region, said in regions.items():
        try:
            amount = float(said)
        except (TypeError, ValueError):
            left_out("no number")
            continue
        if amount <= 0:
            left_out("no price known there (0.0)")
            continue
        yield region, amount


def _read(path: Path) -> tuple[Mapping[str, Any], date]:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise BadOffers(f"{path} has {size} bytes; the prices of libcloud have less than {MOST_BYTES}")
    try:
        found = json.loads(path.read_bytes())
        return found["compute"], datetime.fromtimestamp(found["updated"], UTC).date()
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise BadOffers(f"{path} is no pricing.json of apache-libcloud ({type(error).__name__}: {error})") from error


def _section(prices: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Mapping[str, float]]:
    found = prices.get(name) if isinstance(prices, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(regions, Mapping) for regions in found.values()):
        raise BadOffers(f"{path} has no {name} of machines and regions; give a pricing.json of apache-libcloud 3.2 or newer")
    return found


def _digest(section: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(section, sort_keys=True).encode()).hexdigest()


def _package() -> Path:
    spec = find_spec("libcloud")
    if spec is None or not spec.submodule_search_locations:
        raise BadOffers("apache-libcloud is not installed; get it with: pip install apache-libcloud")
    return Path(spec.submodule_search_locations[0])
