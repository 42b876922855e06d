"""What the parts of the command `earthself-suggest` share."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from earthself.data import terminal

errors = partial(terminal.errors, "earthself-suggest")
_URL = "SQLAlchemy URL of the platform's database."
Database = Annotated[str | None, typer.Option("--database-url", envvar="EARTHSELF_DATABASE_URL", help=_URL)]
