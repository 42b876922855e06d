"""The commands `earthself-suggest answer` and `report`: where a service should run, on a terminal and as files."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from earthself.benchmark.errors import BadNeed, BadSetting
from earthself.benchmark.options import Database, errors
from earthself.data.terminal import Json, say

if TYPE_CHECKING:
    from earthself.benchmark.suggestion.answer import Answer

_ROWS = 10
_PLOTS = ("cost-time.png", "weights.png", "costs.png")
"""An answer can lack one of them: then what an earlier answer left under its name has to go."""
_Need = Annotated[str, typer.Argument(metavar="NEED", help="File with the need, YAML or JSON (docs/suggest.md); - for standard input.")]
_Profile = Annotated[
    Path | None,
    typer.Option(help="Instead of the need's profile: what earthself-suggest profile wrote.", dir_okay=False),
]
_Day = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Answer as of this day: prices age. Else today.", show_default=False)
]


def answer(
    need: _Need,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Write answer.json, report.html and the plots to this folder, too.", file_okay=False)
    ] = None,
    profile: _Profile = None,
    day: _Day = None,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Say where a service should run, how sure that is, and what is not known."""
    with errors(as_json):
        found = _ask(need, profile, day, database_url)
        if out is not None:
            _write(_files(found), out)
        if as_json:
            from earthself.benchmark.suggestion.document import document

            say(document(found))
            return
        for line in _lines(found):
            say(line)
        if out is not None:
            say(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.iterdir() if path.name in _names()))}")


def report(
    need: _Need,
    *,
    out: Annotated[Path, typer.Option(help="HTML file to write; it needs no other.", dir_okay=False)],
    plots: Annotated[Path | None, typer.Option(help="Write the plots to this folder, too, as PNG.", file_okay=False)] = None,
    profile: _Profile = None,
    day: _Day = None,
    database_url: Database = None,
    as_json: Json = False,
) -> None:
    """Write the answer as a page to be read, sent around, and printed."""
    from earthself.benchmark.suggestion.report import html

    with errors(as_json):
        if not out.absolute().parent.is_dir():
            raise BadSetting(f"{out.absolute().parent} is no folder; make it, or name another file")
        found = _ask(need, profile, day, database_url)
        drawn = _drawn(found) if plots is not None else {}
        if plots is not None:
            _write(drawn, plots)
        _put({out.name: html(found).encode()}, out.absolute().parent)
        say(
            {"report": str(out), "plots": sorted(drawn)}
            if as_json
            else f"{out} written" + (f", and to {plots}: {', '.join(sorted(drawn))}" if drawn else "")
        )


def _ask(need: str, profile: Path | None, day: datetime | None, database_url: str | None) -> Answer:
    from earthself.benchmark.suggestion.engine import suggest
    from earthself.benchmark.suggestion.need import read_need

    asked = read_need(*_text(need), profile=None if profile is None else _text(str(profile)))
    return suggest(asked, database_url=database_url, today=day.date() if day else datetime.now(UTC).date())


def _text(need: str) -> tuple[str, str]:
    if need == "-":
        return sys.stdin.read(), "standard input"
    try:
        return Path(need).read_text(encoding="utf-8"), need
    except UnicodeDecodeError as error:
        raise BadNeed(f"{need} is no text in UTF-8; a need is YAML or JSON (docs/suggest.md)") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise BadNeed(f"{need} is no file; name one that holds the need (docs/suggest.md)") from error


def _names() -> set[str]:
    return {"answer.json", "report.html", *_PLOTS}


def _files(found: Answer) -> dict[str, bytes]:
    from earthself.benchmark.suggestion.document import text
    from earthself.benchmark.suggestion.report import html

    return {"answer.json": text(found).encode(), "report.html": html(found).encode(), **_drawn(found)}


def _drawn(found: Answer) -> dict[str, bytes]:
    from earthself.benchmark.suggestion.plots import plots

    return {f"{plot.name}.png": plot.png() for plot in plots(found)}


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder, and take plots away there that an earlier answer had and this one lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    _put(files, folder)
    for name in _PLOTS:
        if name not in files:
            (folder / name).unlink(missing_ok=True)


def _put(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files beside first, so that no reader meets half of one, and a full disk leaves what was there."""
    beside = Path(tempfile.mkdtemp(prefix=".answer-", dir=folder))
    try:
        for name, content in files.items():
            (beside / name).write_bytes(content)
        for name in files:
            (beside / name).replace(folder / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _lines(found: Answer) -> Iterator[str]:
    from earthself.benchmark.suggestion import words

    yield from words.said(found)
    if found.choices:
        yield ""
        yield from _aligned(_table(found))
        if len(found.choices) > _ROWS:
            yield f"and {len(found.choices) - _ROWS} more: --json, or --out FOLDER"
    if found.reasons:
        yield "\nleft out: " + ", ".join(f"{number} by {name}" for name, number in found.reasons.items())
    yield f"\nof {found.today}, state {found.state}; {found.data_state}"


def _table(found: Answer) -> list[tuple[str, ...]]:
    from earthself.benchmark.suggestion import words

    rows: list[tuple[str, ...]] = [("RANK", "OFFER", "HOURS", "", "RESTS ON", "EUR/MONTH", "", "RESTS ON", "NOT RANKED: WHY")]
    for one in found.choices[:_ROWS]:
        hours, euros = one.estimate.hours, one.estimate.euros
        why = words.plain("; ".join(one.unranked))
        rows.append((
            str(one.rank or "-"), words.machines(one), words.amount(hours), words.interval(hours), words.badge(hours, found.today),
            words.amount(euros), words.interval(euros), words.badge(euros, found.today), why,
        ))  # fmt: skip
    return rows


def _aligned(table: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(f"{word:{width}}" for word, width in zip(row, widths, strict=True)).rstrip()
