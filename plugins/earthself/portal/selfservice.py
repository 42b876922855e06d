"""Services, their needs and requests by REST: each team has its own, operators of the platform see all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from earthself.helpdesk import Actor, BadEntry, Change, Records, State, Wish
from earthself.helpdesk.records import Page
from earthself.portal import bodies, rights
from fastapi import APIRouter, Depends, status

Body = Annotated[dict[str, Any], Depends(bodies.json_object)]
_SERVICE = {"name", "contact", "team", "owner", "repository", "description"}
_WISH = {"need", "title", "cloud", "days"}


def _records() -> Iterator[Records]:
    with Records() as kept:
        yield kept


Kept = Annotated[Records, Depends(_records)]


class Visitor:
    """Who asks, and whose records they may see."""

    def __init__(self, user: GetUserDep) -> None:
        rights.require_reader(user)
        self.user = user
        self.teams = rights.teams(user)
        """None: of all teams."""

    def actor(self) -> Actor:
        """Give who changes something, or answer 403 to those who may only look."""
        rights.require_creator(self.user)
        return Actor(self.user.get_name())


Who = Annotated[Visitor, Depends(Visitor)]
router = APIRouter(prefix="/api/v1", tags=["self-service"])


@router.post("/services", status_code=status.HTTP_201_CREATED)
def register(body: Body, who: Who, records: Kept) -> dict[str, Any]:
    """Register a service: {name, contact, team, owner, repository, description}; the team may be left out by who has one."""
    given = _fields(body, {"name", "contact"}, _SERVICE)
    actor = who.actor()
    team = rights.own_team(who.user, given.pop("team", None))
    return asdict(records.register(team, given.pop("name"), actor, **given))


@router.get("/services")
def services(who: Who, records: Kept) -> dict[str, Any]:
    """List the services of the team."""
    return {"services": [asdict(one) for one in records.services(who.teams)]}


@router.get("/services/{service_id}")
def service(service_id: str, who: Who, records: Kept) -> dict[str, Any]:
    """Give a service."""
    return asdict(records.service(service_id, who.teams))


@router.post("/services/{service_id}/needs", status_code=status.HTTP_201_CREATED)
def express(service_id: str, body: Body, who: Who, records: Kept) -> dict[str, Any]:
    """Say what a service needs; the body is a need, as `suggestions` takes it."""
    return asdict(records.express(service_id, body, who.actor(), who.teams))


@router.get("/services/{service_id}/needs")
def needs(service_id: str, who: Who, records: Kept) -> dict[str, Any]:
    """List what was said that a service needs, the newest first."""
    return {"needs": [asdict(one) for one in records.needs(service_id, who.teams)]}


@router.post("/requests", status_code=status.HTTP_201_CREATED)
def draft(body: Body, who: Who, records: Kept) -> dict[str, Any]:
    """Draft a request for an environment: {need, title, cloud, days}."""
    return asdict(records.draft(_wish(body), who.actor(), who.teams))


@router.get("/requests")
def requests(who: Who, records: Kept, state: str = "", after: str = "", limit: int = 50) -> dict[str, Any]:
    """List requests, those that changed last first; `after` is the id of the last one that was read, `state` may name several (a,b)."""
    found = records.requests(who.teams, [_state(one) for one in state.split(",") if one], Page(limit, after))
    return {"requests": [asdict(one) for one in found]}


@router.get("/requests/{request_id}")
def request(request_id: str, who: Who, records: Kept) -> dict[str, Any]:
    """Give a request."""
    return asdict(records.request(request_id, who.teams))


@router.put("/requests/{request_id}")
def rewrite(request_id: str, body: Body, who: Who, records: Kept) -> dict[str, Any]:
    """Change what a draft asks for."""
    return asdict(records.rewrite(request_id, _wish(body), who.actor(), who.teams))


@router.post("/requests/{request_id}/ask")
def ask(request_id: str, body: Body, who: Who, records: Kept) -> dict[str, Any]:
    """Send a draft: {version}, that of the draft which was read. Start `provision_environment` with its id next."""
    given = _fields(body, {"version"}, {"version"})
    if type(given["version"]) is not int:
        raise BadEntry(f"version: {str(given['version'])[:40]!r} is no number; give that of the draft")
    return asdict(records.change(request_id, Change(State.ASKED, version=given["version"]), who.actor(), who.teams))


@router.post("/requests/{request_id}/comments", status_code=status.HTTP_201_CREATED)
def say(request_id: str, body: Body, who: Who, records: Kept) -> dict[str, Any]:
    """Say something about a request: {text}."""
    given = _fields(body, {"text"}, {"text"})
    return asdict(records.say(request_id, given["text"], who.actor(), who.teams))


@router.get("/requests/{request_id}/comments")
def conversation(request_id: str, who: Who, records: Kept) -> dict[str, Any]:
    """Give what was said about a request, the oldest first."""
    return {"comments": [asdict(one) for one in records.conversation(request_id, who.teams)]}


@router.get("/audit")
def audit(who: Who, records: Kept, subject: str = "", after: str = "", limit: int = 50) -> dict[str, Any]:
    """Say who did what, the newest first; `subject` is the id of a service, need or request, `after` the number of the last row."""
    return {"audit": [asdict(one) for one in records.audit(who.teams, subject, Page(limit, after))]}


def _wish(body: Mapping[str, Any]) -> Wish:
    return Wish(**_fields(body, {"need", "title"}, _WISH))


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError:
        raise BadEntry(f"state: there is no {name[:40]!r}; there are {', '.join(State)}") from None


def _fields(body: Mapping[str, Any], needed: set[str], known: set[str]) -> dict[str, Any]:
    """Give the fields of a body; raises `BadEntry` for one that is missing, and for one that nobody reads."""
    if missing := sorted(needed - set(body)):
        raise BadEntry(f"{missing[0]} is missing; give {', '.join(sorted(needed))}")
    if unread := sorted(set(body) - known):
        raise BadEntry(f"there is no field {unread[0][:40]!r}; there are {', '.join(sorted(known))}")
    return dict(body)
