"""Staging a step's folder to an object storage and back, with its checksums and markers, against plain transfers of the same files.

The storage is moto's S3 in a process of its own on this machine, which both sides share; the peers are boto3 (eight threads, the same
parts and connections) and s3fs (its own concurrency), which check nothing and leave half a folder when they stop. The rounds take turns.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

MANY = (200, 100_000)
"""Number and bytes of small files: a catalogue with its items and quicklooks."""
LARGE = (4, 48_000_000)
"""Number and bytes of large files: bands."""
HUGE = (1, 300_000_000)
"""One file that travels in parts: a composite."""
ROUNDS = 5
THREADS = 8
GOAL = 0.8
_SERVE = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}

Transfer = Callable[[Path, str], None]


def make(folder: Path, number: int, size: int) -> None:
    """Files of noise."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(number)
    for each in range(number):
        (folder / f"{each:04d}.tif").write_bytes(noise.bytes(size))


def transfers(url: str) -> tuple[dict[str, tuple[Transfer, Transfer]], Callable[[str], None]]:
    """Out and in, for a folder and a prefix: ours and the peers'; and how to remove what lies at a prefix."""
    import boto3
    import s3fs
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config
    from earthself.data.folders import stage_in, stage_out
    from earthself.data.storage import Storage, StorageProfile

    storage = Storage({"bench": StorageProfile("bench", endpoint=url, credentials="env:BENCH")})
    client: Any = boto3.client("s3", endpoint_url=url, config=Config(max_pool_connections=32, s3={"addressing_style": "path"}), **KEYS)
    client.create_bucket(Bucket="bench")
    parts = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=16 << 20, max_concurrency=10)
    login = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    system = s3fs.S3FileSystem(**{login[name]: KEYS[name] for name in login}, client_kwargs={"endpoint_url": url}, use_listings_cache=False)

    def boto_out(folder: Path, prefix: str) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            sent = pool.map(lambda p: client.upload_file(str(p), "bench", f"{prefix}/{p.name}", Config=parts), sorted(folder.iterdir()))
            assert len(list(sent)) > 0

    def boto_in(folder: Path, prefix: str) -> None:
        folder.mkdir()
        keys = [each["Key"] for each in client.list_objects_v2(Bucket="bench", Prefix=f"{prefix}/")["Contents"]]
        with ThreadPoolExecutor(THREADS) as pool:
            got = pool.map(lambda key: client.download_file("bench", key, str(folder / key.rpartition("/")[2]), Config=parts), keys)
            assert len(list(got)) > 0

    def forget(prefix: str) -> None:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="bench", Prefix=f"{prefix}/"):
            for each in page.get("Contents", ()):
                client.delete_object(Bucket="bench", Key=each["Key"])

    sides: dict[str, tuple[Transfer, Transfer]] = {
        "EarthSelf": (
            lambda folder, prefix: _check(stage_out(folder, f"s3://bench@bench/{prefix}", storage)),
            lambda folder, prefix: _check(stage_in(f"s3://bench@bench/{prefix}", folder, storage)),
        ),
        "boto3, 8 threads": (boto_out, boto_in),
        "s3fs": (
            lambda folder, prefix: system.put(f"{folder}/", f"bench/{prefix}/", recursive=True),
            lambda folder, prefix: system.get(f"bench/{prefix}/", f"{folder}/", recursive=True),
        ),
    }
    return sides, forget


def _check(moved: Any) -> None:  # noqa: ANN401 - Moved, imported late
    assert moved.moved == moved.folder.size > 0


def measure(
    sides: dict[str, tuple[Transfer, Transfer]], forget: Callable[[str], None], folder: Path, home: Path, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Megabytes a second of each side, out and in, in each round; the first round only warms up."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    taken: dict[str, dict[str, list[float]]] = {name: {"out": [], "in": []} for name in sides}
    for number in range(rounds + 1):
        for name, (out, back) in sides.items():
            prefix, target = f"{folder.name}/{number}-{len(name)}", home / "back"
            for way, work, where in (("out", out, folder), ("in", back, target)):
                begun = time.perf_counter()
                work(where, prefix)
                if number:
                    taken[name][way].append(size / 1e6 / (time.perf_counter() - begun))
            assert sum(path.stat().st_size for path in target.iterdir()) == size
            shutil.rmtree(target)
            forget(prefix)
    return taken


def run(rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Measure both kinds of folders, both ways."""
    os.environ |= {"no_proxy": "127.0.0.1", "BENCH_ACCESS_KEY_ID": "k", "BENCH_SECRET_ACCESS_KEY": "s"}
    rows = []
    for number, size in (LARGE, HUGE, MANY):
        server = subprocess.Popen([sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            sides, forget = transfers(f"http://127.0.0.1:{int(server.stdout.readline())}")
            with tempfile.TemporaryDirectory() as home:
                make(Path(home) / "folder", number, size)
                speeds = measure(sides, forget, Path(home) / "folder", Path(home), rounds)
        finally:
            server.communicate()
        ours = speeds.pop("EarthSelf")
        for way in ("out", "in"):
            rows += [_row(f"stage {way} {number} files of {size / 1e6:g} MB", ours[way], peer, ways[way]) for peer, ways in speeds.items()]
    return rows


def _row(name: str, mine: list[float], peer: str, theirs: list[float]) -> dict[str, Any]:
    """Medians; the ratio is the median of the rounds' own, since a machine's speed changes between them."""
    ratio = statistics.median(ours / other for ours, other in zip(mine, theirs, strict=True))
    value, peer_value = statistics.median(mine), statistics.median(theirs)
    return {"name": name, "value": value, "unit": "MB/s", "peer": peer, "peer_value": peer_value, "ratio": ratio, "goal": GOAL}


if __name__ == "__main__":
    print(run())
