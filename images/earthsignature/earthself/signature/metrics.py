"""What a server of EarthSignature tells Prometheus, at a port of its own: what the public reaches, and what it does not, stay apart."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from earthself.data.dates import parse_instant
from earthself.data.errors import EarthSelfError
from earthself.signature.errors import BadSetting, SignatureError
from earthself.signature.store import Store
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_LOG = logging.getLogger(__name__)
_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300)


class Meters:
    """Counts the requests of one server; safe to share between threads."""

    def __init__(self, prefix: str, labels: tuple[str, ...]) -> None:
        """`labels` name what tells one kind of request from another; each has a few values, which no caller can choose."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._ended = Counter(f"{prefix}_requests", "Requests that ended.", (*labels, "status"), registry=self.registry)
        self._seconds = Histogram(
            f"{prefix}_request_seconds", "From the first byte to the last.", labels, registry=self.registry, buckets=_SECONDS
        )
        self._running = Gauge(f"{prefix}_running_requests", "Requests that go on.", registry=self.registry)

    @contextmanager
    def request(self, *labels: str) -> Iterator[list[str]]:
        """Count a request for as long as the block goes on; the last entry of the list that it gives is the status."""
        status = ["unknown"]
        with self._running.track_inprogress(), self._seconds.labels(*labels).time():
            try:
                yield status
            finally:
                self._ended.labels(*labels, status[-1]).inc()


class StoreFigures(Collector):
    """What the store holds, asked at each scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Give the families; of a store that cannot be read only that it is so."""
        free = GaugeMetricFamily("earthsignature_store_free_bytes", "Bytes free on the volume of the store.")
        size = GaugeMetricFamily("earthsignature_store_size_bytes", "Size of the volume of the store.")
        products = GaugeMetricFamily("earthsignature_products", "Products in the database.")
        newest = GaugeMetricFamily("earthsignature_newest_acquisition_timestamp_seconds", "When the newest product was acquired.")
        readable = 1.0
        try:
            volume = shutil.disk_usage(self._store.home)
            free.add_metric([], volume.free)
            size.add_metric([], volume.total)
            found = self._store.catalog.overview()
            products.add_metric([], found.products)
            if found.last is not None:
                newest.add_metric([], parse_instant(found.last).timestamp())
        except (EarthSelfError, OSError) as error:
            _LOG.error("the store's figures cannot be read: %s", error)
            readable = 0.0
        yield from (free, size, products, newest)
        yield GaugeMetricFamily("earthsignature_store_readable", "Whether the store's figures could be read.", value=readable)


@contextmanager
def served(registry: CollectorRegistry, address: str | None) -> Iterator[None]:
    """Serve the metrics at `host:port` within the block, from threads of their own; nothing without an address.

    Whoever reaches the port may read, so it belongs to this machine, or behind a network policy. Raises `BadSetting`, `SignatureError`.
    """
    if address is None:
        yield
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadSetting(f"--metrics {address!r} is no address; write one such as 127.0.0.1:9464")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise SignatureError(f"metrics cannot be served at {address} ({os.strerror(error.errno or 0)}); give another --metrics") from error
    _LOG.info("metrics are at http://%s:%d/metrics", host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
