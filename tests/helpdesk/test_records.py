"""Services, needs and requests as they are kept, on both databases."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from earthself.benchmark.errors import BadNeed
from earthself.helpdesk import Actor, BadEntry, Change, NotNow, Records, State, Unknown, Wish
from earthself.helpdesk.model import NEXT, WITH_A_REASON
from earthself.helpdesk.records import Page

ADA, BOB = Actor("ada"), Actor("bob", "provision_environment/manual__1")
NEED = {"work": {"tiles": 10}, "profile": "land_cover_map"}
CONTACT = "ada@example.org"


@pytest.fixture
def clock():
    at = [datetime(2026, 11, 24, tzinfo=UTC)]

    def now():
        at[0] += timedelta(seconds=1)
        return at[0]

    return now


@pytest.fixture
def records(url, clock):
    with Records(url, now=clock) as kept:
        yield kept


@pytest.fixture
def asked(records):
    """A request of team north, asked by ada."""

    def make(title="maps", team="north", **kwargs):
        names = {service.name for service in records.services([team])}
        service = records.register(team, f"Maps {len(names)}", ADA, contact=CONTACT)
        need = records.express(service.id, NEED, ADA)
        return records.draft(Wish(need.id, title, **kwargs), ADA)

    return make


def steps_to(state):
    """The shortest way from a draft to a state."""
    ways = {State.DRAFT: []}
    while state not in ways:
        ways |= {after: [*way, after] for before, way in list(ways.items()) for after in NEXT[before] if after not in ways}
    return ways[state]


def brought(records, request, state):
    for step in steps_to(state):
        request = records.change(request.id, Change(step, "because" if step in WITH_A_REASON else ""), BOB)
    return request


def test_a_service_its_need_and_a_request_come_back_as_they_were_given(records):
    service = records.register(
        "north", "Flood maps", ADA, contact=CONTACT, repository="git@example.org:north/floods.git", description="Daily.\r\nFor all."
    )
    assert (service.owner, service.description) == ("ada", "Daily.\nFor all.")
    need = records.express(service.id, NEED | {"level": "kaas", "hours_per_month": 720}, BOB)
    request = records.draft(Wish(need.id, "  A cluster for floods ", "north-1", 30), BOB)
    assert records.services() == [service] == records.services(["north", "south"])
    assert records.service(service.id) == service
    assert records.needs(service.id) == [need]
    assert (need.level, need.by, request.wish.title, request.state, request.version) == (
        "kaas", "bob", "A cluster for floods", State.DRAFT, 1,
    )  # fmt: skip
    assert records.request(request.id) == request
    assert records.requests() == [request]


def test_each_change_has_its_row_in_the_audit(records, asked):
    request = asked()
    records.change(request.id, Change(State.ASKED), ADA)
    records.change(request.id, Change(State.REFUSED, "too dear; ask for less", result={"euros": 120}), BOB)
    records.say(request.id, "half would do", ADA)
    rows = records.audit()
    assert [(row.what, row.who, row.run) for row in rows] == [
        ("comment written", "ada", ""),
        ("request changed", "bob", BOB.run),
        ("request changed", "ada", ""),
        ("request drafted", "ada", ""),
        ("need expressed", "ada", ""),
        ("service registered", "ada", ""),
    ]
    assert rows[1].result == {"from": "asked", "to": "refused", "reason": "too dear; ask for less", "euros": 120}
    assert records.audit(subject=request.id) == rows[:4]
    assert records.audit(page=Page(2, str(rows[1].number))) == rows[2:4]
    assert records.audit(["south"]) == []
    assert {row.team for row in rows} == {"north"}


@pytest.mark.parametrize("change", ["UPDATE helpdesk_audit SET who = 'eve'", "DELETE FROM helpdesk_audit"])
def test_the_database_itself_keeps_the_audit(records, asked, url, change):
    asked()
    before = records.audit()
    engine = sa.create_engine(url)
    with pytest.raises(sa.exc.DBAPIError, match="rows of the audit are never changed"), engine.begin() as connection:
        connection.execute(sa.text(change))
    engine.dispose()
    assert records.audit() == before


def test_a_refused_change_leaves_no_trace(records, asked):
    request = asked()
    rows = records.audit()
    with pytest.raises(NotNow):
        records.change(request.id, Change(State.READY), ADA)
    with pytest.raises(BadEntry, match="who holds"):
        records.change(request.id, Change(State.ASKED), Actor("ada\nbob"))  # the audit cannot keep it
    assert records.request(request.id) == request
    assert records.audit() == rows


@pytest.mark.parametrize("before", list(State))
def test_a_request_goes_only_where_its_state_allows(records, asked, before):
    request = brought(records, asked(), before)
    for to in State:
        if to in NEXT[before] or to is before:
            continue
        with pytest.raises(NotNow, match=f"is {before} and cannot become {to}"):
            records.change(request.id, Change(to, "why not"), ADA)
    assert records.request(request.id).state is before


def test_every_state_can_be_reached_and_only_released_is_the_end():
    assert all(steps_to(state) is not None for state in State)
    assert [state for state in State if not NEXT[state]] == [State.RELEASED]


def test_the_same_change_twice_is_one(records, asked):
    request = brought(records, asked(), State.PROVISIONING)
    rows = records.audit()
    assert records.change(request.id, Change(State.PROVISIONING), BOB) == request
    assert records.audit() == rows


@pytest.mark.parametrize("to", sorted(WITH_A_REASON))
def test_what_went_wrong_is_said_with_a_reason(records, asked, to):
    request = brought(records, asked(), steps_to(to)[-2])
    with pytest.raises(BadEntry, match="say why"):
        records.change(request.id, Change(to, "  "), ADA)


def test_who_decides_on_an_old_state_is_told(records, asked):
    request = brought(records, asked(), State.ASKED)
    records.change(request.id, Change(State.AWAITING_APPROVAL, version=request.version), BOB)
    with pytest.raises(NotNow, match="changed meanwhile and is awaiting approval now"):
        records.change(request.id, Change(State.PROVISIONING, version=request.version), ADA)


def test_of_two_who_decide_at_once_one_wins(records, asked, url):
    request = brought(records, asked(), State.AWAITING_APPROVAL)
    gate, ended = threading.Barrier(2), []

    def decide(to):
        with Records(url) as mine:
            gate.wait()
            try:
                mine.change(request.id, Change(to, "no", version=request.version), ADA)
                ended.append(to)
            except NotNow:
                ended.append(None)

    threads = [threading.Thread(target=decide, args=(to,)) for to in (State.PROVISIONING, State.REFUSED)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [to for to in ended if to]
    assert ended.count(None) == 1
    assert records.request(request.id).state is won
    assert records.request(request.id).version == request.version + 1


def test_a_draft_is_rewritten_and_what_was_sent_is_not(records, asked):
    request = asked()
    after = records.rewrite(request.id, Wish(request.wish.need, "smaller", "", 7), BOB)
    assert (after.wish.title, after.wish.days, after.version, after.by) == ("smaller", 7, 2, "ada")
    with pytest.raises(BadEntry, match="another service's"):
        records.rewrite(request.id, Wish(asked().wish.need, "smaller"), BOB)
    brought(records, after, State.ASKED)
    with pytest.raises(NotNow, match="cannot be rewritten"):
        records.rewrite(request.id, after.wish, ADA)


def test_another_team_sees_nothing_and_changes_nothing(records, asked):
    request, south = asked(), ["south"]
    calls = [
        lambda: records.service(request.service, south),
        lambda: records.express(request.service, NEED, BOB, south),
        lambda: records.needs(request.service, south),
        lambda: records.draft(request.wish, BOB, south),
        lambda: records.rewrite(request.id, request.wish, BOB, south),
        lambda: records.change(request.id, Change(State.ASKED), BOB, south),
        lambda: records.request(request.id, south),
        lambda: records.say(request.id, "hello", BOB, south),
        lambda: records.conversation(request.id, south),
        lambda: records.requests(south, page=Page(after=request.id)),
    ]
    rows = records.audit()
    for call in calls:
        with pytest.raises(Unknown, match="that you may see"):
            call()
    assert (records.services(south), records.requests(south), records.audit(south)) == ([], [], [])
    assert records.audit() == rows
    assert records.request(request.id, ["north"]) == request


def test_a_name_is_one_teams_once(records):
    records.register("north", "Flöße", ADA, contact=CONTACT)
    records.register("south", "Flöße", ADA, contact=CONTACT)
    with pytest.raises(BadEntry, match="has a service 'Flöße' already"):
        records.register("north", "Flo\N{COMBINING DIAERESIS}ße", BOB, contact=CONTACT)


def test_requests_come_page_by_page_the_last_changed_first(records, asked):
    made = [asked(f"r{number}") for number in range(5)]
    records.change(made[1].id, Change(State.ASKED), ADA)
    order = [made[number].id for number in (1, 4, 3, 2, 0)]
    first = records.requests(page=Page(2))
    second = records.requests(page=Page(2, first[-1].id))
    third = records.requests(page=Page(2, second[-1].id))
    assert [one.id for one in (*first, *second, *third)] == order
    assert [one.id for one in records.requests(states=[State.ASKED])] == [made[1].id]
    with pytest.raises(BadEntry, match="1 to 100"):
        records.requests(page=Page(101))


def test_what_was_said_comes_in_its_order(records, asked):
    request = asked()
    texts = ["when?", "<script>alert(1)</script>", "später\nmehr"]
    made = [records.say(request.id, text, who) for text, who in zip(texts, (ADA, BOB, ADA), strict=True)]
    assert records.conversation(request.id) == made
    assert [one.text for one in made] == texts
    with pytest.raises(BadEntry, match="empty"):
        records.say(request.id, " \n", ADA)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "", "name is empty"),
        ("name", "x" * 301, "301 characters; give at most 100"),
        ("name", "a\nb", r"U\+000A"),
        ("name", "safe\u202egnp.exe", r"U\+202E"),
        ("name", "half \ud800", "half of a character"),
        ("name", 7, "name is int"),
        ("team", "x" * 51, "at most 50"),
        ("contact", "nobody", "'nobody' is no e-mail address"),
        ("contact", "a@b", "is no e-mail address"),
        ("contact", "a@example.org\nBcc: all@example.org", "nobody sees"),
        ("contact", "<x>@example.org", "is no e-mail address"),
        ("repository", "https://ada:secret@example.org/a.git", "holds a user or a password"),
        ("repository", "https://token@example.org/a.git", "holds a user or a password"),
        ("repository", "file:///etc/passwd", "is no address of a git repository"),
        ("repository", "ext::sh -c id", "is no address"),
        ("repository", "--upload-pack=id", "is no address"),
        ("repository", "https://example.org", "is no address"),
        ("repository", "https://[::1/a", "is no address"),
        ("repository", "https://example.org/a?x=1", "is no address"),
        ("description", "x" * 20_001, "at most 20000"),
        ("description", "bell \a", r"U\+0007"),
        ("owner", "\u200b", r"U\+200B"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_reason(records, field, value, said):
    given = {"team": "north", "name": "Maps", "contact": CONTACT} | {field: value}
    with pytest.raises(BadEntry, match=said) as refused:
        records.register(given.pop("team"), given.pop("name"), ADA, **given)
    assert "secret" not in str(refused.value)
    assert records.services() == []
    assert records.audit() == []


@pytest.mark.parametrize("name", ["$(rm -rf /); `id` && 'x' \"y\" | z", "Überschwemmung 洪水 🛰", "../../etc", "' OR 1=1 --", "x" * 100])
def test_a_name_is_data(records, name):
    service = records.register("north", name, ADA, contact=CONTACT)
    assert records.service(service.id).name == name
    assert records.audit()[0].result == {"name": name}


@pytest.mark.parametrize("repository", ["", "https://example.org/a/b.git", "ssh://git@example.org:2222/a.git", "git@example.org:a/b.git"])
def test_repositories_that_git_takes_are_kept(records, repository):
    assert records.register("north", "Maps", ADA, contact=CONTACT, repository=repository).repository == repository


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"days": 0}, "1 to 366 days"),
        ({"days": 367}, "1 to 366 days"),
        ({"days": True}, "1 to 366 days"),
        ({"title": ""}, "title is empty"),
        ({"title": "x" * 201}, "at most 200"),
        ({"cloud": "x" * 101}, "at most 100"),
    ],
)
def test_a_wish_that_cannot_be_kept_is_refused(records, asked, wish, said):
    need = asked().wish.need
    with pytest.raises(BadEntry, match=said):
        records.draft(Wish(**{"need": need, "title": "maps"} | wish), ADA)
    with pytest.raises(Unknown, match="no need 'need-no'"):
        records.draft(Wish("need-no", "maps"), ADA)


def test_a_need_that_the_engine_cannot_answer_is_not_kept(records, asked):
    request = asked()
    with pytest.raises(BadNeed):
        records.express(request.service, {"work": {"tiles": -1}}, ADA)
    assert len(records.needs(request.service)) == 1
