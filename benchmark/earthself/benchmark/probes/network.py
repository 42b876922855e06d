"""What the network between here and an iperf3 that listens carries, both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping

from earthself.benchmark.errors import ProbeFailed, Refused
from earthself.benchmark.probing import Measure, Probe, Setting, tool

_LATE = 20.0
_PORT = "5201"


def _iperf(setting: Setting) -> Mapping[str, float]:
    return {"sent": _way(setting), "received": _way(setting, "--reverse")}


def _way(setting: Setting, *options: str) -> float:
    if not setting.server:
        raise ProbeFailed("nobody says where an iperf3 listens; start `iperf3 -s` there, and name it: --server HOST")
    host, _, port = setting.server.partition(":")
    words = (
        "--client",
        host,
        "--port",
        port or _PORT,
        "--time",
        f"{max(1.0, setting.seconds / 2):.0f}",
        "--connect-timeout",
        "5000",
        "--json",
    )
    said = tool("iperf3", *words, *options, seconds=setting.seconds + _LATE)
    try:
        told = json.loads(said)
        if error := told.get("error"):
            # It ends with 0 all the same.
            kind = Refused if "unable to connect" in error or "busy" in error else ProbeFailed
            raise kind(f"iperf3 at {setting.server}: {error}; start `iperf3 -s` there, and let its port through")
        return float(told["end"]["sum_received"]["bits_per_second"]) / 8e6
    except (ValueError, LookupError, TypeError) as error:
        raise ProbeFailed(f"iperf3 does not say how fast it was: {said[-200:]}") from error


PROBES = [
    Probe(
        "network",
        "bytes sent to and received from an iperf3",
        [Measure("sent", "MB/s", "higher"), Measure("received", "MB/s", "higher")],
        _iperf,
        lambda setting: {"server": setting.server or ""},
        ["iperf3"],
        ["server"],
    )
]
