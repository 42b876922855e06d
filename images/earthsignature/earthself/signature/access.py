"""Who may read and write: tokens in a file that keeps only what tells them from others, and the check of every call.

A token is long and random, so a salted SHA-256 hides it as well as a slow hash would, and a flood of wrong ones costs little.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from earthself.data.dates import format_instant, parse_instant
from earthself.data.errors import BadInput
from earthself.signature.errors import BadSetting, NotAuthenticated, NotFound, NotPermitted

_LOG = logging.getLogger(__name__)
Right = Literal["read", "write"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_TOKEN = re.compile(r"ess_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_MOST_FILE = 4 << 20
CALLER: ContextVar[str] = ContextVar("CALLER", default="somebody without a token")
"""The name of the token of the call that runs."""


@dataclass(frozen=True)
class Token:
    """What is kept of a token; the token itself is nowhere."""

    name: str
    """Whose it is; goes to the log with what it wrote."""
    right: Right
    """What it is for; write includes read."""
    expires: str | None
    """RFC 3339 instant from which on it is refused; None: never."""
    key: str
    """The part of the token that finds this entry, 16 hexadecimal digits."""
    salt: str
    """Hexadecimal."""
    digest: str
    """Hexadecimal HMAC-SHA-256 of the token's secret part under the salt."""

    def is_of(self, secret: str) -> bool:
        """Compare in a time that says nothing about the secret."""
        return hmac.compare_digest(_digest(self.salt, secret), self.digest)

    def expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires is not None and now >= parse_instant(self.expires)


_NOBODY = Token("nobody", "read", None, "0" * 16, "00" * 16, "00" * 32)


class TokenFile:
    """The list of tokens: a file of mode 600 that is only ever replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tokens(self) -> tuple[Token, ...]:
        """Read it; raises `BadSetting` when it is missing, open to others, or no such file."""
        try:
            mode = self.path.stat().st_mode & 0o777
            content = self.path.read_bytes()
        except OSError as error:
            raise BadSetting(f"{self.path} cannot be read ({error.strerror}); make it with `earthsignature token add NAME`") from error
        if mode & 0o077:
            raise BadSetting(f"{self.path} has mode {mode:o}, so others can get at the tokens; chmod 600 {self.path}")
        if len(content) > _MOST_FILE:
            raise BadSetting(f"{self.path} has {len(content)} bytes, more than {_MOST_FILE}; remove what is not needed")
        try:
            return tuple(_token(entry) for entry in json.loads(content)["tokens"])
        except (ValueError, KeyError, TypeError, RecursionError, BadInput) as error:
            raise BadSetting(f"{self.path} is no list of tokens ({error}); restore it, or make tokens anew") from error

    def add(self, name: str, right: str, expires: str | None = None) -> str:
        """Make a token and give it: this is the only time that it can be seen. Raises `BadSetting` for a name that is taken."""
        if not _NAME.fullmatch(name):
            raise BadSetting(f"the name {name[:80]!r} has other characters than letters, digits and . _ @ -, or more than 64")
        if right not in get_args(Right):
            raise BadSetting(f"there is no right {right!r}; give read or write")
        try:
            until = None if expires is None else format_instant(parse_instant(expires))
        except BadInput as error:
            raise BadSetting(f"expires: {error}") from error
        key, salt, secret = secrets.token_hex(8), secrets.token_hex(16), secrets.token_urlsafe(32)
        made = _token({"name": name, "right": right, "expires": until, "key": key, "salt": salt, "digest": _digest(salt, secret)})
        with self._changing() as known:
            if any(token.name == name for token in known):
                raise BadSetting(f"{name} has a token already; `earthsignature token remove {name}` first, or take another name")
            self._replace([*known, made])
        return f"ess_{key}_{secret}"

    def remove(self, name: str) -> None:
        """Forget a token, also in running servers; raises `NotFound`."""
        with self._changing() as known:
            left = [token for token in known if token.name != name]
            if len(left) == len(known):
                raise NotFound(f"{self.path} has no token of {name!r}; `earthsignature token list` says which there are")
            self._replace(left)

    @contextmanager
    def _changing(self) -> Iterator[tuple[Token, ...]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.tokens() if self.path.exists() else ()
        finally:
            os.close(lock)

    def _replace(self, tokens: Iterable[Token]) -> None:
        rough = self.path.with_name(f"{self.path.name}.part")
        rough.unlink(missing_ok=True)
        with os.fdopen(os.open(rough, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"tokens": [asdict(token) for token in tokens]}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        rough.replace(self.path)


class Access:
    """Says for each call whether it may go on. A changed file counts from the next call on."""

    def __init__(
        self,
        file: TokenFile | None,
        *,
        read: Literal["open", "token"] = "open",
        write: Literal["open", "token"] = "token",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Without a file nobody has a token; raises `BadSetting` when the file cannot be used, or reading needs one that is not there."""
        if file is None and read == "token":
            raise BadSetting("reading by token needs a list of tokens; give --tokens FILE, or --read open")
        self._file, self._now = file, now
        self._open = {"read": read == "open", "write": write == "open"}
        self._tokens: dict[str, Token] = {}
        self._mark: tuple[int, ...] | None = None
        if file is not None:
            self._mark = self._marked()
            self._tokens = {token.key: token for token in file.tokens()}

    def check(self, metadata: Iterable[tuple[str, str | bytes]], right: Right) -> str | None:
        """Give the name of the call's token, None for a call that needs none and has none; raises `AccessRefused` otherwise."""
        said = next((str(value) for key, value in metadata if key == "authorization"), None)
        if self._file is None:
            if not self._open[right]:
                raise NotPermitted(
                    "this server has no list of tokens, so nobody may write from beyond its machine; start it with --tokens FILE"
                )
            return None
        if said is None:
            if self._open[right]:
                return None
            raise NotAuthenticated(f"a token is needed to {right} here; send it as `authorization: Bearer TOKEN`")
        token = self._token(said)
        if right == "write" and token.right != "write":
            raise NotPermitted(f"the token of {token.name} is for reading; ask the operator for one with --right write")
        return token.name

    def _token(self, said: str) -> Token:
        self._refresh()
        kind, _, text = said.partition(" ")
        match = _TOKEN.fullmatch(text.strip()) if kind.lower() == "bearer" else None
        if match is None:
            raise NotAuthenticated("the token is not one of EarthSignature's; send it as `authorization: Bearer TOKEN`, whole")
        key, secret = match.groups()
        known = self._tokens.get(key, _NOBODY)
        if not known.is_of(secret) or known is _NOBODY:
            raise NotAuthenticated("the token is not known here, or was removed; ask the operator for another")
        if known.expired(self._now()):
            raise NotAuthenticated(f"the token of {known.name} expired at {known.expires}; ask the operator for another")
        return known

    def _refresh(self) -> None:
        mark = self._marked()
        if self._file is None or mark == self._mark:
            return
        self._mark = mark
        if mark is None:
            self._tokens = {}
            _LOG.error("%s is gone: no token is accepted until it is there again", self._file.path)
            return
        try:
            self._tokens = {token.key: token for token in self._file.tokens()}
        except BadSetting as error:
            _LOG.error("the tokens known so far go on: %s", error)
            return
        _LOG.info("read %s anew: %d tokens", self._file.path, len(self._tokens))

    def _marked(self) -> tuple[int, ...] | None:
        try:
            found = self._file.path.stat() if self._file else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)


def _token(entry: Any) -> Token:  # noqa: ANN401 - read from JSON
    token = Token(**entry)
    if not all(isinstance(value, str) for value in (token.name, token.key, token.salt, token.digest)):
        raise ValueError("an entry holds something else than text")
    if token.right not in get_args(Right):
        raise ValueError(f"there is no right {token.right!r}")
    if len(bytes.fromhex(token.digest)) != hashlib.sha256().digest_size or len(bytes.fromhex(token.salt)) < 16:
        raise ValueError("an entry has a salt or a digest of the wrong length")
    token.expired(datetime.now(UTC))
    return token


def _digest(salt: str, secret: str) -> str:
    return hmac.digest(bytes.fromhex(salt), secret.encode(), hashlib.sha256).hex()
