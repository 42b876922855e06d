"""Errors that answer two questions: whose fault is it, and does trying again help.

Every distribution derives its own base from `EarthSelfError`, so that operators, steps and command lines
treat them alike: `exit_code` is what a process ends with, `retry` is whether another attempt may succeed.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path


class EarthSelfError(Exception):
    """The root of all errors that EarthSelf raises on purpose; the message names the value, the limit and the next step."""

    exit_code: int = 1
    retry: bool = False


class DataError(EarthSelfError):
    """Anything that goes wrong between a provider or a store and the run's workspace."""


class BadInput(DataError):
    """What the user gave cannot be used as it is (exit 65, never retried)."""

    exit_code = 65


class CredentialsRefused(DataError):
    """A key, a login or a token is missing, wrong or expired (exit 65: only its owner can mend it)."""

    exit_code = 65


class NotThere(DataError):
    """A product, bucket, file or provider that was named does not exist (exit 69)."""

    exit_code = 69


class TryAgain(DataError):
    """The other side is slow, busy or gone for now (exit 75, retried with backoff)."""

    exit_code = 75
    retry = True


class Incomplete(TryAgain):
    """A catalogue gives fewer products than it says that match: what it gave is right, but not all."""


class ProductChanged(TryAgain):
    """What lies behind an address is no longer what it was at the first read: pixels of two states must not be mixed."""


class NoRoom(DataError):
    """The disk is full: not the provider's fault, and another attempt helps only when somebody has made room (exit 75)."""

    exit_code = 75
    retry = True


class Damaged(DataError):
    """The other side gives bytes that are not what was stated, every time it is asked: only the provider can mend it."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where there is no room for a file."""
_NEXT_TO_NOTHING = 1 << 24  # bytes left on a disk that is full for rasters
_MISTAKES = (TypeError, ValueError, LookupError, AttributeError, AssertionError)


def no_room(error: BaseException, place: Path) -> NoRoom | None:
    """What a failed write at a place (a file or folder) means where its disk is full; None where it means something else.

    To be asked before the half file is removed: rasterio's errors do not say why a write failed.
    """
    if not isinstance(error, Exception) or isinstance(error, (EarthSelfError, *_MISTAKES)):
        return None
    said = getattr(error, "errno", None) in FULL
    folder = next((each for each in (place, *place.parents) if each.is_dir()), Path())
    free = shutil.disk_usage(folder).free
    if not said and free >= _NEXT_TO_NOTHING:
        return None
    what = str(getattr(error, "strerror", None) or error)
    return NoRoom(f"there is no room for {place.name} in {place.parent} ({what}; {free} bytes are free); make room and try again")
