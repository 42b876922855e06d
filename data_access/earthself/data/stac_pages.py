"""EODAG's search of STAC catalogues, made to notice what it overlooks: answers that are none, and pages that go on after a short one.

Importing this registers the plugin with EODAG (and loads EODAG); `earthself.data.catalogue` puts it in the place of EODAG's own.
"""

from __future__ import annotations

from typing import Any

from earthself.data.errors import TryAgain
from eodag.plugins.search.qssearch import StacSearch

_NUMBERED = ("page", "skip")


class EarthSelfStacSearch(StacSearch):
    """A `StacSearch` whose results keep the way to the next page as `onward`: its token and the name of that, or None at the end."""

    def query(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - EODAG's SearchResult
        """Ask for one page. EODAG takes a page with fewer products than asked for as the last; its servers do not."""
        result: Any = super().query(*args, **kwargs)
        token = result.next_page_token
        result.onward = None if token is None else (token, result.next_page_token_key)
        return result

    def extract_results_from_response(self, resp_as_json: Any, **kwargs: Any) -> list[Any]:  # noqa: ANN401 - whatever the server sent
        """Raise `TryAgain` where a success carries no list of products, which EODAG takes for a list of none."""
        features = resp_as_json.get("features") if isinstance(resp_as_json, dict) else None
        right = isinstance(features, list) and all(isinstance(f, dict) and isinstance(f.get("properties"), dict) for f in features)
        if not right or resp_as_json.get("type") != "FeatureCollection":
            raise TryAgain(
                f"{self.provider} answers its search with something that is no list of products; try again, or choose another provider"
            )
        found: list[Any] = super().extract_results_from_response(resp_as_json, **kwargs)
        return found

    def _build_raw_search_results(self, results: list[Any], resp_as_json: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Keep the next page where the server links to one; where pages are only numbered, a full one is followed by another."""
        raw = super()._build_raw_search_results(results, resp_as_json, *args, **kwargs)
        links = resp_as_json.get("links") or []
        linked = any(isinstance(link, dict) and link.get("rel") == "next" for link in links)
        full = raw.next_page_token_key in _NUMBERED and len(results) >= (raw.search_params.get("limit") or 1)
        if not linked and not full:
            raw.next_page_token = None
        return raw
