"""Programs on a disk of a few megabytes, or with files that may not grow: what a full disk does is tried on a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def on_small_disk(code: str, folder: Path, *arguments: str, megabytes: int = 3) -> list[str]:
    """Run Python code whose first argument is a folder on a disk so small, in a mount namespace of its own; gives the lines it printed."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs user namespaces, to have a small disk: sysctl kernel.unprivileged_userns_clone=1")
    inside = f'mount -t tmpfs -o size={megabytes}m none "$2" && exec "$0" -c "$@"'
    return _lines(["unshare", "-rm", "sh", "-c", inside, sys.executable, code, str(folder), *arguments])


def with_small_files(code: str, limit: int, *arguments: str) -> list[str]:
    """Run Python code in a process whose files may not grow over `limit` bytes; gives the lines it printed."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n{code}"
    return _lines([sys.executable, "-c", limited, *arguments])


def _lines(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
