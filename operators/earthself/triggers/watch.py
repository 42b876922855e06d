"""What is watched: an area of a collection, how far back, how cloudy, and what its users were promised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earthself.data.area import Area

DEFAULT_COLLECTION = "S2_MSI_L2A"
DEFAULT_CLOUD_COVER = 60.0
DEFAULT_LOOKBACK_DAYS = 14.0
DEFAULT_EVERY_MINUTES = 15.0
DEFAULT_REPROCESSED_DAYS = 400.0
MOST_REPROCESSED_DAYS = 780.0
"""Less than how long sightings are kept."""


@dataclass(frozen=True)
class Goal:
    """How fresh an area is promised to be."""

    hours: float = 24.0
    """From acquisition to the stored signature."""
    share: float = 0.95
    """Of the acquisitions, 0 to 1."""


@dataclass(frozen=True)
class Watch:
    """One area that somebody waits for new products of."""

    name: str
    """What it is remembered under; it stays when the area or a limit changes."""
    area: Area
    """Products must touch it."""
    collection: str = DEFAULT_COLLECTION
    """EODAG collection id."""
    provider: str | None = None
    """EODAG provider, None for the connection's order with fallback."""
    max_cloud_cover: float | None = DEFAULT_CLOUD_COVER
    """Percent; None takes every product."""
    lookback: timedelta = timedelta(days=DEFAULT_LOOKBACK_DAYS)
    """How old an acquisition may be that is published now."""
    every: timedelta = timedelta(minutes=DEFAULT_EVERY_MINUTES)
    """How long after an answer the provider is asked again."""
    goal: Goal | None = None
    """What is measured against; None measures only."""
    reprocessed: timedelta = timedelta(days=DEFAULT_REPROCESSED_DAYS)
    """How old an acquisition may be whose reprocessing is looked for, where it was taken before."""


def published_at(item: dict[str, Any]) -> Any:  # noqa: ANN401 - datetime or None; the import below is why
    """When a catalogue says that it listed a product, None where it does not say."""
    from earthself.data.dates import parse_instant
    from earthself.data.errors import BadInput

    for key in ("published", "created"):
        if value := item["properties"].get(key):
            try:
                return parse_instant(value)
            except BadInput:
                continue
    return None
