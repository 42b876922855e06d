"""The rounds of the loop: who is due, how long to stay away from a provider that fails, and what is told only once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from earthself.data.errors import EarthSelfError
from earthself.triggers.watch import Watch

if TYPE_CHECKING:
    from earthself.data.sources import Sources
    from earthself.triggers.new_products import EODAGNewProductsTrigger

_log = logging.getLogger(__name__)
FIRST_BACKOFF = timedelta(minutes=1)
"""How long to stay away after the first failure; doubled with each further one."""
LONGEST_BACKOFF = timedelta(hours=1)
SPACING = 2.0
"""Seconds between two questions, whoever is asked."""
TELL_AGAIN = timedelta(minutes=5)
"""When an event is told again that Airflow has not confirmed."""
CHECK_EVERY = timedelta(minutes=15)
"""How often freshness is measured."""
_MOST_TOLD = 100
"""Products that one event names; the others are counted."""


class Rounds:
    """State of one loop between its rounds. Used by one thread at a time."""

    def __init__(
        self,
        eodag_conn_id: str,
        clock: Callable[[], datetime],
        sources: Callable[[], Sources] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`sources` opens the door to the providers; by default the connection's."""
        self.pause = 5.0
        self._clock, self._sleep = clock, sleep
        self._conn_id = eodag_conn_id
        self._open = sources or self._of_connection
        self._due: dict[str, datetime] = {}
        self._failures: dict[str, int] = {}
        self._known: dict[str, Watch] = {}
        self._told: dict[str, tuple[frozenset[str], datetime]] = {}
        self._complaint = ""
        self._next_check = clock()
        self._looked_back: dict[str, datetime] = {}
        self._unsent: list[tuple[str, str]] = []

    def go(self, triggers: Sequence[EODAGNewProductsTrigger]) -> list[dict[str, Any]]:
        """Look for every watch that is due and give the events to tell; whatever goes wrong is said in the log and tried again."""
        from earthself.triggers.memory import Memory

        try:
            with Memory() as memory:
                watches = self._watches(triggers)
                self._take_over(watches, memory)
                self._look([watch for name, watch in watches.items() if self._due.get(name, self._clock()) <= self._clock()], memory)
                self._look_back(memory)
                events = self._events(memory.unannounced(watches, self._clock())) if watches else []
                self._check(memory, triggers)
        except EarthSelfError as error:
            self._complain(str(error))
            return []
        except Exception as error:  # noqa: BLE001 - a loop that ends is a watch whose silence nobody notices
            self._complain(f"this round failed, the next one follows: {type(error).__name__}: {error}", error)
            return []
        return events

    def announced(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Keep that Airflow has these events; what cannot be kept is told again, since raising would end the loop of all watches."""
        from earthself.triggers.memory import Memory

        try:
            with Memory() as memory:
                for event in events:
                    name = str(event["watch"])
                    told, _ = self._told.pop(name, (frozenset(event["products"]), None))
                    memory.announced(name, told, self._clock())
        except EarthSelfError as error:
            self._complain(str(error))

    def end(self) -> None:
        """Keep that nothing of this loop is watched any more."""
        from earthself.triggers.memory import Memory

        try:
            with Memory() as memory:
                memory.end(set(self._known), self._clock())
        except EarthSelfError as error:
            self._complain(str(error))

    def _of_connection(self) -> Sources:
        from earthself.hooks.eodag import EodagHook

        return EodagHook(self._conn_id).sources()

    def _watches(self, triggers: Sequence[EODAGNewProductsTrigger]) -> dict[str, Watch]:
        watches: dict[str, Watch] = {}
        complaints = []
        for trigger in triggers:
            try:
                found = trigger.watches()
            except EarthSelfError as error:
                complaints.append(str(error))
                # What it watched before goes on: a slip in the settings must not cost products.
                found = [watch for name, watch in self._known.items() if trigger.is_mine(name)]
            twice = [watch.name for watch in found if watches.setdefault(watch.name, watch) != watch]
            complaints += [
                f"two different watches are called {name}, only one of them counts; give each a name of its own" for name in twice
            ]
        self._complain("; ".join(complaints))
        return watches

    def _take_over(self, watches: dict[str, Watch], memory: Any) -> None:  # noqa: ANN401 - Memory, imported late
        """Watch these from now on; what is new or has changed is due at once."""
        from earthself.triggers.freshness import end_alerts

        now = self._clock()
        if gone := set(self._known) - set(watches):
            memory.end(gone, now)
            end_alerts(memory, gone, now)
        for name, watch in watches.items():
            if self._known.get(name) != watch:
                memory.watch(watch, now)
                self._due[name] = now
        self._known = watches

    def _look(self, due: Sequence[Watch], memory: Any) -> None:  # noqa: ANN401 - Memory, imported late
        from earthself.triggers.looking import look, questions

        if not due:
            return
        try:
            opened = self._open()
        except EarthSelfError as error:
            memory.asked([watch.name for watch in due], "the connection", self._clock(), well=False, said=str(error))
            self._plan(due, f"the connection {self._conn_id}", str(error))
            return
        with opened as sources:
            for number, together in enumerate(questions(due)):
                if number:
                    self._sleep(SPACING)
                done = look(together, sources, memory, self._clock())
                self._plan(together, done.provider, done.error)
                for warning in done.warnings:
                    _log.warning(warning)
                if done.news:
                    names = ", ".join(watch.name for watch in together)
                    _log.info("%s lists %d new products for %s", done.provider, done.news, names)

    def _look_back(self, memory: Any) -> None:  # noqa: ANN401 - Memory, imported late
        """Look through a part of the past for reprocessings, for those whose provider answers."""
        from earthself.triggers.looking import BACK_EVERY, look_back, past, questions

        now = self._clock()
        due: dict[tuple[timedelta, timedelta], list[Watch]] = {}
        for name, watch in self._known.items():
            period = past(watch, now)
            if period is None or name in self._failures or now - self._looked_back.get(name, now - BACK_EVERY) < BACK_EVERY:
                continue
            self._looked_back[name] = now
            if memory.stored_of(name, period):
                due.setdefault((watch.lookback, watch.reprocessed), []).append(watch)
        if not due:
            return
        with self._open() as sources:
            for together in (question for alike in due.values() for question in questions(alike)):
                self._sleep(SPACING)
                done = look_back(together, sources, memory, now)
                names = ", ".join(watch.name for watch in together)
                if done.error:
                    _log.warning("%s could not be asked for reprocessings for %s: %s", done.provider, names, done.error)
                elif done.news:
                    _log.info("%s lists %d reprocessed products for %s", done.provider, done.news, names)

    def _plan(self, watches: Sequence[Watch], provider: str, error: str) -> None:
        """Choose when these are due again."""
        now = self._clock()
        for watch in watches:
            if not error:
                if self._failures.pop(watch.name, 0):
                    _log.info("%s answers again for %s", provider, watch.name)
                self._due[watch.name] = now + watch.every
                continue
            count = self._failures[watch.name] = self._failures.get(watch.name, 0) + 1
            wait = min(FIRST_BACKOFF * 2 ** min(count - 1, 10), LONGEST_BACKOFF)
            self._due[watch.name] = now + wait
            _log.warning("%s gave no answer for %s (%d times in a row), asked again in %s: %s", provider, watch.name, count, wait, error)

    def _check(self, memory: Any, triggers: Sequence[EODAGNewProductsTrigger]) -> None:  # noqa: ANN401 - Memory, imported late
        """Hold the areas against what was promised, now and then."""
        from earthself.triggers.freshness import check

        if not self._known or self._clock() < self._next_check:
            return
        self._next_check = self._clock() + CHECK_EVERY
        try:
            for name, sentence in check(memory, self._clock(), self._known):
                _log.warning(sentence)
                self._unsent.append((name, sentence))
            memory.forget(self._clock())
        except EarthSelfError as error:
            self._complain(f"freshness could not be measured: {error}")  # events go on all the same
        self._notify(triggers)

    def _notify(self, triggers: Sequence[EODAGNewProductsTrigger]) -> None:
        """Carry alerts to whom the settings name; what is not taken is tried again with the next check."""
        from earthself.triggers.notices import send

        unsent, self._unsent = self._unsent[-_MOST_TOLD:], []
        for name, sentence in unsent:
            try:
                to = next((trigger.notify() for trigger in triggers if trigger.is_mine(name)), None)
                if to is not None:
                    send(to, sentence, name)
            except EarthSelfError as error:
                _log.error(str(error))
                self._unsent.append((name, sentence))

    def _events(self, waiting: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
        now = self._clock()
        events = []
        for name, rows in waiting.items():
            products = frozenset(str(row.product) for row in rows)
            told, when = self._told.get(name, (frozenset(), now))
            if products <= told and now - when < TELL_AGAIN:
                continue
            self._told[name] = (products, now)
            named = [str(row.product) for row in rows][:_MOST_TOLD]
            events.append({"watch": name, "products": named, "count": len(products)})
        return events

    def _complain(self, complaint: str, error: Exception | None = None) -> None:
        """Log a trouble when it begins, not in every round."""
        if complaint and complaint != self._complaint:
            _log.error(complaint, exc_info=error)
        self._complaint = complaint
