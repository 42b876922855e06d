"""Storage by name: one profile gives the settings of fsspec and of GDAL alike, and says in one sentence what went wrong.

A URL names its profile before the bucket: `s3://NAME@bucket/prefix`. Profiles hold no secrets, only where the secrets are.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from earthself.data.errors import BadInput, CredentialsRefused, DataError, NotThere, TryAgain
from earthself.data.workspace import atomic

PROFILES_VARIABLE = "EARTHSELF_STORAGE"
"""Names the file with the profiles: a JSON object of name to fields."""

_CREDENTIAL_KEYS = {"ACCESS_KEY_ID": "access_key_id", "SECRET_ACCESS_KEY": "secret_access_key", "SESSION_TOKEN": "session_token"}
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed", "InvalidToken"}
_REFUSED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "403",
    "401",
    "AccountProblem",
    "AllAccessDisabled",
    "NotSignedUp",
}
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "502", "503", "504", "429", "OperationAborted"}


@dataclass(frozen=True)
class Credentials:
    """Keys of one object storage; never printed."""

    access_key_id: str
    """Public half."""
    secret_access_key: str
    """Secret half."""
    session_token: str | None = None
    """Further secret of keys that expire."""

    def __repr__(self) -> str:
        return "Credentials(***)"


@dataclass(frozen=True)
class StorageProfile:
    """How one object storage, or the local disk, is reached."""

    name: str
    """What URLs and messages call it; empty for the local disk."""
    endpoint: str | None = None
    """Address of the S3 service, such as `https://s3.example.org`; None is AWS."""
    region: str | None = None
    """Region, where the service has some."""
    addressing: str = "auto"
    """`path` (host/bucket), `virtual` (bucket.host) or `auto` (path for an endpoint of one's own)."""
    credentials: str | None = None
    """Where the keys are: `env:PREFIX` (variables PREFIX_ACCESS_KEY_ID, PREFIX_SECRET_ACCESS_KEY, PREFIX_SESSION_TOKEN), `file:PATH`
    (JSON with access_key_id, secret_access_key, session_token; mode 600), or None for public buckets."""
    local: bool = False
    """Whether this is the local disk."""
    timeout: float = 30.0
    """Seconds to wait for a connection and for each answer."""
    attempts: int = 4
    """Requests in all before the storage counts as failing."""

    def __post_init__(self) -> None:
        if self.addressing not in ("auto", "path", "virtual"):
            raise BadInput(f"addressing {self.addressing!r} of storage profile {self.name} is not known; use auto, path or virtual")
        if self.endpoint is not None and urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise BadInput(f"endpoint {self.endpoint!r} of storage profile {self.name} is no address; begin it with https://")
        if self.credentials is not None and not self.credentials.startswith(("env:", "file:")):
            # What is there may be a secret pasted in the wrong place: it is not quoted.
            raise BadInput(f"credentials of storage profile {self.name} must be a reference: env:PREFIX or file:PATH")

    @property
    def by_path(self) -> bool:
        """Whether the bucket stands in the path of the address."""
        return self.addressing == "path" or (self.addressing == "auto" and self.endpoint is not None)

    def resolve(self) -> Credentials | None:
        """Look the keys up; raises `CredentialsRefused` when they are not where the profile says, None for public buckets."""
        if self.credentials is None:
            return None
        kind, _, where = self.credentials.partition(":")
        found = _from_env(where) if kind == "env" else self._from_file(Path(where))
        if not found.get("access_key_id") or not found.get("secret_access_key"):
            raise CredentialsRefused(
                f"storage profile {self.name} has no key: {self.credentials} lacks access_key_id or secret_access_key; set them there"
            )
        return Credentials(found["access_key_id"], found["secret_access_key"], found.get("session_token") or None)

    def fsspec_options(self) -> dict[str, Any]:
        """Arguments of `fsspec.filesystem("s3", ...)`; empty for the local disk. Holds secrets."""
        if self.local:
            return {}
        keys = self.resolve()
        client = {"endpoint_url": self.endpoint, "region_name": self.region}
        config = {
            "connect_timeout": self.timeout,
            "read_timeout": self.timeout,
            "retries": {"max_attempts": self.attempts, "mode": "standard"},
            "s3": {"addressing_style": "path" if self.by_path else "virtual"},
        }
        login = (
            {"anon": True} if keys is None else {"key": keys.access_key_id, "secret": keys.secret_access_key, "token": keys.session_token}
        )
        return {"client_kwargs": {k: v for k, v in client.items() if v}, "config_kwargs": config, **login}

    def rasterio_env(self) -> Any:  # noqa: ANN401 - a rasterio.Env
        """The context in which rasterio opens `/vsis3/` paths; it takes keys from a session only, hence not from `gdal_options`."""
        import rasterio
        from rasterio.session import Session

        options = self.gdal_options()
        keys: dict[str, str] = {
            k: options.pop(k) for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN") if k in options
        }

        class Keys(Session):  # type: ignore[misc]
            credentials = keys

            def get_credential_options(self) -> dict[str, str]:
                return keys

        return rasterio.Env(session=Keys(), **options)

    def gdal_options(self) -> dict[str, str]:
        """GDAL's configuration options (or environment variables) for `/vsis3/` paths; empty for the local disk. Holds secrets."""
        if self.local:
            return {}
        keys = self.resolve()
        options = {
            "AWS_VIRTUAL_HOSTING": "FALSE" if self.by_path else "TRUE",
            "GDAL_HTTP_CONNECTTIMEOUT": f"{self.timeout:g}",
            "GDAL_HTTP_LOW_SPEED_TIME": f"{self.timeout:g}",
            "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
            "GDAL_HTTP_MAX_RETRY": str(self.attempts - 1),
            "GDAL_HTTP_RETRY_DELAY": "1",
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        }
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            options |= {"AWS_S3_ENDPOINT": parts.netloc + parts.path.rstrip("/"), "AWS_HTTPS": "YES" if parts.scheme == "https" else "NO"}
        if self.region:
            options["AWS_REGION"] = self.region
        if keys is None:
            return options | {"AWS_NO_SIGN_REQUEST": "YES"}
        options |= {"AWS_ACCESS_KEY_ID": keys.access_key_id, "AWS_SECRET_ACCESS_KEY": keys.secret_access_key, "AWS_NO_SIGN_REQUEST": "NO"}
        return options | ({"AWS_SESSION_TOKEN": keys.session_token} if keys.session_token else {})

    def _from_file(self, path: Path) -> dict[str, str]:
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise BadInput(f"{path} holds keys and can be read by others; run chmod 600 on it")
            value = json.loads(path.read_bytes())
            return {str(k): str(v) for k, v in value.items()}
        except FileNotFoundError:
            raise CredentialsRefused(f"storage profile {self.name} has no key: {path} does not exist; write it, with mode 600") from None
        except (ValueError, AttributeError):
            raise CredentialsRefused(f"storage profile {self.name} has no key: {path} is no JSON object; mend it") from None


LOCAL = StorageProfile("", local=True)
"""The local disk."""


def load_profiles(path: Path | None = None) -> dict[str, StorageProfile]:
    """Read the profiles of a file, by default of the one that EARTHSELF_STORAGE names; none where it names none."""
    named = path or (Path(os.environ[PROFILES_VARIABLE]) if os.environ.get(PROFILES_VARIABLE) else None)
    if named is None:
        return {}
    try:
        value = json.loads(named.read_bytes())
        return {str(name): StorageProfile(str(name), **fields) for name, fields in value.items()}
    except FileNotFoundError:
        raise NotThere(f"{PROFILES_VARIABLE} names {named}, which does not exist; write the storage profiles there") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{named} does not hold storage profiles ({type(error).__name__}: {error}); it maps names to their fields") from None


class Storage:
    """Files by URL: `s3://NAME@bucket/key`, or a local path."""

    def __init__(self, profiles: Mapping[str, StorageProfile] | None = None) -> None:
        """Use the given profiles, by default those that EARTHSELF_STORAGE names."""
        self._profiles = dict(load_profiles() if profiles is None else profiles)
        self._systems: dict[str, Any] = {}

    def profile(self, url: str) -> StorageProfile:
        """The profile that a URL names; raises `BadInput` for one that is not configured."""
        name, _ = self._split(url)
        if name is None:
            return LOCAL
        if name not in self._profiles:
            known = ", ".join(sorted(self._profiles)) or "none"
            raise BadInput(f"{url} names storage profile {name!r}, which is not configured (known: {known}); add it to {PROFILES_VARIABLE}")
        return self._profiles[name]

    def gdal_path(self, url: str) -> str:
        """The path under which GDAL reads a URL, with the profile's `gdal_options`."""
        name, path = self._split(url)
        return path if name is None else f"/vsis3/{path}"

    def read(self, url: str) -> bytes:
        """All bytes of a file."""
        name, path = self._split(url)
        with self._errors(url):
            if name is None:
                return Path(path).read_bytes()
            # One request: s3fs would first ask for the size, and an answer to that says nothing about what is wrong.
            data: bytes = self._system(url).cat_file(path, max_concurrency=1)
            return data

    def write(self, url: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        name, path = self._split(url)
        with self._errors(url):
            if name is None:
                with atomic(Path(path)) as part:
                    part.write_bytes(data)
            else:
                self._system(url).pipe_file(path, data)

    def exists(self, url: str) -> bool:
        """Whether there is a file; a bucket that is not there, or keys that are refused, are errors and not a no."""
        name, path = self._split(url)
        if name is None:
            return Path(path).is_file()
        with self._errors(url):
            system = self._system(url)
            listed = system.ls(path.rpartition("/")[0] if "/" in path else path, detail=False, refresh=True) if self._bucket(url) else []
            return path in listed

    def put(self, path: Path, url: str) -> None:
        """Copy a local file to a URL, whole or not at all; raises `NotThere` or `BadInput` for what is no file."""
        name, target = self._split(url)
        if path.is_dir():
            raise BadInput(f"{path} is a folder and cannot be copied to {url}; copy the files in it one by one")
        if not path.is_file():
            raise NotThere(f"{path} does not exist and cannot be copied to {url}; mend the path, or run the task that writes it")
        with self._errors(url):
            if name is None:
                import shutil

                with atomic(Path(target)) as part:
                    shutil.copyfile(path, part)
            else:
                self._system(url).put_file(str(path), target)

    def get(self, url: str, path: Path) -> None:
        """Copy a URL to a local file, whole or not at all."""
        name, source = self._split(url)
        with self._errors(url):
            if name is None:
                self.put(Path(source), str(path))
            else:
                with atomic(path) as part:
                    self._system(url).get_file(source, str(part))

    def list(self, url: str) -> list[str]:
        """All files below a URL, as URLs, sorted."""
        name, path = self._split(url)
        with self._errors(url):
            if name is None:
                return sorted(str(p) for p in Path(path).rglob("*") if p.is_file())
            self._bucket(url)
            return [f"s3://{name}@{key}" for key in sorted(self._system(url).find(path, refresh=True))]

    def _bucket(self, url: str) -> bool:
        """Ask for the bucket itself, since a listing of a missing one looks empty."""
        self._system(url).call_s3("list_objects_v2", Bucket=self._split(url)[1].partition("/")[0], MaxKeys=1)
        return True

    def _system(self, url: str) -> Any:  # noqa: ANN401 - an fsspec file system
        profile = self.profile(url)
        if profile.name not in self._systems:
            import s3fs

            system = s3fs.S3FileSystem(**profile.fsspec_options(), skip_instance_cache=True, use_listings_cache=False)
            system.retries = profile.attempts
            self._systems[profile.name] = system
        return self._systems[profile.name]

    def _split(self, url: str) -> tuple[str | None, str]:
        if "://" not in url:
            return None, url
        scheme, _, rest = url.partition("://")
        if scheme == "file":
            return None, rest
        name, at, path = rest.partition("@")
        if scheme != "s3" or not at or not name or not path:
            raise BadInput(f"{url} is no address of a storage; write s3://PROFILE@bucket/key, or a path")
        return name, path

    @contextlib.contextmanager
    def _errors(self, url: str) -> Iterator[None]:
        """Turn what files, fsspec and botocore raise into one sentence and the next step."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - three layers of libraries raise here
            raise self._translated(error, url) from None

    def _translated(self, error: Exception, url: str) -> DataError:
        profile = self.profile(url)
        code = _code(error)
        bucket = url.partition("@")[2].partition("/")[0]
        where = profile.endpoint or "AWS"
        if profile.local:
            if isinstance(error, FileNotFoundError):
                return NotThere(f"{url} does not exist; mend the path, or run the task that writes it")
            return DataError(f"{url} cannot be used ({error}); mend its rights or its path")
        if code in _EXPIRED:
            return CredentialsRefused(
                f"the keys of storage profile {profile.name} have expired ({code}); renew them at {profile.credentials}"
            )
        if code in _REFUSED or isinstance(error, PermissionError):
            keys = profile.credentials or "nothing (the bucket is not public)"
            return CredentialsRefused(f"{where} refuses the keys of storage profile {profile.name} for {url} ({code}); check {keys}")
        if code == "NoSuchBucket":
            return NotThere(
                f"there is no bucket {bucket!r} at {where}; create it, or mend its name or the endpoint of profile {profile.name}"
            )
        if code in ("NoSuchKey", "404") or isinstance(error, FileNotFoundError):
            return NotThere(f"{url} does not exist; mend the key, or run the task that writes it")
        if code in _BUSY or code is None:
            return TryAgain(f"{where} cannot be reached or is busy ({code or type(error).__name__}); try again later")
        return DataError(f"{where} refuses {url} ({code}); check storage profile {profile.name}")


def _from_env(prefix: str) -> dict[str, str]:
    return {field: value for variable, field in _CREDENTIAL_KEYS.items() if (value := os.environ.get(f"{prefix}_{variable}"))}


def _code(error: BaseException | None) -> str | None:
    """The S3 error code in a chain of exceptions."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict) and response.get("Error", {}).get("Code"):
            return str(response["Error"]["Code"])
        error = error.__cause__ or error.__context__
    return None
