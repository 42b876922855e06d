"""A real S3 server on loopback, and a proxy before it that does what storages do to those who use them."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config

OWNER = {"aws_access_key_id": "owner", "aws_secret_access_key": "owner-secret", "region_name": "us-east-1"}


_SERVE = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


class S3Server:
    """Moto's S3 and STS in a process of their own: two in one process would share their buckets."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = boto3.client("s3", endpoint_url=self.url, config=Config(s3={"addressing_style": "path"}), **OWNER)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.communicate()
        self._process.wait()

    def bucket(self, name: str) -> None:
        """Make a bucket, empty."""
        self.client.create_bucket(Bucket=name)

    def keys(self, bucket: str) -> list[str]:
        """All keys of a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def unfinished(self, bucket: str) -> list[str]:
        """Keys of uploads in several parts that were neither completed nor taken back."""
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    """Path with the bucket, decoded by nobody."""
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = field(repr=False)
    """What was sent."""

    def form(self) -> dict[str, str]:
        """The fields of a body that is a form."""
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def key_id(self) -> str:
        """The access key that signed it."""
        return self.headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]


@dataclass(frozen=True)
class Answer:
    """What the proxy says instead of the server."""

    status: int
    code: str = ""


@dataclass(frozen=True)
class Cut:
    """The proxy asks the server, and closes the connection after so many bytes of the body."""

    after: int


Fault = Callable[[Request], Answer | Cut | None]


@dataclass
class Proxy:
    """Stands before a server; `fault` sees every request and may answer, cut it, or let it pass."""

    server: S3Server
    fault: Fault = lambda _: None
    change: Callable[[Request, bytes], bytes] = lambda _, data: data
    """What becomes of the bodies that the server sends."""
    seen: list[Request] = field(default_factory=list)
    virtual: str = ""
    """Hosts `BUCKET.` and this are the bucket's own."""
    rate: float | None = None
    """Bytes a second that one answer sends."""
    host: str = "127.0.0.1"
    """The address of this machine that it listens on."""

    def __enter__(self) -> Self:
        proxy = self

        class Handler(_Handler):
            front = proxy

        self._http = ThreadingHTTPServer((self.host, 0), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.url = f"http://{self.host}:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reset(self) -> None:
        """Let everything pass, and forget what came."""
        self.fault = lambda _: None
        self.change = lambda _, data: data
        self.rate = None
        self.seen.clear()


_PIECE = 64 << 10
_HOP = ("connection", "transfer-encoding", "content-length")


class _Handler(BaseHTTPRequestHandler):
    front: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, parts.path, parse_qs(parts.query, keep_blank_values=True), headers, body)
        self.front.seen.append(request)
        found = self.front.fault(request)
        if isinstance(found, Answer):
            said = f"<Error><Code>{found.code}</Code><Message>said the proxy</Message></Error>"
            # STS wraps what S3 does not.
            said = f"<ErrorResponse>{said}</ErrorResponse>" if request.path == "/" and request.method == "POST" else said
            text = f"<?xml version='1.0'?>{said}".encode()
            self._say(found.status, {}, b"" if self.command == "HEAD" else text, len(text))
            return
        path = self.path
        host = headers.get("host", "").partition(":")[0]
        if self.front.virtual and host.endswith(f".{self.front.virtual}"):
            path = f"/{host.removesuffix(f'.{self.front.virtual}')}{path if parts.path != '/' else path[1:]}"
        server = http.client.HTTPConnection("127.0.0.1", self.front.server.port, timeout=30)
        try:
            server.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "host"):
                    server.putheader(name, value)
            server.putheader("Host", f"127.0.0.1:{self.front.server.port}")
            server.endheaders(body)
            answer = server.getresponse()
            data = answer.read()
            kept = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "content-length")
            }
            length = int(answer.getheader("Content-Length") or len(data))
            if self.command != "HEAD":
                data = self.front.change(request, data)
                length = len(data)
            self._say(answer.status, kept, data[: found.after] if found else data, length)
            if found:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
        finally:
            server.close()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _say(self, status: int, headers: dict[str, Any], data: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        begun, sent = time.monotonic(), 0
        while self.front.rate and sent < len(data):
            self.wfile.write(data[sent : sent + _PIECE])
            sent += _PIECE
            time.sleep(max(0.0, begun + min(sent, len(data)) / self.front.rate - time.monotonic()))
        self.wfile.write(data[sent:])


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what another thread or process does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)
