"""Airflow triggers of EarthSelf: what waits for the world outside, and remembers what it saw there."""

from __future__ import annotations

from earthself.triggers.new_products import EODAGNewProductsTrigger

__all__ = ["EODAGNewProductsTrigger"]
