"""Published files: who gets them, what they may do in a browser, and what is never given."""

from __future__ import annotations

from urllib.parse import quote

import pytest

RUN = quote("manual__2026-01-01T00:00:00+00:00", safe="")
BASE = f"/earthself/runs/land_cover_map/{RUN}"


def test_a_user_of_the_workflow_reads_its_report(login, run_folder):
    for user in ("viewer", "creator", "admin"):
        answer = login(user).get(f"{BASE}/report.html")
        assert answer.status_code == 200
        assert answer.text == "<h1>report</h1>"
        assert answer.headers["content-type"].startswith("text/html")


def test_the_page_of_the_interface_reads_it_with_the_session_cookie(login, run_folder):
    assert login("viewer", cookie=True).get(f"{BASE}/report.html").status_code == 200


def test_without_a_login_nothing_is_given(login, run_folder):
    assert login().get(f"{BASE}/report.html").status_code == 401


def test_the_client_finds_them_below_its_own_address(login, run_folder):
    answer = login("viewer").get(f"/earthself/api/v1/runs/land_cover_map/{RUN}/files/result.json")
    assert answer.json() == {"status": "complete"}


def test_a_map_can_be_read_in_parts(login, run_folder):
    answer = login("viewer").get(f"{BASE}/land_cover.tif", headers={"Range": "bytes=256-259"})
    assert answer.status_code == 206
    assert answer.content == bytes([0, 1, 2, 3])


def test_a_report_has_no_scripts_and_none_of_the_sites_rights(login, run_folder):
    headers = login("viewer").get(f"{BASE}/report.html").headers
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        f"{BASE}/work",
        f"{BASE}/work/request.json",
        f"{BASE}/work%2Frequest.json",
        f"{BASE}/..%2F..%2F..%2Fsecret.txt",
        f"{BASE}/../../../secret.txt",
        f"{BASE}/.hidden",
        f"{BASE}/way_out.txt",
        f"{BASE}/%00report.html",
        f"{BASE}/no_such.html",
        "/earthself/runs/land_cover_map/..%2F..%2F..%2F../secret.txt",
        "/earthself/runs/..%2F../x/secret.txt",
        "/earthself/runs/land_cover_map/no_such_run/report.html",
        "/earthself/runs/land_cover_map/./report.html",
    ],
)
def test_nothing_but_published_files_is_given(login, run_folder, path):
    answer = login("admin").get(path)
    assert "secret" not in answer.text.replace("secret.txt", "")
    assert answer.status_code in (404, 400) or "text/html" in answer.headers["content-type"], "normalised paths end at Airflow's own pages"
    assert answer.text != "<h1>report</h1>"


def test_an_unfinished_run_has_published_nothing(login, run_folder):
    (run_folder / "result.json").unlink()
    assert login("viewer").get(f"{BASE}/report.html").status_code == 404


def test_files_cannot_be_written(login, run_folder):
    assert login("admin").put(f"{BASE}/report.html", content="x").status_code == 405
    assert login("admin").delete(f"{BASE}/report.html").status_code == 405
