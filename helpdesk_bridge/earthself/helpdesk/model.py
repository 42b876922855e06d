"""What is kept: services, their needs, the requests for environments with their states, comments, and who changed what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a request stands."""

    DRAFT = "draft"
    ASKED = "asked"
    AWAITING_APPROVAL = "awaiting approval"
    REFUSED = "refused"
    PROVISIONING = "provisioning"
    READY = "ready"
    DEGRADED = "degraded"
    RELEASING = "releasing"
    RELEASED = "released"
    FAILED = "failed"


NEXT: Mapping[State, frozenset[State]] = {
    State.DRAFT: frozenset({State.ASKED}),
    State.ASKED: frozenset({State.AWAITING_APPROVAL, State.PROVISIONING, State.REFUSED, State.FAILED}),
    State.AWAITING_APPROVAL: frozenset({State.PROVISIONING, State.REFUSED, State.FAILED}),
    # Whoever asked may change what was refused, and ask again.
    State.REFUSED: frozenset({State.DRAFT}),
    State.PROVISIONING: frozenset({State.READY, State.FAILED}),
    State.READY: frozenset({State.DEGRADED, State.RELEASING}),
    State.DEGRADED: frozenset({State.READY, State.RELEASING}),
    State.RELEASING: frozenset({State.RELEASED, State.FAILED}),
    State.RELEASED: frozenset(),
    # Something may stand: it is made to the end, or taken away.
    State.FAILED: frozenset({State.PROVISIONING, State.RELEASING}),
}
"""Where a request may go from each state."""
WITH_A_REASON = frozenset({State.REFUSED, State.DEGRADED, State.FAILED})
"""States that are said with a reason and what to do."""


@dataclass(frozen=True)
class Actor:
    """Who does something."""

    name: str
    """As Airflow's auth manager calls the person, or the name of the program."""
    run: str = ""
    """`dag_id/run_id` of the workflow that does it for them; empty for a person at a page."""


@dataclass(frozen=True)
class Service:
    """What a team builds."""

    id: str
    team: str
    """Of Airflow; empty on a platform without teams."""
    name: str
    """Unique in its team."""
    owner: str
    """User name."""
    repository: str
    """Address of its git repository, without credentials; may be empty."""
    contact: str
    """E-mail address."""
    description: str
    created: datetime


@dataclass(frozen=True)
class Need:
    """What a service needs, as it was said at a time; a changed need is another one."""

    id: str
    service: str
    """Id of the service."""
    document: Mapping[str, Any]
    """As docs/suggest.md describes it."""
    by: str
    created: datetime

    @property
    def level(self) -> str:
        """Level of integration: `waas`, `kaas`, `iaas`."""
        return str(self.document.get("level", "waas"))


@dataclass(frozen=True)
class Wish:
    """What an environment is asked for with."""

    need: str
    """Id of the need."""
    title: str
    cloud: str = ""
    """Id of the cloud; empty where the Suggest Engine is to choose."""
    days: int = 90
    """How long it is wanted for."""


@dataclass(frozen=True)
class Change:
    """A step of a request to another state."""

    to: State
    reason: str = ""
    """Why, and what to do next; needed where something went wrong or was refused."""
    version: int | None = None
    """Of the request that the decision was made on; None: whichever it is now."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What there is to tell beside: the plan's cost, who approved. Never a secret."""


@dataclass(frozen=True)
class Request:
    """An environment that somebody wants."""

    id: str
    service: str
    """Id of the service."""
    team: str
    wish: Wish
    state: State
    reason: str
    """Why it stands as it does, and what to do next."""
    by: str
    """Who asked."""
    version: int
    """Counts its changes."""
    created: datetime
    changed: datetime


@dataclass(frozen=True)
class Comment:
    """What somebody said about a request."""

    number: int
    request: str
    by: str
    text: str
    at: datetime


@dataclass(frozen=True)
class Entry:
    """One row of the audit: who did what when."""

    number: int
    at: datetime
    who: str
    run: str
    """`dag_id/run_id`; empty for a person at a page."""
    team: str
    what: str
    """`service registered`, `need expressed`, `request drafted`, `request changed`, `comment written`."""
    subject: str
    """Id of the service, need or request."""
    result: Mapping[str, Any]
