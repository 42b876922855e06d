"""`POST /earthself/api/v1/suggestions` as a program and as a browser meets it, over a database with a few offers and samples."""

from __future__ import annotations

import json
from importlib import resources

import jsonschema
import pytest
from earthself.benchmark import suggest
from earthself.benchmark.offers.catalogue import Catalogue
from earthself.benchmark.offers.model import Rate, Source
from earthself.benchmark.suggestion.document import document

from tests.benchmark.clouds import FIGURES, NEED, TODAY
from tests.benchmark.kept import keep

PATH = "/earthself/api/v1/suggestions"
RUN = "/earthself/runs/land_cover_map/manual__2026-01-01T00:00:00%2B00:00/suggestions/suggest"


def of_engine(name):
    return json.loads((resources.files("earthself.benchmark") / "schemas" / f"{name}.schema.json").read_text())


@pytest.fixture
def known(run_folder):
    keep()


def test_a_need_is_answered_as_the_engine_answers_it(login, known):
    answer = login("viewer").post(PATH, json=NEED)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    jsonschema.validate(found, of_engine("answer"))
    assert found == document(suggest(NEED))
    best = found["choices"][0]
    assert (best["cloud"], best["region"], best["offer"], best["rank"]) == ("north", "n1", "m4", 1)
    assert login("viewer").post(PATH, json=NEED).content == answer.content


def test_a_person_gets_a_page_without_scripts_and_without_the_sites_rights(login, known):
    title = "<script>alert(1)</script>"
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    answer = login("viewer", cookie=True).post(PATH, json=NEED | {"title": title}, headers=browser)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "Run it on m4 of north in n1" in answer.text
    assert title not in answer.text
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/json, text/html", "application/json"),
        ("application/json;q=0.5, text/html;q=0.9", "text/html"),
        ("text/html;q=0", "application/json"),
        ("text/html;q=magic, ;;,", "application/json"),
    ],
)
def test_programs_get_json_unless_they_prefer_the_page(login, known, accept, kind):
    answer = login("viewer").post(PATH, json=NEED, headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(kind)


def test_an_answer_is_made_once_for_a_state_of_what_is_known(login, known, monkeypatch):
    from earthself.benchmark.suggestion import engine

    client, made, answered = login("viewer"), [], engine.answer
    monkeypatch.setattr(engine, "answer", lambda *given: made.append(1) or answered(*given))
    need = NEED | {"title": "once"}
    first = client.post(PATH, json=need).json()
    assert client.post(PATH, json=dict(reversed(need.items()))).json() == first
    assert len(made) == 1
    with Catalogue() as catalogue:
        catalogue.add([Rate("NOK", 0.08, Source("a table", "", TODAY))])
    assert client.post(PATH, json=need).json()["state"] != first["state"]
    assert len(made) == 2


def test_without_a_login_it_is_401_and_without_a_role_403(login, known):
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="guest", role=None))
    guest = {"Authorization": f"Bearer {token}"}
    assert login().post(PATH, json=NEED).status_code == 401
    assert login().get(f"{PATH}/schema").status_code == 401
    refused = login().post(PATH, json=NEED, headers=guest)
    assert refused.status_code == 403
    assert refused.json()["detail"] == "guest may not see workflows; ask the operator of the platform for the right"
    assert login().get(f"{PATH}/schema", headers=guest).status_code == 403


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"work": {"tiles": 0}}, "work"),
        ({"machine": {"vcpus": -1}}, "machine.vcpus: "),
        ({"coulds": ["ovh"]}, "'coulds' was unexpected"),
        ({"profile": "unheard_of"}, "profile: nobody has measured 'unheard_of'"),
        ({"clouds": ["ovh"], "not_clouds": ["ovh"]}, "contradicts itself: clouds and not_clouds both name ovh"),
        ({"collections": ["S2_MSI_L2"]}, "EODAG knows no collection 'S2_MSI_L2'"),
        ({"profile": FIGURES | {"cpu_seconds": 10**400}}, "profile"),
        ({"work": {"area": [0, 0, 1, 95], "times": 1}}, "work.area: "),
    ],
)
def test_a_bad_need_is_422_with_place_and_reason(login, known, change, says):
    answer = login("viewer").post(PATH, json=NEED | change)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert answer.json()["retry"] is False


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"work=1", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"null", "application/json", 422),
        (b'{"work": {"tiles": NaN}}', "application/json", 422),
        (b'{"work": {"tiles": 1}, "title": "\\ud800"}', "application/json", 422),
        (b'{"work": {"tiles": 1}, "title": "\xed\xa0\x80"}', "application/json", 422),
        (b'{"work": ' + b'{"area":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "application/json", 422),
        (b'{"title": "' + b"x" * 5_000_000 + b'"}', "application/json", 413),
    ],
)
def test_only_json_objects_of_moderate_size_are_read(login, known, content, kind, code):
    answer = login("viewer").post(PATH, content=content, headers={"Content-Type": kind})
    assert answer.status_code == code
    assert answer.json()["detail"]


def test_a_page_of_another_site_cannot_use_the_session(login, known):
    client = login("viewer", cookie=True)
    assert client.post(PATH, json=NEED, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post(PATH, json=NEED, headers={"Origin": "http://testserver"}).status_code == 200


def test_a_database_that_is_away_is_503_without_its_secrets(login, run_folder, monkeypatch):
    monkeypatch.setenv("EARTHSELF_DATABASE_URL", "postgresql+psycopg://someone:hunter2@127.0.0.1:1/platform")
    answer = login("viewer").post(PATH, json=NEED)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["retry"] is True
    assert "check EARTHSELF_DATABASE_URL" in answer.json()["detail"]
    assert "hunter2" not in answer.text


def test_so_many_ask_at_once_and_the_next_is_told_to_come_again(login, known):
    from earthself.portal import app

    client = login("viewer")
    taken = [app._suggestions.acquire(blocking=False) for _ in range(app._AT_ONCE)]
    try:
        answer = client.post(PATH, json=NEED)
    finally:
        for _ in filter(None, taken):
            app._suggestions.release()
    assert all(taken), "an earlier request has kept its place"
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert client.post(PATH, json=NEED).status_code == 200


def test_forms_get_the_schema_of_a_need(login, run_folder):
    answer = login("viewer").get(f"{PATH}/schema")
    assert answer.json() == of_engine("need")


def test_the_description_of_the_interface_holds_both_schemas(login, known):
    described = login().get("/earthself/api/v1/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert described["servers"] == [{"url": "/earthself"}]
    asked = described["paths"]["/api/v1/suggestions"]["post"]
    need = asked["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(need)
    for one in (NEED, {"work": {"tiles": 1}, "weights": {"cost": 2}, "clouds": ["ovh"]}):
        jsonschema.validate(one, need)
    for bad in ({}, NEED | {"weights": {"cost": -1}}, NEED | {"profile": {"cpu_seconds": 1}}, NEED | {"clouds": [""]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, need)
    answer = asked["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(login("viewer").post(PATH, json=NEED).json(), answer)
    assert {"401", "403", "413", "415", "422", "503"} <= set(asked["responses"])
    assert "$defs" not in json.dumps(asked)


def test_what_a_task_was_answered_is_shown_to_who_may_see_its_run(login, run_folder):
    folder = run_folder / "suggestions" / "suggest"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<h1>suggested</h1>")
    (folder / "answer.json").write_text("{}")
    (folder / "notes.txt").write_text("secret")
    (folder / "answer.part.json").symlink_to(run_folder / "work" / "request.json")
    page = login("viewer").get(f"{RUN}/report.html")
    assert page.text == "<h1>suggested</h1>"
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert login("viewer").get(f"{RUN}/answer.json").json() == {}
    assert login().get(f"{RUN}/report.html").status_code == 401
    for way in ("notes.txt", "answer.part.json", "..%2Freport.html", "%2E%2E/report.html", "../../work/request.json"):
        answer = login("admin").get(f"{RUN}/{way}")
        assert "secret" not in answer.text
        assert answer.status_code == 404 or answer.text == "<h1>report</h1>"
    (folder / "answer.json").unlink()
    (folder / "answer.json").symlink_to(run_folder / "work" / "request.json")
    assert login("admin").get(f"{RUN}/answer.json").status_code == 404
