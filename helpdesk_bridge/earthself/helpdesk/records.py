"""Services, needs and requests as they are kept; each change and its row of the audit are written together, or neither."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from earthself.benchmark.suggestion.need import Need as Checked
from earthself.data.database import Kept
from earthself.helpdesk import checks
from earthself.helpdesk.errors import BadEntry, NotNow, Unknown
from earthself.helpdesk.model import NEXT, WITH_A_REASON, Actor, Change, Comment, Entry, Need, Request, Service, State, Wish
from earthself.helpdesk.tables import AUDIT, COMMENT, NEED, REQUEST, SERVICE, TABLES
from sqlalchemy.engine import Connection, RowMapping

NAME, TITLE, TEXT, CLOUD, TEAM, PERSON = 100, 200, 20_000, 100, 50, 250
"""The most characters of what people type."""
DAYS = 366
"""The most that an environment is asked for at once."""
_PAGE = 100
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Nothing that is read for something else; ids are spoken, and name what is made in clusters."""


@dataclass(frozen=True)
class Page:
    """Which rows of a long list: the newest first."""

    limit: int = _PAGE
    after: str = ""
    """Id of the last row that was read; empty for the first page."""


@dataclass(frozen=True)
class _Done:
    """What the audit tells."""

    team: str
    what: str
    subject: str
    result: Mapping[str, Any]


class Records(Kept):
    """All that is kept. `teams` says whose rows are looked at: None for those of all teams."""

    def __init__(self, url: str | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Use the platform's database unless another one is named."""
        super().__init__(TABLES, url)
        self._now = now

    def register(
        self, team: str, name: str, who: Actor, *, contact: str, owner: str = "", repository: str = "", description: str = ""
    ) -> Service:
        """Keep a new service of a team; the owner is who registers it unless another one is named. Raises `BadEntry`."""
        service = Service(
            _id("srv"),
            _team(team),
            checks.line("name", name, NAME),
            checks.line("owner", owner or who.name, PERSON),
            checks.repository("repository", repository),
            checks.email("contact", contact),
            checks.lines("description", description, TEXT),
            self._now(),
        )
        with self._database.writing() as connection:
            same = sa.select(SERVICE.c.id).where(SERVICE.c.team == service.team, SERVICE.c.name == service.name)
            if connection.execute(same).first():
                raise BadEntry(f"name: your team has a service {service.name!r} already; open it, or choose another name")
            connection.execute(SERVICE.insert().values(**vars(service)))
            self._note(connection, who, _Done(service.team, "service registered", service.id, {"name": service.name}))
        return service

    def services(self, teams: Collection[str] | None = None) -> list[Service]:
        """Give services by their names."""
        query = _of(teams, SERVICE).order_by(SERVICE.c.name, SERVICE.c.id)
        with self._database.reading() as connection:
            return [Service(*row) for row in connection.execute(query)]

    def service(self, service_id: str, teams: Collection[str] | None = None) -> Service:
        """Give a service; raises `Unknown`, also for one of another team."""
        with self._database.reading() as connection:
            return _service(connection, service_id, teams)

    def express(self, service_id: str, document: Mapping[str, Any], who: Actor, teams: Collection[str] | None = None) -> Need:
        """Keep what a service needs; raises `BadNeed` for a document that the Suggest Engine cannot answer."""
        Checked.from_document(document)
        need = Need(_id("need"), service_id, dict(document), who.name, self._now())
        with self._database.writing() as connection:
            service = _service(connection, service_id, teams)
            connection.execute(NEED.insert().values(**vars(need)))
            self._note(connection, who, _Done(service.team, "need expressed", need.id, {"service": service.id, "level": need.level}))
        return need

    def needs(self, service_id: str, teams: Collection[str] | None = None) -> list[Need]:
        """Give what was said that a service needs, the newest first."""
        query = sa.select(NEED).where(NEED.c.service == service_id).order_by(NEED.c.created.desc(), NEED.c.id)
        with self._database.reading() as connection:
            _service(connection, service_id, teams)
            return [Need(*row) for row in connection.execute(query)]

    def draft(self, wish: Wish, who: Actor, teams: Collection[str] | None = None) -> Request:
        """Keep a request that nobody has sent yet; raises `BadEntry`, and `Unknown` for its need."""
        wish = _checked(wish)
        with self._database.writing() as connection:
            service = self._wanted_by(connection, wish, teams)
            now = self._now()
            request = Request(_id("req"), service.id, service.team, wish, State.DRAFT, "", who.name, 1, now, now)
            connection.execute(REQUEST.insert().values(**_row(request)))
            self._note(connection, who, _Done(service.team, "request drafted", request.id, _told(wish)))
        return request

    def rewrite(self, request_id: str, wish: Wish, who: Actor, teams: Collection[str] | None = None) -> Request:
        """Change what a draft asks for; raises `NotNow` for a request that was sent."""
        wish = _checked(wish)
        with self._database.writing() as connection:
            before = _request(connection, request_id, teams, locked=True)
            if before.state is not State.DRAFT:
                raise NotNow(f"request {before.id} is {before.state} and cannot be rewritten; make another one")
            if self._wanted_by(connection, wish, teams).id != before.service:
                raise BadEntry(f"need {wish.need} is another service's; make a request of its own for that")
            values = {name: getattr(wish, name) for name in ("need", "title", "cloud", "days")}
            after = self._changed(connection, before, values)
            self._note(connection, who, _Done(after.team, "request rewritten", after.id, _told(wish)))
        return after

    def change(self, request_id: str, change: Change, who: Actor, teams: Collection[str] | None = None) -> Request:
        """Bring a request to another state; one that is there already stays as it is, so that whatever died may do it again.

        Raises `NotNow` where the state does not take it, or where somebody was quicker than the decision.
        """
        reason = checks.lines("reason", change.reason, TEXT)
        if change.to in WITH_A_REASON and not reason:
            raise BadEntry(f"reason: say why the request is {change.to}, and what to do next")
        with self._database.writing() as connection:
            before = _request(connection, request_id, teams, locked=True)
            if before.state is change.to:
                return before
            if change.version is not None and change.version != before.version:
                raise NotNow(f"request {before.id} was changed meanwhile and is {before.state} now; look at it again, then decide")
            if change.to not in NEXT[before.state]:
                possible = ", ".join(sorted(NEXT[before.state])) or "nothing any more"
                raise NotNow(f"request {before.id} is {before.state} and cannot become {change.to}; it can become {possible}")
            after = self._changed(connection, before, {"state": change.to.value, "reason": reason})
            told = {"from": before.state.value, "to": after.state.value, "reason": reason, **change.result}
            self._note(connection, who, _Done(after.team, "request changed", after.id, told))
        return after

    def request(self, request_id: str, teams: Collection[str] | None = None) -> Request:
        """Give a request; raises `Unknown`, also for one of another team."""
        with self._database.reading() as connection:
            return _request(connection, request_id, teams)

    def requests(self, teams: Collection[str] | None = None, states: Collection[State] = (), page: Page = Page()) -> list[Request]:
        """Give requests, those that changed last first."""
        query = _of(teams, REQUEST)
        if states:
            query = query.where(REQUEST.c.state.in_([state.value for state in states]))
        with self._database.reading() as connection:
            if page.after:
                last = _request(connection, page.after, teams)
                query = query.where(
                    sa.tuple_(REQUEST.c.changed, REQUEST.c.id) < sa.tuple_(sa.literal(last.changed, REQUEST.c.changed.type), last.id)
                )
            query = query.order_by(REQUEST.c.changed.desc(), REQUEST.c.id.desc()).limit(_limit(page))
            return [_as_request(row) for row in connection.execute(query).mappings()]

    def say(self, request_id: str, text: str, who: Actor, teams: Collection[str] | None = None) -> Comment:
        """Add to the conversation about a request."""
        said = checks.lines("text", text, TEXT)
        if not said:
            raise BadEntry("text is empty; write what there is to say")
        with self._database.writing() as connection:
            request = _request(connection, request_id, teams)
            at = self._now()
            new = COMMENT.insert().values(request=request.id, by=who.name, text=said, at=at)
            number = connection.execute(new.returning(COMMENT.c.number)).scalar_one()
            self._note(connection, who, _Done(request.team, "comment written", request.id, {"comment": number}))
        return Comment(number, request.id, who.name, said, at)

    def conversation(self, request_id: str, teams: Collection[str] | None = None) -> list[Comment]:
        """Give what was said about a request, the oldest first."""
        query = sa.select(COMMENT).where(COMMENT.c.request == request_id).order_by(COMMENT.c.number)
        with self._database.reading() as connection:
            _request(connection, request_id, teams)
            return [Comment(*row) for row in connection.execute(query)]

    def audit(self, teams: Collection[str] | None = None, subject: str = "", page: Page = Page()) -> list[Entry]:
        """Give who did what, the newest first."""
        query = _of(teams, AUDIT).order_by(AUDIT.c.number.desc()).limit(_limit(page))
        if subject:
            query = query.where(AUDIT.c.subject == subject)
        if page.after:
            if not page.after.isdecimal():
                raise BadEntry(f"after: {page.after!r} is no number of a row; give that of the last row that was read")
            query = query.where(AUDIT.c.number < int(page.after))
        with self._database.reading() as connection:
            return [Entry(*row) for row in connection.execute(query)]

    def _note(self, connection: Connection, who: Actor, done: _Done) -> None:
        """Add a row to the audit, in the transaction of what it is about."""
        name = checks.line("who", who.name, PERSON)
        connection.execute(AUDIT.insert().values(at=self._now(), who=name, run=who.run, **vars(done)))

    def _wanted_by(self, connection: Connection, wish: Wish, teams: Collection[str] | None) -> Service:
        service = connection.execute(sa.select(NEED.c.service).where(NEED.c.id == wish.need)).scalar()
        if service is None:
            raise Unknown(f"there is no need {wish.need!r}; say first what the service needs")
        return _service(connection, service, teams)

    def _changed(self, connection: Connection, before: Request, values: Mapping[str, Any]) -> Request:
        where = (REQUEST.c.id == before.id) & (REQUEST.c.version == before.version)
        new = dict(values) | {"version": before.version + 1, "changed": max(self._now(), before.changed)}
        connection.execute(REQUEST.update().where(where).values(**new))
        return _request(connection, before.id, None)


def _id(kind: str) -> str:
    return f"{kind}-" + "".join(secrets.choice(_ALPHABET) for _ in range(10))


def _team(team: str) -> str:
    return checks.line("team", team, TEAM) if team else ""


def _checked(wish: Wish) -> Wish:
    if type(wish.days) is not int or not 1 <= wish.days <= DAYS:
        raise BadEntry(f"days is {wish.days!r}; an environment is asked for 1 to {DAYS} days, and may be prolonged")
    cloud = checks.line("cloud", wish.cloud, CLOUD) if wish.cloud else ""
    return Wish(checks.line("need", wish.need, 20), checks.line("title", wish.title, TITLE), cloud, wish.days)


def _told(wish: Wish) -> dict[str, Any]:
    return {"need": wish.need, "cloud": wish.cloud, "days": wish.days}


def _limit(page: Page) -> int:
    if not 1 <= page.limit <= _PAGE:
        raise BadEntry(f"limit is {page.limit}; a page has 1 to {_PAGE} rows")
    return page.limit


def _of(teams: Collection[str] | None, table: sa.Table) -> sa.Select[Any]:
    query = sa.select(table)
    return query if teams is None else query.where(table.c.team.in_(list(teams)))


def _found(
    connection: Connection, table: sa.Table, key: str, what: str, teams: Collection[str] | None, *, locked: bool = False
) -> RowMapping:
    query = _of(teams, table).where(table.c.id == key)
    row = connection.execute(query.with_for_update() if locked else query).mappings().first()
    if row is None:
        raise Unknown(f"there is no {what} {key[:40]!r} that you may see")
    return row


def _service(connection: Connection, service_id: str, teams: Collection[str] | None) -> Service:
    return Service(**_found(connection, SERVICE, service_id, "service", teams))


def _request(connection: Connection, request_id: str, teams: Collection[str] | None, *, locked: bool = False) -> Request:
    return _as_request(_found(connection, REQUEST, request_id, "request", teams, locked=locked))


def _as_request(row: RowMapping) -> Request:
    wish = Wish(row["need"], row["title"], row["cloud"], row["days"])
    rest = {name: row[name] for name in ("id", "service", "team", "reason", "by", "version", "created", "changed")}
    return Request(wish=wish, state=State(row["state"]), **rest)


def _row(request: Request) -> dict[str, Any]:
    values = {name: value for name, value in vars(request).items() if name != "wish"}
    return values | vars(request.wish) | {"state": request.state.value}
