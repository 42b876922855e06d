"""What can go wrong while somebody watches for products."""

from __future__ import annotations

from earthself.data.errors import EarthSelfError


class MemoryBroken(EarthSelfError):
    """The tables of what was seen cannot be used (exit 75: a database that is away comes back)."""

    exit_code = 75
    retry = True


class BadWatch(EarthSelfError):
    """What is to be watched cannot be used as it is written (exit 65)."""

    exit_code = 65


class NoticeNotSent(EarthSelfError):
    """An alert could not be carried to people (exit 75: it is tried again)."""

    exit_code = 75
    retry = True
