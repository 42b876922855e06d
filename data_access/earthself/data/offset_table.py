"""The dated table of what providers do with the radiometric offset of Sentinel-2, as far as it is known and where that is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from earthself.data.observation import baseline_of, made_of, observed_at

OFFSET = -1000
"""What ESA's products since baseline 04.00 ask to add to a digital number."""
FIRST_WITH_OFFSET = "N0400"
"""The first processing baseline whose products carry it."""
PRIVATE = "N9999"
"""What products made outside the ground segment carry for a baseline."""
CHANGE = datetime(2022, 1, 25, tzinfo=UTC)
"""When that baseline came into force."""


@dataclass(frozen=True)
class Rule:
    """One row of the table: what a provider does with the offset in a collection. Empty conditions hold for everything."""

    value: int | None
    """The offset that files carry; None where the provider's files are of both kinds."""
    source: str
    """Where this is said, and when it was said."""
    providers: tuple[str, ...] = ()
    """EODAG provider names."""
    collections: tuple[str, ...] = ()
    """EODAG collection ids."""
    baselines: tuple[str, str] | None = None
    """First and last processing baseline, such as N0400 and N9998."""
    acquired_from: datetime | None = None
    """First instant of acquisition."""
    acquired_before: datetime | None = None
    """First instant after."""
    made_before: datetime | None = None
    """First instant of processing after."""
    binding: bool = True
    """Whether a product that states something else is an error; otherwise the row only speaks where the product is silent."""


RULES: tuple[Rule, ...] = (
    Rule(
        None,
        "Earth Search subtracts it from COGs made since 2022-02-27, not from all older ones, and flags some wrongly; "
        "cirrus-geo/cirrus-earth-search issues 21 and 33, 2022-02-27 and 2023-02-15; Element84/earth-search issues 9, 66 and 71, "
        "2023-08-03 to 2025-10-09",
        providers=("earth_search", "earth_search_gcs"),
        collections=("S2_MSI_L2A", "S2_MSI_L2A_COG"),
        baselines=("N0400", "N9998"),
    ),
    Rule(
        0,
        "Sen2Cor keeps the encoding of its input, which had no offset before 2022-01-25; Sen2Cor team, forum.step.esa.int, topic 42828",
        baselines=(PRIVATE, PRIVATE),
        acquired_before=CHANGE,
        binding=False,
    ),
    Rule(
        OFFSET,
        "Sen2Cor keeps the encoding of its input, which has the offset since 2022-01-25; Sen2Cor team, forum.step.esa.int, topic 42828",
        baselines=(PRIVATE, PRIVATE),
        binding=False,
    ),
    Rule(
        OFFSET,
        "processing baselines from 04.00 on carry it, reprocessed older scenes included; ESA, SentiWiki S2 Products, since 2022-01-25",
        baselines=("N0400", "N9998"),
    ),
    Rule(0, "processing baselines before 04.00 carry none; ESA, SentiWiki S2 Products, until 2022-01-25", baselines=("N0000", "N0399")),
    Rule(OFFSET, "it was acquired after processing baseline 04.00 came into force; ESA, 2022-01-25", acquired_from=CHANGE, binding=False),
    Rule(0, "it was made before processing baseline 04.00 came into force; ESA, 2022-01-25", made_before=CHANGE, binding=False),
)
"""The dated table; the first row that fits speaks."""


def rule_of(item: Mapping[str, Any]) -> Rule | None:
    """The row that fits an item; None where the table does not know it."""
    properties = item.get("properties") or {}
    provider, collection = properties.get("earthself:provider"), properties.get("earthself:collection")
    baseline, acquired, made = baseline_of(item), observed_at(item), made_of(item)
    for rule in RULES:
        if rule.providers and provider not in rule.providers:
            continue
        if rule.collections and collection not in rule.collections:
            continue
        if rule.baselines and not (baseline and rule.baselines[0] <= baseline <= rule.baselines[1]):
            continue
        if rule.baselines is None and baseline is not None:
            continue
        if rule.acquired_from and not (acquired and acquired >= rule.acquired_from):
            continue
        if rule.acquired_before and not (acquired and acquired < rule.acquired_before):
            continue
        if rule.made_before and not (made and made < rule.made_before):
            continue
        return rule
    return None
