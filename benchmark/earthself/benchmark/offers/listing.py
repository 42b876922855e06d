"""Machines beside their prices in euros, for people to look at: what nobody says is unknown, what is old says so."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from earthself.benchmark.errors import RateUnknown
from earthself.benchmark.offers.model import Allocation, Offer, Offers, Price
from earthself.benchmark.offers.money import OLD_PRICE, Euros, Rates


@dataclass(frozen=True)
class Wanted:
    """Which machines; one of which that is not known does not have it."""

    cloud: str | None = None
    region: str | None = None
    min_vcpus: float = 0
    min_memory: float = 0


@dataclass(frozen=True)
class Line:
    """A machine with one of its prices."""

    cloud: str
    name: str
    offer: Offer | None
    """None where only its price is known."""
    price: Price | None
    """None where no price is known."""
    euros: Euros | None
    """For an hour; None where there is no price, or nobody says what its currency is worth."""

    def to_record(self, today: date) -> dict[str, Any]:
        """Give it for programs: amounts for an hour, None for what is unknown."""
        price, offer = self.price, self.offer
        return {
            "cloud": self.cloud, "offer": self.name,
            "vcpus": offer and offer.vcpus, "memory_gib": offer and offer.memory_gib,
            "region": price and price.region, "zone": price and (price.zone or None), "allocation": price and price.allocation,
            "amount": price and price.amount, "currency": price and price.currency, "euros": self.euros and self.euros.amount,
            "term_months": price and price.term_months, "upfront": price and price.upfront,
            "rate_day": self.euros and self.euros.rate and self.euros.rate.source.day.isoformat(),
            "price_day": price and price.source.day.isoformat(), "source": price and price.source.name, "old": self.old(today),
        }  # fmt: skip

    def cells(self, today: date) -> list[str]:
        """Give it for a table."""
        vcpus, memory = (self.offer.vcpus, self.offer.memory_gib) if self.offer else (None, None)
        place = "/".join(filter(None, [self.price.region, self.price.zone])) if self.price else "unknown"
        euros = "unknown" if self.euros is None else f"{self.euros.amount:.4f}"
        return [self.cloud, self.name, place, _said(vcpus), _said(memory), euros, self._price(today)]

    def old(self, today: date) -> bool:
        """Tell whether its price is older than 180 days, no longer valid, or turned into euros by a rate that is older than 90."""
        if self.price is None:
            return False
        over = self.price.valid_until is not None and self.price.valid_until < today
        return over or today - self.price.source.day > OLD_PRICE or (self.euros is not None and self.euros.old(today))

    def _price(self, today: date) -> str:
        if self.price is None:
            return "unknown"
        told = f"price of {self.price.source.day}"
        if self.euros is None:
            told = f"{self.price.amount:.4f} {self.price.currency} without a rate, {told}"
        if self.price.allocation is not Allocation.ON_DEMAND:
            told = f"{self.price.allocation}, {told}"
        if self.price.term_months:
            told += f" for {self.price.term_months} months"
        if self.price.upfront:
            told += f", {self.price.upfront:g} {self.price.currency} at first"
        return f"{told} (old)" if self.old(today) else told


def lines(offers: Offers, wanted: Wanted) -> list[Line]:
    """Give machines with their prices on demand, the cheapest first, those without a price in euros last."""
    rates, known = Rates(offers.rates), {(offer.cloud, offer.offer): offer for offer in offers.offers}
    prices = defaultdict(list)
    for price in offers.prices:
        if price.allocation is Allocation.ON_DEMAND:
            prices[price.cloud, price.offer].append(price)
    found: list[Line] = []
    for key in sorted({*known, *prices}):
        if _fits(key[0], known.get(key), wanted):
            of_it: list[Price | None] = [each for each in prices[key] if wanted.region in (None, each.region)]
            none: list[Price | None] = [None] if not prices[key] and wanted.region is None else []
            found += [_line(*key, known.get(key), price, rates) for price in of_it + none]
    return sorted(found, key=lambda line: (line.price is None, line.euros is None, line.euros.amount if line.euros else 0.0))


def described(offers: Offers, cloud: str, name: str) -> tuple[dict[str, Any], list[Line]]:
    """Give what is known of one machine, and all its prices, by region."""
    rates = Rates(offers.rates)
    offer = next((each for each in offers.offers if (each.cloud, each.offer) == (cloud, name)), None)
    prices = [_line(cloud, name, offer, price, rates) for price in offers.prices if (price.cloud, price.offer) == (cloud, name)]
    if offer is None:
        return {}, prices
    known = {key: value for key, value in asdict(offer).items() if key != "source"}
    source = offer.source
    return known | {"source": source.name, "source_url": source.url or None, "source_day": source.day.isoformat()}, prices


def _fits(cloud: str, offer: Offer | None, wanted: Wanted) -> bool:
    if wanted.cloud not in (None, cloud):
        return False
    vcpus, memory = ((offer.vcpus or 0), (offer.memory_gib or 0)) if offer else (0, 0)
    return vcpus >= wanted.min_vcpus and memory >= wanted.min_memory


def _line(cloud: str, name: str, offer: Offer | None, price: Price | None, rates: Rates) -> Line:
    try:
        euros = None if price is None else rates.euros(price.amount, price.currency)
    except RateUnknown:
        euros = None
    return Line(cloud, name, offer, price, euros)


def _said(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"
