"""What Alembic runs: the connection comes from `earthself.data.database`, inside its transaction."""

from __future__ import annotations

from earthself.benchmark.tables import METADATA, VERSION_TABLE
from earthself.data.database import run_migrations

run_migrations(METADATA, VERSION_TABLE)
