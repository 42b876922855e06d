"""What a run will cost, said before it costs anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from earthself.operators.errors import BadRequest

if TYPE_CHECKING:
    from earthself.data.sources import Sources


@dataclass(frozen=True)
class Estimate:
    """What a request will probably take."""

    products: int
    """Products that match, copies included."""
    gigabytes: float
    """Decimal gigabytes that reading the products whole would move; windows of small areas take less."""
    cpu_minutes: float
    """Processor time of all steps."""
    minutes: float
    """Wall-clock time from trigger to result."""
    minutes_low: float
    """Lower end of an 80 % interval."""
    minutes_high: float
    """Upper end of an 80 % interval."""
    basis: str
    """What the figures rest on."""
    provider: str
    """Provider that answered."""
    warnings: tuple[str, ...]
    """Providers that failed before."""

    def to_dict(self) -> dict[str, Any]:
        """Plain types, fit for XCom and JSON."""
        return {**asdict(self), "warnings": list(self.warnings)}

    def __str__(self) -> str:
        span = f"{self.minutes:.1f} min ({self.minutes_low:.1f} to {self.minutes_high:.1f})"
        return f"{self.products} products, {self.gigabytes:.2f} GB at most, {self.cpu_minutes:.1f} CPU-min, about {span}; {self.basis}"


def estimate(conf: Mapping[str, Any], sources: Sources) -> Estimate:
    """Ask the provider for the number of products and weigh it with what earlier steps took; `conf` as `request.validated` gives it."""
    from earthself.operators.search import search_request

    count = sources.count(search_request(conf))
    seconds = 20 + 4.0 * count.products
    return Estimate(
        products=count.products,
        gigabytes=round(count.estimated_bytes / 1e9, 3),
        cpu_minutes=round(seconds / 60, 2),
        minutes=round(seconds / 60, 2),
        minutes_low=round(seconds / 180, 2),
        minutes_high=round(seconds / 20, 2),
        basis="no history yet: 4 s a product assumed",
        provider=count.provider,
        warnings=tuple(count.warnings),
    )


def refuse_too_many(found: Estimate, max_products: int) -> None:
    """Raise `BadRequest` with the number and the estimate when more products match than the request allows."""
    if found.products > max_products:
        raise BadRequest(
            f"{found.products} products match, more than max_products={max_products}. They would take: {found}. "
            "Raise max_products, or choose a smaller area, a shorter period or fewer clouds"
        )
