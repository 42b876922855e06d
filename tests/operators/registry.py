"""A container registry on loopback (Docker Registry HTTP API V2) with one tiny image, which refuses or holds pulls when told to."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SAYS = {
    404: ("MANIFEST_UNKNOWN", "manifest unknown"),
    429: ("TOOMANYREQUESTS", "You have reached your pull rate limit"),
}
APPLETS = ("sh", "sleep", "ls", "mkdir", "cat", "echo", "seq")


class Registry:
    """Serves `<address>/tiny:1`, made of one static busybox."""

    def __init__(self, busybox: Path) -> None:
        self.refuses: int | None = None
        """Status that all manifests are refused with."""
        self.open = threading.Event()
        """Layers are sent once this is set."""
        self.open.set()
        self.asked: list[str] = []
        self.contents = _image(busybox.read_bytes())
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.asked.append(self.path)
                registry.answer(self)

            do_HEAD = do_GET  # noqa: N815 - as the server calls it

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path == "/v2/":
            return _send(request, 200, b"{}", "application/json")
        what = request.path.rsplit("/", 2)[1]
        found = self.contents.get(request.path.removeprefix("/v2/tiny/"))
        refused = self.refuses if what == "manifests" and self.refuses else None if found else 404
        if refused:
            code, message = SAYS[refused]
            return _send(request, refused, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), "application/json")
        assert found is not None
        if what == "blobs":
            self.open.wait(120)
        return _send(request, 200, found, MANIFEST if what == "manifests" else "application/octet-stream")


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Docker-Distribution-Api-Version", "registry/2.0")
    if kind == MANIFEST:
        request.send_header("Docker-Content-Digest", _digest(body))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def _image(program: bytes) -> dict[str, bytes]:
    """What a registry serves of an image, by the end of its path."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for folder in ("bin", "tmp", f"only-{secrets.token_hex(8)}"):  # no node has it yet, so that the layer is asked for
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    layer = gzip.compress(made.getvalue(), compresslevel=1, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(made.getvalue())]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _described(config, "application/vnd.docker.container.image.v1+json"),
            "layers": [_described(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
        }
    ).encode()
    blobs = {f"blobs/{_digest(each)}": each for each in (config, layer)}
    return blobs | {"manifests/1": manifest, f"manifests/{_digest(manifest)}": manifest}


def _described(content: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "size": len(content), "digest": _digest(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
