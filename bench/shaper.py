"""A way to a server on loopback that carries so many bytes a second in all, each connection's first ones later: `shaper PORT RATE DELAY`.

Prints its own port. What is shared is the rate of each direction, as it is of a machine's network.
"""

from __future__ import annotations

import asyncio
import sys
import time

_PIECE = 32 << 10


class Rate:
    """Bytes a second, shared by all who send in one direction."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    async def take(self, size: int) -> None:
        """Wait until so many bytes may go."""
        now = time.monotonic()
        self._free = max(self._free, now) + size / self._rate
        await asyncio.sleep(self._free - now)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: Rate, delay: float) -> None:
    """Carry one direction to its end; the first bytes wait."""
    try:
        while piece := await reader.read(_PIECE):
            await asyncio.sleep(delay)
            delay = 0.0
            await rate.take(len(piece))
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(port: int, rate: float, delay: float) -> None:
    """Serve until standard input ends."""
    up, down = Rate(rate), Rate(rate)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, to_writer, up, delay), carry(to_reader, writer, down, delay))

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
