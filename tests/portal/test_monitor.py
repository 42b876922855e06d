"""The page of the watched areas, their freshness by REST, and results that are out of date."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
import signed

SAID = {
    "since": "2026-06-01T12:00:00Z",
    "products": [{"product": "OLD", "baseline": "N0400", "observation": "o", "superseded_by": "<b>NEW</b>", "newer_baseline": "N0510"}],
    "next": "order the map again",
}


@pytest.fixture
def watched(run_folder):
    """An area with a promise: one acquisition in time, one lost."""
    from earthself.data.area import Area
    from earthself.triggers.memory import WAITING, Budget, Memory, Run, Sighting
    from earthself.triggers.watch import Goal, Watch

    now = datetime.now(UTC)
    run = Run("earthsignature_monitor", "r")
    with Memory() as memory:
        memory.watch(
            Watch("earthself_monitor:<fields>", Area.from_conf(signed.product("x")["bbox"]), goal=Goal(12)), now - timedelta(days=9)
        )
        for number in range(2):
            at = now - timedelta(days=3 + number)
            memory.sight("earthself_monitor:<fields>", [Sighting(signed.product(f"P{number}"), WAITING, "", at, None, 0)], at)
        memory.claim(["earthself_monitor:<fields>"], run, Budget(), now - timedelta(days=3))
        memory.stored(run, "P0", None, now - timedelta(days=3) + timedelta(hours=2))
        memory.lost(run, "P1", "B04 is damaged", now - timedelta(days=3), retry=False)
    return run_folder


def test_freshness_by_rest(login, watched) -> None:
    (area,) = login("viewer").get("/earthself/api/v1/freshness").json()["areas"]
    assert (area["share"], area["met"], area["causes"], area["median_hours"]) == (0.5, False, {"processing failed": 1}, 2.0)
    assert login().get("/earthself/api/v1/freshness").status_code == 401
    assert login("viewer").get("/earthself/api/v1/freshness?days=0").status_code == 422
    assert login("viewer").get("/earthself/api/v1/freshness?days=nan").status_code == 422


def test_the_page_shows_areas_with_a_plot_and_no_scripts(login, watched) -> None:
    answer = login("viewer", cookie=True).get("/earthself/monitor")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "earthself_monitor:&lt;fields&gt;" in answer.text
    assert "50% of 2 acquisitions in time (95% within 12 h); late: processing failed 1" in answer.text
    assert answer.text.count("<circle") == 2
    assert "P1: not stored (processing failed)" in answer.text
    assert "<script" not in answer.text
    assert login().get("/earthself/monitor").status_code == 401


def test_an_empty_platform_says_how_to_begin(login, run_folder) -> None:
    assert "Set the Airflow Variable" in login("viewer").get("/earthself/monitor").text


def test_results_that_are_out_of_date_are_listed_and_their_report_says_so(login, run_folder) -> None:
    place = f"/earthself/runs/land_cover_map/{quote(run_folder.name, safe='')}/report.html"
    (run_folder / "report.html").write_text("<html><body class='x'><h1>report</h1></body></html>")
    assert login("viewer").get("/earthself/api/v1/outdated").json() == {"results": []}
    plain = login("viewer").get(place).text
    (run_folder / "outdated.json").write_text(json.dumps(SAID))
    (result,) = login("viewer").get("/earthself/api/v1/outdated").json()["results"]
    assert (result["run_id"], result["products"][0]["product"]) == (run_folder.name, "OLD")
    told = login("viewer").get(place)
    assert "out of date since 2026-06-01T12:00:00Z" in told.text
    assert "&lt;b&gt;NEW&lt;/b&gt; instead of OLD" in told.text
    assert told.text.index("out of date") < told.text.index("<h1>")
    assert told.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert (run_folder / "report.html").read_text() == plain, "the file stays as it was published"
    file = login("viewer").get(f"/earthself/api/v1/runs/land_cover_map/{quote(run_folder.name, safe='')}/files/report.html")
    assert file.text == plain
    assert run_folder.name in login("viewer").get("/earthself/monitor").text


def test_results_of_workflows_that_one_may_not_see_are_not_listed(login, run_folder, monkeypatch) -> None:
    from earthself.portal import rights

    (run_folder / "outdated.json").write_text(json.dumps(SAID))
    monkeypatch.setattr(rights, "may_see_runs", lambda _user, _dag_id: False)
    assert login("viewer").get("/earthself/api/v1/outdated").json() == {"results": []}


def test_the_page_stands_in_the_navigation(login) -> None:
    plugins = login("admin").get("/api/v2/plugins").json()["plugins"]
    views = [view for plugin in plugins for view in plugin["external_views"]]
    assert any(view["href"] == "/earthself/monitor" for view in views)
