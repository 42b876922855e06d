"""The demo: a stack of its own, one land-cover map ordered as `creator` through the client, looked at, and everything stopped.

It types the same commands as a person would and checks what they leave behind.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from earthself.local.errors import BadSetting, LocalError
from earthself.local.settings import Settings
from earthself.local.stack import Say, Stack

SAMPLE_AREA = Path(__file__).with_name("demo-area.geojson")
"""Two stretches of the Salzach valley, in two groups of the sample's patches."""

TOLERANCE = 1e-4
"""How far the rows of the statistics may be from the area's size, as a share of it."""

_OUTPUTS = (
    "land_cover.tif",
    "item.json",
    "statistics.parquet",
    "statistics.csv",
    "quicklook.png",
    "report.html",
    "manifest.json",
    "result.json",
)


@dataclass(frozen=True)
class Order:
    """What map the demo asks for."""

    area: str
    """west,south,east,north in degrees, or a GeoJSON file."""
    start: str
    """First day."""
    end: str
    """Day after the last."""
    provider: str
    """EODAG provider, empty for the sample."""
    title: str
    """Name for people."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Order:
        """Read PROVIDER, AREA, START, END; raises `BadSetting` when a provider or area is named without the rest."""
        given = {name: environ.get(name, "").strip() for name in ("PROVIDER", "AREA", "START", "END")}
        if not any(given.values()):
            return cls(str(SAMPLE_AREA), "2017-06-13", "2017-06-14", "", "Salzach valley, 13 June 2017")
        if missing := [name for name in ("AREA", "START", "END") if not given[name]]:
            raise BadSetting(
                f"a demo of your own also needs {' and '.join(missing)}, for example "
                "make demo PROVIDER=earth_search AREA=14.2,46.9,14.3,47.0 START=2024-07-01 END=2024-07-15"
            )
        return cls(given["AREA"], given["START"], given["END"], given["PROVIDER"], f"Demo: {given['AREA']}")


def demo(settings: Settings, say: Say) -> int:
    """Run the demo; 0 only when the run is complete and its results hold together. The results stay on disk."""
    order = Order.from_environment()
    home = settings.home / "demo" / datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")
    providers = (order.provider,) if order.provider else settings.providers
    own = replace(settings, home=home, port=0, signature_port=0, data_port=0, sample_port=0, providers=providers)
    took: dict[str, float] = {}
    stack = Stack(own, say)
    say("1. Start Airflow, EarthSignature and the sample provider on free ports, with a fresh state")
    began = time.monotonic()
    try:
        running = stack.up()
        took["start the stack"] = time.monotonic() - began
        say(f"\n2. Order a land-cover map as `creator`: {order.title}")
        began = time.monotonic()
        client = _Client(home, running.url)
        code = client.run(order)
        took["make the map"] = time.monotonic() - began
        report = client.report() if code == 0 else {}
    finally:
        began = time.monotonic()
        stack.down()
        took["stop the stack"] = time.monotonic() - began
    say("\n3. Everything is stopped; where the time went: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in took.items()))
    if code:
        say(f"the run has no result; the logs are in {stack.home.logs}")
        return code
    _verify(report)
    folder = Path(report["places"]["result.json"]).parent
    say(f"the result holds together (every file, its checksum, the sum of the areas) and stays there; look at\n{folder / 'report.html'}")
    return 0


class _Client:
    """The `earthself` command, as creator, against the demo's own stack."""

    def __init__(self, home: Path, url: str) -> None:
        self._environment = {**os.environ, "EARTHSELF_HOME": str(home), "EARTHSELF_URL": url, "EARTHSELF_USER": "creator"}
        for name in ("EARTHSELF_PASSWORD", "EARTHSELF_TOKEN"):
            self._environment.pop(name, None)

    def run(self, order: Order) -> int:
        """Order the map and follow it on the terminal; return the command's exit code."""
        arguments = ["run", "--area", order.area, "--start", order.start, "--end", order.end, "--title", order.title]
        if order.provider:
            arguments += ["--provider", order.provider]
        return subprocess.run(self._command(*arguments), env=self._environment, check=False).returncode

    def report(self) -> dict[str, Any]:
        """Return the result of the latest run as the client gives it to machines."""
        done = subprocess.run(self._command("report", "--json"), env=self._environment, check=True, stdout=subprocess.PIPE)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("earthself")), *arguments]


def _verify(report: Mapping[str, Any]) -> None:
    """Raise `LocalError` where the result is not complete or does not agree with itself."""
    result = report["result"]
    if result["status"] != "complete":
        raise LocalError(f"the result is {result['status']}, not complete: {'; '.join(report['advice']) or 'see its warnings'}")
    folder = Path(report["places"]["result.json"]).parent if "result.json" in report["places"] else None
    if folder is None:
        raise LocalError("the result does not say where its files are")
    if missing := [name for name in _OUTPUTS if not (folder / name).is_file()]:
        raise LocalError(f"the result lacks {', '.join(missing)}; it is in {folder}")
    for output in json.loads((folder / "manifest.json").read_text())["outputs"]:
        if hashlib.sha256((folder / output["href"]).read_bytes()).hexdigest() != output["sha256"]:
            raise LocalError(f"{output['href']} is not what the manifest says; see {folder}")
    with (folder / "statistics.csv").open(newline="") as file:
        hectares = sum(float(row["hectares"]) for row in csv.DictReader(file))
    if not math.isclose(hectares, 100 * result["area_km2"], rel_tol=TOLERANCE):
        raise LocalError(f"the statistics add up to {hectares:.2f} ha, but the area has {100 * result['area_km2']:.2f} ha; see {folder}")
    if result["observed_fraction"] <= 0:
        raise LocalError(f"nothing of the area was observed; see the warnings in {folder / 'report.html'}")
