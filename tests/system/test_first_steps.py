"""The tutorial's own commands, typed as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from earthself.client import Run

from tests.system.running import Started, environment

TUTORIAL = (Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "first-steps.md").read_text()


def block(heading: str) -> str:
    """The first code block after a heading in bold."""
    found = re.search(rf"\*\*{re.escape(heading)}\*\*.*?```\w*\n(.*?)```", TUTORIAL, re.DOTALL)
    assert found, heading
    return found[1]


def test_the_python_block_makes_a_map(started: Started, made: Run) -> None:
    assert made.run_id  # first the demo's order, so that what it processes is not known yet
    environ = environment(started.stack.home.path)
    done = subprocess.run([sys.executable, "-c", block("In Python")], env=environ, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    *rows, report = done.stdout.strip().splitlines()
    assert {row.split()[0] for row in rows} >= {"2", "3", "5"}
    assert Path(report).read_text().startswith("<!")


def test_the_rest_block_starts_a_run(started: Started, made: Run) -> None:
    assert made.run_id
    script = block("By REST").replace("http://127.0.0.1:8080", started.running.url).replace(".earthself/", f"{started.stack.home.path}/")
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    run = started.client().run(json.loads(done.stdout)["dag_run_id"])
    assert run.wait(timeout=180, interval=0.2).result["status"] == "complete"
