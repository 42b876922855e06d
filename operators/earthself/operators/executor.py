"""Airflow's LocalExecutor with what pods need imported before its workers are forked: each task would else spend a second or two on it."""

from __future__ import annotations

from importlib import import_module

from airflow.executors.local_executor import LocalExecutor

_HEAVY = (
    "earthself.operators.staged_pod",
    "earthself.operators.placement",
    "earthself.operators.accounts",
    "earthself.operators.catalogs",
    "earthself.operators.remembering",
    "earthself.hooks.tally",
)
"""Nothing that starts threads or keeps connections: after a fork those would be nobody's. So neither grpc nor EODAG."""


class PreparedLocalExecutor(LocalExecutor):
    """Set it as `[core] executor = earthself.operators.executor.PreparedLocalExecutor`."""

    def start(self) -> None:
        """Import, then start as ever; workers share what was imported."""
        for name in _HEAVY:
            import_module(name)
        super().start()
