"""Six stand-in clouds on this machine: the engine predicts hours and euros for tiles of sizes that it has not seen, then they are made.

A cloud is a group of processes with so many cores, a share of their time, memory, a disk (control groups), and a way to its object
storage (`bench.shaper`). What the engine is given is what it is given of a real one: probes run there, specifications, prices; and the
profile of the work, measured on this machine without limits. The work is each tile fetched from the storage, signed and composed by the
platform's own steps, and put back, as many at once as the engine says.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.staging import _SERVE as S3

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
TILE = [sys.executable, str(Path(__file__).with_name("tile.py"))]
SEEN, REPEATS = 2048, 5
"""Pixels along each side of the products that the profile is measured with."""
HELD_OUT = ((4, 1100), (3, 1500), (2, 2000))
"""Tiles, and pixels along each side: what is predicted, and then made."""
ERROR, DEARER = 0.30, 1.10
"""Goals: the median of the errors of all predictions; what the suggested cloud costs, as a multiple of the cheapest."""
GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Cloud:
    """What a stand-in is limited to, and what it costs."""

    name: str
    cores: int
    share: float
    """Of each core's time."""
    memory_gib: float
    megabytes: float
    """A second, to and from its storage."""
    delay: float
    """Seconds until the first bytes of a connection come."""
    euros: float
    """For an hour."""


CLOUDS = (
    Cloud("ash", 2, 1.0, 4.0, 100.0, 0.002, 0.200),
    Cloud("birch", 2, 0.5, 4.0, 60.0, 0.005, 0.080),
    Cloud("cedar", 1, 1.0, 2.0, 60.0, 0.005, 0.095),
    Cloud("dogwood", 1, 0.4, 2.0, 30.0, 0.010, 0.045),
    Cloud("elm", 2, 1.0, 2.0, 100.0, 0.002, 0.150),
    Cloud("fir", 2, 1.0, 4.0, 4.0, 0.020, 0.120),
)


@contextmanager
def limits(cloud: Cloud, disk: str) -> Iterator[Callable[[], None]]:
    """Make the cloud's control groups; gives what a process calls to enter them. `disk` is major:minor of the disk that it works on."""
    period = 20_000
    quota, memory, rate = int(period * cloud.cores * cloud.share), int(cloud.memory_gib * (1 << 30)), int(cloud.megabytes * 1e6)
    if (GROUPS / "cgroup.controllers").exists():
        written = {".": {"cpu.max": f"{quota} {period}", "memory.max": str(memory), "io.max": f"{disk} rbps={rate} wbps={rate}"}}
    else:
        written = {
            "cpu": {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": str(quota)},
            "memory": {"memory.limit_in_bytes": str(memory)},
            "blkio": dict.fromkeys(("blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"), f"{disk} {rate}"),
        }
    folders = {GROUPS / controller / f"earthself-bench-{os.getpid()}-{cloud.name}": files for controller, files in written.items()}
    for folder, files in folders.items():
        folder.mkdir()
        for name, value in files.items():
            (folder / name).write_text(value)

    def enter() -> None:
        os.sched_setaffinity(0, range(cloud.cores))
        for folder in folders:
            (folder / "cgroup.procs").write_text("0")

    try:
        yield enter
    finally:
        for folder in folders:
            folder.rmdir()


@contextmanager
def said_port(*words: str) -> Iterator[int]:
    """Run a server that says its port, until the block ends."""
    server = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        yield int(server.stdout.readline())
    finally:
        server.communicate()


def profiled(home: Path) -> Any:  # noqa: ANN401 - imported late
    """Measure the work of a tile on this machine."""
    from earthself.benchmark.own_step import OwnStep, measure_step

    step = OwnStep(TILE, "land_cover_map", BANDS, 1, SEEN)
    return measure_step(step, home, repeats=REPEATS, note=lambda run: print(f"profile {run + 1}/{2 * REPEATS}", file=sys.stderr))


@dataclass(frozen=True)
class Standing:
    """A cloud that stands."""

    cloud: Cloud
    enter: Callable[[], None]
    env: Mapping[str, str]
    """Where its storage is."""

    def run(self, *words: str) -> str:
        """Run a program of ours within it, and give what it says."""
        env = os.environ | dict(self.env)
        return subprocess.run(
            [sys.executable, *words], check=True, preexec_fn=self.enter, env=env, stdout=subprocess.PIPE, text=True
        ).stdout

    def probe(self, url: str, home: Path) -> None:
        """Measure it with the platform's own probes."""
        words = ["numpy_one", "numpy_all", "object_store", "--cloud", self.cloud.name, "--region", "here", "--offer", "machine"]
        words += [
            "--seconds",
            "3",
            "--object-mib",
            "1",
            "--storage",
            "s3://near@clouds/probe",
            "--scratch",
            str(home),
            "--database-url",
            url,
        ]
        self.run("-c", "from earthself.benchmark.cli import main; main()", "probe", *words)

    def make(self, at_once: int, tiles: int, side: int) -> float:
        """Do the work; gives its hours."""
        return float(self.run("-m", "bench.clouds", str(at_once), str(tiles), str(side), self.cloud.name)) / 3600


def told(url: str) -> None:
    """Keep what the clouds say of themselves."""
    from datetime import UTC, datetime

    from earthself.benchmark.offers.catalogue import Catalogue
    from earthself.benchmark.offers.model import Allocation, Offer, Price, Region, Source
    from earthself.benchmark.offers.model import Cloud as Told

    source = Source("this benchmark", "", datetime.now(UTC).date())
    with Catalogue(url) as catalogue:
        for cloud in CLOUDS:
            offer = Offer(cloud.name, "machine", source, vcpus=float(cloud.cores), memory_gib=cloud.memory_gib)
            price = Price(cloud.name, "here", "machine", Allocation.ON_DEMAND, cloud.euros, "EUR", source)
            catalogue.add([Told(cloud.name, cloud.name.title(), source), Region(cloud.name, "here", "Here", source), offer, price])


def work(at_once: int, tiles: int, prefix: str, name: str) -> float:
    """Within a cloud: make all tiles, so many at once; gives the seconds from the first request to the last answer."""
    import time
    from concurrent.futures import ThreadPoolExecutor

    from earthself.benchmark.environment import cores
    from earthself.data.folders import stage_in, stage_out

    def one(number: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            stage_in(f"s3://near@clouds/{prefix}", home / "in")
            (home / "scratch").mkdir()
            places = {"INPUT": "in", "OUTPUT": "out", "SCRATCH": "scratch"}
            places = {f"EARTHSELF_STEP_{key}": str(home / place) for key, place in places.items()}
            subprocess.run(TILE, check=True, env=os.environ | places | {"EARTHSELF_STEP_CPUS": f"{cores() / at_once:g}"}, stdout=sys.stderr)
            stage_out(home / "out", f"s3://near@clouds/made/{name}/{prefix}/{number}")

    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(tiles)))
    return time.perf_counter() - begun


def run() -> list[dict[str, Any]]:
    """Measure, predict, make, compare; without the right to make control groups there is nothing to compare."""
    if os.geteuid() != 0:
        print("stand-in clouds need the right to make control groups: run it as root", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        home = Path(folder)
        url = f"sqlite:///{home / 'bench.db'}"
        profile = profiled(home)
        told(url)
        s3 = running.enter_context(said_port("-c", S3))
        _fill(f"http://127.0.0.1:{s3}", home)
        clouds = [running.enter_context(standing(cloud, s3, home)) for cloud in CLOUDS]
        for one in clouds:
            print(f"probing {one.cloud.name}", file=sys.stderr)
            one.probe(url, home)
        rows, dearer = [], []
        for tiles, side in HELD_OUT:
            found = _predicted(profile, tiles, side, url)
            cost = {}
            for one in clouds:
                steps, hours = found[one.cloud.name]
                took = one.make(steps, tiles, side)
                cost[one.cloud.name] = one.cloud.euros * took
                rows.append(_row(f"clouds: {tiles} tiles of {side} pixels a side on {one.cloud.name}, predicted", hours, took))
                print(rows[-1], file=sys.stderr)
            dearer.append(cost[next(iter(found))] / min(cost.values()))
    errors = [abs(row["ratio"] - 1) for row in rows]
    return [
        *rows,
        {"name": "clouds: error of a prediction, median", "value": statistics.median(errors), "unit": "share", "goal": ERROR},
        {"name": "clouds: the suggested one to the cheapest", "value": max(dearer), "unit": "times", "goal": DEARER},
    ]


@contextmanager
def standing(cloud: Cloud, s3: int, home: Path) -> Iterator[Standing]:
    """Let a cloud stand until the block ends, with its way to the storage at port `s3`."""
    device = home.stat().st_dev
    with (
        said_port("-m", "bench.shaper", str(s3), str(cloud.megabytes * 1e6), str(cloud.delay)) as shaped,
        limits(cloud, f"{os.major(device)}:{os.minor(device)}") as enter,
    ):
        yield Standing(cloud, enter, _storage(f"http://127.0.0.1:{shaped}", home / f"{cloud.name}.json"))


def _row(name: str, hours: float, took: float) -> dict[str, Any]:
    return {"name": name, "value": hours * 3600, "unit": "s", "peer": "made", "peer_value": took * 3600, "ratio": hours / took}


def _predicted(profile: Any, tiles: int, side: int, url: str) -> dict[str, tuple[int, float]]:  # noqa: ANN401
    """Ask the engine: steps at once and hours of each cloud, the suggested one first."""
    from earthself.benchmark import suggest

    need = {"work": {"tiles": tiles}, "profile": profile.profile(side**2 / 1e6), "weights": {"cost": 1}, "budget_euros": 1}
    answer = suggest(need, database_url=url)
    if answer.best is None:
        raise AssertionError(f"there is no ranking: {answer.no_ranking}; {[one.unranked for one in answer.choices]}")
    return {one.candidate.cloud: (one.estimate.steps, float(one.estimate.hours.value or 0)) for one in answer.choices}


def _storage(endpoint: str, file: Path) -> dict[str, str]:
    file.write_text(json.dumps({"near": {"endpoint": endpoint, "addressing": "path", "credentials": "env:NEAR"}}))
    return {"EARTHSELF_STORAGE": str(file), "NEAR_ACCESS_KEY_ID": "k", "NEAR_SECRET_ACCESS_KEY": "s", "no_proxy": "127.0.0.1"}


def _fill(endpoint: str, home: Path) -> None:
    """Put a product of each held-out size into the storage, as a step's input."""
    import boto3
    from earthself.benchmark.products import make_products
    from earthself.data.folders import stage_out

    os.environ |= _storage(endpoint, home / "all.json")
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="clouds")
    for _, side in HELD_OUT:
        make_products(home / str(side), BANDS, 1, side)
        stage_out(home / str(side), f"s3://near@clouds/{side}")


def _main(words: Sequence[str]) -> None:
    print(work(int(words[0]), int(words[1]), *words[2:]))


if __name__ == "__main__":
    _main(sys.argv[1:])
