"""Many light worker processes: one program that loads everything once and forks, as a machine full of steps, started by a test.

    python workers.py PLAN.json

The plan: {"settings": path, "out": folder, "workers": [{"team": name, "urls": [...]}, ...]}. Each worker downloads its files one by one.
It prints `ready` when all are forked, begins at a line on standard input, and prints {"failed": [messages]} at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any


def main(plan: dict[str, Any]) -> None:
    import earthself.data.transfer  # noqa: F401 - loaded before the forks, as is all that follows
    import httpx  # noqa: F401
    import rasterio  # noqa: F401
    from earthself.data.query import SourceConfig
    from earthself.data.sources import Sources

    config = SourceConfig.from_json(Path(plan["settings"]).read_bytes())
    sources = {team: Sources(replace(config, team=team)) for team in {each["team"] for each in plan["workers"]}}
    for each in sources.values():
        each._catalogue.gateway()
    begin, go = os.pipe()
    report, tell = os.pipe()
    pids = []
    for number, worker in enumerate(plan["workers"]):
        pid = os.fork()
        if not pid:
            os.close(go)
            os.read(begin, 1)
            os.write(tell, (json.dumps(work(sources[worker["team"]], worker["urls"], Path(plan["out"]), number)) + "\n").encode())
            os._exit(0)
        pids.append(pid)
    os.close(tell)
    print(json.dumps({"pids": pids}), flush=True)
    sys.stdin.readline()
    os.close(go)
    for pid in pids:
        os.waitpid(pid, 0)
    with os.fdopen(report) as lines:
        print(json.dumps({"failed": [message for line in lines for message in json.loads(line)]}), flush=True)


def work(sources: Any, urls: list[str], out: Path, number: int) -> list[str]:
    from earthself.data.errors import EarthSelfError

    failed = []
    for url in urls:
        name = url.rsplit("/", 1)[-1].removesuffix(".tif")
        item = {
            "type": "Feature",
            "id": name,
            "properties": {"earthself:provider": "hostile", "earthself:collection": "S2_MSI_L2A", "earthself:access": "login"},
            "assets": {"B04": {"href": url}},
        }
        try:
            sources.download(item, out, ["B04"])
        except EarthSelfError as error:
            failed.append(f"worker {number}: {error}")
    return failed


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main(json.loads(Path(sys.argv[1]).read_text()))
