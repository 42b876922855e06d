"""The EarthSignature server that a connection names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from earthself.signature.client import SignatureClient  # type: ignore[import-not-found, unused-ignore]

_DEFAULT_PORT = 50051


class EarthSignatureHook(BaseHook):
    """A connection to EarthSignature: host, port, a token as password, TLS and the file of its authorities as extra fields.

    Without the connection it is the local stack's server (EARTHSELF_SIGNATURE_PORT).
    """

    conn_name_attr = "earthsignature_conn_id"
    default_conn_name = "earthsignature_default"
    conn_type = "earthsignature"
    hook_name = "EarthSignature"

    def __init__(self, earthsignature_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.earthsignature_conn_id = earthsignature_conn_id

    def test_connection(self) -> tuple[bool, str]:
        """Ask the server whether it serves."""
        with self.client(timeout=5) as client:
            return (
                (True, "EarthSignature serves") if client.health() else (False, "EarthSignature does not answer; check host, port and TLS")
            )

    def client(self, timeout: float = 60) -> SignatureClient:
        """Give a client of the server; use it as a context manager."""
        from airflow.sdk.exceptions import AirflowNotFoundException
        from earthself.signature.client import Connection, SignatureClient

        try:
            connection = self.get_connection(self.earthsignature_conn_id)
        except AirflowNotFoundException:
            if self.earthsignature_conn_id != self.default_conn_name:
                raise
            port = os.environ.get("EARTHSELF_SIGNATURE_PORT") or _DEFAULT_PORT
            return SignatureClient(f"127.0.0.1:{port}", timeout=timeout)
        extra = connection.extra_dejson
        tls = str(extra.get("tls", "")).lower() in ("true", "1", "yes", "on")
        target = f"{connection.host or '127.0.0.1'}:{connection.port or _DEFAULT_PORT}"
        return SignatureClient(Connection(target, tls, connection.password or None, timeout, extra.get("tls_ca") or None))
