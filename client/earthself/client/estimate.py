"""What a request will probably cost, as the server says it before anything is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """What a request will probably take."""

    products: int
    """Products that match, copies included."""
    gigabytes: float
    """Decimal gigabytes at most: what the provider's sizes give for the area's share of the products."""
    cpu_minutes: float
    """Processor time of all steps."""
    minutes: float
    """Wall-clock time from trigger to result."""
    minutes_low: float
    """Lower end of the range that most runs fall into."""
    minutes_high: float
    """Upper end of the same."""
    basis: str
    """What the figures rest on."""
    provider: str
    """Provider that answered."""
    warnings: tuple[str, ...] = ()
    """What else a person should know."""
    gigabytes_needed: float | None = None
    """Decimal gigabytes of the bands and windows that are needed; None where the server does not say."""

    @classmethod
    def from_dict(cls, answer: Mapping[str, Any]) -> Estimate:
        """Read the server's answer; what a newer server adds is left out."""
        known = {name: answer[name] for name in cls.__dataclass_fields__ if name in answer}
        return cls(**{**known, "warnings": tuple(answer.get("warnings") or ())})

    def __str__(self) -> str:
        moved = f"at most {_size(self.gigabytes)} to read"
        if self.gigabytes_needed is not None:
            moved = f"about {_size(self.gigabytes_needed)} to read (at most {_size(self.gigabytes)})"
        count = "1 product" if self.products == 1 else f"{self.products} products"
        return (
            f"{count} from {self.provider}, {moved}, {self.cpu_minutes:.1f} CPU minutes, "
            f"about {self.minutes:.1f} minutes ({self.minutes_low:.1f} to {self.minutes_high:.1f})"
        )


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{max(1, 1000 * gigabytes):.0f} MB" if gigabytes else "nothing"
