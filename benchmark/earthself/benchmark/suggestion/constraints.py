"""What a need rules out: every offer is held against every constraint, and each exclusion says why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from earthself.benchmark.offers.model import Certificate, Offer
from earthself.benchmark.suggestion.estimate import SYSTEM_GIB, Candidate, Estimate, steps_at_once
from earthself.benchmark.suggestion.need import Need


@dataclass(frozen=True)
class Miss:
    """Why an offer is left out."""

    constraint: str
    """Name of the need's field."""
    reason: str
    gap: float = 1.0
    """How far it is from what is asked, as a share of it; 1 where that cannot be said."""


def before(need: Need, candidate: Candidate, certified: Sequence[Certificate], today: date) -> list[Miss]:
    """Hold an offer against what can be said without an estimate. `certified`: what is certified about its cloud."""
    return [
        *_where(need, candidate),
        *_certified(need, candidate, certified, today),
        *_machine(need, candidate.offer),
        *_fits(need, candidate.offer),
    ]


def after(need: Need, found: Estimate) -> list[Miss]:
    """Hold an estimate against deadline and budget; what is unknown cannot be shown to keep them."""
    misses = []
    limits = [
        ("deadline_hours", need.deadline_hours, found.hours, "h"),
        ("hours_per_month", need.hours_per_month, found.hours, "h"),
        ("budget_euros", need.budget_euros, found.euros, "EUR"),
    ]
    for name, limit, value, unit in limits:
        if limit is None or (name == "hours_per_month" and value.value is None):
            continue
        if value.value is None:
            misses.append(Miss(name, f"whether it keeps {limit:g} {unit} nobody knows: {value.note}"))
        elif value.value > limit:
            misses.append(Miss(name, f"takes {value.value:.4g} {unit}, more than {limit:g}", value.value / limit - 1))
    return misses


def _where(need: Need, candidate: Candidate) -> Iterator[Miss]:
    if need.clouds is not None and candidate.cloud not in need.clouds:
        yield Miss("clouds", f"{candidate.cloud} is not among the clouds asked for")
    if candidate.cloud in need.not_clouds:
        yield Miss("not_clouds", f"{candidate.cloud} is ruled out")
    if need.regions is not None and candidate.region not in need.regions:
        yield Miss("regions", f"region {candidate.region} is not among those asked for")
    if need.countries is not None and candidate.country not in need.countries:
        where = f"is in {candidate.country}" if candidate.country else "is in a country that nobody has written down"
        yield Miss("countries", f"region {candidate.region} {where}")
    if candidate.price.allocation.value not in need.allocations:
        yield Miss("allocations", f"this price is for {candidate.price.allocation.value}")


def _certified(need: Need, candidate: Candidate, certified: Sequence[Certificate], today: date) -> Iterator[Miss]:
    here = [one for one in certified if one.region in ("", candidate.region)]
    for name in need.certificates:
        found = [one for one in here if one.name == name]
        if not found:
            yield Miss("certificates", f"nobody has written down that it is certified for {name}")
        elif all(one.valid_until is not None and one.valid_until < today for one in found):
            yield Miss("certificates", f"its certificate {name} ended on {max(one.valid_until for one in found if one.valid_until)}")


def _machine(need: Need, offer: Offer) -> Iterator[Miss]:
    least = need.machine
    for name, asked, has, unit in (
        ("vcpus", least.vcpus, offer.vcpus, "vCPU"),
        ("memory_gib", least.memory_gib, offer.memory_gib, "GiB of memory"),
        ("gpus", least.gpus, offer.gpus, "GPUs"),
        ("gpu_memory_gib", least.gpu_memory_gib, offer.gpu_memory_gib, "GiB of memory on a GPU"),
        ("disk_gb", least.disk_gb, offer.disk_gb, "GB of disk"),
    ):
        if not asked:
            continue
        if has is None:
            yield Miss(f"machine.{name}", f"nobody says how many {unit} it has")
        elif has < asked:
            yield Miss(f"machine.{name}", f"has {has:g} {unit}, less than {asked:g}", 1 - has / asked)
    if least.architecture and offer.architecture != least.architecture:
        yield Miss("machine.architecture", f"its processors are {offer.architecture or 'of an architecture that nobody says'}")


def _fits(need: Need, offer: Offer) -> Iterator[Miss]:
    profile = need.profile
    if offer.vcpus is None or offer.memory_gib is None:
        yield Miss("profile", "nobody says how many cores and how much memory it has")
    elif not steps_at_once(profile, offer):
        asked = profile.memory_gib + SYSTEM_GIB
        reason = f"a step needs {profile.memory_gib:g} GiB beside {SYSTEM_GIB:g} for the system, it has {offer.memory_gib:g}"
        yield Miss("profile", reason, 1 - offer.memory_gib / asked)
