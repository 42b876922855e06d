"""The keys of object storages: looked up where a profile says, read anew when they change, and made short-lived by STS where it asks so.

Long transfers outlive keys: whoever signs a request asks `Keys.now()` for each one.
"""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from earthself.data.errors import BadInput, CredentialsRefused, TryAgain

_VARIABLES = {
    "ACCESS_KEY_ID": "access_key_id",
    "SECRET_ACCESS_KEY": "secret_access_key",
    "SESSION_TOKEN": "session_token",
    "EXPIRES": "expires",
}
_MARGIN = 0.1
"""Share of their life that short-lived keys have left when they are renewed."""


@dataclass(frozen=True)
class Credentials:
    """Keys of one object storage; never printed."""

    access_key_id: str
    """Public half."""
    secret_access_key: str
    """Secret half."""
    session_token: str | None = None
    """Further secret of keys that expire."""
    expires: datetime | None = None
    """When they end, where that is known."""

    def __repr__(self) -> str:
        return "Credentials(***)"

    def to_json(self) -> str:
        """What a `file:` reference reads. Holds secrets."""
        fields = {
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "session_token": self.session_token,
            "expires": self.expires.isoformat() if self.expires else None,
        }
        return json.dumps({name: value for name, value in fields.items() if value})


def look_up(reference: str, who: str) -> Credentials:
    """The keys behind `env:PREFIX` or `file:PATH` as they are now; raises `CredentialsRefused` where there are none."""
    kind, _, where = reference.partition(":")
    found = _from_env(where) if kind == "env" else _from_file(Path(where), who)
    if not found.get("access_key_id") or not found.get("secret_access_key"):
        raise CredentialsRefused(f"{who} has no key: {reference} lacks access_key_id or secret_access_key; set them there")
    try:
        expires = datetime.fromisoformat(found["expires"]) if found.get("expires") else None
    except ValueError:
        raise CredentialsRefused(f"{who} has no key: expires at {reference} is no RFC 3339 time; mend it") from None
    return Credentials(found["access_key_id"], found["secret_access_key"], found.get("session_token") or None, expires)


@dataclass(frozen=True)
class Issuer:
    """A security token service (STS) that gives short-lived keys for long-lived ones."""

    hours: float
    """How long the keys live."""
    role_arn: str | None = None
    """The role that they have (AssumeRole); None for the rights of the long-lived keys (GetSessionToken)."""
    endpoint: str | None = None
    """Address of the service; None is AWS."""
    region: str | None = None
    """Region of the service."""
    timeout: float = 30.0
    """Seconds to wait for an answer."""

    def issue(self, keys: Credentials, session: str = "earthself", policy: dict[str, Any] | None = None) -> Credentials:
        """Short-lived keys; the session's name stands in the storage's audit log, and a policy (of a role) narrows what they may do.

        Raises `CredentialsRefused` where the service gives none, `TryAgain` where it cannot be reached.
        """
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        seconds = int(self.hours * 3600)
        config = Config(connect_timeout=self.timeout, read_timeout=self.timeout, retries={"total_max_attempts": 3, "mode": "standard"})
        service: Any = Session(keys.access_key_id, keys.secret_access_key, keys.session_token, self.region or "us-east-1").client(
            "sts", endpoint_url=self.endpoint, config=config
        )
        where = self.endpoint or "AWS"
        try:
            if self.role_arn is None:
                given = service.get_session_token(DurationSeconds=seconds)["Credentials"]
            else:
                narrowed = {"Policy": json.dumps(policy)} if policy else {}
                name = re.sub(r"[^\w+=,.@-]", "-", session)[:64]
                given = service.assume_role(RoleArn=self.role_arn, RoleSessionName=name, DurationSeconds=seconds, **narrowed)["Credentials"]
        except ClientError as error:
            code, status = error.response["Error"].get("Code"), error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            if status >= 500 or code in ("Throttling", "ThrottlingException", "SlowDown"):
                raise TryAgain(f"the STS at {where} is busy ({code}); try again later") from None
            asked = f"role {self.role_arn}" if self.role_arn else "a session"
            raise CredentialsRefused(
                f"the STS at {where} gives no keys of {self.hours:g} hours for {asked} ({code}); check the keys, session_hours and role_arn"
            ) from None
        except BotoCoreError as error:
            raise TryAgain(f"the STS at {where} cannot be reached ({type(error).__name__}); try again later") from None
        return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], given["Expiration"])


class Keys:
    """The keys of one profile over time, shared by all threads that sign with them."""

    def __init__(
        self, reference: str, who: str, issuer: Issuer | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Nothing is looked up yet."""
        self._reference, self._who, self._issuer, self._clock = reference, who, issuer, clock
        self._issued: tuple[Credentials, Credentials, datetime] | None = None
        self._lock = threading.Lock()

    def now(self) -> Credentials:
        """Keys that are good now as far as one can know; raises what `look_up` and `Issuer.issue` raise."""
        kept = look_up(self._reference, self._who)
        if self._issuer is None:
            return kept
        with self._lock:
            now = self._clock()
            if self._issued is None or self._issued[0] != kept or now >= self._issued[2]:
                given = self._issuer.issue(kept)
                left = (given.expires or now) - now
                self._issued = (kept, given, now + left * (1 - _MARGIN))
            return self._issued[1]

    def refused(self, keys: Credentials) -> None:
        """Take note that the storage calls these keys expired: the next ones are issued anew."""
        with self._lock:
            if self._issued is not None and self._issued[1] == keys:
                self._issued = None


def _from_env(prefix: str) -> dict[str, str]:
    return {field: value for variable, field in _VARIABLES.items() if (value := os.environ.get(f"{prefix}_{variable}"))}


def _from_file(path: Path, who: str) -> dict[str, str]:
    try:
        found = path.stat()
        # A mounted Kubernetes Secret belongs to root, and the pod reads it as a member of the group.
        ours = found.st_uid == os.geteuid()
        if found.st_mode & (stat.S_IRWXO | (stat.S_IRWXG if ours else stat.S_IWGRP)):
            raise BadInput(f"{path} holds keys and can be read by others; run chmod 600 on it")
        value = json.loads(path.read_bytes())
        return {str(k): str(v) for k, v in value.items() if v is not None}
    except FileNotFoundError:
        raise CredentialsRefused(f"{who} has no key: {path} does not exist; write it, with mode 600") from None
    except (ValueError, AttributeError):
        raise CredentialsRefused(f"{who} has no key: {path} is no JSON object; mend it") from None
