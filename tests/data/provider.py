"""A STAC provider on loopback that misbehaves when told to: it stalls, drips, cuts, lies about length, refuses, and changes files.

    with Provider() as provider:
        provider.add_product("S2A_...", bands={"B04": raster_bytes(...)})
        provider.files["/S2A_.../B04.tif"].faults.append(Stall(after=1000))
        sources = Sources(SourceConfig(("hostile",), provider_config=provider.settings("hostile")))

Every request is in `provider.requests`. Nothing here sleeps: a stalled answer waits until the client hangs up.
"""

from __future__ import annotations

import io
import json
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np

QUICK = 0.3
"""Time-out, in seconds, of tests in which a server sends nothing."""
MODIFIED = format_datetime(datetime(2024, 1, 1, tzinfo=UTC), usegmt=True)


@dataclass
class Answer:
    """Answer with a status instead of the content."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Stall:
    """Send this many bytes of the body, then nothing."""

    after: int = 0


@dataclass
class Drip:
    """Send one byte at a time, each when the client has waited `every` seconds."""

    every: float = 0.02


@dataclass
class Cut:
    """Send this many bytes of the body, then close the connection."""

    after: int


@dataclass
class Lie:
    """State a Content-Length that is wrong by this many bytes."""

    by: int


@dataclass
class Misplace:
    """Answer a range with bytes from another one on: whole, or as many as were asked for, with or without saying so."""

    first: int = 0
    whole: bool = False
    said: bool = True


@dataclass
class DripHeaders:
    """Begin an answer, and then send header after header, each when the client has waited `every` seconds."""

    every: float = 0.02


@dataclass
class Change:
    """Become other content before answering."""

    data: bytes
    etag: str | None = '"changed"'
    modified: str | None = MODIFIED


Fault = Answer | Stall | Drip | DripHeaders | Cut | Lie | Misplace | Change


@dataclass
class File:
    """One file that is served."""

    data: bytes
    etag: str | None = '"first"'
    modified: str | None = MODIFIED
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    ranged_headers: dict[str, str] = field(default_factory=dict)
    """Headers of answers to ranges, instead of those of the same name in `headers`."""
    faults: list[Fault | None] = field(default_factory=list)
    """One is used up by each request; None is a good answer."""
    always: Fault | None = None
    """Befalls every request for which `faults` has nothing."""
    redirect: str | None = None


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None


class Provider:
    """The server; use it as a context manager."""

    def __init__(self) -> None:
        self.reset()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def reset(self) -> None:
        """Forget everything but the address."""
        self.items: list[dict[str, Any]] = []
        self.files: dict[str, File] = {}
        self.requests: list[Request] = []
        self.search = File(b"")
        """Its `faults` and `always` befall searches."""
        self.counts = True
        """Whether answers state `numberMatched`."""
        self.counted: int | None = None
        """What `numberMatched` states instead of the truth."""
        self.filters = True
        """Whether searches heed cloud cover, area and period."""
        self.links = True
        """Whether a page links to the next one."""
        self.gaps: set[int] = set()
        """Items before which a page without items is given, which links to the next."""
        self.documents: list[Any] = []
        """Given instead of the answer to a search, the last one for ever."""
        self.page_cap = 1000
        """Most items of one answer."""
        self.login: Callable[[dict[str, str], str], bool] | None = None
        """Says from headers and query whether a file may be given; None lets all in. `/token` is always open."""
        self.guard: Callable[[str, dict[str, str]], Answer | None] | None = None
        """Says from path and headers what to answer instead of the file, if anything."""
        self.forms: dict[str, Callable[[dict[str, str]], tuple[int, Any]]] = {}
        """What answers a form or JSON posted to a path: the status, and what to send as JSON."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def settings(self, name: str, extra: str = "", collection: str = "S2_MSI_L2A") -> str:
        """EODAG's YAML for this provider; `extra` is more of it, indented by two blanks."""
        return (
            f"{name}:\n  url: {self.url}\n  priority: 1\n"
            f"  search:\n    type: StacSearch\n    api_endpoint: {self.url}/search\n    need_auth: false\n"
            "    discover_collections: {fetch_url: null}\n"
            "    discover_queryables: {fetch_url: null, collection_fetch_url: null}\n"
            f"  products:\n    {collection}:\n      _collection: sentinel-2-l2a\n  download:\n    type: HTTPDownload\n{extra}"
        )

    def add_product(
        self,
        name: str,
        bands: dict[str, bytes] | None = None,
        properties: dict[str, Any] | None = None,
        geometry: dict[str, Any] | None = None,
        assets: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """List an item whose bands lie at `/<name>/<band>.tif`."""
        made = {}
        for band, data in (bands or {}).items():
            self.files[f"/{name}/{band}.tif"] = File(data)
            made[band] = {"href": f"{self.url}/{name}/{band}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
        square = [[[16, 48], [17, 48], [17, 49], [16, 49], [16, 48]]]
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "geometry": geometry or {"type": "Polygon", "coordinates": square},
            "properties": {"datetime": "2017-06-13T10:10:31Z", "eo:cloud_cover": 5.0, "platform": "sentinel-2a", **(properties or {})},
            "assets": made | (assets or {}),
            "links": [],
            "collection": "sentinel-2-l2a",
        }
        self.items.append(item)
        return item

    def asked(self, path: str) -> list[Request]:
        """All requests of one path."""
        return [r for r in self.requests if r.path == path]

    def find(self, body: dict[str, Any], start: int) -> dict[str, Any]:
        """One page of the answer to a search, from the item `start` on."""
        from shapely.geometry import shape

        first, last = (body.get("datetime") or "../..").split("/")
        cover = body.get("query", {}).get("eo:cloud_cover", {}).get("lte", 101)
        where = shape(body["intersects"]) if "intersects" in body else None
        found = [
            item
            for item in self.items
            if not self.filters
            or (
                item["properties"].get("eo:cloud_cover", 0) <= cover
                and (first == ".." or item["properties"]["datetime"][:19] >= first[:19])
                and (last == ".." or item["properties"]["datetime"][:19] <= last[:19])
                and (where is None or shape(item["geometry"]).intersects(where))
            )
        ]
        size = min(int(body.get("limit", 10)), self.page_cap)
        onward = start + size
        if start in self.gaps:
            self.gaps.remove(start)
            size, onward = 0, start
        answer: dict[str, Any] = {"type": "FeatureCollection", "features": found[start : start + size], "links": []}
        if self.counts:
            answer["numberMatched"] = len(found) if self.counted is None else self.counted
        if onward < len(found) and self.links:
            body = {**body, "token": str(onward)}
            answer["links"].append({"rel": "next", "method": "POST", "href": f"{self.url}/search", "body": body})
        return answer


class _Server(ThreadingHTTPServer):
    """The listening socket, with the way back to what it serves."""

    daemon_threads = True
    provider: Provider

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        if answer := self.server.provider.forms.get(urlsplit(self.path).path):
            posted = sent.decode()
            form = json.loads(posted) if posted.startswith("{") else {name: values[-1] for name, values in parse_qs(posted).items()}
            self.server.provider.requests.append(Request("POST", urlsplit(self.path).path, dict(self.headers), form))
            status, content = answer(form)
            return self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})
        body = json.loads(sent)
        self.server.provider.requests.append(Request("POST", urlsplit(self.path).path, dict(self.headers), body))
        if self.server.provider.guard and (instead := self.server.provider.guard("/search", dict(self.headers))):
            return self._send(200, b"", {}, instead)
        fault = self.server.provider.search.faults.pop(0) if self.server.provider.search.faults else self.server.provider.search.always
        start = int(body.get("token") or (int(body.get("page", 1)) - 1) * int(body.get("limit", 10)))
        given = self.server.provider.documents
        document = given.pop(0) if len(given) > 1 else given[0] if given else self.server.provider.find(body, start)
        content = json.dumps(document).encode()
        return self._send(200, content, {"Content-Type": "application/geo+json"}, fault)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.provider.requests.append(Request(self.command, parts.path, dict(self.headers), parse_qs(parts.query)))
        file = self.server.provider.files.get(parts.path)
        if file is None:
            return self._send(404, b"", {})
        fault = file.faults.pop(0) if file.faults else file.always
        if (
            parts.path != "/token"
            and self.server.provider.login is not None
            and not self.server.provider.login(dict(self.headers), parts.query)
        ):
            return self._send(401, b"", {})
        if self.server.provider.guard and (instead := self.server.provider.guard(parts.path, dict(self.headers))):
            return self._send(200, b"", {}, instead)
        if file.redirect:
            return self._send(302, b"", {"Location": file.redirect})
        if isinstance(fault, Change):
            file.data, file.etag, file.modified, fault = fault.data, fault.etag, fault.modified, None
        return self._file(file, fault)

    def _file(self, file: File, fault: Fault | None) -> None:
        headers = {"ETag": file.etag, "Last-Modified": file.modified, "Accept-Ranges": "bytes" if file.ranges else "none"}
        headers = {k: v for k, v in headers.items() if v} | file.headers
        asked = self.headers.get("range")
        if not asked or not file.ranges or self.headers.get("if-range", file.etag) not in (file.etag, file.modified):
            return self._send(200, file.data, headers, fault)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop, size = int(first), min(int(last or len(file.data)) + 1, len(file.data)), len(file.data)
        if start >= size:
            return self._send(416, b"", {**headers, "Content-Range": f"bytes */{size}"}, fault)
        if isinstance(fault, Misplace):
            start, stop = fault.first, size if fault.whole else fault.first + stop - start
            if not fault.said:
                return self._send(206, file.data[start:stop], headers)
        ranged = {**headers, **file.ranged_headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return self._send(206, file.data[start:stop], ranged, fault)

    def _send(self, status: int, body: bytes, headers: dict[str, str], fault: Fault | None = None) -> None:
        if isinstance(fault, Answer):
            status, body, headers = fault.status, b"", fault.headers
        if isinstance(fault, DripHeaders):
            return self._headers_for_ever(fault.every)
        length = len(body) + (fault.by if isinstance(fault, Lie) else 0)
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()
        try:
            self._body(b"" if self.command == "HEAD" else body, fault)
        except OSError:
            self.close_connection = True

    def _headers_for_ever(self, every: float) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(2000):
            if self._gone(every):
                break
            self.wfile.write(b"X-%d: a\r\n" % number)

    def _body(self, body: bytes, fault: Fault | None) -> None:
        if isinstance(fault, Drip):
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                if self._gone(fault.every):
                    break
            self.close_connection = True
        elif isinstance(fault, (Stall, Cut)):
            self.wfile.write(body[: fault.after])
            self.close_connection = True
            if isinstance(fault, Stall):
                self._gone(20)
        else:
            self.wfile.write(body)
            self.close_connection = self.close_connection or isinstance(fault, Lie)

    def _gone(self, seconds: float) -> bool:
        """Wait until the client hangs up, at most so long."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        return bool(readable)


def raster_bytes(
    array: np.ndarray, *, left: float = 300000, top: float = 5400000, resolution: float = 10, driver: str = "COG", block: int = 128
) -> bytes:
    """A single-band raster file in EPSG:32633: a tiled COG, or a lossless JPEG 2000 with its georeference inside."""
    import rasterio.shutil
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    profile = {"width": array.shape[1], "height": array.shape[0], "count": 1, "dtype": array.dtype, "crs": "EPSG:32633"}
    cog = {"blocksize": block, "compress": "DEFLATE", "overviews": "NONE"}
    jp2 = {"QUALITY": "100", "REVERSIBLE": "YES", "GMLJP2": "YES", "GeoJP2": "YES"}
    with MemoryFile(ext=".tif") as plain, MemoryFile(ext=".tif" if driver == "COG" else ".jp2") as out:
        with plain.open(driver="GTiff", transform=from_origin(left, top, resolution, resolution), **profile) as dataset:
            dataset.write(array, 1)
        rasterio.shutil.copy(plain.name, out.name, driver=driver, **{"COG": cog, "JP2OpenJPEG": jp2}[driver])
        return out.read()


def safe_zip(name: str, bands: dict[str, np.ndarray], metadata: bytes = b"") -> bytes:
    """A Sentinel-2 product as its ground segment packs it: JPEG 2000 files of every resolution, and the metadata document."""
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{name}.SAFE/MTD_MSIL2A.xml", metadata)
        for key, array in bands.items():
            band, _, resolution = key.partition("_")
            size = int(resolution.removesuffix("m") or 10)
            path = f"{name}.SAFE/GRANULE/L2A_T33UUP_A010324_20170613T101608/IMG_DATA/R{size}m/T33UUP_20170613T101031_{band}_{size}m.jp2"
            archive.writestr(path, raster_bytes(array, resolution=size, driver="JP2OpenJPEG"))
        archive.writestr(f"{name}.SAFE/GRANULE/L2A_T33UUP_A010324_20170613T101608/QI_DATA/MSK_B04.jp2", b"not an image")
    return out.getvalue()
