"""What Alembic runs: the connection comes from `earthself.data.database`, inside its transaction."""

from __future__ import annotations

from earthself.data.database import run_migrations
from earthself.provision.tables import METADATA, VERSION_TABLE

run_migrations(METADATA, VERSION_TABLE)
