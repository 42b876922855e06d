"""The same observation at another provider, for when the one that it was found at fails while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

from earthself.data.area import Area
from earthself.data.errors import BadInput, DataError, NoRoom, ProductChanged
from earthself.data.finding import Finder, online
from earthself.data.items import ONLY_PROVIDER
from earthself.data.observation import observed_at, shows_more
from earthself.data.query import SearchRequest, SourceConfig

_T = TypeVar("_T")
INSTEAD_OF = "earthself:instead_of"
"""Property of an item that is read in place of another: a list of `Left` as plain types."""
FOUND_AS = "earthself:found_as"
"""Property of an item that stands for another one of the same observation: that one's id."""
_APART = timedelta(minutes=30)  # catalogues state the start of the datatake or the tile's own time


@dataclass(frozen=True)
class Left:
    """A provider that could not give an observation."""

    provider: str
    """EODAG name."""
    error: str
    """Why, as a sentence."""


class Elsewhere:
    """Looks for observations at the other providers of one configuration."""

    def __init__(self, config: SourceConfig, finder: Finder) -> None:
        """Nothing is asked yet."""
        self._config, self._finder = config, finder

    def products(self, item: Mapping[str, Any], left: list[Left]) -> Iterator[dict[str, Any]]:
        """Give the observation of an item from one provider after the other, each when the one before has failed.

        `left` says why; the caller adds what fails while it reads, this what fails while it searches. A product counts as the same when
        its observation is and it shows all ground that the item shows; of several the one with the item's baseline comes first.
        """
        properties = item["properties"]
        when = observed_at(item)
        own = properties.get("earthself:provider")
        if own not in self._config.providers or properties.get(ONLY_PROVIDER) or when is None or not item.get("geometry"):
            return
        for provider in self._config.providers:
            if provider == own:
                continue
            try:
                found = self._find(
                    provider, item, SearchRequest(Area.from_conf(item["geometry"]), when - _APART, when + _APART, max_cloud_cover=None)
                )
            except BadInput:
                continue  # does not offer the collection
            except DataError as error:
                left.append(Left(provider, str(error)))
                continue
            if found is None:
                left.append(Left(provider, f"{provider} does not have the observation, or only a part of it"))
            else:
                found["properties"] |= {INSTEAD_OF: [asdict(each) for each in left], FOUND_AS: str(item["id"])}
                yield found

    def read(self, item: Mapping[str, Any], work: Callable[[Mapping[str, Any]], _T]) -> _T:
        """Do `work` with an item, or where its provider fails, with the same observation from the next one.

        Raises what `work` raises where no other provider could help, else the first provider's error, or one that may pass, and says the
        others' with it.
        """
        left: list[Left] = []
        first: DataError | None = None
        for one in chain([item], self.products(item, left)):
            try:
                return work(one)
            except (ProductChanged, BadInput, NoRoom):
                raise
            except DataError as error:
                first = error if first is None or (error.retry and not first.retry) else first
                left.append(Left(str(one["properties"].get("earthself:provider")), str(error)))
        assert first is not None  # noqa: S101 - the loop ends with a failure
        if len(left) > 1:
            first.args = (
                f"{first} (the other providers failed too: {'; '.join(each.error for each in left if each.error != str(first))})",
            )
        raise first

    def _find(self, provider: str, item: Mapping[str, Any], request: SearchRequest) -> dict[str, Any] | None:
        wanted = item["properties"]
        found = self._finder.search(replace(request, provider=provider, collection=str(wanted["earthself:collection"])))
        same = [each for each in (*found.items, *found.superseded) if _same(each, item)]
        alike = [each for each in same if each["properties"]["earthself:baseline"] == wanted.get("earthself:baseline")]
        chosen = next(iter((*alike, *same)), None)
        if chosen is not None:
            for name in ("earthself:superseded_by", "earthself:beside", ONLY_PROVIDER):
                chosen["properties"].pop(name, None)
        return chosen


def _same(found: dict[str, Any], item: Mapping[str, Any]) -> bool:
    observation = item["properties"].get("earthself:observation")
    return found["properties"]["earthself:observation"] == observation and online(found) and not shows_more(item, [found])
