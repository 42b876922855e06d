"""Run by the operator as a script: end with the parent, then become the step's command.

Without it a step would go on when its task's process is killed (a crashed worker, SIGKILL after mark-failed). Only the
standard library, `-I -S`: it costs about 15 ms.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def main(parent: int, command: list[str]) -> int:
    """Replace this process by `command`; SIGTERM reaches it when `parent` dies (Linux; elsewhere it only starts)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            return 128 + signal.SIGTERM
    try:
        os.execvp(command[0], command)  # noqa: S606 - the operator's own argument list, no shell
    except FileNotFoundError:
        sys.stderr.write(f"{command[0]}: not found; install it, or give its path in command=[...]\n")
        return _NOT_FOUND
    except OSError as error:
        sys.stderr.write(f"{command[0]}: cannot be executed ({error.strerror})\n")
        return _NOT_EXECUTABLE


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
