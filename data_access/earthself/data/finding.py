"""Searching several catalogues as one: the provider order with fallback, what was asked for held against what came, copies set aside."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from earthself.data.catalogue import Catalogue
from earthself.data.errors import BadInput, DataError, Incomplete
from earthself.data.items import ONLY_PROVIDER, PRODUCT, normalised
from earthself.data.observation import newest_of_each, observed_at
from earthself.data.query import Count, Found, SearchRequest, SourceConfig
from earthself.data.radiometry import mixed_baselines
from earthself.data.sentinel2 import BANDS
from earthself.data.transfer import Expected

_T = TypeVar("_T")
# A whole Sentinel-2 L2A tile, all bands, as COG or SAFE: 0.4 to 1.2 GB; said as an estimate only.
_TYPICAL_BYTES = 800_000_000
_TILE_M2 = 109_800.0**2
_COUNT_PAGE = 100
_HALF_BLOCK_M = 2560.0


class Finder:
    """The providers of one configuration, asked in their order."""

    def __init__(self, config: SourceConfig, catalogue: Catalogue) -> None:
        """Nothing is asked yet."""
        self._config, self._catalogue = config, catalogue

    def search(self, request: SearchRequest) -> Found:
        """See `earthself.data.sources.Sources.search`.

        Where a provider gives less than it says match, the next one is asked; when none gives all, the first that gave something
        answers, with a warning.
        """
        warnings: list[str] = []
        partial: list[Found] = []

        def all_of(provider: str) -> Found:
            found, missing = self._search(provider, request)
            if missing is not None:
                partial.extend([found] if found.items else [])
                raise missing
            return found

        try:
            found = self._first(request, all_of, warnings)
        except DataError as error:
            if not partial:
                raise
            found, warnings = partial[0], [str(error)]
        return Found(found.items, found.superseded, found.provider, [*warnings, *found.warnings], found.number_matched)

    def count(self, request: SearchRequest) -> Count:
        """See `earthself.data.sources.Sources.count`."""
        warnings: list[str] = []

        def counted(provider: str) -> Count:
            return self._count(provider, request)

        made = self._first(request, counted, warnings)
        return replace(made, warnings=tuple(warnings))

    def _first(self, request: SearchRequest, work: Callable[[str], _T], warnings: list[str]) -> _T:
        """Ask the providers in order until one answers."""
        order = [request.provider] if request.provider else list(self._config.providers)
        if not order:
            raise BadInput("no provider is configured; name one in the request, or in the provider settings")
        offering = [name for name in order if self._catalogue.offers(name, request.collection)]
        if not offering:
            raise BadInput(f"{request.collection} is not offered by {', '.join(order)}; choose another provider or collection")
        for name in offering:
            try:
                return work(name)
            except BadInput:
                raise
            except DataError as error:
                if name == offering[-1]:
                    if warnings:
                        raise type(error)(f"{error} (before: {'; '.join(warnings)})") from error
                    raise
                warnings.append(f"{name} failed, the next provider was asked: {error}")
        raise AssertionError("the last provider answers or raises")

    def _search(self, provider: str, request: SearchRequest) -> tuple[Found, Incomplete | None]:
        """What one provider gives, and the error that says that it should be more."""
        raw: list[dict[str, Any]] = []
        matched: int | None = None
        missing: Incomplete | None = None
        unusable = unasked = 0
        try:
            for page, number in self._catalogue.pages(provider, request):
                matched = number if number is not None else matched
                for item in page:
                    when = observed_at(item)
                    if when is not None and not request.start <= when < request.end:
                        continue
                    if not _fits(item, request):
                        unasked += 1
                        continue
                    try:
                        raw.append(self._normalised(item, provider, request))
                    except BadInput:
                        unusable += 1
                if request.limit is not None and len(newest_of_each(raw, request.area.geometry)[0]) >= request.limit:
                    break
        except Incomplete as error:
            missing = error
        used, superseded = newest_of_each(raw, request.area.geometry)
        warnings = _remarks(provider, used, superseded, unusable)
        if unasked:
            warnings.append(f"{provider} gave {unasked} products outside the area or above the cloud limit; they are left out")
        if request.limit is not None and len(used) > request.limit:
            used = used[: request.limit]
        if request.limit is not None and matched is not None and matched > len(raw) + unusable + unasked:
            warnings.append(f"{provider} has {matched} products; only {len(used)} are given because of the limit")
        return Found(used, superseded, provider, warnings, matched), missing

    def _normalised(self, item: dict[str, Any], provider: str, request: SearchRequest) -> dict[str, Any]:
        made = normalised(item, provider, request.collection, open_access=True)
        if request.provider:
            made["properties"][ONLY_PROVIDER] = True
        hrefs = [asset["href"] for asset in made["assets"].values()]
        if self._catalogue.needs_login(provider, hrefs):
            made["properties"]["earthself:access"] = "login"
        return made

    def _count(self, provider: str, request: SearchRequest) -> Count:
        total, estimate, window, sampled = 0, 0.0, 0.0, 0
        for page, matched in self._catalogue.pages(provider, request, _COUNT_PAGE):
            total += len(page)
            if not sampled:
                sampled = len(page)
                items = [normalised(item, provider, "", open_access=True) for item in page]
                estimate = sum(_share_bytes(item, request) for item in items)
                window = sum(_window_m2(item, request) for item in items)
            if matched is not None:
                total = max(matched, total)
                break
        sampled = max(1, sampled)
        return Count(total, round(estimate / sampled * total), provider, window_m2=window / sampled)


def online(item: Mapping[str, Any]) -> bool:
    """Whether a provider can give a product at once; others have to be ordered there."""
    return item["properties"].get("order:status") in (None, "succeeded")


def _remarks(provider: str, used: list[dict[str, Any]], superseded: list[dict[str, Any]], unusable: int) -> list[str]:
    remarks: list[str] = []
    if superseded:
        remarks.append(f"{len(superseded)} older copies of observations are not used; the newer ones are")
    if beside := [item for item in used if "earthself:beside" in item["properties"]]:
        remarks.append(
            f"{len(beside)} products are used beside a newer processing of the same observation, which does not show all their ground, "
            f"such as {beside[0]['id']}; the newer one counts where both show it"
        )
    if unusable:
        remarks.append(f"{unusable} products of {provider} do not say what they observed and are left out")
    if mixed := mixed_baselines(used):
        remarks.append(mixed)
    offline = [item["id"] for item in used if not online(item)]
    if offline:
        remarks.append(
            f"{len(offline)} products are not online at {provider}, such as {offline[0]}; reading them fails until it has staged them"
        )
    return remarks


def _fits(item: Mapping[str, Any], request: SearchRequest) -> bool:
    """Whether a product is what was asked for; what it does not say, or says in a way that cannot be read, counts as fitting."""
    cover = item["properties"].get("eo:cloud_cover")
    if request.max_cloud_cover is not None and isinstance(cover, (int, float)) and cover > request.max_cloud_cover:
        return False
    return request.area.may_touch(item.get("geometry"))


def _share_bytes(item: dict[str, Any], request: SearchRequest) -> float:
    """Bytes of one product that the area needs: all of an archive, else the share of its footprint."""
    from shapely.geometry import shape

    stated = [Expected.of(asset).size for name, asset in item["assets"].items() if name in BANDS or name in ("SCL", PRODUCT)]
    footprint = shape(item["geometry"]).buffer(0)
    tile = _tile_share(footprint)
    whole = float(sum(s for s in stated if s)) if stated and all(stated) else _TYPICAL_BYTES * tile
    if PRODUCT in item["assets"] and not any(name in BANDS for name in item["assets"]):
        return whole
    share = footprint.intersection(request.area.geometry).area / footprint.area if footprint.area else 1.0
    return whole * share


def _window_m2(item: dict[str, Any], request: SearchRequest) -> float:
    """Size of the box round the part of a product that lies in the area, with half a block of 512 pixels around that reading adds."""
    from earthself.data.area import Area
    from shapely.geometry import MultiPolygon, shape

    footprint = shape(item["geometry"]).buffer(0)
    met = footprint.intersection(request.area.geometry)
    parts = [part for part in getattr(met, "geoms", (met,)) if part.area]
    if not parts:
        return 0.0
    west, south, east, north = Area(MultiPolygon(parts)).unwrapped().bounds
    left, bottom, right, top = Area(footprint).unwrapped().bounds
    if west - left > 180:  # over the antimeridian the two may be counted from different sides
        west, east = west - 360, east - 360
    degree = 111_320 * max(0.01, math.cos(math.radians((south + north) / 2)))
    across = min(right, east + _HALF_BLOCK_M / degree) - max(left, west - _HALF_BLOCK_M / degree)
    down = min(top, north + _HALF_BLOCK_M / 110_574) - max(bottom, south - _HALF_BLOCK_M / 110_574)
    return float(across * degree * down * 110_574)


def _tile_share(footprint: Any) -> float:  # noqa: ANN401 - a shapely geometry
    """How much of a whole Sentinel-2 tile a footprint is, at most 1."""
    from earthself.data.area import Area

    return min(1.0, Area(footprint).geodesic_m2 / _TILE_M2)
