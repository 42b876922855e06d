"""The engine of this machine: real folders, a real git repository, a token that EarthSignature knows, and nothing left of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from earthself.provision import BadOrder, Builder, EngineBusy, EngineFailed, Journal, Level, NoQuota, Order, Patience, Quota, Stage, Status
from earthself.provision.engines.local import LocalEngine
from earthself.signature.access import Access, TokenFile
from earthself.signature.errors import NotAuthenticated

SERVICES = {"airflow": "http://127.0.0.1:8080", "signature": "127.0.0.1:50051"}
ORDER = {
    "request": "req-abc",
    "team": "north",
    "owner": "ada; rm -rf ~ '洪'",
    "level": Level.WAAS,
    "until": date(2099, 1, 1),
    "quota": Quota(storage_gb=0.1),
}
LIVE = """
import sys
from datetime import date
from pathlib import Path
from earthself.provision import Builder, Journal, Level, Order, Quota
from earthself.provision.engines.local import LocalEngine
root, url, what = sys.argv[1:]
order = Order("req-abc", "north", "ada", Level.WAAS, date(2099, 1, 1), Quota(storage_gb=0.1))
engine = LocalEngine(Path(root) / "environments", Path(root) / "tokens.json", {})
with Journal(url) as journal:
    building = Builder(engine, journal, note=lambda said: print(said, flush=True) or sys.stdin.readline())
    building.apply(engine.plan(order)) if what == "apply" else building.remove("req-abc")
"""


@pytest.fixture
def engine(tmp_path):
    return LocalEngine(tmp_path / "environments", tmp_path / "tokens.json", SERVICES)


@pytest.fixture
def journal(tmp_path):
    with Journal(f"sqlite:///{tmp_path / 'journal.db'}") as kept:
        yield kept


def order(**kwargs):
    return Order(**ORDER | kwargs)


def built(engine, journal, **kwargs):
    building = Builder(engine, journal, Patience(seconds=5, pause=0.05))
    building.apply(engine.plan(order(**kwargs)))
    return building


def test_an_environment_has_what_its_owner_needs_and_nobody_else_reads_it(engine, journal, tmp_path):
    building = built(engine, journal)
    home = engine.root / "req-abc"
    assert sorted(path.name for path in home.iterdir()) == ["environment.json", "repository.git", "storage", "token.json"]
    assert {(home / name).stat().st_mode & 0o777 for name in (".", "storage")} == {0o700}
    assert (home / "token.json").stat().st_mode & 0o777 == 0o600
    given = json.loads((home / "token.json").read_text())
    assert {name: given[name] for name in SERVICES} == SERVICES
    access = Access(TokenFile(engine.tokens))
    access.check((("authorization", f"Bearer {given['token']}"),), "write")
    account = json.loads((home / "environment.json").read_text())
    assert (account["request"], account["owner"], account["quota"]["storage_gb"]) == ("req-abc", ORDER["owner"], 0.1)

    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(home / "repository.git"), str(clone)], check=True)
    assert 'dag_id="first_req_abc"' in (clone / "first.py").read_text()
    compile((clone / "first.py").read_text(), "first.py", "exec")
    assert {seen.status for seen in building.look("req-abc").values()} == {Status.READY}
    assert "token req-abc" in engine.left("req-abc")

    assert building.remove("req-abc") == []
    assert engine.left("req-abc") == []
    assert list(engine.root.iterdir()) == []
    with pytest.raises(NotAuthenticated):
        access.check((("authorization", f"Bearer {given['token']}"),), "write")


def test_the_token_is_in_no_other_place(engine, journal, tmp_path):
    built(engine, journal)
    token = json.loads((engine.root / "req-abc" / "token.json").read_text())["token"]
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert holding == [engine.root / "req-abc" / "token.json"]


def test_a_creators_own_repository_is_left_alone(engine, journal):
    built(engine, journal, repository="https://example.org/floods.git")
    home = engine.root / "req-abc"
    assert not (home / "repository.git").exists()
    assert json.loads((home / "environment.json").read_text())["repository"] == "https://example.org/floods.git"


def test_what_it_cannot_make_is_refused_before_anything_is(engine):
    with pytest.raises(BadOrder, match="the engine local makes no kaas"):
        engine.plan(order(level=Level.KAAS))
    with pytest.raises(NoQuota, match=r"storage: 1e\+09 GB are wanted and \d+ are free"):
        engine.plan(order(quota=Quota(storage_gb=1e9)))
    assert "no isolation" in engine.plan(order()).notes[0]
    assert engine.left("req-abc") == []


def test_a_token_that_only_one_side_knows_is_made_anew(engine, journal):
    building = built(engine, journal)
    handed = engine.root / "req-abc" / "token.json"
    before = handed.read_text()
    TokenFile(engine.tokens).remove("req-abc")
    assert building.look("req-abc")["token/req-abc"].status is Status.BROKEN
    building.apply(engine.plan(order()))
    assert handed.read_text() != before
    assert building.look("req-abc")["token/req-abc"].status is Status.READY


def test_others_with_similar_names_are_not_touched(engine, journal):
    built(engine, journal)
    building = built(engine, journal, request="req-abcd")
    building.remove("req-abc")
    assert {seen.status for seen in building.look("req-abcd").values()} == {Status.READY}
    assert engine.left("req-abcd")
    assert not engine.left("req-abc")


def test_a_folder_that_cannot_go_is_listed_and_goes_later(engine, journal, monkeypatch):
    building = built(engine, journal)
    remove = __import__("shutil").rmtree

    def stuck(path, *args, **kwargs):
        if Path(path).name == "storage":
            raise OSError(16, "Device or resource busy", str(path))
        remove(path, *args, **kwargs)

    monkeypatch.setattr("earthself.provision.engines.local.shutil.rmtree", stuck)
    left = building.remove("req-abc")
    assert [(one.resource.kind, one.stage) for one in left] == [("folder", Stage.MADE), ("storage", Stage.GOING)]
    assert "Device or resource busy" in left[1].error
    monkeypatch.undo()
    assert building.remove("req-abc") == []
    assert engine.left("req-abc") == []


def test_a_list_of_tokens_that_cannot_be_read_is_said(engine, journal):
    engine.tokens.write_text("no list")
    engine.tokens.chmod(0o600)
    with pytest.raises(EngineFailed, match=r"token/req-abc could not be made: .* is no list of tokens"):
        built(engine, journal)
    assert not (engine.root / "req-abc" / "token.json").exists()
    engine.tokens.unlink()
    assert Builder(engine, journal).remove("req-abc") == []


def test_a_full_disk_is_said_and_leaves_no_half_file(engine, journal, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "token.json")

    monkeypatch.setattr("earthself.provision.engines.files.os.fsync", full)
    with pytest.raises(EngineBusy, match="No space left on device"):
        built(engine, journal)
    monkeypatch.undo()
    assert {one.status for one in built(engine, journal).look("req-abc").values()} == {Status.READY}
    assert not list(engine.root.rglob("*.part"))


@pytest.mark.parametrize("what", ["apply", "remove"])
def test_a_killed_process_is_gone_on_for_wherever_it_was(engine, journal, tmp_path, what):
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    if what == "remove":
        built(engine, journal)
    for _ in range(2):
        words = [sys.executable, "-c", LIVE, str(tmp_path), url, what]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        assert process.stdout.readline().split()[1:] in (["is", "ready"], ["is", "gone"])
        process.send_signal(signal.SIGKILL)
        process.communicate()
    if what == "apply":
        home = engine.root / "req-abc"
        assert {one.status for one in built(engine, journal, owner="ada").look("req-abc").values()} == {Status.READY}
        assert sorted(path.name for path in home.iterdir()) == ["environment.json", "repository.git", "storage", "token.json"]
    assert Builder(engine, journal).remove("req-abc") == []
    assert engine.left("req-abc") == []
