"""What Alembic runs: the connection comes from `earthself.signature.catalog.migrate`, inside its transaction."""

from __future__ import annotations

from earthself.data.database import run_migrations
from earthself.signature.tables import METADATA

run_migrations(METADATA, "signature_version")
