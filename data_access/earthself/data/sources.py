"""The one door to Earth-observation data: search catalogues, read windows of bands, download products.

Operators and steps use this module and nothing below it; EODAG, HTTP and the forms of different catalogues stay behind it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from earthself.data import archive
from earthself.data.catalogue import Catalogue
from earthself.data.errors import BadInput, Damaged, DataError, NotThere, TryAgain
from earthself.data.http import Access, Http, OpenAccess
from earthself.data.items import METADATA, PRODUCT, normalised
from earthself.data.login import Logins
from earthself.data.observation import newest_of_each, observed_at
from earthself.data.query import Count, Found, SearchRequest, SourceConfig
from earthself.data.radiometry import mixed_baselines
from earthself.data.ranges import BandReader, open_local, open_remote
from earthself.data.retries import RetryPolicy
from earthself.data.sentinel2 import BANDS
from earthself.data.transfer import Expected, download
from earthself.data.workspace import atomic, write_bytes

# A whole Sentinel-2 L2A tile, all bands, as COG or SAFE: 0.4 to 1.2 GB; said as an estimate only.
_TYPICAL_BYTES = 800_000_000
_TILE_M2 = 109_800.0**2
_COUNT_PAGE = 100
_MOST_METADATA = 5_000_000


class Sources:
    """All configured providers. Safe to share between threads; close it, or use it as a context manager."""

    def __init__(self, config: SourceConfig | None = None, *, retries: RetryPolicy | None = None, downloads: Path | None = None) -> None:
        """Nothing is asked yet. `downloads` keeps whole products that cannot be read in parts (default: a folder of the step's scratch)."""
        self.config = config or SourceConfig.from_env()
        policy = retries or RetryPolicy(attempts=self.config.attempts)
        self._catalogue = Catalogue(self.config, policy)
        self._logins = Logins(self._catalogue)
        self._http = Http(self.config.timeout, policy, self.config.deadline)
        self._downloads = downloads

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def search(self, request: SearchRequest) -> Found:
        """Find products, newest first, one for each observation; a provider that fails is named and the next one asked.

        Raises `BadInput` for a provider or collection that nobody offers, else the last provider's error when all fail.
        """
        warnings: list[str] = []

        def all_of(provider: str) -> Found:
            return self._search(provider, request)

        found = self._first(request, all_of, warnings)
        return Found(found.items, found.superseded, found.provider, [*warnings, *found.warnings], found.number_matched)

    def count(self, request: SearchRequest) -> Count:
        """Count what `search` would find, and estimate the bytes of the area's share of it, without reading more than needed."""
        warnings: list[str] = []

        def counted(provider: str) -> Count:
            return self._count(provider, request)

        made = self._first(request, counted, warnings)
        return Count(made.products, made.estimated_bytes, made.provider, tuple(warnings))

    def open_band(self, item: Mapping[str, Any], band: str) -> BandReader:
        """Open one band of an item from `search` (or one whose assets lie here) for reading windows.

        Ranged where the provider serves ranges; otherwise the file, or the product's archive, is downloaded first.
        Raises `NotThere` when the product lacks the band, and what the transfer meets.
        """
        asset = item["assets"].get(band)
        what = f"{band} of {item['id']}"
        nodata = 0.0 if band in BANDS or band == "SCL" else None
        if asset is None:
            path, moved = self._archive(item, band)
            return open_local(archive.member_path(path, band), what, nodata, moved)
        href = str(asset["href"])
        if local := _local(href):
            return open_local(str(local), what, nodata)
        _check_online(item)
        path = self._folder() / safe_name(str(item["id"])) / f"{band}{_suffix(href)}"
        if path.is_file():
            return open_local(str(path), what, nodata)
        access = self._access(item)
        reader = open_remote(self._http, access, href, what, nodata)
        if reader is not None:
            return _with_size(reader, Expected.of(asset).size, what)
        return open_local(str(path), what, nodata, self._fetch(access, href, path, asset))

    def download(self, item: Mapping[str, Any], folder: Path, bands: Sequence[str] | None = None) -> dict[str, Path]:
        """Bring bands (default: all) to `<folder>/<item id>/<band>.<tif|jp2>`, whole and verified, and give their paths.

        A file that is there already is whole, since it got its name last: it is kept. The product's metadata document comes along as
        `product_metadata.xml` where the archive has it.
        """
        target = folder / safe_name(str(item["id"]))
        held = [name for name in item["assets"] if name in BANDS or name == "SCL"]
        wanted = list(dict.fromkeys(bands if bands is not None else held))
        if missing := [band for band in wanted if band not in item["assets"]]:
            if PRODUCT not in item["assets"]:
                raise NotThere(f"{item['id']} has no band {', '.join(missing)}; it has {', '.join(held) or 'no bands'}")
            return self._from_archive(item, target, bands)
        if not wanted:
            return self._from_archive(item, target, None)
        _check_online(item)
        return {band: self._one(item, band, target) for band in wanted}

    def metadata(self, item: Mapping[str, Any]) -> bytes | None:
        """The product's own metadata document (MTD_MSIL2A.xml), or None where the provider offers none."""
        if asset := item["assets"].get(METADATA):
            href = str(asset["href"])
            if local := _local(href):
                return local.read_bytes() if local.is_file() else None
            return self._http.get(self._access(item), href, _MOST_METADATA)
        if PRODUCT in item["assets"]:
            return archive.metadata(self._archive(item, "metadata")[0])
        return None

    def _first(self, request: SearchRequest, work: Any, warnings: list[str]) -> Any:  # noqa: ANN401 - what `work` gives
        """Ask the providers in order until one answers."""
        order = [request.provider] if request.provider else list(self.config.providers)
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

    def _search(self, provider: str, request: SearchRequest) -> Found:
        raw: list[dict[str, Any]] = []
        matched: int | None = None
        unusable = 0
        for page, number in self._catalogue.pages(provider, request):
            matched = number if number is not None else matched
            for item in page:
                when = observed_at(item)
                if when is not None and not request.start <= when < request.end:
                    continue
                try:
                    raw.append(self._normalised(item, provider, request.collection))
                except BadInput:
                    unusable += 1
            if request.limit is not None and len(newest_of_each(raw)[0]) >= request.limit:
                break
        used, superseded = newest_of_each(raw)
        warnings = _remarks(provider, used, superseded, unusable)
        if request.limit is not None and len(used) > request.limit:
            used = used[: request.limit]
        if request.limit is not None and matched is not None and matched > len(raw) + unusable:
            warnings.append(f"{provider} has {matched} products; only {len(used)} are given because of the limit")
        return Found(used, superseded, provider, warnings, matched)

    def _normalised(self, item: dict[str, Any], provider: str, collection: str) -> dict[str, Any]:
        made = normalised(item, provider, collection, open_access=True)
        hrefs = [asset["href"] for asset in made["assets"].values()]
        if self._catalogue.needs_login(provider, hrefs):
            made["properties"]["earthself:access"] = "login"
        return made

    def _count(self, provider: str, request: SearchRequest) -> Count:
        total, estimate, sampled = 0, 0.0, 0
        for page, matched in self._catalogue.pages(provider, request, _COUNT_PAGE):
            total += len(page)
            if not sampled:
                sampled = len(page)
                estimate = sum(_share_bytes(normalised(item, provider, "", open_access=True), request) for item in page)
            if matched is not None:
                total = max(matched, total)
                break
        return Count(total, round(estimate / sampled * total) if sampled else 0, provider)

    def _access(self, item: Mapping[str, Any]) -> Access:
        if item["properties"].get("earthself:access") == "login":
            return self._logins.access(item)
        return OpenAccess(str(item["properties"].get("earthself:provider", "the provider")))

    def _one(self, item: Mapping[str, Any], band: str, target: Path) -> Path:
        asset = item["assets"][band]
        href = str(asset["href"])
        path = target / f"{band}{_suffix(href)}"
        if local := _local(href):
            if not local.is_file():
                raise NotThere(f"{band} of {item['id']} does not exist at {local}; fetch the product again")
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as part:
                shutil.copyfile(local, part)
            return path
        self._fetch(self._access(item), href, path, asset)
        try:
            with open_local(str(path), f"{band} of {item['id']}", None) as reader:
                _check_end(reader)
        except Damaged:
            path.unlink(missing_ok=True)
            raise
        return path

    def _from_archive(self, item: Mapping[str, Any], target: Path, bands: Sequence[str] | None) -> dict[str, Path]:
        if PRODUCT not in item["assets"]:
            raise NotThere(f"{item['id']} has neither bands nor an archive; choose another provider")
        path, _ = self._archive(item, "all bands")
        held = archive.bands(path)
        if document := archive.metadata(path):
            write_bytes(target / "product_metadata.xml", document)
        return {band: archive.extract(path, band, target) for band in (bands if bands is not None else held)}

    def _archive(self, item: Mapping[str, Any], wanted: str) -> tuple[Path, int]:
        """The product's archive on this machine, and the bytes that it took to get it here."""
        asset = item["assets"].get(PRODUCT)
        if asset is None:
            held = [name for name in item["assets"] if name in BANDS or name == "SCL"]
            raise NotThere(f"{item['id']} has no band {wanted}; it has {', '.join(held) or 'no bands'}")
        if local := _local(str(asset["href"])):
            archive.check(local)
            return local, 0
        _check_online(item)
        path = self._folder() / f"{safe_name(str(item['id']))}.zip"
        moved = self._fetch(self._access(item), str(asset["href"]), path, asset)
        try:
            archive.check(path)
        except Damaged:
            path.unlink(missing_ok=True)
            raise
        return path, moved

    def _fetch(self, access: Access, url: str, path: Path, asset: Mapping[str, Any]) -> int:
        if path.is_file():
            return 0
        return download(self._http, access, url, path, Expected.of(asset))

    def _folder(self) -> Path:
        if self._downloads is None:
            scratch = os.environ.get("EARTHSELF_STEP_SCRATCH")
            if scratch:
                self._downloads = Path(scratch) / "downloads"
            else:
                self._downloads = Path(tempfile.mkdtemp(prefix="earthself-downloads-"))
                weakref.finalize(self, shutil.rmtree, self._downloads, ignore_errors=True)
        return self._downloads


def safe_name(text: str) -> str:
    """A file name for an id that a provider chose: itself where it is harmless, else cleaned and made unique by a digest."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,150}", text, re.ASCII):
        return text
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:100]
    return f"{cleaned}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _remarks(provider: str, used: list[dict[str, Any]], superseded: list[dict[str, Any]], unusable: int) -> list[str]:
    remarks: list[str] = []
    if superseded:
        remarks.append(f"{len(superseded)} older copies of observations are not used; the newer ones are")
    if unusable:
        remarks.append(f"{unusable} products of {provider} do not say what they observed and are left out")
    if mixed := mixed_baselines(used):
        remarks.append(mixed)
    offline = [item["id"] for item in used if not _online(item)]
    if offline:
        remarks.append(
            f"{len(offline)} products are not online at {provider}, such as {offline[0]}; reading them fails until it has staged them"
        )
    return remarks


def _online(item: Mapping[str, Any]) -> bool:
    return item["properties"].get("order:status") in (None, "succeeded")


def _check_online(item: Mapping[str, Any]) -> None:
    if not _online(item):
        provider, status = item["properties"].get("earthself:provider"), item["properties"]["order:status"]
        raise TryAgain(f"{item['id']} is not online at {provider} ({status}); order it there and try again, or choose another provider")


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


def _tile_share(footprint: Any) -> float:  # noqa: ANN401 - a shapely geometry
    """How much of a whole Sentinel-2 tile a footprint is, at most 1."""
    from earthself.data.area import Area

    return min(1.0, Area(footprint).geodesic_m2 / _TILE_M2)


def _with_size(reader: BandReader, size: int | None, what: str) -> BandReader:
    if size is not None and reader.size not in (None, size):
        reader.close()
        raise Damaged(f"{what} has {reader.size} bytes by its server and {size} by the catalogue; search again, or choose another provider")
    return reader


def _check_end(reader: BandReader) -> None:
    """Read the last block: a file that was cut without a trace fails there."""
    from rasterio.windows import Window

    rows, columns = reader.shape
    reader.read(Window(columns - 1, rows - 1, 1, 1))


def _local(href: str) -> Path | None:
    parts = urlsplit(href)
    if parts.scheme == "file":
        from urllib.request import url2pathname

        return Path(url2pathname(parts.path))
    return Path(href) if not parts.scheme or href.startswith("/") else None


def _suffix(href: str) -> str:
    suffix = Path(urlsplit(href).path).suffix.lower()
    return suffix if suffix in (".tif", ".tiff", ".jp2") else ".tif"


__all__ = ["BandReader", "Count", "Found", "SearchRequest", "SourceConfig", "Sources", "safe_name"]
