"""The Cloud Suggest Engine: measures clouds, knows their prices, and says where a service should run (`suggest`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earthself.benchmark.suggestion.engine import suggest

__all__ = ["suggest"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - numpy and SQLAlchemy come with the engine, and only with it
    if name == "suggest":
        from earthself.benchmark.suggestion.engine import suggest

        return suggest
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
