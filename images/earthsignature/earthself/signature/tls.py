"""Certificates: checked before anybody listens or calls, and taken anew by a running server when their files change."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from earthself.signature.errors import BadSetting

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerTls:
    """The files that a server proves its name with."""

    certificate: Path
    """PEM: the server's certificate, then those between it and the authority."""
    key: Path
    """PEM: the private key of the certificate, without a password."""
    client_ca: Path | None = None
    """PEM: authorities; a client without a certificate of theirs is turned away. None: any client."""


@dataclass(frozen=True)
class ClientTls:
    """The files that a client needs beside what the machine trusts."""

    authorities: Path | None = None
    """PEM: the authorities to trust instead of the machine's."""
    certificate: Path | None = None
    """PEM: what the client proves its own name with, where the server asks for it."""
    key: Path | None = None
    """PEM: the private key of that certificate."""


class Certificates:
    """A server's certificates; each handshake uses what the files held last, as long as that was sound."""

    def __init__(self, files: ServerTls, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Read and check them; raises `BadSetting` for a file that is missing, unreadable, expired or no match."""
        self._files, self._now = files, now
        self._lock = threading.Lock()
        self._seen = _marks(files)
        self._loaded = _load(files, now())

    def credentials(self) -> grpc.ServerCredentials:
        """Make credentials that ask here for certificates at every handshake."""
        made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._loaded,
            self.renewed,  # type: ignore[arg-type]  # None is documented: nothing changed
            require_client_authentication=self._files.client_ca is not None,
        )
        return made

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Give the certificates if the files changed, else None; bad ones are logged, and the server goes on with what it has."""
        with self._lock:
            marks = _marks(self._files)
            if marks == self._seen:
                return None
            self._seen = marks
            try:
                self._loaded = _load(self._files, self._now())
            except BadSetting as error:
                _LOG.error("the certificate is not taken anew: %s", error)
                return None
            _LOG.info("took the certificate in %s anew", self._files.certificate)
            return self._loaded


def on_this_machine(address: str) -> bool:
    """Tell whether `host`, `host:port` or `unix:path` leads to this machine only, where clear text is safe."""
    if address.startswith("unix:"):
        return True
    host = address.removeprefix("ipv4:").removeprefix("ipv6:")
    host = host.rpartition("]")[0] or (host if host.count(":") > 1 else host.partition(":")[0])
    try:
        return ipaddress.ip_address(host.removeprefix("[")).is_loopback
    except ValueError:
        return host == "localhost"


def client_credentials(files: ClientTls) -> grpc.ChannelCredentials:
    """Make a client's credentials; raises `BadSetting` for a file that cannot be used."""
    if (files.certificate is None) != (files.key is None):
        raise BadSetting("a client's certificate comes with its key; give both, or none")
    roots = None
    if files.authorities is not None:
        roots = _read(files.authorities)
        _certificates(files.authorities, roots)
    if files.certificate is None or files.key is None:
        return grpc.ssl_channel_credentials(roots)
    key, chain = _pair(files.certificate, files.key, datetime.now(UTC))
    return grpc.ssl_channel_credentials(roots, key, chain)


def _load(files: ServerTls, now: datetime) -> grpc.ServerCertificateConfiguration:
    pair = _pair(files.certificate, files.key, now)
    authorities = None
    if files.client_ca is not None:
        authorities = _read(files.client_ca)
        _certificates(files.client_ca, authorities)
    return grpc.ssl_server_certificate_configuration([pair], authorities)


def _pair(certificate: Path, key: Path, now: datetime) -> tuple[bytes, bytes]:
    """Read a key and its chain of certificates, and check that they belong together today."""
    chain, secret = _read(certificate), _read(key)
    first = _certificates(certificate, chain)[0]
    try:
        private = serialization.load_pem_private_key(secret, password=None)
    except TypeError as error:
        raise BadSetting(f"{key} is locked with a password; give a key without one, in a file of mode 600") from error
    except ValueError as error:
        raise BadSetting(f"{key} holds no private key in PEM; give the key of {certificate}") from error
    if _public(private.public_key()) != _public(first.public_key()):
        raise BadSetting(f"{key} is not the key of {certificate}; give the two that were made together")
    if now >= first.not_valid_after_utc:
        raise BadSetting(f"{certificate} expired at {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it")
    if now < first.not_valid_before_utc:
        raise BadSetting(f"{certificate} is valid from {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on only; check the clock")
    return secret, chain


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise BadSetting(f"{path} holds no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----") from error


def _public(key: object) -> bytes:
    kind, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    made: bytes = key.public_bytes(kind, form)  # type: ignore[attr-defined]  # of any kind of key
    return made


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSetting(f"{path} cannot be read ({error.strerror}); name a file that this user may read") from error


def _marks(files: ServerTls) -> list[tuple[int, int, int] | None]:
    """Tell the state of the files apart, also of links that lead elsewhere now."""
    return [_mark(path) for path in (files.certificate, files.key, files.client_ca) if path is not None]


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
