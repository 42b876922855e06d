"""Alembic migrations of the tables of services, needs and requests."""
