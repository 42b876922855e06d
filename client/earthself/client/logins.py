"""Which server, and as whom: from arguments, the environment, the local stack's files, or the last `earthself login`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from earthself.client.errors import LoginRefused, ServerNotThere

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_USER = "creator"


@dataclass(frozen=True)
class Login:
    """A server and what it is convinced with: user and password, or a token."""

    url: str
    """Root of the server, without a slash at the end."""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    """Bearer token of an earlier login."""


def server(url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the root of the server to talk to, in the order that `find` describes."""
    home = _home(environ)
    stack = _json(home / "stack.json").get("url") if home else None
    found = url or environ.get("EARTHSELF_URL") or stack or _json(token_file(environ)).get("url") or DEFAULT_URL
    return found.rstrip("/")


def find(url: str | None, user: str | None, password: str | None, environ: Mapping[str, str] = os.environ) -> Login:
    """Settle the server and the credentials.

    The server is the first of: `url`, EARTHSELF_URL, the local stack that runs from EARTHSELF_HOME (or `.earthself` here or
    above), the last `earthself login`, http://127.0.0.1:8080. The credentials are the first of: the arguments,
    EARTHSELF_USER with EARTHSELF_PASSWORD, EARTHSELF_TOKEN, the local stack's `passwords.json`, the stored login.
    Raises `LoginRefused` when there are none, `ServerNotThere` when not even a server was named.
    """
    home = _home(environ)
    stack = _json(home / "stack.json").get("url", "") if home else ""
    stored = _json(token_file(environ))
    place = server(url, environ)
    user = user or environ.get("EARTHSELF_USER")
    password = password or environ.get("EARTHSELF_PASSWORD")
    if user and password:
        return Login(place, user=user, password=password)
    if token := environ.get("EARTHSELF_TOKEN"):
        return Login(place, user=user or "", token=token)
    if home and place in {stack, "" if stack else DEFAULT_URL}:
        passwords = _json(home / "passwords.json")
        name = user or DEFAULT_USER
        if name in passwords:
            return Login(place, user=name, password=passwords[name])
        if passwords:
            raise LoginRefused(f"the local stack has no user {name!r}, only {', '.join(sorted(passwords))}; choose one of them")
    if stored.get("url") == place and stored.get("token") and user in {None, stored.get("user")}:
        return Login(place, user=stored.get("user", ""), token=stored["token"])
    if place == DEFAULT_URL and not (url or environ.get("EARTHSELF_URL") or stack or stored):
        raise ServerNotThere(
            "no local stack runs here and no server was named; start the stack with `make up`, or log in elsewhere with "
            "`earthself login --url URL`"
        )
    raise LoginRefused(f"not logged in at {place}; run `earthself login --url {place}`, or set EARTHSELF_USER and EARTHSELF_PASSWORD")


def store(login: Login, environ: Mapping[str, str] = os.environ) -> Path:
    """Keep a token for later commands in a file of mode 600; return its path. Passwords are never stored."""
    path = token_file(environ)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # mkstemp makes it mode 600
    with os.fdopen(descriptor, "w") as file:
        json.dump({key: value for key, value in asdict(login).items() if key != "password"}, file)
    Path(name).replace(path)
    return path


def token_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file that `earthself login` writes."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".config")
    return Path(base) / "earthself" / "login.json"


def _home(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get("EARTHSELF_HOME"):
        return Path(named).expanduser()
    here = Path.cwd()
    return next((folder / ".earthself" for folder in (here, *here.parents) if (folder / ".earthself" / "passwords.json").exists()), None)


def _json(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
