"""A server of files by ranges on loopback, as late and as bad as it is told."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

_PIECE = 64 << 10


class RangeServer:
    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.delay = 0.0
        self.fails_each = 0
        """Each so many-th request is answered with 503."""
        self.ranged = True
        self.rate: float | None = None
        """Bytes a second that one answer sends."""
        self.versions: Iterator[str] = itertools.repeat("1")
        """State of the file, by one request after the other."""
        self.asked = 0
        self.ranges: list[str | None] = []
        """What each request asked for."""
        self.failed = 0
        self._count = itertools.count(1)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"served": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, wanted: str | None) -> tuple[int, dict[str, str], bytes]:
        self.asked += 1
        self.ranges.append(wanted)
        time.sleep(self.delay)
        if self.fails_each and next(self._count) % self.fails_each == 0:
            self.failed += 1
            return 503, {}, b""
        body = self.files[path]
        headers = {"ETag": f'"{next(self.versions)}"', "Accept-Ranges": "bytes"}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "") if self.ranged else None
        if found is None:
            return 200, headers, body
        first, last = int(found[1]), min(int(found[2] or len(body) - 1), len(body) - 1)
        return 206, headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}"}, body[first : last + 1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: RangeServer

    def do_GET(self) -> None:
        status, headers, body = self.served.answer(self.path, self.headers.get("Range"))
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        begun, at = time.monotonic(), 0
        while at < len(body):
            piece = body[at : at + _PIECE]
            self.wfile.write(piece)
            at += len(piece)
            if self.served.rate:
                time.sleep(max(0.0, begun + at / self.served.rate - time.monotonic()))

    def log_message(self, *_: object) -> None:
        pass
