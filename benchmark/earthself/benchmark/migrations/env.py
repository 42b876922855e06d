"""What Alembic runs: the connection comes from `earthself.data.database`, inside its transaction."""

from __future__ import annotations

from alembic import context
from earthself.benchmark.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=False,  # the caller's transaction holds all changes, or none
)
context.run_migrations()
