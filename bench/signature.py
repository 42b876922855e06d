"""EarthSignature with a million products, on SQLite and on PostgreSQL, beside pgstac with the same ones.

Footprints and dates are spread over Europe and five years; a question is an area of 1 by 0.7 degrees, one month and one class, which
about 16 products answer. Servers are real ones; ours and the peer are asked the same questions in turn, each twice, of which the second
time counts. PostgreSQL syncs as it does by default. EARTHSELF_BENCH_PRODUCTS takes fewer.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import psycopg
import sqlalchemy as sa
from earthself.signature.rpc import Connection, Rpc
from earthself.signature.testing import running_server
from earthself.signature.testing_postgres import Cluster, running_postgres
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1

PRODUCTS = int(os.environ.get("EARTHSELF_BENCH_PRODUCTS", "1000000"))
QUESTIONS = 200
_DAYS = 5 * 365
_START = datetime(2019, 1, 1, tzinfo=UTC)
_COLLECTION = "earthsignature"
_BIN = Path(__file__).resolve().parents[1] / ".venv-pgstac" / "bin"
_PATIENCE = 120.0
Row = dict[str, Any]


def run() -> list[Row]:
    """Fill all three, then ask all of them the same."""
    durable = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "1GB", "max_wal_size": "4GB"}
    with tempfile.TemporaryDirectory() as scratch, running_postgres(**durable) as cluster:
        folder = Path(scratch)
        items = folder / "items.ndjson"
        _write_items(items)
        urls = {"SQLite": f"sqlite:///{folder / 'sqlite.db'}", "PostgreSQL": cluster.new_database()}
        loaded = {kind: _describe(folder / kind, url, items) for kind, url in urls.items()}
        peer = _load_pgstac(cluster, items)
        items.unlink()
        rows = [
            {"name": f"describe, {kind}", "value": rate, "unit": "products/s", "peer": "pypgstac", "peer_value": peer, "goal": 20_000}
            for kind, rate in loaded.items()
        ]
        with _pgstac(cluster) as search:
            for kind, url in urls.items():
                rows += _questions(kind, folder / kind, url, search)
    return [{**row, "ratio": round(row["value"] / row["peer_value"], 3)} for row in rows]


def _write_items(path: Path) -> None:
    """Write STAC items as a mission's catalogue has them, in the order of their acquisition."""
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-10, 30, PRODUCTS).round(5), rng.uniform(36, 70, PRODUCTS).round(5)
    seconds = np.sort(rng.uniform(0, _DAYS * 86_400, PRODUCTS)).astype(int)
    with path.open("wb") as file:
        for n, (x, y, after) in enumerate(zip(lon.tolist(), lat.tolist(), seconds.tolist(), strict=True)):
            file.write(orjson.dumps(_item(n, x, y, _START + timedelta(seconds=after))) + b"\n")


def _item(n: int, x: float, y: float, when: datetime) -> dict[str, Any]:
    codes = [1 + n % 5, 1 + (n // 5 + n) % 5]
    instant = when.isoformat().replace("+00:00", "Z")
    ring = [[x, y], [x + 1.45, y + 0.02], [x + 1.42, y + 1.0], [x - 0.03, y + 0.98], [x, y]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"S2A_MSIL2A_{when:%Y%m%dT%H%M%S}_N0500_R{n % 143:03}_T33UUP_{n:07}",
        "collection": _COLLECTION,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [x - 0.03, y, x + 1.45, y + 1.0],
        "properties": {
            "datetime": instant,
            "published": instant,
            "eo:cloud_cover": float(n % 100),
            "product:type": "S2MSI2A",
            "earthself:model": "baseline:1.1.0",
            "earthself:legend": "clc:1",
            "earthself:classes": sorted(set(codes)),
        },
        "assets": {
            "segmentation": {
                "href": f"./{n}/segmentation.tif",
                "classification:classes": [{"value": code, "name": f"class_{code}", "count": 1000 + n % 97} for code in sorted(set(codes))],
            }
        },
        "links": [],
    }


def _describe(home: Path, url: str, items: Path) -> float:
    """Products a second of `earthsignature ingest --metadata-only`, its start included."""
    where = ["--home", str(home), "--database-url", url]
    command = [sys.executable, "-m", "earthself.signature"]
    subprocess.run([*command, "migrate", *where], check=True, capture_output=True)
    started = time.perf_counter()
    subprocess.run([*command, "ingest", "--metadata-only", *where, str(items)], check=True, capture_output=True)
    rate = PRODUCTS / (time.perf_counter() - started)
    _analyse(url)
    return round(rate)


def _analyse(url: str) -> None:
    """Let PostgreSQL count, as it does by itself within minutes."""
    if url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")


def _load_pgstac(cluster: Cluster, items: Path) -> float:
    environment = _environment(cluster)
    subprocess.run([_BIN / "pypgstac", "migrate"], env=environment, check=True, capture_output=True)
    collection = items.with_name("collection.json")
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    known = {"type": "Collection", "stac_version": "1.1.0", "description": "-", "license": "other", "links": [], "extent": extent}
    collection.write_bytes(orjson.dumps({**known, "id": _COLLECTION}) + b"\n")
    subprocess.run([_BIN / "pypgstac", "load", "collections", collection], env=environment, check=True, capture_output=True)
    started = time.perf_counter()
    subprocess.run([_BIN / "pypgstac", "load", "items", items, "--method", "insert"], env=environment, check=True, capture_output=True)
    rate = PRODUCTS / (time.perf_counter() - started)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return round(rate)


def _environment(cluster: Cluster) -> dict[str, str]:
    url = sa.make_url(cluster.url("postgres"))
    names = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGDATABASE": url.database, "PGPASSWORD": "none"}
    return {**os.environ, **{name: str(value) for name, value in names.items()}}


Asked = Callable[["Question"], int]
"""Asks one question to the last message; gives the number of products."""


class Question:
    """An area of 1 by 0.7 degrees, a month, a class."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(number)
        self.west, self.south = (float(side) for side in rng.uniform((-9, 37), (29, 69)).round(4))
        self.start = _START + timedelta(days=int(rng.integers(0, _DAYS - 31)))
        self.end = self.start + timedelta(days=30)
        self.code = int(rng.integers(1, 6))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """West, south, east, north."""
        return self.west, self.south, self.west + 1, self.south + 0.7

    @property
    def body(self) -> dict[str, Any]:
        """The question as a STAC search."""
        has = {"op": "a_contains", "args": [{"property": "earthself:classes"}, [self.code]]}
        period = f"{self.start:%Y-%m-%dT00:00:00Z}/{self.end - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
        return {
            "collections": [_COLLECTION],
            "bbox": list(self.box),
            "datetime": period,
            "limit": 500,
            "filter-lang": "cql2-json",
            "filter": has,
        }


def _questions(kind: str, home: Path, url: str, pgstac: Asked) -> list[Row]:
    where = ("--database-url", url)
    with running_server(home, *where) as server, closing(Rpc(Connection(server.target))) as rpc, _web(home, url) as web:

        def grpc(question: Question) -> int:
            w, s, e, n = question.box
            wkt = f"POLYGON(({w} {s},{e} {s},{e} {n},{w} {n},{w} {s}))"
            request = v1.ListProductIdsRequest(wkt=wkt, start_date=question.start, end_date=question.end, categories=[str(question.code)])
            return sum(1 for _ in rpc.stream("snapearth.api.v1.DatabaseProductService", "ListProductIds", request))

        ways = {"ListProductIds": grpc, "STAC search": web, "pgstac": pgstac}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        numbers: list[int] = []
        questions = [Question(number) for number in range(QUESTIONS)]
        for question in questions:
            # Once to each before the clock runs: else who is asked first reads the pages of a question from the disk for the others.
            answers = {ask(question) for ask in ways.values()}
            assert len(answers) == 1, f"{kind}: the answers differ: {answers} for {question.body}"
            numbers += answers
        for question in questions:
            for name, ask in ways.items():
                started = time.perf_counter()
                ask(question)
                taken[name].append((time.perf_counter() - started) * 1000)
    print(f"{kind}: {statistics.mean(numbers):.1f} products answer a question on average")
    rows = []
    for name, median_goal, tail_goal in (("ListProductIds", 9, 15), ("STAC search", None, None)):
        for what, figure, goal in (("median", statistics.median, median_goal), ("p95", _p95, tail_goal)):
            rows.append(
                {
                    "name": f"{name}, {what}, {kind}",
                    "value": round(figure(taken[name]), 2),
                    "unit": "ms",
                    "peer": "stac-fastapi-pgstac",
                    "peer_value": round(figure(taken["pgstac"]), 2),
                    "goal": goal if goal is not None else "0.8 of the peer",
                }
            )
    return rows


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


@contextmanager
def _web(home: Path, url: str) -> Iterator[Asked]:
    command = [sys.executable, "-m", "earthself.signature", "web", "--home", str(home), "--database-url", url, "--port"]
    with _http(command, os.environ.copy(), "/search") as ask:
        yield ask


@contextmanager
def _pgstac(cluster: Cluster) -> Iterator[Asked]:
    command = [str(_BIN / "uvicorn"), "--factory", "stac_fastapi.pgstac.app:create_app", "--log-level", "warning", "--port"]
    with _http(command, _environment(cluster), "/search") as ask:
        yield ask


@contextmanager
def _http(command: list[str], environment: dict[str, str], path: str) -> Iterator[Asked]:
    """Start a STAC API on a free port; gives how to ask it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with subprocess.Popen([*command, port], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE, trust_env=False) as http:
                _until_it_answers(http, process)

                def ask(question: Question) -> int:
                    answer = http.post(path, json=question.body)
                    answer.raise_for_status()
                    return len(orjson.loads(answer.content)["features"])

                yield ask
        finally:
            process.terminate()


def _until_it_answers(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            if http.get("/").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} does not answer")
