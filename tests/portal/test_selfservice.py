"""Services, needs and requests by REST, as Airflow's users with and without teams meet them."""

from __future__ import annotations

import json

import airflow_sandbox
import pytest
from earthself.helpdesk import Actor, Change, Records, State

API = "/earthself/api/v1"
NEED = {"work": {"tiles": 10}, "profile": "land_cover_map"}
SERVICE = {"name": "Flood maps", "contact": "ada@example.org", "repository": "https://example.org/floods.git"}
USERS = {"alice": "user:north", "bob": "user:south", "both": "user:north|south", "eve": "user", "victor": "viewer:north", "admin": "admin"}
ROUTES = [
    ("POST", "/services"),
    ("GET", "/services"),
    ("GET", "/services/srv-x"),
    ("POST", "/services/srv-x/needs"),
    ("GET", "/services/srv-x/needs"),
    ("POST", "/requests"),
    ("GET", "/requests"),
    ("GET", "/requests/req-x"),
    ("PUT", "/requests/req-x"),
    ("POST", "/requests/req-x/ask"),
    ("POST", "/requests/req-x/comments"),
    ("GET", "/requests/req-x/comments"),
    ("GET", "/audit"),
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_HOME", str(tmp_path))
    monkeypatch.delenv("EARTHSELF_DATABASE_URL", raising=False)


@pytest.fixture
def teams(server, monkeypatch):
    """Airflow with two teams, and users of one, of both and of none."""
    from airflow.models.team import Team
    from airflow.utils.session import create_session

    passwords = airflow_sandbox.HOME / "passwords.json"
    before = passwords.read_text()
    passwords.write_text(json.dumps({name: name for name in USERS}))
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", ",".join(f"{name}:{role}" for name, role in USERS.items()))
    with create_session() as session:
        session.add_all([Team(name="north"), Team(name="south")])
    yield
    passwords.write_text(before)
    with create_session() as session:
        for team in session.query(Team):
            session.delete(team)


def made(client, **service):
    """A service, its need, and a draft."""
    answer = client.post(f"{API}/services", json=SERVICE | service)
    assert answer.status_code == 201, answer.text
    need = client.post(f"{API}/services/{answer.json()['id']}/needs", json=NEED).json()
    draft = client.post(f"{API}/requests", json={"need": need["id"], "title": "A place for floods"}).json()
    return answer.json(), need, draft


def test_a_creator_registers_a_service_says_what_it_needs_and_drafts_a_request(login):
    creator = login("creator")
    service, need, draft = made(creator)
    assert (service["owner"], service["team"]) == ("creator", "")
    assert need["document"] == NEED
    assert draft["state"] == "draft"
    assert draft["wish"] == {"need": need["id"], "title": "A place for floods", "cloud": "", "days": 90}
    changed = creator.put(f"{API}/requests/{draft['id']}", json=draft["wish"] | {"days": 30}).json()
    assert (changed["wish"]["days"], changed["version"]) == (30, 2)
    said = creator.post(f"{API}/requests/{draft['id']}/comments", json={"text": "soon?"}).json()
    assert (said["by"], said["text"]) == ("creator", "soon?")

    viewer = login("viewer")
    assert viewer.get(f"{API}/services").json() == {"services": [service]}
    assert viewer.get(f"{API}/services/{service['id']}").json() == service
    assert viewer.get(f"{API}/services/{service['id']}/needs").json() == {"needs": [need]}
    assert viewer.get(f"{API}/requests").json() == {"requests": [changed]}
    assert viewer.get(f"{API}/requests/{draft['id']}").json() == changed
    assert viewer.get(f"{API}/requests/{draft['id']}/comments").json() == {"comments": [said]}
    rows = viewer.get(f"{API}/audit", params={"subject": draft["id"]}).json()["audit"]
    assert [row["what"] for row in rows] == ["comment written", "request rewritten", "request drafted"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_comes_in_without_a_login_and_viewers_change_nothing(login, method, path):
    assert login().request(method, API + path, json={}).status_code == 401
    if method != "GET":
        body = {
            "/services": SERVICE, "/services/srv-x/needs": NEED, "/requests/req-x/ask": {"version": 1},
            "/requests/req-x/comments": {"text": "x"},
        }.get(path, {"need": "need-x", "title": "x"})  # fmt: skip
        answer = login("viewer").request(method, API + path, json=body)
        assert (answer.status_code, "may look but not" in answer.text) == (403, True)


def test_each_team_has_its_own(teams, login):
    service, _, draft = made(login("alice"))
    assert service["team"] == draft["team"] == "north"
    bob = login("bob")
    assert bob.get(f"{API}/services").json() == {"services": []}
    assert bob.get(f"{API}/requests").json() == {"requests": []}
    assert bob.get(f"{API}/audit").json() == {"audit": []}
    body = draft["wish"]
    for method, path, given in [
        ("GET", f"/services/{service['id']}", None),
        ("GET", f"/services/{service['id']}/needs", None),
        ("POST", f"/services/{service['id']}/needs", NEED),
        ("POST", "/requests", body),
        ("GET", f"/requests/{draft['id']}", None),
        ("PUT", f"/requests/{draft['id']}", body),
        ("GET", f"/requests/{draft['id']}/comments", None),
        ("POST", f"/requests/{draft['id']}/ask", {"version": 1}),
        ("POST", f"/requests/{draft['id']}/comments", {"text": "mine now"}),
        ("GET", f"/requests?after={draft['id']}", None),
    ]:
        answer = bob.request(method, API + path, json=given)
        assert (answer.status_code, "that you may see" in answer.text) == (404, True), (method, path, answer.text)
    assert login("victor").get(f"{API}/requests").json()["requests"] == [draft]
    assert login("both").get(f"{API}/requests").json()["requests"] == [draft]
    assert login("admin").get(f"{API}/requests").json()["requests"] == [draft], "who operates the platform sees all"
    assert login("eve").get(f"{API}/requests").json()["requests"] == []


@pytest.mark.parametrize(
    ("user", "team", "said"),
    [
        ("alice", "south", "'south' is no team of yours; yours are north"),
        ("alice", ["north"], "is no team of yours"),
        ("both", None, "name the team; yours are north, south"),
        ("eve", None, "you belong to none"),
    ],
)
def test_nothing_is_made_for_a_team_that_is_not_ones_own(teams, login, user, team, said):
    answer = login(user).post(f"{API}/services", json=SERVICE | ({"team": team} if team else {}))
    assert (answer.status_code, said in answer.json()["detail"]) == (403, True), answer.text
    assert login("admin").get(f"{API}/services").json() == {"services": []}


def test_who_has_two_teams_names_one(teams, login):
    assert made(login("both"), team="south")[0]["team"] == "south"


@pytest.mark.parametrize(
    ("asked", "body", "code", "said"),
    [
        ("POST /services", {"name": "Maps"}, 422, "contact is missing"),
        ("POST /services", SERVICE | {"id": "srv-mine"}, 422, "there is no field 'id'"),
        ("POST /services", SERVICE | {"name": ["Maps"]}, 422, "name is list, not a text"),
        ("POST /services", SERVICE | {"repository": "https://me:pass@example.org/a.git"}, 422, "holds a user or a password"),
        ("POST /requests", {"need": "need-no", "title": "x"}, 404, "there is no need 'need-no'"),
        ("POST /requests", {"need": "need-no", "title": "x", "days": "many"}, 422, "days is 'many'"),
        ("GET /requests/req-no", None, 404, "there is no request 'req-no'"),
        ("GET /requests?state=lost", None, 422, "there is no 'lost'; there are draft, asked"),
        ("GET /requests?limit=0", None, 422, "1 to 100 rows"),
        ("GET /audit?after=x", None, 422, "no number of a row"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_do(login, asked, body, code, said):
    method, path = asked.split()
    answer = login("creator").request(method, API + path, json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (code, True), answer.text
    assert "me:pass" not in answer.text


def test_a_need_that_the_engine_refuses_is_refused_here(login):
    service, _, _ = made(login("creator"))
    answer = login("creator").post(f"{API}/services/{service['id']}/needs", json={"work": {"tiles": -1}})
    assert answer.status_code == 422
    assert "tiles" in answer.json()["detail"]


def test_what_was_sent_is_not_rewritten(login):
    _, _, draft = made(login("creator"))
    with Records() as records:
        records.change(draft["id"], Change(State.ASKED), Actor("creator"))
    answer = login("creator").put(f"{API}/requests/{draft['id']}", json=draft["wish"])
    assert (answer.status_code, "is asked and cannot be rewritten" in answer.text) == (409, True)


def test_a_draft_is_sent_as_it_was_read(login):
    creator = login("creator")
    _, _, draft = made(creator)
    changed = creator.put(f"{API}/requests/{draft['id']}", json=draft["wish"] | {"days": 7}).json()
    late = creator.post(f"{API}/requests/{draft['id']}/ask", json={"version": draft["version"]})
    assert (late.status_code, "was changed meanwhile" in late.text) == (409, True)
    assert creator.post(f"{API}/requests/{draft['id']}/ask", json={"version": "2"}).status_code == 422
    sent = creator.post(f"{API}/requests/{draft['id']}/ask", json={"version": changed["version"]}).json()
    assert sent["state"] == "asked"


def test_only_this_site_and_programs_may_send(login):
    browser = login("creator", cookie=True)
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert browser.post(f"{API}/services", json=SERVICE, headers=elsewhere).status_code == 403
    assert browser.post(f"{API}/services", content="name=x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert browser.post(f"{API}/services", json=SERVICE, headers={"Origin": "http://testserver"}).status_code == 201
