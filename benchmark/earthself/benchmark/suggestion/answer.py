"""The engine's answer: what is left of all offers, what each would take and cost, which is to be preferred, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from earthself.benchmark.suggestion.constraints import Miss
from earthself.benchmark.suggestion.estimate import Candidate, Estimate
from earthself.benchmark.suggestion.need import Need
from earthself.benchmark.suggestion.ranking import Criterion
from earthself.benchmark.suggestion.values import Value

LEAST_MEASURED = 0.5
"""Share of the deciding values that must be measured for an offer to be ranked."""


OPERATOR, EARNS_FROM = "EARTHSELF_OPERATOR", "EARTHSELF_OPERATOR_EARNS_FROM"
"""Variables: who runs this platform; ids of the clouds that it earns from, with commas, `none` where there is none."""


@dataclass(frozen=True)
class Operator:
    """Who runs the platform that answers, and what it earns from; an answer is only worth what its teller has to gain."""

    name: str
    """Empty: nobody has said so."""
    earns_from: Sequence[str] | None
    """Ids of clouds; None: nobody has said so."""


@dataclass(frozen=True)
class Choice:
    """One offer that is left."""

    candidate: Candidate
    estimate: Estimate
    price: Value
    """Of an hour."""
    carbon: Value
    """Of its electricity, g/kWh."""
    near: Value
    """Share of what is read that is kept in its region, 0 to 1."""
    front: bool = False
    """Whether no other is cheaper and not slower, or quicker and not dearer."""
    rank: int | None = None
    """1 is to be preferred; None: it is not ranked."""
    score: float | None = None
    """SPOTIS, 0 to 1; less is better."""
    unranked: Sequence[str] = ()
    """Why it is not ranked."""
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Weight:
    """How free a weight is."""

    criterion: Criterion
    low: float
    """Below this weight another offer wins."""
    high: float
    """Above this weight another offer wins."""


@dataclass(frozen=True)
class Excluded:
    """An offer that is left out."""

    candidate: Candidate
    misses: Sequence[Miss]


@dataclass(frozen=True)
class ToMeasure:
    """What would have to be known for more offers to be ranked."""

    what: str
    offers: int
    """How many offers lack it."""
    command: str
    """What makes it known, to be run on a machine of that offer, or by the operator."""


@dataclass(frozen=True)
class Answer:
    """The answer to a need."""

    need: Need
    today: date
    """The day it is of: prices age."""
    state: str
    """Names the state of the database; the same need on the same state and day has the same answer."""
    data_state: str
    """Names what is known of where data are kept."""
    operator: Operator
    choices: Sequence[Choice]
    """The ranked ones first, in their order; then the others, by their costs as far as these are known."""
    excluded: Sequence[Excluded]
    """Those that miss least first."""
    unpriced: int
    """Offers of which nobody says what they cost."""
    weights: Sequence[Weight]
    """Empty where there is no ranking."""
    no_ranking: str
    """Why there is no ranking; empty where there is one."""
    to_measure: Sequence[ToMeasure]

    @property
    def best(self) -> Choice | None:
        """The one that is to be preferred, where there is a ranking."""
        return self.choices[0] if self.choices and self.choices[0].rank == 1 else None

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many offers each constraint leaves out, the most first."""
        counts: dict[str, int] = {}
        for one in self.excluded:
            for name in {miss.constraint for miss in one.misses}:
                counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
