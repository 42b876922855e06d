"""What the kernel counts of a process, for tests of what a server costs."""

from __future__ import annotations

import time
from pathlib import Path


def peak_memory(pid):
    """Bytes of memory that the process held at most since `forget_peak`, or its start."""
    return _status(pid, "VmHWM") * 1024


def forget_peak(pid):
    """Let the peak begin anew; gives the bytes held now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status(pid, "VmRSS") * 1024


def bytes_read(pid):
    """Bytes read from files so far, from disk or cache; what comes through sockets is not counted."""
    return int(dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())["rchar"])


def wait_for(happened, seconds=30):
    """Look again and again until it happened."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def _status(pid, key):
    return next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{key}:"))
