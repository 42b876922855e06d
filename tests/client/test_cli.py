"""The command line as a shell sees it: exit codes, JSON, help, plugged-in commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

EARTHSELF = str(Path(sys.executable).with_name("earthself"))
ORDER = ["--area", "14.2,48.2,14.4,48.3", "--start", "2017-06-13", "--end", "2017-06-14"]


@pytest.fixture
def url(server) -> Iterator[str]:
    """The fake server on a real port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = server(httpx.Request(self.command, f"http://server{self.path}", headers=dict(self.headers), content=body))
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_parts: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def earthself(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EARTHSELF, *arguments], env={**os.environ, **environ}, capture_output=True, text=True, timeout=60, check=False)


def as_creator(url: str) -> dict[str, str]:
    return {"EARTHSELF_URL": url, "EARTHSELF_USER": "creator", "EARTHSELF_PASSWORD": "right"}


def test_a_run_shows_its_areas_and_where_its_files_are(url, server) -> None:
    server.publish()
    done = earthself("run", *ORDER, **as_creator(url))
    assert done.returncode == 0, done.stderr
    assert "Agricultural areas" in done.stdout
    assert "60.0" in done.stdout
    assert f"files in {server.folder}/" in done.stdout
    assert "search" in done.stderr, "progress goes to standard error"
    assert "estimate: 2 products from earth_search" in done.stderr


def test_json_is_one_document_on_standard_output(url, server) -> None:
    server.publish()
    told = json.loads(earthself("run", *ORDER, "--json", **as_creator(url)).stdout)
    assert told["result"]["status"] == "complete"
    assert [row["code"] for row in told["areas"]] == [2, 3, -1]
    assert json.loads(earthself("run", *ORDER, "--no-wait", "--json", **as_creator(url)).stdout)["run_id"] == "run+1"
    assert json.loads(earthself("estimate", *ORDER, "--json", **as_creator(url)).stdout)["products"] == 2
    assert json.loads(earthself("report", "--json", **as_creator(url)).stdout)["places"]["result.json"] == str(
        server.folder / "result.json"
    )


def test_a_failed_run_exits_1_with_the_reason(url, server) -> None:
    server.states, server.log = ["failed"], [{"event": "the provider is gone", "level": "error"}]
    done = earthself("run", *ORDER, **as_creator(url))
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (1, "error: search failed: the provider is gone")
    assert "not started: sign" in done.stderr
    assert "not started" in earthself("status", **as_creator(url)).stdout
    status = earthself("status", "--json", **as_creator(url))
    assert status.returncode == 1
    assert json.loads(status.stdout)["reason"] == "search failed: the provider is gone"


def test_a_request_that_cannot_be_done_exits_65(url, server) -> None:
    chain = [{"exc_type": "AirflowFailException"}, {"exc_type": "BadInput"}]
    server.states, server.log = ["failed"], [{"event": "no such provider", "level": "error", "error_detail": chain}]
    done = earthself("run", *ORDER, **as_creator(url))
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (65, "error: search failed: no such provider")


def test_an_estimate_of_nothing_says_why(url, server) -> None:
    server.estimates = [0, 0]
    sea = ["--area", "57,-4.1,57.1,-4", *ORDER[2:]]
    done = earthself("estimate", *sea, **as_creator(url))
    assert done.returncode == 0
    assert "no scene was found from 2017-06-13" in done.stdout
    assert "swapped it would lie on land" in done.stdout
    server.estimates = [0, 3]
    told = json.loads(earthself("estimate", *ORDER, "--json", **as_creator(url)).stdout)
    assert (told["products"], "3 cloudier ones exist" in told["advice"][0]) == (0, True)


def test_login_keeps_a_token_that_later_commands_use(url, server, tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = subprocess.run(
        [EARTHSELF, "login", "--url", url, "--user", "creator", "--password-stdin"],
        input="right\n",
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "logged in" in done.stdout
    server.publish()
    server.states = ["success"]
    assert earthself("status", **environ).returncode == 0
    server.valid.clear()
    expired = earthself("status", **environ)
    assert (expired.returncode, "earthself login" in expired.stderr) == (65, True)


def test_why_is_answered_in_lines_and_in_json(url, server) -> None:
    done = earthself("why", "-9.2,38.6,-9.1,38.7", "2017-06-13", **as_creator(url))
    assert done.returncode == 0, done.stderr
    assert "cloudy           P1 2017-06-13T10:10:31Z: 71 % clouds, over the limit of 60 %" in done.stdout
    assert "watched by earthself_monitor:salzach" in done.stdout
    assert json.loads(server.asked[-1].content) == {"area": [-9.2, 38.6, -9.1, 38.7], "time": "2017-06-13"}
    told = json.loads(earthself("why", "12,47,13,48", "2017-06-13/2017-06-20", "--json", **as_creator(url)).stdout)
    assert [reason["verdict"] for reason in told["reasons"]] == ["cloudy", "not published"]


def test_freshness_is_a_table_and_exits_1_where_a_promise_is_broken(url, server) -> None:
    done = earthself("status", "--freshness", "--days", "7", **as_creator(url))
    assert done.returncode == 1
    for word in ("earthself_monitor:salzach", "95% in 24 h", "80%", "7.2 h", "provider down 2", "since 2024-06-03T10:00: 80% of 10"):
        assert word in done.stdout, word
    assert "nothing is known of earthself_monitor:salzach since 2024-06-04T09:00: nobody asked; does Airflow's triggerer run" in done.stdout
    assert server.asked[-1].url.params["days"] == "7.0"
    told = json.loads(earthself("status", "--freshness", "--json", **as_creator(url)).stdout)
    assert told["areas"][0]["met"] is False


def test_results_that_are_out_of_date_are_listed(url, server) -> None:
    done = earthself("status", "--outdated", **as_creator(url))
    assert done.returncode == 0, done.stderr
    assert "land_cover_map manual__1, out of date since 2024-06-03" in done.stdout
    assert "OLD (N0400) is superseded by NEW (N0510)" in done.stdout
    assert json.loads(earthself("status", "--outdated", "--json", **as_creator(url)).stdout)[0]["run_id"] == "manual__1"


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "message"),
    [
        (["run"], {}, 2, "Missing option"),
        (["nonsense"], {}, 2, "No such command"),
        (["run", "--area", "48.2,114.2,48.3,114.4", "--start", "2017-06-13", "--end", "2017-06-14"], {}, 65, "swapped"),
        (
            ["run", "--area", "14,48,15,49", "--start", "13/6", "--end", "2017-06-14"],
            {"EARTHSELF_URL": "http://127.0.0.1:9", "EARTHSELF_TOKEN": "t"},
            65,
            "not a date",
        ),
        (["status"], {"EARTHSELF_URL": "http://127.0.0.1:9", "EARTHSELF_TOKEN": "t"}, 69, "make up"),
        (["status"], {"EARTHSELF_URL": "http://127.0.0.1:9"}, 65, "not logged in"),
        (["status", "run+1", "--outdated"], {}, 2, "one of them"),
        (["why", "12,47,13,48"], {}, 2, "Missing argument"),
        (["why", "12,47,13,48", "yesterday"], {}, 65, "not a date"),
        (["why", "12,47", "2017-06-13"], {}, 65, "four numbers"),
        (["why", "12,47,13,48", "2017-06-13"], {"EARTHSELF_URL": "http://127.0.0.1:9", "EARTHSELF_TOKEN": "t"}, 69, "make up"),
    ],
)
def test_slips_have_the_exit_codes_of_the_contract(arguments: list[str], environ: dict[str, str], code: int, message: str) -> None:
    done = earthself(*arguments, **environ)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_there_for_every_command() -> None:
    told = earthself("--help").stdout
    for command in ("login", "run", "estimate", "status", "why", "report", "replay", "clean"):
        assert command in told
        assert earthself(command, "--help").returncode == 0, command


def test_the_client_imports_neither_airflow_nor_anything_of_ours() -> None:
    heavy = {"airflow", "rasterio", "xarray", "numpy", "eodag", "shapely", "pandas"}
    code = (
        f"import sys, earthself.client.cli; print(*({heavy!r} & set(sys.modules)), *(n for n in sys.modules if n.startswith('earthself.')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in told if not name.startswith("earthself.client")] == []


def paged(runs: list[tuple[str, str]], total: int | None = None):
    """As Airflow lists runs: pages of what was asked for, and how many there are."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/api/v2/dags/~/dagRuns":
            return None
        assert sorted(request.url.params.get_list("state")) == ["queued", "running"]
        first, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        page = [{"dag_id": dag, "dag_run_id": run} for dag, run in runs[first : first + limit]]
        return httpx.Response(200, json={"dag_runs": page, "total_entries": len(runs) if total is None else total})

    return answer


def test_cleaning_leaves_alone_what_the_server_calls_unfinished(url, server, tmp_path: Path) -> None:
    for name in ("waits", "failed"):
        (tmp_path / "runs" / "land_cover_map" / name / "work").mkdir(parents=True)
        for path in (tmp_path / "runs" / "land_cover_map" / name).rglob("*"):
            os.utime(path, (0, 0))
        os.utime(tmp_path / "runs" / "land_cover_map" / name, (0, 0))
    server.refuse = paged([*(("benchmark_clouds", f"run{number}") for number in range(250)), ("land_cover_map", "waits")])
    place = {**as_creator(url), "EARTHSELF_WORKSPACE": str(tmp_path)}
    told = json.loads(earthself("clean", "--runs-days", "30", "--dry-run", "--json", **place).stdout)
    assert [each["path"] for each in told["removed"]] == ["runs/land_cover_map/failed"]
    assert told["running"] == ["land_cover_map/waits"]
    assert earthself("clean", "--runs-days", "30", **place).returncode == 0
    assert [path.name for path in (tmp_path / "runs" / "land_cover_map").iterdir()] == ["waits"]


def test_cleaning_without_an_answer_of_the_server_removes_nothing(url, server, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "land_cover_map" / "failed"
    run.mkdir(parents=True)
    os.utime(run, (0, 0))
    server.refuse = paged([("land_cover_map", "one")], total=2)
    place = {"EARTHSELF_WORKSPACE": str(tmp_path)}
    assert earthself("clean", **place, **as_creator(url)).returncode == 75
    assert earthself("clean", **place, **as_creator("http://127.0.0.1:9")).returncode == 69
    assert earthself("clean", "--no-such-option", **place, **as_creator(url)).returncode != 0
    assert run.is_dir()
    done = earthself("clean", "--offline", "--dry-run", **place)
    assert (done.returncode, "runs/land_cover_map/failed" in done.stdout) == (0, True)
    assert earthself("clean", "--offline", "--no-such-option", **place).returncode == 2
    assert "--results-days" in earthself("clean-workspace", "--help").stdout
    assert run.is_dir()
