"""An answer in plain sentences: the same ones on a terminal, in the report, and for programs that show them to people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import date

from earthself.benchmark.offers.model import Allocation
from earthself.benchmark.offers.money import OLD_PRICE
from earthself.benchmark.suggestion.answer import EARNS_FROM, OPERATOR, Answer, Choice, Excluded, Weight
from earthself.benchmark.suggestion.estimate import Candidate
from earthself.benchmark.suggestion.ranking import Criterion
from earthself.benchmark.suggestion.values import Badge, Value

_UNITS = {"h/month": "h", "EUR/month": "EUR"}
_COSTS = ("costs the same", "costs {} more", "costs {} less", "costs {} times as much")
_TAKES = ("takes as long", "takes {} longer", "takes {} less time", "takes {} times as long")
_SAID_IN_PER_CENT = 3.0
"""From so many times on, a ratio is said as one."""
_THIN = 0.05
"""A weight that can move by less leaves a lead that is worth a word."""
_NEAREST = 3


def said(answer: Answer) -> list[str]:
    """Give the answer: what to do first, then how sure that is, what is not known, and who says so."""
    return [headline(answer), *instead(answer), *support(answer), *not_known(answer), disclosure(answer)]


def headline(answer: Answer) -> str:
    """Say where to run it, or why that cannot be said."""
    best = answer.best
    if best is not None:
        return f"Run it on {machines(best)}: {both(best)} a month{_ends(best)}."
    if answer.choices:
        return f"There is no ranking: {plain(answer.no_ranking)}."
    if answer.excluded:
        return f"Nothing satisfies the need: {_many(len(answer.excluded), 'offer is', 'offers are')} left out."
    return "Nothing is known of any offer with a price; bring offers in with earthself-suggest offers load."


def instead(answer: Answer) -> list[str]:
    """Say what misses the need by least where nothing satisfies it, and what to measure first where there is no ranking."""
    if answer.choices:
        first = answer.to_measure[:1] if answer.no_ranking else ()
        return [f"To get one, begin with {plain(one.what)}: {plain(one.command)}" for one in first]
    nearest = [f"{name(one.candidate)} ({_reasons(one)})" for one in answer.excluded[:_NEAREST]]
    return [f"The nearest {'misses are' if len(nearest) > 1 else 'miss is'} {'; '.join(nearest)}."] if nearest else []


def support(answer: Answer) -> list[str]:
    """Say how the suggested one compares, and how sure it is that it is the best; empty where there is none."""
    best, ranked = answer.best, [one for one in answer.choices if one.rank is not None]
    if best is None or len(ranked) < 2:
        return []
    return [_rests_on(best), comparison(best, ranked[1]), _rivals(answer, ranked), freedom(answer)]


def comparison(best: Choice, other: Choice) -> str:
    """Say what another one costs and takes beside the suggested one."""
    costs = _ratio(other.estimate.euros, best.estimate.euros, _COSTS)
    takes = _ratio(other.estimate.hours, best.estimate.hours, _TAKES)
    return f"The next best, {machines(other)}, {costs} and {takes}."


def freedom(answer: Answer) -> str:
    """Say how far the weights can move before another one wins."""
    weights = answer.weights
    if len(weights) == 1:
        return f"Only {weights[0].criterion.name} counts."
    if all(one.low <= 0 and one.high >= 1 for one in weights):
        return "It stays the best whatever weight is given to " + _list([one.criterion.name for one in weights]) + "."
    each = _list([f"{one.criterion.name} {share(one.low)} to {share(one.high)} (now {share(one.criterion.weight)})" for one in weights])
    room = min(end for one in weights for end in _rooms(one))
    thin = f" The lead is thin: a weight moved by {max(0.01, room):.0%} makes another one win.".replace("%", " %") if room < _THIN else ""
    return f"It stays the best while the weights, one moved at a time, stay within {each}.{thin}"


def not_known(answer: Answer) -> list[str]:
    """Say what the answer does not know, or takes for granted."""
    found = []
    unranked = sum(one.rank is None for one in answer.choices)
    if unranked and not answer.no_ranking:
        left = _many(unranked, "offer that satisfies the need is", "offers that satisfy the need are")
        found.append(f"{left} not ranked: too little is known to say whether {'it is' if unranked == 1 else 'they are'} better.")
    if answer.unpriced:
        found.append(f"{_many(answer.unpriced, 'more offer is', 'more offers are')} left aside: nobody says what they cost.")
    ranked = [one for one in answer.choices if one.rank is not None]
    dark = sum(not one.carbon.known for one in ranked)
    if dark and "carbon" in answer.need.weights:
        found.append(
            f"Of {dark} of the {len(ranked)} ranked offers nobody says what their electricity stands for; that counts as the worst."
        )
    if answer.need.profile.read_gb and not answer.need.collections:
        found.append("The need names no collections; what it reads is taken to lie beside the machines.")
    if answer.need.profile.measured is None:
        found.append("What a tile asks of a machine was given with the need; it was not measured here.")
    if answer.need.weights_assumed:
        ours = _list([f"{one} {share(weight)}" for one, weight in answer.need.weights.items()])
        found.append(f"The need does not say what matters more; {ours} are our weights.")
    return found


def disclosure(answer: Answer) -> str:
    """Say who runs the platform that answers, and what it earns from."""
    operator, best = answer.operator, answer.best
    who = f"{plain(operator.name)} runs this platform" if operator.name else f"Nobody has said who runs this platform ({OPERATOR})"
    if operator.earns_from is None:
        return f"{who}{'; nobody has said' if operator.name else ', nor'} which clouds it earns from ({EARNS_FROM})."
    if not operator.earns_from:
        return f"{who}{' and' if operator.name else '; it'} earns from none of the clouds."
    too = ", the suggested one among them" if best is not None and best.candidate.cloud in operator.earns_from else ""
    return f"{who}{' and' if operator.name else '; it'} earns from {_list([plain(one) for one in operator.earns_from])}{too}."


def name(candidate: Candidate) -> str:
    """Name an offer at its place, and how it is paid for where that is not by the hour."""
    price = candidate.price
    zone = f", zone {plain(price.zone)}" if price.zone else ""
    term = f" for {price.term_months} months" if price.term_months else ""
    paid = "" if price.allocation == Allocation.ON_DEMAND else f" ({price.allocation.value}{term})"
    return f"{plain(candidate.offer.offer)} of {plain(candidate.cloud)} in {plain(candidate.region)}{zone}{paid}"


def machines(choice: Choice) -> str:
    """Name an offer with how many of it."""
    number = choice.estimate.machines
    return f"{number} x {name(choice.candidate)}" if number > 1 else name(choice.candidate)


def both(choice: Choice) -> str:
    """Give its hours and euros."""
    return f"{amount(choice.estimate.hours)} and {amount(choice.estimate.euros)}"


def amount(value: Value) -> str:
    """Give a value with its unit, by three digits: `18.4 EUR`; one without a unit is a share."""
    if value.value is None:
        return "unknown"
    return f"{figure(value.value)} {_UNITS.get(value.unit, value.unit)}" if value.unit else share(value.value)


def interval(value: Value) -> str:
    """Give the ends of its interval, by three digits; empty where nobody knows how sure it is, or it has no width."""
    low, high = value.low, value.high
    if value.value is None or low is None or high is None or figure(low) == figure(high):
        return ""
    return f"{figure(low)} to {figure(high)}"


def figure(value: float) -> str:
    """Give a number by its first three digits, thousands apart."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = 2 - math.floor(math.log10(abs(value)))
    text = f"{round(value, places):,.{max(0, places)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace(",", "\u202f")


def share(value: float) -> str:
    """Give a share as a percentage, by three digits."""
    return f"{figure(100 * value)} %"


def badge(value: Value, today: date) -> str:
    """Say what a value rests on: `measured (5 times, 2026-11-20)`, `price of 2025-01-01 (old)`."""
    if value.badge == Badge.MEASURED:
        known = [f"{value.count} times" if value.count else "", value.day.isoformat() if value.day else ""]
        return f"measured ({', '.join(filter(None, known))})" if any(known) else "measured"
    if value.badge == Badge.PRICE and value.day is not None:
        return f"price of {value.day}{' (old)' if today - value.day > OLD_PRICE else ''}"
    return value.badge.value


def plain(text: str) -> str:
    """Give a text of somebody else's without what a terminal would obey or a reader be deceived by."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _ends(choice: Choice) -> str:
    ends = [f"{between} {_UNITS[value.unit]}" for value in (choice.estimate.hours, choice.estimate.euros) if (between := interval(value))]
    return f" ({', '.join(ends)})" if ends else ""


def _ratio(other: Value, best: Value, texts: tuple[str, str, str, str]) -> str:
    same, more, less, times = texts
    ratio = (other.value or 0.0) / best.value if best.value else math.inf
    if abs(ratio - 1) < 0.005:
        return same
    if ratio >= _SAID_IN_PER_CENT:
        return times.format(figure(ratio))
    return (more if ratio > 1 else less).format(f"{abs(ratio - 1):.0%}".replace("%", " %"))


def _rests_on(best: Choice) -> str:
    """Say how much of the suggested one was measured, when for the last time at the least, and of when its price is."""
    deciding = best.estimate.deciding
    measured = [one for one in deciding.values() if one.badge == Badge.MEASURED]
    days = [one.day for one in measured if one.day is not None]
    since = f", {'on' if len(set(days)) == 1 else 'since'} {min(days)}" if days else ""
    whose = f" ({plain(best.price.note)})" if best.price.note else ""
    return f"Of what its hours rest on, {len(measured)} of {len(deciding)} were measured{since}; its price is of {best.price.day}{whose}."


def _rivals(answer: Answer, ranked: Sequence[Choice]) -> str:
    """Say how many may turn out to be better, where all figures lie at their most unlucky ends for the suggested one."""
    count = [one.criterion for one in answer.weights]
    worst = sum(max(ends) for ends in _distances(ranked[0], count))
    others = len(ranked) - 1
    number = sum(sum(min(ends) for ends in _distances(one, count)) <= worst for one in ranked[1:])
    if not number:
        return "It stays the best wherever the figures lie within their intervals."
    many = f"{number} of the {others} others ranked" if others > 1 else "the other one ranked"
    return f"Within the intervals of the figures, {many} may turn out to be better."


def _distances(choice: Choice, count: Sequence[Criterion]) -> Iterator[tuple[float, float]]:
    of = {"cost": choice.estimate.euros, "time": choice.estimate.hours, "carbon": choice.carbon, "data": choice.near}
    for one in count:
        ends = of[one.name].span() if of[one.name].known else (one.worst, one.worst)
        low, high = (one.weight * min(1.0, max(0.0, (end - one.best) / (one.worst - one.best))) for end in ends)
        yield low, high


def _rooms(one: Weight) -> Iterator[float]:
    """Say how far a weight is from each bound that it can pass."""
    if one.low > 0:
        yield one.criterion.weight - one.low
    if one.high < 1:
        yield one.high - one.criterion.weight


def _reasons(one: Excluded) -> str:
    return ", ".join(plain(miss.reason) for miss in one.misses)


def _many(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _list(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
