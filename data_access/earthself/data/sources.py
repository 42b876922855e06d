"""The one door to Earth-observation catalogues: the records here, the work behind it."""

from __future__ import annotations

from earthself.data.query import Count, Found, SearchRequest, SourceConfig

__all__ = ["Count", "Found", "SearchRequest", "SourceConfig"]
