"""What Airflow pays each time it reads a DAG file: CPU seconds of importing ours and one with only `airflow.sdk` and a pod operator.

Both run in fresh processes, one after the other in turn, so that a busy machine slows both; the median of the pairs counts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROUNDS = 7
GOAL = 1.1
_ROOT = Path(__file__).resolve().parents[1]
_PEER = """
from airflow.sdk import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
with DAG("peer", schedule=None):
    KubernetesPodOperator(task_id="a", name="a", image="busybox")
"""


def run() -> list[dict[str, Any]]:
    """Measure every shipped DAG file against the peer."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        peer = folder / "peer.py"
        peer.write_text(_PEER)
        files = sorted((_ROOT / "dags").glob("*.py"))
        seconds: dict[Path, list[float]] = {path: [] for path in (*files, peer)}
        for number in range(ROUNDS + 1):
            for path, taken in seconds.items():
                used = _cpu_seconds(path, folder)
                if number:  # the first round makes byte code and fills the disk's cache
                    taken.append(used)
        return [_row(path.name, seconds[path], seconds[peer]) for path in files]


def _row(name: str, ours: list[float], peer: list[float]) -> dict[str, Any]:
    ratio = statistics.median(mine / other for mine, other in zip(ours, peer, strict=True))
    return {
        "name": f"import dags/{name}",
        "value": round(statistics.median(ours), 3),
        "unit": "CPU s",
        "peer": "airflow.sdk and KubernetesPodOperator",
        "peer_value": round(statistics.median(peer), 3),
        "ratio": round(ratio, 3),
        "goal": GOAL,
    }


def _cpu_seconds(path: Path, home: Path) -> float:
    """User and system seconds of a fresh Python that imports the file as Airflow does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"AIRFLOW_HOME": str(home / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    code = (
        "import importlib.util, os, sys; spec = importlib.util.spec_from_file_location('dag', sys.argv[1]); "
        "spec.loader.exec_module(importlib.util.module_from_spec(spec)); used = os.times(); print(used.user + used.system)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
