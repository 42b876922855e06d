"""Instants and periods as users write them: RFC 3339 dates or times, and a period that includes its start but not its end."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time

from earthself.data.errors import BadInput

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_EXAMPLE = "write a date like 2017-06-13 or a time with its zone like 2017-06-13T10:10:31Z"


def parse_instant(value: str | date | datetime) -> datetime:
    """Read an RFC 3339 date (its midnight in UTC) or time as a UTC datetime; raises `BadInput` for anything else.

    Fractions finer than a microsecond are cut off.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadInput(f"{value.isoformat()} has no time zone; {_EXAMPLE}")
        return value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if not isinstance(value, str):
        raise BadInput(f"{value!r} is not a date; {_EXAMPLE}")
    try:
        if is_usual(value):
            return datetime.fromisoformat(value)
        if _DATE.fullmatch(value):
            return datetime.combine(date.fromisoformat(value), time(), UTC)
        if _TIME.fullmatch(value):
            return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value.upper())).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{value!r} is not a date of the calendar ({error}); {_EXAMPLE}") from error
    raise BadInput(f"{value!r} is not a date or time of RFC 3339; {_EXAMPLE}")


def is_usual(value: str) -> bool:
    """Tell a time as `format_instant` writes it, by its marks: catalogues have millions of them, and the calendar checks the rest."""
    return len(value) == 20 and value[4] == value[7] == "-" and value[10] == "T" and value[13] == value[16] == ":" and value[19] == "Z"


def format_instant(value: datetime) -> str:
    """Write an instant as RFC 3339 in UTC, with `Z` and as many fractional digits as it has."""
    return value.astimezone(UTC).isoformat()[:-6] + "Z"


def parse_period(start: str | date | datetime, end: str | date | datetime) -> tuple[datetime, datetime]:
    """Read a period `[start, end)`; raises `BadInput` when it is empty or runs backwards."""
    first, last = parse_instant(start), parse_instant(end)
    if first >= last:
        what = "is empty" if first == last else "ends before it starts"
        raise BadInput(f"the period from {start} to {end} {what}; the end is not part of it, so give at least the next day")
    return first, last
