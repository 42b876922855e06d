"""The work of a tile of `land_cover_map` as one step (docs/steps.md): its signature, then its part of the composite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

STEPS = ("sign", "composite")


def main() -> int:
    """Run both steps on the input, and leave what both of them left; ends as the first that fails."""
    folders = {name: Path(os.environ[f"EARTHSELF_STEP_{name}"]) for name in ("INPUT", "OUTPUT", "SCRATCH")}
    part = folders["SCRATCH"] / "out"
    for step in STEPS:
        words = ["--input", folders["INPUT"], "--output", part / step, "--scratch", folders["SCRATCH"]]
        done = subprocess.run([sys.executable, "-m", "earthself.processing", step, *map(str, words)], check=False)
        if done.returncode:
            return done.returncode
    shutil.copy(part / STEPS[0] / "catalog.json", part)
    part.replace(folders["OUTPUT"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
