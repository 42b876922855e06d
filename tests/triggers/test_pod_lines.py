"""Lines of a log, once each, wherever a stream was cut."""

from __future__ import annotations

import json
from dataclasses import asdict

from earthself.triggers.pods.lines import Lines, Place
from hypothesis import given, settings
from hypothesis import strategies as st

LOG = [
    (b"2026-01-01T10:00:00.999999999Z ", "a"),
    (b"2026-01-01T10:00:01Z ", "b"),
    (b"2026-01-01T10:00:01.1Z ", "b"),
    (b"2026-01-01T10:00:01.05Z ", "from the other stream"),
    (b"2026-01-01T10:00:01.1Z ", "c"),
    (b"2026-01-01T10:00:01.1Z ", ""),
    (b"2026-01-01T10:00:01.100000001Z ", "d 1"),
    (b"2026-01-01T10:00:02.000000001Z ", "over the second"),
    (b"2026-01-01T10:00:01.99Z ", "before the second, after it in the log"),
    (b"2026-01-01T11:00:02.5+01:00 ", "e"),
    (b"2026-01-01T10:00:03.25Z ", "f\xfc"),
]
RAW = [stamp + text.encode("latin-1") + b"\n" for stamp, text in LOG]
SAID = [text.encode("latin-1").decode(errors="replace") for _, text in LOG]
SECONDS = [stamp.decode().replace("T11", "T10")[:19] + "Z" for stamp, _ in LOG]


def parts(cuts: list[tuple[int, int]], place: Place) -> tuple[list[str], Place]:
    """What is said of streams that are cut, with the first lines rotated away once they were had; the place travels as JSON."""
    said: list[str] = []
    for rotated, length in [*cuts, (0, len(RAW))]:
        lines = Lines(place)
        since = lines.begin()
        first = min(rotated, len(said))
        while {stamp for stamp, _ in LOG[:first]} & {stamp for stamp, _ in LOG[first:]}:
            first -= 1  # between lines of the very same nanosecond nobody could tell
        stream = [raw for n, raw in enumerate(RAW) if n >= first and (since is None or SECONDS[n] >= since)]
        said += [text for line in stream[:length] if (text := lines.text(line)) is not None]
        place = Place(**json.loads(json.dumps(asdict(lines.place))))
    return said, place


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(RAW)), st.integers(0, len(RAW))), max_size=6))
def test_each_line_comes_once_whatever_part_comes_again(cuts):
    assert parts(cuts, Place())[0] == SAID


def test_a_stream_that_is_not_cut_leaves_out_nothing_however_late():
    lines = Lines(Place())
    late = [b"2026-01-01T10:00:09Z a\n", b"2026-01-01T10:00:01Z b\n", *(b"2026-01-01T10:00:09.%09dZ c\n" % n for n in range(5000))]
    assert [lines.text(line) for line in late] == ["a", "b", *["c"] * 5000]
    assert len(lines.place.had) <= 1000, "what travels is bounded"


def test_a_line_without_a_time_is_said_as_it_is():
    assert Lines(Place()).text(b"unable to retrieve container logs\n") == "unable to retrieve container logs"
