"""An output folder is there whole or not at all: it grows beside its place and is renamed into it at the end."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from earthself.data.errors import no_room
from earthself.processing.catalog import CATALOG
from earthself.processing.errors import BadInput


def check_folders(source: Path, output: Path) -> None:
    """Refuse folders that a step could do harm to; raises `BadInput`."""
    if not (source / CATALOG).is_file():
        raise BadInput(f"{source / CATALOG} does not exist; the input folder needs a STAC catalog")
    if output.resolve() == source.resolve() or output.resolve() in source.resolve().parents:
        raise BadInput(f"the output {output} is the input or holds it, and would replace it; choose another folder")
    if output.exists() and not output.is_dir():
        raise BadInput(f"the output {output} is a file; name a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / CATALOG).is_file():
        raise BadInput(f"the output {output} holds files that no step wrote; name an empty folder or a step's earlier output")


@contextlib.contextmanager
def growing(output: Path) -> Iterator[Path]:
    """Give a folder to write into that becomes `output` when the block ends well and vanishes when it does not.

    Raises `NoRoom` where that is for want of it.
    """
    partial = _sibling(output, "partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    try:
        partial.mkdir(parents=True)
        yield partial
        _put_in_place(partial, output)
    except Exception as error:
        if full := no_room(error, partial):
            raise full from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def removed_on_error(folder: Path) -> Iterator[None]:
    """Leave nothing of a folder that the block did not finish; raises `NoRoom` where that was for want of it."""
    try:
        yield
    except BaseException as error:
        full = no_room(error, folder)
        shutil.rmtree(folder, ignore_errors=True)
        if full:
            raise full from error
        raise


def _put_in_place(partial: Path, output: Path) -> None:
    old = _sibling(output, "old")
    shutil.rmtree(old, ignore_errors=True)
    try:
        if output.is_dir() and any(output.iterdir()):
            output.rename(old)
        partial.rename(output)
    except OSError:  # the output is a mount point: its contents are exchanged, the catalog last
        _exchange_contents(partial, output)
    shutil.rmtree(old, ignore_errors=True)


def _exchange_contents(partial: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / CATALOG).unlink(missing_ok=True)
    for path in list(output.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in sorted(partial.iterdir(), key=lambda each: each.name == CATALOG):
        shutil.move(path, output / path.name)


def _sibling(output: Path, kind: str) -> Path:
    return output.with_name(f".{output.name}.{kind}")
