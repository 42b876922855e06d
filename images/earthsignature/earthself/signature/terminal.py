"""What all commands share on a terminal: their output, for people or machines, and the exit codes of our errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from earthself.data.errors import EarthSelfError

Json = Annotated[bool, typer.Option("--json", help="Write JSON for machines.")]


@contextmanager
def errors(as_json: bool) -> Iterator[None]:
    """End with the message and exit code of an error of ours."""
    try:
        yield
    except EarthSelfError as error:
        typer.echo(json.dumps({"error": str(error), "retry": error.retry}) if as_json else f"earthsignature: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def say(text: Any) -> None:  # noqa: ANN401 - text, or what JSON can hold
    """Print a line."""
    typer.echo(text if isinstance(text, str) else json.dumps(text))
    sys.stdout.flush()
