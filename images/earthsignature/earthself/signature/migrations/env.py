"""What Alembic runs: the connection comes from `earthself.signature.catalog.migrate`, inside its transaction."""

from __future__ import annotations

from alembic import context
from earthself.signature.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="signature_version",
    transactional_ddl=False,  # the caller's transaction holds all changes, or none
)
context.run_migrations()
