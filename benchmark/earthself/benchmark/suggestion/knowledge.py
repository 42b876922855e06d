"""All that an answer rests on, read once for each state of the database and kept in memory until that changes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from earthself.benchmark.offers.catalogue import Catalogue
from earthself.benchmark.offers.model import Carbon, Certificate, EgressPrice, Offer, Offers, Price, Region, StorageKind, StoragePrice
from earthself.benchmark.offers.money import Rates
from earthself.benchmark.suggestion.performance import Performance
from earthself.benchmark.summaries import Measured, state
from earthself.benchmark.tables import Samples
from earthself.data.database import database_url as default_url

_KEPT: dict[str, tuple[tuple[str, str], Knowledge]] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Knowledge:
    """What is known of clouds."""

    offers: Offers
    measured: Sequence[Measured]
    revision: str
    """Of the catalogue."""

    @cached_property
    def state(self) -> str:
        """Name this state of the database: the same content has the same name."""
        return hashlib.sha256(f"{self.revision}:{state(self.measured)}".encode()).hexdigest()[:12]

    @cached_property
    def performance(self) -> Performance:
        """What machines can do."""
        return Performance(self.measured)

    @cached_property
    def rates(self) -> Rates:
        """What currencies are worth."""
        return Rates(self.offers.rates)

    @cached_property
    def regions(self) -> Mapping[tuple[str, str], Region]:
        """By cloud and region."""
        return {(one.cloud, one.region): one for one in self.offers.regions}

    @cached_property
    def certificates(self) -> Mapping[str, list[Certificate]]:
        """By cloud."""
        found: dict[str, list[Certificate]] = {}
        for one in self.offers.certificates:
            found.setdefault(one.cloud, []).append(one)
        return found

    @cached_property
    def storage(self) -> Mapping[tuple[str, str], StoragePrice]:
        """The cheapest object storage, by cloud and region."""
        kept = [one for one in self.offers.storage_prices if one.kind == StorageKind.OBJECT]
        return {(one.cloud, one.region): one for one in sorted(kept, key=lambda one: (-one.amount, one.name))}

    @cached_property
    def egress(self) -> Mapping[tuple[str, str], EgressPrice]:
        """By cloud and region."""
        return {(one.cloud, one.region): one for one in self.offers.egress_prices}

    @cached_property
    def priced(self) -> Sequence[tuple[Offer, Price]]:
        """Every price with its offer; one of an offer that nobody describes says nothing."""
        known = {(one.cloud, one.offer): one for one in self.offers.offers}
        return [(known[price.cloud, price.offer], price) for price in self.offers.prices if (price.cloud, price.offer) in known]

    @cached_property
    def unpriced(self) -> Sequence[Offer]:
        """Offers whose price nobody says."""
        priced = {(one.cloud, one.offer) for one in self.offers.prices}
        return [one for one in self.offers.offers if (one.cloud, one.offer) not in priced]

    def carbon(self, cloud: str, region: str, country: str | None) -> Carbon | None:
        """Give what its electricity stands for: of the region, else of its country's grid."""
        return self._carbon.get((cloud, region, "")) or (self._carbon.get(("", "", country)) if country else None)

    @cached_property
    def _carbon(self) -> Mapping[tuple[str, str, str], Carbon]:
        return {(one.cloud, one.region, "" if one.region else one.country): one for one in self.offers.carbon}


def knowledge(database_url: str | None = None) -> Knowledge:
    """Read what is known, or give what was read before where nothing has changed; raises `SamplesBroken`."""
    with Samples(database_url) as samples, Catalogue(database_url) as catalogue:
        now = (str(samples.revision()), catalogue.revision())
        key = database_url or default_url()
        with _LOCK:
            if key in _KEPT and _KEPT[key][0] == now:
                return _KEPT[key][1]
            counts = catalogue.state()
            found = Knowledge(counts.offers, samples.measured(), counts.revision)
            _KEPT.clear()  # one database is asked at a time
            _KEPT[key] = ((now[0], counts.revision), found)
            return found
