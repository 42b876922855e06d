"""The command `earthself-suggest profile`: what a creator's own step asks of a machine, for the need of its service."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from earthself.benchmark.errors import BadSetting
from earthself.benchmark.options import errors
from earthself.data.terminal import Json, progress, say


def profile(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="The step, as it is run by hand (docs/steps.md).")],
    *,
    out: Annotated[Path, typer.Option(help="File to write, for: earthself-suggest answer NEED --profile FILE.", dir_okay=False)],
    name: Annotated[str, typer.Option(help="What to call it in answers.")] = "given",
    bands: Annotated[str, typer.Option(help="Bands of the products that it is given, beside SCL.")] = "B02,B03,B04,B08,B11,B12",
    products: Annotated[int, typer.Option(min=1, max=100, help="How many dates of one place it is given at once.")] = 1,
    side: Annotated[int, typer.Option(min=1024, max=10_980, help="Pixels along each side of the products.")] = 2048,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="How often; with fewer than 5 nothing is trusted.")] = 5,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long a run may take.")] = 10.0,
    scratch: Annotated[Path, typer.Option(exists=True, file_okay=False, writable=True, help="Folder for the products.")] = Path(),
    as_json: Json = False,
) -> None:
    """Run a step of your own on products made for it, and take its profile: what a tile asks of a machine."""
    from earthself.benchmark.own_step import OwnStep, measure_step

    with errors(as_json):
        if not out.absolute().parent.is_dir():
            raise BadSetting(f"{out.absolute().parent} is no folder; make it, or name another file")
        wanted = tuple(band.strip() for band in bands.split(",") if band.strip())
        step = OwnStep(command, name, wanted, products, side, minutes * 60)
        with progress("measuring") as show:
            found = measure_step(step, scratch.absolute(), repeats=repeats, note=lambda run: show(run, 2 * repeats))
        tile = found.profile()
        part = out.with_name(f".{out.name}.part")
        try:
            part.write_text(json.dumps(tile, indent=2) + "\n", encoding="utf-8")
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
        if as_json:
            say({"profile": tile, "doubts": list(found.doubts)})
            return
        for line in _said(tile):
            say(line)
        for doubt in found.doubts:
            say(f"not trusted: {doubt}")
        say(f"written to {out}; ask with it: earthself-suggest answer NEED --profile {out}")


def _said(of: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"A tile takes {of['cpu_seconds']:g} s of processor time ({of['threads']} at once, {of['speed']:g} Mpixel/s each) "
        f"and {of['start_seconds']:g} s beside."
    )
    yield f"It takes {of['memory_gib']:g} GiB of memory, reads {of['read_gb']:g} GB and writes {of['write_gb']:g} GB."
