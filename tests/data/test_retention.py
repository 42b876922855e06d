"""Retention in a workspace: what the rules name goes whole, what runs or is published stays, and being killed in between harms nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from earthself.data.cleaning import main
from earthself.data.errors import BadInput, TryAgain
from earthself.data.results import changing_catalog, href, listed
from earthself.data.retention import Rules, clean
from earthself.data.workspace import RunFolder, Workspace, write_json

HOUR, DAY = 3600.0, 86400.0
NOW = time.time()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "workspace").mkdir()
    return Workspace(tmp_path / "workspace")


def age(path: Path, seconds: float) -> None:
    """Make everything at or below a path look unchanged for so long."""
    for each in (*path.rglob("*"), path):
        os.utime(each, (NOW - seconds, NOW - seconds), follow_symlinks=False)


def make_run(workspace: Workspace, name: str, status: str | None, days: float) -> RunFolder:
    """A run as it is left: `complete` with a map in the catalogue, `empty`, or None for one that failed or still runs."""
    run = workspace.run("land_cover_map", name)
    (run.work / "mosaic").mkdir(parents=True)
    (run.work / "mosaic" / "land_cover.tif").write_bytes(b"m" * 100_000)
    (run.work / "signed.tif").write_bytes(b"s" * 50_000)
    write_json(run.request, {"title": name})
    if status == "complete":
        os.link(run.work / "mosaic" / "land_cover.tif", run.land_cover)
        write_json(run.item, {"properties": {"title": name}})
        with changing_catalog(workspace.catalog) as links:
            links.append({"rel": "item", "href": href(run), "title": name})
    if status:
        write_json(run.result, {"status": status, "outputs": {"item": "item.json"} if status == "complete" else {}})
    age(run.path, days * DAY)
    return run


def gone(workspace: Workspace, rules: Rules, **options: object) -> set[tuple[str, str]]:
    return {(each.kind, each.path) for each in clean(workspace, rules, **options).disposals if each.error is None}


def test_only_what_the_rules_name_goes(workspace: Workspace) -> None:
    old = make_run(workspace, "old", "complete", 400)
    new = make_run(workspace, "new", "complete", 0.1)
    failed = make_run(workspace, "failed", None, 100)
    failed_lately = make_run(workspace, "failed_lately", None, 10)
    empty = make_run(workspace, "empty", "empty", 100)
    before = workspace.catalog.read_bytes()
    assert gone(workspace, Rules()) == {
        ("work", "runs/land_cover_map/old/work"),
        ("run", "runs/land_cover_map/failed"),
        ("run", "runs/land_cover_map/empty"),
    }
    assert old.land_cover.read_bytes() == b"m" * 100_000
    assert (old.work.exists(), failed.path.exists(), empty.path.exists()) == (False, False, False)
    assert (new.work / "signed.tif").is_file()
    assert (failed_lately.work / "signed.tif").is_file()
    assert workspace.catalog.read_bytes() == before
    assert gone(workspace, Rules()) == set()
    assert [path.name for path in (workspace.root / ".trash").iterdir()] == [".lock"]


def test_nothing_goes_where_every_rule_is_for_ever(workspace: Workspace) -> None:
    make_run(workspace, "old", "complete", 4000)
    make_run(workspace, "failed", None, 4000)
    assert gone(workspace, Rules(0, 0, 0)) == set()


def test_results_go_only_where_they_are_named_and_leave_the_catalogue(workspace: Workspace) -> None:
    old, new = make_run(workspace, "old", "complete", 400), make_run(workspace, "new", "complete", 100)
    assert gone(workspace, Rules(results_days=365)) == {
        ("result", "runs/land_cover_map/old"),
        ("work", "runs/land_cover_map/new/work"),
    }
    assert not old.path.exists()
    assert listed(workspace.catalog) == {"./catalog.json", href(new)}


def test_a_result_outlives_its_own_document(workspace: Workspace) -> None:
    """Killed while it was published anew, or damaged: the catalogue or the file's presence says that there is one."""
    halfway, damaged = make_run(workspace, "halfway", "complete", 400), make_run(workspace, "damaged", "complete", 400)
    halfway.result.unlink()
    damaged.result.write_text("{")
    with changing_catalog(workspace.catalog) as links:
        links[:] = [link for link in links if link["href"] != href(damaged)]
    for run in (halfway, damaged):
        age(run.path, 400 * DAY)
    assert not {path for kind, path in gone(workspace, Rules(runs_days=1)) if kind == "run"}
    assert halfway.land_cover.is_file()
    assert damaged.land_cover.is_file()


def test_a_run_that_is_not_finished_is_left_alone(workspace: Workspace) -> None:
    waits = make_run(workspace, "waits", None, 200)
    again = make_run(workspace, "again", "complete", 200)
    busy = make_run(workspace, "busy", None, 200)
    (busy.work / "log").write_text("a line, just now")
    (again.work / ".x.part").write_text("of the task that runs")
    age(again.work / ".x.part", 100 * DAY)
    unfinished = {("land_cover_map", "waits"), ("land_cover_map", "again"), ("other", "unheard_of"), ("not a", "../folder")}
    found = clean(workspace, Rules(1, 1, 1), unfinished)
    assert found.disposals == ()
    assert found.running == ("land_cover_map/again", "land_cover_map/waits")
    assert all((run.work / "signed.tif").is_file() for run in (waits, again, busy))


def test_a_dry_run_says_the_same_and_touches_nothing(workspace: Workspace) -> None:
    make_run(workspace, "old", "complete", 400)
    make_run(workspace, "failed", None, 100)
    before = {path: path.lstat().st_mtime for path in workspace.root.rglob("*")}
    dry = clean(workspace, Rules(), dry_run=True)
    assert {path: path.lstat().st_mtime for path in workspace.root.rglob("*")} == before
    done = clean(workspace, Rules())
    assert [(each.path, each.size) for each in done.disposals] == [(each.path, each.size) for each in dry.disposals]
    assert done.size == dry.size > 150_000


def test_the_bytes_are_those_that_the_disk_gets_back(workspace: Workspace) -> None:
    """A result shares its rasters with the working files by hard links: they are freed with the last name."""
    make_run(workspace, "old", "complete", 400)
    (work,) = clean(workspace, Rules(), dry_run=True).disposals
    assert 50_000 <= work.size < 100_000
    (result,) = clean(workspace, Rules(results_days=1), dry_run=True).disposals
    assert result.size >= 150_000


def test_leftovers_of_killed_writers_go_and_fresh_ones_stay(workspace: Workspace) -> None:
    run = make_run(workspace, "failed", None, 2)
    old = [
        ".land_cover.123-0a1b2c3d.part.tif",
        ".in.part/x.tif",
        ".out.partial/catalog.json",
        ".out.old/catalog.json",
        ".B04.jp2.part.json",
    ]
    for name in old:
        path = run.work / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1")
    (run.path / ".publish").mkdir()
    age(run.path, 2 * DAY)
    (run.work / ".B05.jp2.part").write_bytes(b"1")
    (run.work / "my.part").write_bytes(b"1")
    (run.work / ".hidden").write_bytes(b"1")
    found = gone(workspace, Rules())
    assert {Path(path).name for _, path in found} == {Path(name).parts[0] for name in old} | {".publish"}
    assert {kind for kind, _ in found} == {"leftover"}
    assert sorted(path.name for path in run.work.iterdir() if "part" in path.name or "hid" in path.name) == [
        ".B05.jp2.part",
        ".hidden",
        "my.part",
    ]


def test_downloads_stay_while_a_run_that_may_go_on_names_them(workspace: Workspace) -> None:
    run = make_run(workspace, "running", None, 5)
    for name in ("S2A_ONE", "S2A_TWO", "S2A_NEW"):
        (workspace.downloads / name).mkdir(parents=True)
        (workspace.downloads / name / "B04.jp2").write_bytes(b"1" * 10_000)
        age(workspace.downloads / name, 5 * DAY if name != "S2A_NEW" else HOUR)
    write_json(run.work / "downloaded" / "item.json", {"assets": {"B04": {"href": str(workspace.downloads / "S2A_ONE" / "B04.jp2")}}})
    age(run.path, 5 * DAY)
    assert gone(workspace, Rules(), unfinished={("land_cover_map", "running")}) == {("download", "downloads/S2A_TWO")}
    assert gone(workspace, Rules()) == {("download", "downloads/S2A_ONE")}


_KILLED = """
import os, sys, time
from earthself.data import retention
from earthself.data.workspace import Workspace
def stop(path):
    os.kill(os.getpid(), 9)
if sys.argv[2] == "renamed":
    retention._delete = stop
elif sys.argv[2] == "unlisted":
    retention.Path.rename = lambda *_: stop(None)
else:
    rmtree, retention.shutil.rmtree = retention.shutil.rmtree, lambda path: (next(p for p in path.rglob("*.tif")).unlink(), stop(path))
retention.clean(Workspace(sys.argv[1]), retention.Rules(results_days=365))
"""


@pytest.mark.parametrize("when", ["unlisted", "renamed", "half deleted"])
def test_killed_in_between_nothing_half_is_seen_and_the_next_one_finishes(workspace: Workspace, when: str) -> None:
    old = make_run(workspace, "old", "complete", 400)
    done = subprocess.run([sys.executable, "-c", _KILLED, str(workspace.root), when], check=False)
    assert done.returncode == -9
    assert href(old) not in listed(workspace.catalog)
    if when == "unlisted":
        assert (old.path / "land_cover.tif").is_file()
        assert old.result.is_file()
    else:
        assert not old.path.exists()
    clean(workspace, Rules(results_days=365))
    assert not old.path.exists()
    assert [path.name for path in (workspace.root / ".trash").iterdir()] == [".lock"]


def test_two_cleanings_do_not_meet(workspace: Workspace) -> None:
    (workspace.root / ".trash").mkdir()
    with (workspace.root / ".trash" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TryAgain, match="another process cleans"):
            clean(workspace, Rules())
        clean(workspace, Rules(), dry_run=True)


def test_what_cannot_be_removed_is_said_and_the_rest_goes(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    stuck, free = make_run(workspace, "a", None, 100), make_run(workspace, "b", None, 100)
    busy = subprocess.run(["chattr", "+i", str(stuck.path)], check=False, capture_output=True)
    if busy.returncode:
        pytest.skip("needs a file system on which root may make a folder immutable: chattr +i")
    try:
        assert main(["--workspace", str(workspace.root), "--json"]) == 1
    finally:
        subprocess.run(["chattr", "-i", str(stuck.path)], check=True)
    told = json.loads(capsys.readouterr().out)
    assert [(each["path"], "mend its rights and clean again" in each["error"]) for each in told["failed"]] == [
        ("runs/land_cover_map/a", True)
    ]
    assert not free.path.exists()
    assert (stuck.work / "signed.tif").is_file()


def test_a_run_that_wakes_up_meanwhile_is_left_alone(workspace: Workspace) -> None:
    run = make_run(workspace, "wakes", None, 100)
    asked: list[float] = []

    def now() -> float:
        asked.append(0)
        if len(asked) == 3:
            (run.work / "log").write_text("a line, just now")
        return NOW

    (found,) = clean(workspace, Rules(), now=now).disposals
    assert found.error == "it is being changed; the next cleaning looks at it again"
    assert (run.work / "signed.tif").is_file()


def test_a_damaged_catalogue_stops_everything(workspace: Workspace) -> None:
    run = make_run(workspace, "failed", None, 100)
    workspace.catalog.parent.mkdir(exist_ok=True)
    for text in ("{", "{}", '{"links": [1]}'):
        workspace.catalog.write_text(text)
        with pytest.raises(BadInput, match=r"catalog.json is (not JSON|no catalogue)"):
            clean(workspace, Rules())
    assert run.path.exists()


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"runs": 3}', '{"runs_days": "3"}', '{"runs_days": -1}', '{"runs_days": true}', '{"runs_days": 0.5}']
)
def test_rules_that_are_none_are_refused(text: str, monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    monkeypatch.setenv("EARTHSELF_RETENTION", text)
    with pytest.raises(BadInput, match="runs_days"):
        Rules.from_env()
    assert main(["--workspace", str(workspace.root)]) == 65


def test_the_command_takes_its_rules_from_the_environment_and_its_options(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, "old", "complete", 400)
    make_run(workspace, "failed", None, 10)
    make_run(workspace, "waits", None, 10)
    monkeypatch.setenv("EARTHSELF_RETENTION", '{"runs_days": 5, "scratch_hours": 0}')
    monkeypatch.setenv("EARTHSELF_WORKSPACE", str(workspace.root))
    waits = ["--unfinished", '[["land_cover_map", "waits"]]']
    assert main(["--dry-run", "--json", *waits]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["path"] for each in told["removed"]] == ["runs/land_cover_map/failed"]
    assert (told["dry_run"], told["running"], told["failed"]) == (True, ["land_cover_map/waits"], [])
    assert told["bytes"] == sum(each["size"] for each in told["removed"])
    assert main(["--dry-run", "--runs-days", "50", "--scratch-hours", "24", *waits]) == 0
    text = capsys.readouterr().out
    assert "runs/land_cover_map/old/work" in text
    assert "would be freed; " in text
    assert main(waits) == 0
    assert " freed; " in capsys.readouterr().out
    assert not (workspace.root / "runs/land_cover_map/failed").exists()
    assert main(["--unfinished", "nonsense"]) == 65
    assert main(["--workspace", str(workspace.root / "none")]) == 65
    with pytest.raises(SystemExit, match="2"):
        main(["--no-such-option"])
    shutil.rmtree(workspace.root)
