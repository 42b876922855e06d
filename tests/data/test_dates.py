"""Instants and periods: what RFC 3339 allows, and nothing that only looks like it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from earthself.data.dates import format_instant, parse_instant, parse_period
from earthself.data.errors import BadInput
from hypothesis import given
from hypothesis import strategies as st

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# A day of margin, since the first and last hours of the calendar have no name in other zones.
instants = st.datetimes(datetime.fromisoformat("0001-01-02"), datetime.fromisoformat("9999-12-30"), timezones=zones)


@given(instants)
def test_an_instant_is_the_same_in_every_zone(when: datetime) -> None:
    assert parse_instant(when.isoformat()) == when
    assert parse_instant(when) == when
    assert parse_instant(when.astimezone(UTC).isoformat().replace("+00:00", "z").replace("T", "t")) == when
    assert parse_instant(format_instant(when)) == when
    assert format_instant(when).endswith("Z")


@given(st.dates())
def test_a_date_is_its_midnight(day: date) -> None:
    assert parse_instant(day.isoformat()) == datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert parse_instant(day) == parse_instant(day.isoformat())


@given(instants, instants)
def test_a_period_runs_forwards(a: datetime, b: datetime) -> None:
    if a < b:
        assert parse_period(a, b) == (a, b)
    else:
        with pytest.raises(BadInput, match="is empty" if a == b else "ends before it starts"):
            parse_period(a, b)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_with_an_example(text: str) -> None:
    try:
        assert parse_instant(text).tzinfo is UTC
    except BadInput as error:
        said = str(error)
    else:
        said = "2017-06-13"
    assert "2017-06-13" in said


@pytest.mark.parametrize(
    "text",
    [
        *("", "13.06.2017", "2017-6-13", "2017-06-31", "2017-02-29", "20170613", "2017-06-13T10:10:31", "2017-06-13T10:10Z"),
        *("2017-06-13T25:00:00Z", "2017-06-13T10:10:31+25:00", "2017-W24-2", "\uff12017-06-13", "0000-01-01", "0001-01-01T00:00:00+14:00"),
        *(20170613, None, datetime.fromisoformat("2017-06-13")),
    ],
)
def test_what_only_looks_like_a_date_is_refused(text: object) -> None:
    with pytest.raises(BadInput):
        parse_instant(text)


def test_fractions_finer_than_a_microsecond_are_cut() -> None:
    assert parse_instant("2017-06-13T10:10:31.123456789Z").microsecond == 123456
    assert parse_instant("2017-06-13T10:10:31.5Z").microsecond == 500000


def test_the_end_is_not_part_of_the_period_and_the_message_says_so() -> None:
    with pytest.raises(BadInput, match="give at least the next day"):
        parse_period("2017-06-13", "2017-06-13")
