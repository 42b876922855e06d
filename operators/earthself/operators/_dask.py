"""Run by the operator as a script, as a step's program: a Dask cluster on this machine, and the step's own command beside it.

Both are in the step's session, so that they share its memory and whatever ends the step ends the cluster too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

_NOT_FOUND, _FAILED, _TRY_AGAIN = 127, 1, 75


def main(workers: int, threads: int, memory: int, command: list[str]) -> int:
    """Start the cluster (`memory`: bytes of each worker), run `command` with its address, and return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # meant for the step, which has its own; this process ends after it
    try:
        from distributed import LocalCluster
    except ImportError as error:
        sys.stderr.write(f"no Dask cluster: {error}; install distributed\n")
        return _FAILED
    try:
        cluster = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers,
            threads_per_worker=threads,
            memory_limit=memory,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=os.environ["EARTHSELF_STEP_SCRATCH"],
        )
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"no Dask cluster: {type(error).__name__}: {error}; give the step more memory or fewer workers\n")
        return _TRY_AGAIN
    with cluster:
        try:
            code = subprocess.Popen(command, env=os.environ | {"DASK_SCHEDULER_ADDRESS": cluster.scheduler_address}).wait()
        except OSError as error:
            sys.stderr.write(f"{command[0]}: cannot be executed ({error.strerror}); install it, or give its path in command=[...]\n")
            return _NOT_FOUND
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
