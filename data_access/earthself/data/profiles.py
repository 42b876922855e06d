"""Storage by name: one profile gives the settings of boto3, of fsspec and of GDAL alike. It holds no secrets, only where they are."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from earthself.data.credentials import Credentials, Issuer, Keys
from earthself.data.errors import BadInput, NotThere

PROFILES_VARIABLE = "EARTHSELF_STORAGE"
"""Names the file with the profiles: a JSON object of name to fields."""
_SESSION_HOURS = (0.25, 36.0)  # what STS gives


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
    session_hours: float | None = None
    """Use the keys only to get short-lived ones that live so long (0.25 to 36) from the storage's STS; None uses them as they are."""
    role_arn: str | None = None
    """The role that short-lived keys have; None for the rights of the keys themselves."""
    sts_endpoint: str | None = None
    """Address of the STS; None is the endpoint itself."""
    lend_own_keys: bool = False
    """Whether steps get the keys themselves, which do not end; for storages without an STS."""
    local: bool = False
    """Whether this is the local disk."""
    timeout: float = 30.0
    """Seconds to wait for a connection and for each answer."""
    attempts: int = 4
    """Requests in all before the storage counts as failing."""

    def __post_init__(self) -> None:
        if self.addressing not in ("auto", "path", "virtual"):
            raise BadInput(f"addressing {self.addressing!r} of storage profile {self.name} is not known; use auto, path or virtual")
        for what, address in (("endpoint", self.endpoint), ("sts_endpoint", self.sts_endpoint)):
            if address is not None and urlsplit(address).scheme not in ("http", "https"):
                raise BadInput(f"{what} {address!r} of storage profile {self.name} is no address; begin it with https://")
        if self.credentials is not None and not self.credentials.startswith(("env:", "file:")):
            # What is there may be a secret pasted in the wrong place: it is not quoted.
            raise BadInput(f"credentials of storage profile {self.name} must be a reference: env:PREFIX or file:PATH")
        if self.session_hours is None:
            if self.role_arn or self.sts_endpoint:
                raise BadInput(f"storage profile {self.name} names a role or an STS but no session_hours; say how long its keys live")
        elif not _SESSION_HOURS[0] <= self.session_hours <= _SESSION_HOURS[1]:
            low, high = _SESSION_HOURS
            raise BadInput(f"session_hours {self.session_hours:g} of storage profile {self.name} is not from {low:g} to {high:g}")
        elif self.credentials is None:
            raise BadInput(f"storage profile {self.name} has session_hours but no credentials to get keys with; add credentials")

    @property
    def by_path(self) -> bool:
        """Whether the bucket stands in the path of the address."""
        return self.addressing == "path" or (self.addressing == "auto" and self.endpoint is not None)

    @property
    def issuer(self) -> Issuer | None:
        """Who gives short-lived keys; None where the profile uses its keys as they are."""
        if self.session_hours is None:
            return None
        return Issuer(self.session_hours, self.role_arn, self.sts_endpoint or self.endpoint, self.region, self.timeout)

    @property
    def keys(self) -> Keys | None:
        """The profile's keys over time; None for public buckets."""
        return _keys_of(self)

    def resolve(self) -> Credentials | None:
        """The keys as they are now; raises `CredentialsRefused` when they are not where the profile says, None for public buckets."""
        keys = self.keys
        return keys.now() if keys else None

    def client_config(self) -> dict[str, Any]:
        """Arguments of botocore's `Config`: waiting, retries, addressing."""
        config = {
            "signature_version": "s3v4",
            "connect_timeout": self.timeout,
            "read_timeout": self.timeout,
            "retries": {"total_max_attempts": self.attempts, "mode": "standard"},
            "s3": {"addressing_style": "path" if self.by_path else "virtual"},
        }
        # Storages other than AWS often refuse the checksums that botocore adds to every request by itself.
        lenient = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        return config | (lenient if self.endpoint else {})

    def fsspec_options(self) -> dict[str, Any]:
        """Arguments of `fsspec.filesystem("s3", ...)` with the keys of now; empty for the local disk. Holds secrets."""
        if self.local:
            return {}
        keys = self.resolve()
        client = {"endpoint_url": self.endpoint, "region_name": self.region}
        login = (
            {"anon": True} if keys is None else {"key": keys.access_key_id, "secret": keys.secret_access_key, "token": keys.session_token}
        )
        return {"client_kwargs": {k: v for k, v in client.items() if v}, "config_kwargs": self.client_config(), **login}

    def rasterio_env(self) -> Any:  # noqa: ANN401 - a rasterio.Env
        """The context in which rasterio opens `/vsis3/` paths; it takes keys from a session only, hence not from `gdal_options`."""
        import rasterio
        from rasterio.session import Session

        options = self.gdal_options()
        keys: dict[str, str] = {
            k: options.pop(k) for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN") if k in options
        }

        class Taken(Session):  # type: ignore[misc]
            credentials = keys

            def get_credential_options(self) -> dict[str, str]:
                return keys

        return rasterio.Env(session=Taken(), **options)

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
            "CPL_VSIL_CURL_NON_CACHED": "/vsis3/",
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


LOCAL = StorageProfile("", local=True)
"""The local disk."""


@functools.lru_cache(maxsize=256)
def _keys_of(profile: StorageProfile) -> Keys | None:
    """One per profile and process, so that all threads use the same short-lived keys."""
    if profile.credentials is None:
        return None
    return Keys(profile.credentials, f"storage profile {profile.name}", profile.issuer)


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
