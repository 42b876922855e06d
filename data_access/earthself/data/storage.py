"""Files by URL, on an object storage or the local disk, and one sentence about what went wrong.

A URL names its storage profile before the bucket: `s3://NAME@bucket/prefix`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earthself.data import s3
from earthself.data.errors import FULL, BadInput, DataError, NotThere, no_room
from earthself.data.profiles import LOCAL, PROFILES_VARIABLE, StorageProfile, load_profiles
from earthself.data.workspace import atomic

__all__ = ["LOCAL", "PROFILES_VARIABLE", "Place", "Storage", "StorageProfile", "load_profiles"]


@dataclass(frozen=True)
class Place:
    """Where in an object storage a URL points."""

    profile: StorageProfile
    """How the storage is reached."""
    bucket: str
    """Name of the bucket."""
    key: str
    """What stands behind the bucket, without a slash at the end."""
    client: Any = field(repr=False)
    """The boto3 client, which all threads may share."""


class Storage:
    """Files by URL: `s3://NAME@bucket/key`, or a local path."""

    def __init__(self, profiles: Mapping[str, StorageProfile] | None = None) -> None:
        """Use the given profiles, by default those that EARTHSELF_STORAGE names."""
        self._profiles = dict(load_profiles() if profiles is None else profiles)
        self._clients: dict[str, Any] = {}

    def profile(self, url: str) -> StorageProfile:
        """The profile that a URL names; raises `BadInput` for one that is not configured."""
        name, _ = _split(url)
        if name is None:
            return LOCAL
        if name not in self._profiles:
            known = ", ".join(sorted(self._profiles)) or "none"
            raise BadInput(f"{url} names storage profile {name!r}, which is not configured (known: {known}); add it to {PROFILES_VARIABLE}")
        return self._profiles[name]

    def gdal_path(self, url: str) -> str:
        """The path under which GDAL reads a URL, with the profile's `gdal_options`."""
        name, path = _split(url)
        return path if name is None else f"/vsis3/{path}"

    def filesystem(self, url: str) -> tuple[Any, str]:
        """The fsspec file system of a URL (for xarray, zarr, pandas), which renews its keys by itself, and the path in it."""
        name, path = _split(url)
        if name is None:
            import fsspec

            return fsspec.filesystem("file"), path
        return s3.filesystem(self.profile(url)), path

    def place(self, url: str) -> Place:
        """Where in an object storage a URL points; raises `BadInput` for a local path."""
        name, path = _split(url)
        if name is None:
            raise BadInput(f"{url} is a path and not in an object storage; write s3://PROFILE@bucket/prefix")
        profile = self.profile(url)
        if name not in self._clients:
            self._clients[name] = s3.client(profile)
        bucket, _, key = path.partition("/")
        return Place(profile, bucket, key.rstrip("/"), self._clients[name])

    def read(self, url: str) -> bytes:
        """All bytes of a file."""
        with self.errors(url):
            if _split(url)[0] is None:
                return Path(_split(url)[1]).read_bytes()
            at = self.place(url)
            data: bytes = at.client.get_object(Bucket=at.bucket, Key=at.key)["Body"].read()
            return data

    def write(self, url: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        with self.errors(url):
            if _split(url)[0] is None:
                with atomic(Path(_split(url)[1])) as part:
                    part.write_bytes(data)
            else:
                at = self.place(url)
                at.client.put_object(Bucket=at.bucket, Key=at.key, Body=data)

    def exists(self, url: str) -> bool:
        """Whether there is a file; a bucket that is not there, or keys that are refused, are errors and not a no."""
        if _split(url)[0] is None:
            return Path(_split(url)[1]).is_file()
        with self.errors(url):
            at = self.place(url)
            try:
                at.client.head_object(Bucket=at.bucket, Key=at.key)
            except Exception as error:
                if s3.code_of(error) not in ("404", "400", "403"):
                    raise
                # An answer to HEAD has no body to say what is wrong: a listing has.
                at.client.list_objects_v2(Bucket=at.bucket, MaxKeys=1)
                if s3.code_of(error) != "404":
                    raise
                return False
            return True

    def put(self, path: Path, url: str) -> None:
        """Copy a local file to a URL, whole or not at all; raises `NotThere` or `BadInput` for what is no file."""
        if path.is_dir():
            raise BadInput(f"{path} is a folder and cannot be copied to {url}; copy the files in it one by one")
        if not path.is_file():
            raise NotThere(f"{path} does not exist and cannot be copied to {url}; mend the path, or run the task that writes it")
        with self.errors(url):
            if _split(url)[0] is None:
                with atomic(Path(_split(url)[1])) as part:
                    shutil.copyfile(path, part)
            else:
                at = self.place(url)
                at.client.upload_file(str(path), at.bucket, at.key)

    def get(self, url: str, path: Path) -> None:
        """Copy a URL to a local file, whole or not at all."""
        with self.errors(url):
            if _split(url)[0] is None:
                self.put(Path(_split(url)[1]), str(path))
            else:
                at = self.place(url)
                with atomic(path) as part:
                    at.client.download_file(at.bucket, at.key, str(part))

    def list(self, url: str) -> list[str]:
        """All files below a URL, as URLs, sorted."""
        name, path = _split(url)
        with self.errors(url):
            if name is None:
                return sorted(str(p) for p in Path(path).rglob("*") if p.is_file())
            at = self.place(url)
            pages = at.client.get_paginator("list_objects_v2").paginate(Bucket=at.bucket, Prefix=f"{at.key}/" if at.key else "")
            return sorted(f"s3://{name}@{at.bucket}/{each['Key']}" for page in pages for each in page.get("Contents", ()))

    @contextlib.contextmanager
    def errors(self, url: str, local: Path | None = None) -> Iterator[None]:
        """Turn what files and botocore raise into one sentence and the next step; `local` is the file at this end, where there is one."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - three layers of libraries raise here
            profile = self.profile(url)
            if profile.local or (isinstance(error, OSError) and (error.filename or error.errno in FULL)):
                raise _local(error, local or Path(getattr(error, "filename", None) or url)) from None
            raise s3.meaning(error, profile, url) from None


def _split(url: str) -> tuple[str | None, str]:
    if "://" not in url:
        return None, url
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return None, rest
    name, at, path = rest.partition("@")
    if scheme != "s3" or not at or not name or not path:
        raise BadInput(f"{url} is no address of a storage; write s3://PROFILE@bucket/key, or a path")
    return name, path


def _local(error: Exception, path: Path) -> DataError:
    if full := no_room(error, path):
        return full
    if isinstance(error, FileNotFoundError):
        return NotThere(f"{path} does not exist; mend the path, or run the task that writes it")
    return DataError(f"{path} cannot be used ({error}); mend its rights or its path")
