"""What one caller may cost: sizes of messages and areas, looked at before anything is parsed, and the number of calls at a time."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from earthself.signature.errors import BadSignature, TooBusy

_LEVELS = 8  # of brackets: collections in a collection have 5, and deeper ones only cost the parser its stack
_BRACKET = re.compile(r"[()]")
_QUESTION = 4 << 20  # 10,000 ids and an area fit
_CHUNK = 16 << 20
_POLYGONS = 64 << 20  # geobuf grows eightfold when it is parsed


@dataclass(frozen=True)
class Limits:
    """How much a server takes and gives at a time."""

    message: int = 512 << 20
    """Bytes of one message that brings rasters; other messages have smaller limits of their own."""
    area_vertices: int = 20_000
    """Corners of an area that is asked for."""
    area_parts: int = 1_000
    """Polygons, lines, points and holes of an area that is asked for."""
    window_pixels: int = 1 << 24
    """Pixels of a window that is asked for; a whole layer has no such limit, since it is sent as it lies there."""
    calls: int = 512
    """Calls at a time."""
    calls_of_one: int = 128
    """Calls at a time from one address."""
    writes: int = 4
    """Calls at a time that store a product; fewer than the server's threads, so that readers go on."""
    queue: float = 20.0
    """Seconds that a call waits for its turn to store; what it brings is not received before."""
    streams: int = 100
    """Calls at a time of one connection; a client holds further ones back by itself."""
    silence: float = 60.0
    """Seconds that a caller may take to begin its next message."""
    slowest: float = 1e6
    """Bytes a second at which a message comes at least."""
    patience: float = 600.0
    """Seconds that a reader may take to make room for the next message."""
    pings: float = 9.0
    """Seconds between two pings of a connection, which many clients send every 10 to keep a quiet one open; more often, it is closed."""

    def message_of(self, method: str) -> int:
        """Give the most bytes of one message to a method, named like `snapearth.api.v1.DatabaseProductService.CreateProduct`."""
        service, _, name = method.rpartition(".")
        if name == "CreateProduct":
            return min(self.message, _POLYGONS) if ".v2." in service else self.message
        return min(self.message, _CHUNK if name == "Create" else _QUESTION)

    def seconds_of(self, message: int) -> float:
        """Give the seconds that a message of at most so many bytes may take to arrive."""
        return self.silence + message / self.slowest

    def check_window(self, width: int, height: int) -> None:
        """Refuse a window of more pixels than are read at a time; raises `BadSignature`."""
        if width * height > self.window_pixels:
            raise BadSignature(
                f"a window of {width}x{height} pixels; at most {self.window_pixels} at a time: ask for smaller ones, or for the whole layer"
            )

    def check_area(self, wkt: str) -> None:
        """Refuse well-known text that would cost too much, by its length, brackets and commas alone; raises `BadSignature`."""
        most = self.area_vertices * 60  # two numbers of 17 digits with signs and exponents, and what is between them
        if len(wkt) > most:
            raise BadSignature(f"wkt of {len(wkt)} characters; send at most {most}: {_SIMPLER}")
        corners, parts = wkt.count(",") + 1, wkt.count("(")
        if corners > self.area_vertices:
            raise BadSignature(f"wkt with {corners} corners; send at most {self.area_vertices}: {_SIMPLER}")
        if parts > self.area_parts:
            raise BadSignature(
                f"wkt with {parts} brackets; send at most {self.area_parts}: fewer polygons and holes, or ask for them in turns"
            )
        level = 0
        for bracket in _BRACKET.finditer(wkt):
            level += 1 if bracket.group() == "(" else -1
            if level > _LEVELS:
                raise BadSignature(f"wkt with more than {_LEVELS} levels of brackets; send one MULTIPOLYGON")


_SIMPLER = "simplify the area, or ask for its parts in turns"
USUAL = Limits()
"""What a server takes unless it is told otherwise."""


class Admission:
    """Counts the calls that run; for one thread (the server's loop)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calls: Counter[str] = Counter()
        self._turns = asyncio.Semaphore(limits.writes)

    @asynccontextmanager
    async def admitted(self, address: str, *, writing: bool) -> AsyncIterator[None]:
        """Hold a place for a call from an address; raises `TooBusy` when there is none, for one that stores after some waiting."""
        most = self._limits
        if self._calls[address] >= most.calls_of_one:
            raise TooBusy(
                f"{self._calls[address]} calls from {address} run already, of at most {most.calls_of_one}; try again when some ended"
            )
        if self._calls.total() >= most.calls:
            raise TooBusy(f"{most.calls} calls run already, which is the most; try again")
        self._calls[address] += 1
        try:
            if not writing:
                yield
                return
            await self._turn()
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._calls[address] -= 1
            if not self._calls[address]:
                del self._calls[address]

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(self._limits.queue):
                await self._turns.acquire()
        except TimeoutError as error:
            most = self._limits
            raise TooBusy(f"{most.writes} products at a time are stored, and no turn came within {most.queue:g} s; try again") from error
