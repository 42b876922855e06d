"""Alembic's scripts for the tables of `earthself.operators`."""
