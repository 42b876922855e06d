"""What all commands of `earthsignature` share."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from earthself.data import terminal

HOME = Path(os.environ.get("EARTHSELF_HOME", ".earthself")) / "earthsignature"
_URL = "EARTHSELF_SIGNATURE_DATABASE_URL"
Home = Annotated[Path, typer.Option("--home", envvar="EARTHSELF_SIGNATURE_HOME", help="Folder of the store.")]
Database = Annotated[str | None, typer.Option("--database-url", envvar=_URL, help="SQLAlchemy URL; a file in the folder if left out.")]
errors = partial(terminal.errors, "earthsignature")
