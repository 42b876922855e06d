"""A database that knows the same machine in two regions of a cloud, for tests of what asks the engine today."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from earthself.benchmark.offers.catalogue import Catalogue
from earthself.benchmark.offers.model import EgressPrice, Region, Source, StorageKind, StoragePrice, Tier
from earthself.benchmark.tables import Samples

from tests.benchmark.clouds import SOURCE, offers, price, samples


def keep(url: str | None = None, measured: tuple[str, ...] = ("n1", "n2")) -> None:
    """Put it in; it is cheaper in n1 than in n2, and with both measured it is ranked in both."""
    today = datetime.now(UTC).date()
    regions = ("n1", "n2")
    known = offers(
        regions=tuple(Region("north", one, f"North {one}", SOURCE, country="SE") for one in regions),
        prices=(price(), price(0.5, region="n2")),
        storage_prices=tuple(StoragePrice("north", one, StorageKind.OBJECT, 0.02, "EUR", SOURCE) for one in regions),
        egress_prices=tuple(EgressPrice("north", one, (Tier(None, 0.05),), "EUR", SOURCE) for one in regions),
    )
    source = Source("a table", "https://example.org/prices", today)
    with Catalogue(url) as catalogue:
        catalogue.add([replace(row, source=source) for part in vars(known).values() for row in part])
    with Samples(url) as kept:
        kept.add([sample for region in measured for sample in samples(region=region, day=today)])
