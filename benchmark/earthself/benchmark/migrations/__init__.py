"""Alembic migrations of the table of samples."""
