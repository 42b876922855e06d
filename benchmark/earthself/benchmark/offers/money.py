"""What amounts are in euros, by dated rates, and what tiered prices come to; what nobody knows raises, and is never one to one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from earthself.benchmark.errors import BadOffers, RateUnknown
from earthself.benchmark.offers.model import EgressPrice, Rate

OLD_RATE = timedelta(days=90)
"""A rate from before that may be some per cent off."""
OLD_PRICE = timedelta(days=180)
"""Nothing is ranked by a price from before that."""


@dataclass(frozen=True)
class Euros:
    """An amount in euros, and by which rate."""

    amount: float
    rate: Rate | None
    """None where the amount was in euros."""

    def old(self, today: date) -> bool:
        """Tell whether the rate is older than 90 days."""
        return self.rate is not None and today - self.rate.source.day > OLD_RATE


class Rates:
    """What currencies are worth."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        """Use these rates, one of each currency: `Offers.rates`."""
        self._rates = {rate.currency: rate for rate in rates}

    def euros(self, amount: float, currency: str) -> Euros:
        """Give an amount in euros; raises `RateUnknown`."""
        if currency == "EUR":
            return Euros(amount, None)
        if currency not in self._rates:
            raise RateUnknown(
                f"nobody says what a {currency} is worth in euros; read in the European Central Bank's rates: "
                "earthself-suggest offers load ecb eurofxref.csv"
            )
        rate = self._rates[currency]
        return Euros(amount * rate.euros, rate)


def egress(price: EgressPrice, gigabytes: float) -> float:
    """Give what so many gigabytes (10^9 bytes) cost that leave within a month, in the price's currency; each part at its tier's price."""
    if not 0 <= gigabytes < float("inf"):
        raise BadOffers(f"{gigabytes} gigabytes cannot leave a cloud; give 0 or more")
    cost = start = 0.0
    for tier in price.tiers:
        end = float("inf") if tier.up_to_gb is None else tier.up_to_gb
        cost += max(0.0, min(gigabytes, end) - start) * tier.amount
        start = end
    return cost
