"""Makes environments and takes them away by any engine: each step is safe to do twice, and to go on with after whoever died."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from earthself.provision.engine import Provisioner
from earthself.provision.errors import EngineBusy, EngineFailed, ProvisionError, TakenAway
from earthself.provision.journal import Journal
from earthself.provision.model import Observed, Order, Plan, Stage, Status, Written

_PAUSE = 5.0


@dataclass(frozen=True)
class Patience:
    """How long is waited, and how."""

    seconds: float = 3600.0
    """The most that one resource may take."""
    pause: float = _PAUSE
    """Seconds between two looks."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


class Builder:
    """Brings what stands to what was planned, or to nothing."""

    def __init__(
        self, engine: Provisioner, journal: Journal, patience: Patience = Patience(), note: Callable[[str], None] = lambda _: None
    ) -> None:
        """`note` hears in words for people what is made and taken away."""
        self._engine, self._journal, self._patience, self._note = engine, journal, patience, note

    def begin(self, plan: Plan) -> Sequence[Written]:
        """Write the plan down; gives its resources, which `make` makes one after the other."""
        self._journal.open(plan)
        return self._journal.resources(plan.order.request)

    def apply(self, plan: Plan) -> None:
        """Make an environment, or go on with one; where that fails, take away what was made and raise why."""
        for written in self.begin(plan):
            try:
                self.make(plan.order, written)
            except ProvisionError as error:
                if not error.retry:
                    self.remove(plan.order.request)
                raise

    def make(self, order: Order, written: Written) -> Written:
        """Make one resource and wait until it is there; one that is there stays. Raises `EngineFailed`, `EngineBusy`."""
        if written.stage is Stage.MADE and self._engine.observe(order, written.resource).status is Status.READY:
            return written
        written = self._journal.note(written, Stage.BEGUN)
        try:
            written = self._journal.note(written, Stage.BEGUN, id=self._engine.create(order, written.resource))
            self._until(order, written, Status.READY)
            made = self._journal.note(written, Stage.MADE)
        except TakenAway:
            self._engine.destroy(order, written.resource)  # whoever takes the rest away may have looked before it was there
            raise
        except ProvisionError as error:
            self._journal.note(written, Stage.BEGUN, error=error)
            raise
        self._note(f"{made.resource.key} is ready")
        return made

    def remove(self, request: str) -> list[Written]:
        """Take an environment away, what was made last first; gives what could not be, which is tried again by the next call.

        What needs another resource goes before it; where one cannot go, what it needs stays, too.
        """
        order = self._journal.order(request)
        needed: set[str] = set()
        for written in reversed(self._journal.resources(request)):
            if written.stage is Stage.GONE:
                continue
            if written.resource.key in needed:
                needed.update(written.resource.needs)
                continue
            if written.stage is Stage.PLANNED:
                self._journal.note(written, Stage.GONE)
                continue
            going = self._journal.note(written, Stage.GOING)
            try:
                self._engine.destroy(order, going.resource)
                self._until(order, going, Status.ABSENT)
            except ProvisionError as error:
                self._journal.note(going, Stage.GOING, error=error)
                self._note(f"{going.resource.key} could not be taken away: {error}")
                needed.update(going.resource.needs)
                continue
            self._journal.note(going, Stage.GONE)
            self._note(f"{going.resource.key} is gone")
        return [one for one in self._journal.resources(request) if one.stage is not Stage.GONE]

    def look(self, request: str) -> dict[str, Observed]:
        """Say how each resource stands that should, by the engine's own word."""
        order = self._journal.order(request)
        standing = [one for one in self._journal.resources(request) if one.stage in (Stage.BEGUN, Stage.MADE)]
        return {one.resource.key: self._engine.observe(order, one.resource) for one in standing}

    def _until(self, order: Order, written: Written, wanted: Status) -> None:
        patience = self._patience
        over = patience.clock() + patience.seconds
        while (seen := self._engine.observe(order, written.resource)).status is not wanted:
            if seen.status is Status.BROKEN and wanted is Status.READY:
                raise EngineFailed(f"{written.resource.key} is broken: {seen.message or 'the engine does not say why'}")
            if patience.clock() >= over:
                raise EngineBusy(f"{written.resource.key} is {seen.status} after {patience.seconds:g} s, not {wanted}: {seen.message}")
            patience.sleep(patience.pause)
