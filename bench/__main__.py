"""`make bench`: run the benchmarks, print their tables, keep every figure in bench-results.json."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

SUITES = ("imports", "segment", "composite", "chain", "phases", "ranges", "products", "signature", "staging", "pods", "suggest", "clouds")
COLUMNS = ("name", "value", "unit", "peer", "peer_value", "ratio", "goal")


def machine() -> str:
    """What the figures were taken on, in one line: processor, cores, memory, system, Python."""
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def commit() -> str:
    """The commit that is measured, with a mark when the tree differs from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def table(rows: list[dict[str, Any]]) -> str:
    """Aligned columns for a terminal."""

    def text(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)

    lines = [COLUMNS, *[tuple(text(row.get(column)) for column in COLUMNS) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def main(only: list[str]) -> int:
    """Run the suites named (all by default); exit 2 for a name that is none."""
    unknown = sorted(set(only) - set(SUITES))
    if unknown:
        print(f"{', '.join(unknown)}: no such benchmark; choose from {', '.join(SUITES)}", file=sys.stderr)
        return 2
    results: list[dict[str, Any]] = []
    context = {"commit": commit(), "machine": machine()}
    for suite in only or SUITES:
        print(f"== {suite}", flush=True)
        rows = importlib.import_module(f"bench.{suite}").run()
        print(table(rows), flush=True)
        results += [{**{column: row.get(column) for column in COLUMNS}, **context} for row in rows]
        Path("bench-results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{len(results)} figures in bench-results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
