"""Makes the polygons of segmentations in processes of their own.

GDAL holds Python's lock while it looks for patches, for a minute on a noisy tile: in the server's process nobody would be answered
meanwhile, it could not be ended when its reader has gone, and the memory that it takes would be the server's.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

from earthself.signature import geobuf, vectors
from earthself.signature.errors import StoreBroken, TooMuch
from earthself.signature.waiting import check_wanted

MOST_MEMORY = 4 << 30
"""Bytes of addresses that one process may take."""
_IDLE = 60.0
_LOOK = 100  # milliseconds between two looks whether somebody waits still
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """What to make polygons of."""

    segmentation: str
    """File of the pixels."""
    sieve_ha: float
    """Smallest patch in hectares."""
    product_id: str
    """Whose it is."""
    properties: Mapping[str, Any]
    """Of the product."""


class Makers:
    """The processes, started when they are needed; several threads may use it."""

    def __init__(self, memory: int = MOST_MEMORY) -> None:
        """Let each take so many bytes of addresses."""
        self._memory = memory
        self._idle: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def make(self, job: Job) -> bytes:
        """Give the FeatureCollection in geobuf bytes. Ends at once when the call's reader has gone (`Unavailable`).

        Raises `StoreBroken` for a damaged file, `TooMuch` where the patches need more memory than there is for them.
        """
        check_wanted()
        maker = self._take()
        try:
            answer = _answer(maker, job)
        except EOFError:
            code = _end(maker)
            raise TooMuch(
                f"the polygons of {job.product_id} cannot be made (their process ended with {code}): it has more patches than the "
                f"{self._memory >> 20} MiB for them hold; read its raster instead"
            ) from None
        except BaseException:
            _end(maker)
            raise
        with self._lock:
            self._idle.append(maker)
        if isinstance(answer, str):
            raise StoreBroken(answer)
        return answer

    def close(self) -> None:
        """End the processes that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, []
        for maker in idle:
            _end(maker)

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            while self._idle:
                maker = self._idle.pop()
                if maker.poll() is None:
                    return maker
                _end(maker)
        command = [sys.executable, "-m", "earthself.signature.polygons", str(self._memory), str(os.getpid())]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def _answer(maker: subprocess.Popen[bytes], job: Job) -> bytes | str:
    """Give the geobuf, or what is wrong with the file; raises `EOFError` where the process ended instead."""
    asked, said = cast("IO[bytes]", maker.stdin), cast("IO[bytes]", maker.stdout)
    try:
        asked.write(json.dumps(asdict(job)).encode() + b"\n")
        asked.flush()
    except BrokenPipeError as error:
        raise EOFError from error
    waiting = select.poll()  # select itself knows no file beyond the 1024th
    waiting.register(said, select.POLLIN)
    while not waiting.poll(_LOOK):
        check_wanted()
    head = said.readline()
    if not head:
        raise EOFError
    about = json.loads(head)
    if "broken" in about:
        return str(about["broken"])
    made = said.read(about["size"])
    if len(made) < about["size"]:
        raise EOFError
    return made


def _end(maker: subprocess.Popen[bytes]) -> int:
    if maker.poll() is None:
        maker.kill()
    with maker:  # closes the pipes, and waits
        pass
    return maker.returncode


def _made(line: bytes) -> bytes:
    job = Job(**json.loads(line))
    try:
        classes = vectors.polygonize(Path(job.segmentation), job.sieve_ha)
        features = (one.feature(job.product_id) for one in classes)
        made: bytes = geobuf.encode(vectors.collection(job.product_id, job.properties, features)).SerializeToString()
    except StoreBroken as error:
        return json.dumps({"broken": str(error)}).encode() + b"\n"
    return json.dumps({"size": len(made)}).encode() + b"\n" + made


def _serve(memory: int, server: int) -> None:
    """Answer jobs until nobody has one for a minute, or the server is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also in the middle of GDAL's work, where no thread of Python runs
    if os.getppid() != server:  # it was gone before
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    while select.select([sys.stdin.buffer], [], [], _IDLE)[0] and (line := sys.stdin.buffer.readline()):
        sys.stdout.buffer.write(_made(line))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
