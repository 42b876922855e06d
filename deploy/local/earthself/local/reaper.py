"""Ends what a dead process leaves behind.

The scheduler's workers outlive it when it is killed: they would finish a task that its successor starts again. Each
program leads a process group, so the supervisor's event "exited" is answered by ending the rest of that group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Speak supervisord's event protocol on standard input and output until it closes."""
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        header = sys.stdin.readline()
        if not header:
            return
        length = int(_fields(header)["len"])
        group = int(_fields(sys.stdin.read(length)).get("pid", "0"))
        if group > 1:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()


def _fields(text: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in text.split() if ":" in word)


if __name__ == "__main__":
    main()
