"""Runs the service of `earthself.data.broker.service`: where it listens, whom it lets in, when it stops."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from earthself.data.broker.place import TOKEN, TOKEN_FILE
from earthself.data.broker.service import BrokerService
from earthself.data.errors import BadInput, TryAgain

_SHORTEST = 16
_log = logging.getLogger("earthself.data.broker")


@dataclass(frozen=True)
class Serving:
    """How a broker is served."""

    folder: Path
    """Where it keeps what all share."""
    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 0
    """Port to listen at; 0 takes a free one."""
    token_file: Path | None = None
    """File with the tokens of callers, one a line; taken anew when it changes."""
    token: str = field(default="", repr=False)
    """The token of callers where there is no file."""
    tls_cert: Path | None = None
    """Certificate (PEM) to encrypt with."""
    tls_key: Path | None = None
    """Key of the certificate (PEM)."""

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise BadInput("TLS needs --tls-cert and --tls-key; give both, or none")
        if not _on_this_machine(self.host) and not self.token_file and not self.token:
            raise BadInput(
                f"{self.host} can be reached from other machines, which would get the tokens of all accounts: give --token-file "
                f"({TOKEN_FILE}, or the token itself in {TOKEN}), or bind to 127.0.0.1"
            )


class Tokens:
    """The tokens that are good now, read again when their file changes, so that a new one can be given before the old one goes."""

    def __init__(self, path: Path | None, token: str = "") -> None:
        """Nothing is read yet."""
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._tokens = [token.encode()] if token else []

    def __call__(self) -> list[bytes]:
        """Give them; raises `BadInput` for a file that has none, and for tokens that could be guessed."""
        if self._path is not None:
            try:
                found = self._path.stat()
                if self._seen != (seen := (found.st_mtime_ns, found.st_size, found.st_ino)):
                    self._tokens, self._seen = self._path.read_bytes().split(), seen
            except OSError as error:
                raise BadInput(f"the tokens in {self._path} cannot be read ({error.strerror})") from None
            if not self._tokens:
                raise BadInput(f"there is no token in {self._path}; write one a line")
        if short := [each for each in self._tokens if len(each) < _SHORTEST]:
            raise BadInput(
                f"a token of {len(short[0])} characters can be guessed; make one of at least {_SHORTEST}, such as with openssl rand -hex 32"
            )
        return self._tokens


class Server(uvicorn.Server):
    """Says when it answers, and lets those who wait go when it stops."""

    def __init__(self, config: uvicorn.Config, service: BrokerService, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._ready = service, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let those who wait go, then all others end."""
        self._service.stop()
        await super().shutdown(sockets)


def serve(serving: Serving, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls `ready` with the address once it answers.

    Raises `BadInput` for settings that are unsafe or cannot be read, `TryAgain` when it cannot listen.
    """
    tokens = Tokens(serving.token_file, serving.token)
    tokens()
    listening = listen(serving.host, serving.port)
    scheme = "https" if serving.tls_cert else "http"
    if scheme == "http" and not _on_this_machine(serving.host):
        _log.warning("without --tls-cert the tokens of all accounts travel unencrypted; see that the network between is private")
    name = f"[{serving.host}]" if ":" in serving.host else serving.host
    address = f"{scheme}://{name}:{listening.getsockname()[1]}"
    service = BrokerService(serving.folder, tokens)
    try:
        made = server(service, lambda: ready(address), serving)
        asyncio.run(made.serve(sockets=[listening]))
    except OSError as error:
        raise BadInput(f"the certificate or its key cannot be used ({error.strerror or error})") from None
    finally:
        listening.close()


def server(service: BrokerService, ready: Callable[[], None], serving: Serving) -> Server:
    """Make the server of a service; its log says neither who asks nor what."""
    return Server(
        uvicorn.Config(
            service.application(),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            timeout_keep_alive=65,
            ssl_certfile=serving.tls_cert,
            ssl_keyfile=serving.tls_key,
        ),
        service,
        ready,
    )


def listen(host: str, port: int) -> socket.socket:
    """Listen there; raises `TryAgain` where that is not possible."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it; without it a small answer waits 40 ms for the caller to acknowledge its headers.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        made.bind((host, port))
        made.listen(512)
    except OSError as error:
        made.close()
        raise TryAgain(
            f"cannot listen on {host}:{port} ({os.strerror(error.errno or 0)}); give another --bind, or port 0 for a free one"
        ) from None
    return made


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
