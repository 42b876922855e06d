"""Lines of a log, once each, wherever a stream was cut."""

from __future__ import annotations

from earthself.triggers.pods.lines import Place, Reading
from hypothesis import given
from hypothesis import strategies as st

LOG = [
    (b"2026-01-01T10:00:00.999999999Z ", "a"),
    (b"2026-01-01T10:00:01Z ", "b"),
    (b"2026-01-01T10:00:01.1Z ", "b"),
    (b"2026-01-01T10:00:01.1Z ", "c"),
    (b"2026-01-01T10:00:01.1Z ", ""),
    (b"2026-01-01T10:00:01.100000001Z ", "d 1"),
    (b"2026-01-01T11:00:02.5+01:00 ", "e"),
    (b"2026-01-01T10:00:03.25Z ", "f\xfc"),
]
RAW = [stamp + text.encode("latin-1") + b"\n" for stamp, text in LOG]
SAID = [text.encode("latin-1").decode(errors="replace") for _, text in LOG]


@given(st.lists(st.tuples(st.integers(0, len(RAW)), st.integers(0, len(RAW))), max_size=6))
def test_each_line_comes_once_whatever_part_comes_again(cuts):
    place, said = Place(), []
    for before, until in [*cuts, (0, len(RAW))]:
        # A stream begins at any line up to the place (the API knows whole seconds only), and is cut anywhere after it.
        start = min(before, len(said))
        start = start if place.stamp is None or start == 0 else min(start, first_of(place))
        reading = Reading(place)
        said += [text for line in RAW[start : max(start, until)] if (text := reading.text(line)) is not None]
        place = reading.place
    assert said == SAID


def first_of(place: Place) -> int:
    """The first line of the second that the API would be asked from."""
    second = place.stamp.replace("11:00:02", "10:00:02")[:19]
    return next(n for n, (stamp, _) in enumerate(LOG) if stamp.decode().replace("11:00:02", "10:00:02")[:19] >= second)


def test_a_line_without_a_time_is_said_as_it_is():
    assert Reading(Place()).text(b"unable to retrieve container logs\n") == "unable to retrieve container logs"
