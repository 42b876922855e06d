"""Which server and as whom, in the documented order; what is stored and what is not."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from earthself.client import LoginRefused, ServerNotThere, logins


def stack(home: Path, url: str = "http://127.0.0.1:18080") -> dict[str, str]:
    """A home in which the local stack runs."""
    home.mkdir(parents=True)
    (home / "passwords.json").write_text(json.dumps({"admin": "a", "creator": "c", "viewer": "v"}))
    (home / "stack.json").write_text(json.dumps({"url": url}))
    return {"EARTHSELF_HOME": str(home)}


def test_the_local_stack_needs_nothing(tmp_path: Path) -> None:
    environ = stack(tmp_path / "home")
    found = logins.find(None, None, None, environ)
    assert (found.url, found.user, found.password) == ("http://127.0.0.1:18080", "creator", "c")
    assert logins.find(None, "viewer", None, environ).password == "v"
    assert "c" not in repr(found).replace("creator", "").replace("Login", "").split("'"), "a password is not printed"


def test_it_is_found_from_a_folder_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack(tmp_path / ".earthself")
    (tmp_path / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "down")
    assert logins.find(None, None, None, {}).user == "creator"


def test_arguments_come_before_the_environment_before_the_stack(tmp_path: Path) -> None:
    environ = {**stack(tmp_path / "home"), "EARTHSELF_URL": "https://far", "EARTHSELF_USER": "me", "EARTHSELF_PASSWORD": "mine"}
    assert logins.find("https://other/", "you", "yours", environ) == logins.Login("https://other", user="you", password="yours")
    assert logins.find(None, None, None, environ) == logins.Login("https://far", user="me", password="mine")
    del environ["EARTHSELF_PASSWORD"]
    assert logins.find(None, None, None, {**environ, "EARTHSELF_TOKEN": "t"}) == logins.Login("https://far", user="me", token="t")


def test_the_stacks_passwords_are_not_sent_to_another_server(tmp_path: Path) -> None:
    with pytest.raises(LoginRefused, match="not logged in at https://far"):
        logins.find("https://far", None, None, stack(tmp_path / "home"))


def test_an_unknown_user_of_the_stack_is_told_who_there_is(tmp_path: Path) -> None:
    with pytest.raises(LoginRefused, match="no user 'bob', only admin, creator, viewer"):
        logins.find(None, "bob", None, stack(tmp_path / "home"))


def test_a_stored_login_keeps_the_token_alone_and_private(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    path = logins.store(logins.Login("https://far", user="me", password="secret", token="t"), environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in path.read_text()
    assert logins.find(None, None, None, environ) == logins.Login("https://far", user="me", token="t")
    with pytest.raises(LoginRefused):
        logins.find("https://elsewhere", None, None, environ)
    with pytest.raises(LoginRefused):
        logins.find(None, "you", None, environ)


def test_without_anything_the_message_says_how_to_start_or_log_in(tmp_path: Path) -> None:
    for environ in ({"HOME": "/nowhere"}, {"HOME": "/nowhere", "EARTHSELF_HOME": str(tmp_path / "fresh")}):
        with pytest.raises(ServerNotThere, match=r"`make up`.*`earthself login --url URL`"):
            logins.find(None, None, None, environ)
    with pytest.raises(LoginRefused, match=r"earthself login --url http://127.0.0.1:8080"):
        logins.find("http://127.0.0.1:8080", None, None, {"HOME": "/nowhere"})
