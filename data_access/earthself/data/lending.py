"""What of the storage a step or a pod gets: keys that end by themselves, for the places it needs, never those they were made with."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from earthself.data.credentials import Credentials, look_up
from earthself.data.errors import BadInput
from earthself.data.profiles import StorageProfile
from earthself.data.storage import Storage

_LONGEST_LINK = timedelta(days=7)  # what signatures of version 4 allow
_LONGEST_POLICY = 2048
"""Characters that AWS' STS and those like it take of a policy for one session."""
_READ = ("s3:GetObject",)
_WRITE = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")


@dataclass(frozen=True)
class Loan:
    """Files for a step: put into one folder of mode 700, they are what EARTHSELF_STORAGE names."""

    profiles: str
    """Name of the file for EARTHSELF_STORAGE."""
    files: dict[str, str] = field(repr=False)
    """Contents by file name: the profiles, and keys. Holds secrets."""
    expires: datetime | None
    """When the first of the keys end; None where none does."""


def lend(
    folder: str, session: str, *, read: Sequence[str] = (), write: Sequence[str] = (), profiles: Mapping[str, StorageProfile] | None = None
) -> Loan:
    """Short-lived keys for the storages of some URLs, as files that will lie in `folder` where the step runs.

    With a role, the keys open nothing but what lies at or below these URLs. The session (such as the run's id) stands in the storage's
    audit log. Raises `BadInput` for a profile that gives no short-lived keys, unless it says `lend_own_keys`; `CredentialsRefused`.
    """
    storage = Storage(profiles)
    wanted: dict[str, StorageProfile] = {}
    for url in (*read, *write):
        profile = storage.profile(url)
        if not profile.local:
            wanted[profile.name] = profile
    described: dict[str, dict[str, Any]] = {}
    files: dict[str, str] = {}
    ends: list[datetime] = []
    for name, profile in wanted.items():
        reference = None
        if profile.credentials is not None:
            policy = _within([u for u in read if storage.profile(u) is profile], [u for u in write if storage.profile(u) is profile])
            keys = _keys(profile, session, policy)
            files[f"keys-{name}.json"] = keys.to_json()
            reference = f"file:{folder}/keys-{name}.json"
            ends += [keys.expires] if keys.expires else []
        described[name] = _described(replace(profile, credentials=reference, session_hours=None, role_arn=None, sts_endpoint=None))
    files["storage.json"] = json.dumps(described)
    return Loan("storage.json", files, min(ends, default=None))


@dataclass(frozen=True)
class Link:
    """An address that opens one object without keys."""

    address: str = field(repr=False)
    """The address; whoever has it can use it."""
    expires: datetime
    """When it ends."""


def link(url: str, hours: float = 1.0, storage: Storage | None = None, *, write: bool = False, now: datetime | None = None) -> Link:
    """An address for getting (or, with `write`, putting) one object; raises `BadInput` for longer than it can live."""
    storage = storage or Storage()
    at = storage.place(url)
    now = now or datetime.now(UTC)
    ends = now + timedelta(hours=hours)
    keys = at.profile.resolve()
    if not timedelta() < ends - now <= _LONGEST_LINK:
        raise BadInput(f"a link cannot live for {hours:g} hours; ask for more than 0 and at most {_LONGEST_LINK.days * 24}")
    if keys is not None and keys.expires is not None and ends > keys.expires:
        raise BadInput(
            f"a link to {url} cannot live for {hours:g} hours: the keys that sign it end at {keys.expires.isoformat(timespec='seconds')}; "
            f"ask for less, or raise session_hours of storage profile {at.profile.name}"
        )
    what = "put_object" if write else "get_object"
    with storage.errors(url):
        address = at.client.generate_presigned_url(what, Params={"Bucket": at.bucket, "Key": at.key}, ExpiresIn=int(hours * 3600))
    return Link(address, ends)


def _keys(profile: StorageProfile, session: str, policy: dict[str, Any]) -> Credentials:
    own = look_up(str(profile.credentials), f"storage profile {profile.name}")
    if profile.issuer is None:
        if not profile.lend_own_keys:
            raise BadInput(
                f"storage profile {profile.name} gives steps no keys: its own do not end by themselves; set session_hours where the "
                f"storage has an STS, else lend_own_keys where they may have these"
            )
        return own
    return profile.issuer.issue(own, session, policy)


def _within(read: Sequence[str], write: Sequence[str]) -> dict[str, Any]:
    """The policy in the length that an STS takes: where there are too many places, what is read is named by the folder that it shares.

    The outputs of earlier steps share the folder of their run. Raises `BadInput` where they share none.
    """
    policy = _policy(read, write)
    if _length(policy) <= _LONGEST_POLICY:
        return policy
    shared: dict[str, list[str]] = {}
    for url in read:
        shared.setdefault(url.partition("@")[2].partition("/")[0], []).append(url.rstrip("/"))
    folders = [posixpath.commonpath(urls) for urls in shared.values()]
    policy = _policy(folders, write)
    if _length(policy) > _LONGEST_POLICY or any("/" not in folder.partition("@")[2] for folder in folders):
        raise BadInput(f"{len(read)} places, from {read[0]} on, are more than one loan can name; read less at once, or from one folder")
    return policy


def _length(policy: Mapping[str, Any]) -> int:
    return len(json.dumps(policy))


def _policy(read: Sequence[str], write: Sequence[str]) -> dict[str, Any]:
    """An IAM policy for what lies at or below some URLs; a missing object shall be said to be missing, hence the buckets' listings."""

    def statement(actions: Sequence[str], urls: Sequence[str]) -> dict[str, Any]:
        places = [url.partition("@")[2].rstrip("/") for url in urls]
        return {"Effect": "Allow", "Action": list(actions), "Resource": [f"arn:aws:s3:::{p}{end}" for p in places for end in ("", "/*")]}

    places = [url.partition("@")[2].rstrip("/").partition("/") for url in (*read, *write)]
    listing = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
        "Resource": sorted({f"arn:aws:s3:::{bucket}" for bucket, _, _ in places}),
        "Condition": {"StringLikeIfExists": {"s3:prefix": sorted({f"{key}*" for _, _, key in places})}},
    }
    statements = [statement(_READ, read) if read else None, statement(_WRITE, write) if write else None, listing]
    return {"Version": "2012-10-17", "Statement": [each for each in statements if each]}


def _described(profile: StorageProfile) -> dict[str, Any]:
    """The fields of a profile as they stand in the file of profiles."""
    stated = {each.name: getattr(profile, each.name) for each in fields(profile) if each.name != "name"}
    return {name: value for name, value in stated.items() if value is not None}
