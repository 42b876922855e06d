"""What the containers around a step say and leave: `python -m earthself.data.staged`, its exit codes, and nothing half put together."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from earthself.data.folders import stage_out, staged
from earthself.data.staged import main
from earthself.data.storage import Storage

from tests.s3_server import Answer, Proxy

URL = "s3://near@maps/t"


@pytest.fixture
def keys(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of keys that the profile in EARTHSELF_STORAGE names."""
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_text(json.dumps({"access_key_id": "k", "secret_access_key": "s"}))
    profile = {"endpoint": proxy.url, "credentials": f"file:{path}", "timeout": 10, "attempts": 1}
    (tmp_path / "profiles.json").write_text(json.dumps({"near": profile}))
    monkeypatch.setenv("EARTHSELF_STORAGE", str(tmp_path / "profiles.json"))
    return path


@pytest.fixture
def sent(keys: Path, tmp_path: Path) -> Path:
    """Two staged folders, one of which belongs into the other."""
    for name, file in (("a", "runs/found/catalog.json"), ("b", "deep/x.bin")):
        path = tmp_path / "local" / name / file
        path.parent.mkdir(parents=True)
        path.write_text(name)
        stage_out(tmp_path / "local" / name, f"{URL}/{name}", Storage())
    return tmp_path / "root"


def bring(root: Path) -> int:
    return main(["in", str(root), "--part", f"{URL}/a", ".", "--part", f"{URL}/b", "runs/found/more", "--empty", "runs/out"])


def test_what_comes_in_is_put_together_from_its_parts(sent, capsys):
    (sent / "runs").mkdir(parents=True)
    assert bring(sent) == 0
    found = {path.relative_to(sent).as_posix(): path.read_text() for path in sent.rglob("*") if path.is_file()}
    assert found == {"runs/found/catalog.json": "a", "runs/found/more/deep/x.bin": "b"}
    assert (sent / "runs/out").is_dir()
    assert not (sent / ".arriving").exists()
    assert capsys.readouterr().out == "2 bytes staged in\n"


def test_what_does_not_come_whole_is_put_nowhere(sent, proxy, capsys):
    proxy.fault = lambda request: Answer(403, "AccessDenied") if "x.bin" in request.path else None
    assert bring(sent) == 65
    assert not (sent / "runs").exists()
    assert capsys.readouterr().err.startswith("error: ")
    proxy.reset()
    assert bring(sent) == 0


def test_what_goes_out_is_a_staged_folder(sent, tmp_path):
    assert main(["out", str(tmp_path / "local" / "a"), f"{URL}/out"]) == 0
    assert [file.name for file in staged(f"{URL}/out", Storage()).files] == ["runs/found/catalog.json"]


def test_exit_codes_say_what_a_try_again_can_mend(sent, keys, proxy, tmp_path, capsys):
    assert main(["in", str(tmp_path / "x"), "--part", f"{URL}/none", "."]) == 69
    assert main(["out", str(tmp_path / "none"), f"{URL}/out"]) == 69
    proxy.fault = lambda _: Answer(403, "AccessDenied")
    assert bring(tmp_path / "y") == 65
    ended = datetime.now(UTC) - timedelta(minutes=1)
    keys.write_text(json.dumps({"access_key_id": "k", "secret_access_key": "s", "expires": ended.isoformat()}))
    capsys.readouterr()
    assert bring(tmp_path / "z") == 75, "the next try has new keys"
    assert "raise session_hours" in capsys.readouterr().err
    keys.unlink()
    assert bring(tmp_path / "z") == 65
