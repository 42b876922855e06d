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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from earthself.data import archive
from earthself.data.broker import Broker, Gate
from earthself.data.catalogue import Catalogue
from earthself.data.elsewhere import Elsewhere, Left
from earthself.data.errors import Damaged, NotThere, TryAgain
from earthself.data.finding import Finder, online
from earthself.data.http import Access, Http, OpenAccess
from earthself.data.items import METADATA, PRODUCT
from earthself.data.login import Logins
from earthself.data.query import Count, Found, SearchRequest, SourceConfig
from earthself.data.ranges import BandReader, open_local, open_remote
from earthself.data.retries import RetryPolicy
from earthself.data.sentinel2 import BANDS
from earthself.data.staging import Stager, Staging
from earthself.data.transfer import Expected, download
from earthself.data.workspace import atomic, write_bytes

_T = TypeVar("_T")


class Sources:
    """All configured providers. Safe to share between threads; close it, or use it as a context manager."""

    def __init__(
        self,
        config: SourceConfig | None = None,
        *,
        retries: RetryPolicy | None = None,
        downloads: Path | None = None,
        broker: Broker | None = None,
    ) -> None:
        """Nothing is asked yet.

        `downloads` keeps whole products that cannot be read in parts (default: a folder of the step's scratch), `broker` is who shares the
        provider accounts (default: the folder or service that the settings name).
        """
        self.config = config or SourceConfig.from_env()
        policy = retries or RetryPolicy(attempts=self.config.attempts)
        self._broker = broker or self.config.shared.open()
        self._catalogue = Catalogue(self.config, policy, self._broker)
        self._logins = Logins(self._catalogue, self._broker)
        self._http = Http(self.config.timeout, policy)
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
        return Finder(self.config, self._catalogue).search(request)

    def count(self, request: SearchRequest) -> Count:
        """Count what `search` would find, and estimate the bytes of the area's share of it, without reading more than needed."""
        return Finder(self.config, self._catalogue).count(request)

    def elsewhere(self, item: Mapping[str, Any], left: list[Left]) -> Iterator[dict[str, Any]]:
        """Give the item's observation from one other provider after the other; see `earthself.data.elsewhere`."""
        return Elsewhere(self.config, Finder(self.config, self._catalogue)).products(item, left)

    def anywhere(self, item: Mapping[str, Any], work: Callable[[Mapping[str, Any]], _T]) -> _T:
        """Do `work` with an item, or with the same observation from the next provider; see `earthself.data.elsewhere`."""
        return Elsewhere(self.config, Finder(self.config, self._catalogue)).read(item, work)

    def stage(self, item: Mapping[str, Any]) -> Staging:
        """Have an offline product brought online, and say how far that is; see `earthself.data.staging`."""
        return Stager(self._catalogue, self._logins, self._broker).stage(item)

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
        path = self._folder_of(item) / safe_name(str(item["id"])) / f"{band}{_suffix(href)}"
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
            return self._http.get(self._access(item), href, archive.MOST_METADATA)
        if PRODUCT in item["assets"]:
            return archive.metadata(self._archive(item, "metadata")[0])
        return None

    def _access(self, item: Mapping[str, Any]) -> Access:
        properties = item["properties"]
        provider = properties.get("earthself:provider")
        if provider is None:
            return OpenAccess("the provider")
        access = properties.get("earthself:access")
        if access is None and provider in self._catalogue.providers():  # an item that was not found by a search, such as a replay's
            access = "login" if self._catalogue.needs_login(provider, [str(a["href"]) for a in item["assets"].values()]) else "open"
        if access == "login":
            return self._logins.access(item)
        return OpenAccess(str(provider), Gate(self._broker, self.config.account(str(provider))))

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
        path = self._folder_of(item) / f"{safe_name(str(item['id']))}.zip"
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

    def _folder_of(self, item: Mapping[str, Any]) -> Path:
        """Where whole files of the item's provider lie: what one has damaged must not be taken for what another gives by the same name."""
        return self._folder() / safe_name(str(item["properties"].get("earthself:provider") or "other"))

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


def _check_online(item: Mapping[str, Any]) -> None:
    if not online(item):
        provider, status = item["properties"].get("earthself:provider"), item["properties"]["order:status"]
        raise TryAgain(
            f"{item['id']} is not online at {provider} ({status}); have it staged (StageProductsOperator), or choose another provider"
        )


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


__all__ = ["BandReader", "Count", "Found", "Left", "SearchRequest", "SourceConfig", "Sources", "Staging", "safe_name"]
