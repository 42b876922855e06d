"""What a provider's catalogue does for who searches it, what of its products is online, and how long it takes to stage the others.

It is asked as steps and operators ask it, by `earthself.data`; requests are not repeated, so that what fails is counted and not hidden.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from earthself.benchmark.errors import ProbeFailed, TooSlow
from earthself.benchmark.probing import Measure, Probe, Setting, data_errors, labels_of
from earthself.data.area import Area
from earthself.data.broker import Resting
from earthself.data.catalogue import Catalogue
from earthself.data.errors import CredentialsRefused, DataError, TryAgain
from earthself.data.finding import Finder, online
from earthself.data.query import SearchRequest, SourceConfig
from earthself.data.retries import RetryPolicy
from earthself.data.sources import Sources

_SEARCHES = 20
_LONGEST = 300.0
"""Seconds after which no further search begins."""
_MOST = 1000
"""Products that are looked at to see how many are online."""
_OFTEN, _SELDOM = 1.0, 60.0
"""An order is asked about after this many seconds, and later after a twentieth of what it has taken, up to the second."""
_ASKS = ("provider", "area", "period")


def _request(setting: Setting) -> SearchRequest:
    """What is wanted; raises `ProbeFailed` where that is not said, or not in a way that can be read."""
    if not (setting.provider and setting.area and setting.period):
        options = "--provider NAME --area WEST,SOUTH,EAST,NORTH --period FIRST/LAST"
        raise ProbeFailed(f"nobody says whose products are wanted, where and when; name them: {options}")
    start, _, end = setting.period.partition("/")
    try:
        corners = [float(corner) for corner in setting.area.split(",")]
    except ValueError as error:
        raise ProbeFailed(f"the area {setting.area[:80]!r} is not west,south,east,north in degrees") from error
    with data_errors():
        return SearchRequest(Area.from_conf(corners), start, end, setting.collection, setting.provider, None)  # type: ignore[arg-type]


@contextmanager
def _finder(request: SearchRequest) -> Iterator[Finder]:
    """Give what searches, set up: loading EODAG takes a second that is none of the provider's."""
    with data_errors():
        config = SourceConfig.from_env()
        catalogue = Catalogue(config, RetryPolicy(attempts=1), config.shared.open())
        if not catalogue.offers(str(request.provider), request.collection):
            raise ProbeFailed(f"{request.provider} does not offer {request.collection}; name another provider or collection")
        yield Finder(config, catalogue)


def _search(draw: random.Random, setting: Setting) -> Mapping[str, float]:
    request = _request(setting)
    took: list[float] = []
    found = failed = 0
    why: DataError | None = None
    with _finder(request) as finder:
        until = time.perf_counter() + _LONGEST
        for number in range(_SEARCHES):
            begun = time.perf_counter()
            if begun > until:
                raise TooSlow(f"{request.provider} ended only {number} of {_SEARCHES} searches within {_LONGEST:g} s")
            try:
                found += len(finder.search(_part(request, draw)).items)
                took.append(1000 * (time.perf_counter() - begun))
            except (CredentialsRefused, Resting):
                raise  # no other search would be answered either
            except DataError as error:
                failed, why = failed + 1, error
    if not took:
        raise ProbeFailed(f"all {failed} searches failed: {why}")
    if not found:
        raise ProbeFailed(f"no search found anything; name an area and a period in which {request.provider} has {request.collection}")
    p50, p95 = np.percentile(took, [50, 95])
    return {"p50": float(p50), "p95": float(p95), "found": found / len(took), "failed_searches": 100 * failed / _SEARCHES}


def _part(request: SearchRequest, draw: random.Random) -> SearchRequest:
    """Give any fifth of the period: what was searched just now might be answered from a memory."""
    length = (request.end - request.start) / 5
    start = request.start + draw.random() * 4 * length
    return replace(request, start=start, end=start + length)


def _online(setting: Setting) -> Mapping[str, float]:
    request = replace(_request(setting), limit=_MOST)
    with _finder(request) as finder:
        items = finder.search(request).items
    if not items:
        raise ProbeFailed(f"{request.provider} has no {request.collection} there and then; name another area or period")
    return {"online": 100 * sum(map(online, items)) / len(items), "products": len(items)}


class Orders:
    """Orders products that are offline, each only once, and waits until they are there."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        """Nothing is ordered yet."""
        self._clock, self._sleep = clock, sleep
        self._ordered: set[tuple[str, str]] = set()

    def once(self, setting: Setting) -> Mapping[str, float]:
        """Order the newest product that is offline; seconds until it was online."""
        request = replace(_request(setting), limit=_MOST)
        if not setting.order_minutes:
            raise ProbeFailed("nothing is ordered unless it is asked for; say how long an order may take: --order MINUTES")
        with _finder(request) as finder:
            items = finder.search(request).items
        item = next((item for item in items if not online(item) and self._new(item)), None)
        if item is None:
            raise ProbeFailed(f"none of {len(items)} products of {request.provider} is offline and not ordered yet; name others")
        self._ordered.add((str(request.provider), str(item["id"])))
        with data_errors(), Sources(retries=RetryPolicy(attempts=1)) as sources:
            return {"delay": self._wait(sources, item, 60 * setting.order_minutes)}

    def _new(self, item: Mapping[str, Any]) -> bool:
        return (str(item["properties"]["earthself:provider"]), str(item["id"])) not in self._ordered

    def _wait(self, sources: Sources, item: Mapping[str, Any], longest: float) -> float:
        begun = self._clock()
        staging = sources.stage(item)
        while not staging.online:
            waited = self._clock() - begun
            if waited >= longest:
                raise TooSlow(f"{item['id']} was not online {longest / 60:g} minutes after it was ordered; its order stays")
            self._sleep(min(longest - waited, max(_OFTEN, min(_SELDOM, waited / 20))))
            with suppress(TryAgain):  # that a question fails says nothing of the order
                staging = sources.stage(item)
        return self._clock() - begun


_WANTED = labels_of("provider", "collection", "area", "period")
PROBES = [
    Probe(
        "catalogue_search",
        f"{_SEARCHES} searches of a provider's catalogue, each for any fifth of the period",
        [
            Measure("p50", "ms", "lower"),
            Measure("p95", "ms", "lower"),
            Measure("found", "products/search", "higher"),
            Measure("failed_searches", "%", "lower"),
        ],
        partial(_search, random.Random()),  # noqa: S311 - parts of a period
        _WANTED,
        asks=_ASKS,
    ),
    Probe(
        "products_online",
        f"share of the products, the newest {_MOST} at most, that its catalogue does not call offline",
        [Measure("online", "%", "higher"), Measure("products", "products", "higher")],
        _online,
        _WANTED,
        asks=_ASKS,
    ),
    Probe(
        "staging",
        "the newest offline product, ordered (another one by each repeat), until it is online",
        [Measure("delay", "s", "lower")],
        Orders().once,
        _WANTED,
        asks=[*_ASKS, "order_minutes"],
    ),
]
