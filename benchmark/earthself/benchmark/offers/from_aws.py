"""What Amazon asks for its machines, from its own interfaces, by the credentials that this machine has: on demand, reserved, spot.

Sources: AWS Price List Query API (`GetProducts`, format `aws_v1`) for machines and prices, EC2 `DescribeSpotPriceHistory` for spot.
Taken are shared machines with Linux and nothing installed, in dollars; reservations of the standard class without a payment in advance.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

from earthself.benchmark.errors import BadOffers, CatalogueBroken
from earthself.benchmark.offers.model import Allocation, Cloud, Offer, Price, Row, Source

URL = "https://aws.amazon.com/ec2/pricing/"
_CLOUD, _CURRENCY = "aws", "USD"
_AT = "eu-central-1"
"""The price list is the same in all regions that serve it; this is one of them."""
_FILTERS = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used", "marketoption": "OnDemand"}
_MONTHS = {"1yr": 12, "3yr": 36}
_ARCHITECTURES = {"64-bit": "x86_64", "32-bit or 64-bit": "x86_64"}
_NUMBER = re.compile(r"[0-9][0-9,]*(\.[0-9]+)?")


def rows(regions: Sequence[str], left_out: Callable[[str], None] = lambda _: None) -> Iterator[Row]:
    """Give the machines and prices of some regions (`eu-central-1`); boto3 finds the credentials.

    `left_out` hears why, for each machine or price that is not taken. Raises `BadOffers` for a region without machines and for
    credentials that are missing or refused, `CatalogueBroken` where Amazon cannot be asked.
    """
    today = datetime.now(UTC).date()
    yield Cloud(_CLOUD, "Amazon Web Services", Source("AWS Price List", URL, today), homepage="https://aws.amazon.com/")
    seen: set[str] = set()
    for region in regions:
        number = 0
        for product in _products(region):
            offer = _offer(product["product"]["attributes"], today)
            if offer is None:
                left_out("no size is said")
                continue
            number += 1
            if offer.offer not in seen:
                seen.add(offer.offer)
                yield offer
            yield from _prices(region, offer.offer, product["terms"], today, left_out)
        if not number:
            raise BadOffers(f"Amazon sells no machines in {region!r}; regions are called like eu-central-1")
        yield from _spot(region, seen, today)


def _products(region: str) -> Iterator[Mapping[str, Any]]:
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in (_FILTERS | {"regionCode": region}).items()]
    with _asking() as client:
        pages = (
            client("pricing", _AT).get_paginator("get_products").paginate(ServiceCode="AmazonEC2", FormatVersion="aws_v1", Filters=filters)
        )
        for page in pages:
            yield from map(json.loads, page["PriceList"])


def _spot(region: str, known: set[str], today: date) -> Iterator[Row]:
    """The newest price of each machine in each zone."""
    source = Source("AWS spot price history", URL, today)
    newest: dict[tuple[str, str], tuple[datetime, float]] = {}
    with _asking() as client:
        pages = client("ec2", region).get_paginator("describe_spot_price_history")
        for page in pages.paginate(ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)):
            for one in page["SpotPriceHistory"]:
                key, found = (one["AvailabilityZone"], one["InstanceType"]), (one["Timestamp"], float(one["SpotPrice"]))
                newest[key] = max(newest.get(key, found), found)
    for (zone, offer), (_, amount) in sorted(newest.items()):
        if offer in known and amount > 0:
            yield Price(_CLOUD, region, offer, Allocation.SPOT, amount, _CURRENCY, source, zone=zone)


def _offer(said: Mapping[str, str], today: date) -> Offer | None:
    cores, memory = _number(said.get("vcpu")), _number(said.get("memory"))
    if not said.get("instanceType") or cores is None or memory is None:
        return None
    processor, disk = said.get("physicalProcessor") or None, said.get("storage", "")
    arm = "Graviton" in (processor or "") or "arm" in said.get("processorArchitecture", "").lower()
    network = said.get("networkPerformance", "")
    return Offer(
        _CLOUD,
        said["instanceType"],
        Source("AWS Price List", URL, today),
        vcpus=cores,
        memory_gib=memory,
        architecture="aarch64" if arm else _ARCHITECTURES.get(said.get("processorArchitecture", "")),
        cpu_model=processor,
        gpus=_number(said.get("gpu")) or 0.0,
        disk_kind=None if "EBS" in disk or not disk else "nvme ssd" if "NVMe" in disk else "ssd" if "SSD" in disk else "hdd",
        network_gbps=_number(network) if "Gigabit" in network else None,
    )


def _prices(region: str, offer: str, terms: Mapping[str, Any], today: date, left_out: Callable[[str], None]) -> Iterator[Price]:
    for kind, allocation in (("OnDemand", Allocation.ON_DEMAND), ("Reserved", Allocation.RESERVED)):
        for term in terms.get(kind, {}).values():
            said = term.get("termAttributes", {})
            months = _MONTHS.get(said.get("LeaseContractLength", ""))
            if allocation == Allocation.RESERVED and (
                months is None or said.get("OfferingClass") != "standard" or said.get("PurchaseOption") != "No Upfront"
            ):
                left_out("reservations with a payment in advance, or of another class")
                continue
            (hour,) = [one for one in term["priceDimensions"].values() if one["unit"] == "Hrs"] or [{}]
            amount = float(hour.get("pricePerUnit", {}).get(_CURRENCY, 0))
            if amount <= 0:
                left_out("no price by the hour in dollars")
                continue
            yield Price(_CLOUD, region, offer, allocation, amount, _CURRENCY, Source("AWS Price List", URL, today), term_months=months)


def _number(text: str | None) -> float | None:
    found = _NUMBER.search(text or "")
    return float(found[0].replace(",", "")) if found else None


@contextmanager
def _asking() -> Iterator[Callable[[str, str], Any]]:
    """Give what makes a client of a service in a region; what goes wrong with it is said as ours."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        session = boto3.Session()
        yield lambda service, region: session.client(service, region_name=region)
    except NoCredentialsError as error:
        raise BadOffers("nobody says who asks Amazon: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE") from error
    except ClientError as error:
        said = error.response.get("Error", {})
        text = f"Amazon answers {said.get('Code')}: {said.get('Message')}"
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) in (400, 401, 403):
            raise BadOffers(f"{text}; the credentials need pricing:GetProducts and ec2:DescribeSpotPriceHistory") from error
        raise CatalogueBroken(f"{text}; try again later") from error
    except BotoCoreError as error:
        raise CatalogueBroken(f"Amazon cannot be asked: {error}") from error
