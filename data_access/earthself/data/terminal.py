"""What all commands share on a terminal: their output, for people or machines, and the exit codes of our errors.

It needs typer and rich, which each distribution that has a command asks for.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from earthself.data.errors import EarthSelfError

Json = Annotated[bool, typer.Option("--json", help="Write JSON for machines.")]


@contextmanager
def errors(program: str, as_json: bool) -> Iterator[None]:
    """End with the message and exit code of an error of ours, or of a disk that is full or not there."""
    try:
        yield
    except EarthSelfError as error:
        told = "\n".join([str(error), *getattr(error, "__notes__", ())])
        typer.echo(json.dumps({"error": told, "retry": error.retry}) if as_json else f"{program}: {told}", err=True)
        raise typer.Exit(error.exit_code) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # who reads our output has enough
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = f"{error.filename or 'the disk'}: {error.strerror or error}"
        text = f"{what}; {'make room, and call it again' if full else 'give another path, or look after this one'}"
        typer.echo(json.dumps({"error": text, "retry": full}) if as_json else f"{program}: {text}", err=True)
        raise typer.Exit(75 if full else 1) from error


def say(text: Any) -> None:  # noqa: ANN401 - text, or what JSON can hold
    """Print a line."""
    typer.echo(text if isinstance(text, str) else json.dumps(text))
    sys.stdout.flush()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show how many are done, and of how many where that is known: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
