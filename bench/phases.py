"""How much of the chain is neither reading nor inference: the demo's map, from trigger to success, by phase.

The peer is the work itself: the same run without Airflow's and our own share. The sample is small (0.3 million pixels), so what
a process costs before it reads its first pixel weighs more here than on any real area; the second row leaves that out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GOAL = 0.25


def run() -> list[dict[str, Any]]:
    """Make the demo's map on a stack of its own; raises `CalledProcessError` when the demo fails."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "earthself.local", "demo"]
        subprocess.run(command, check=True, env={**os.environ, "EARTHSELF_HOME": home}, stdout=subprocess.DEVNULL)
        (path,) = Path(home).glob("demo/*/workspace/runs/*/*/result.json")
        result = json.loads(path.read_text())
    sign = result["phases"]["sign"]
    work = sign["reading"] + sign["mask"] + sign["inference"]
    return [
        _row("chain outside reading and inference", result["seconds"], work),
        _row("sign outside reading and inference", sign["process"], work),
    ]


def _row(name: str, seconds: float, work: float) -> dict[str, Any]:
    share = 1 - work / seconds
    return {
        "name": name,
        "value": round(share, 3),
        "unit": f"share of {seconds:.1f} s",
        "peer": "reading, mask and model inference",
        "peer_value": round(work, 2),
        "ratio": round(share, 3),
        "goal": GOAL,
    }
