"""How many pods wait: said when it changes, said again while it lasts, and taken back in the end."""

from __future__ import annotations

import asyncio

from earthself.triggers.pods.waiting import Waiting


def test_what_is_said_follows_the_pods() -> None:
    said: list[dict[str, float]] = []
    clock = [0.0]

    async def scenario() -> None:
        ticks = asyncio.Queue()
        slept = asyncio.Queue()

        async def sleep(seconds: float) -> None:
            clock[0] += seconds
            slept.put_nowait(None)
            await ticks.get()

        async def looks() -> None:
            await slept.get()

        waiting = Waiting(lambda values: said.append(dict(values)), sleep, lambda: clock[0])
        full = {"one": True, "two": True}
        async with waiting.counted("north", lambda: full["one"]), waiting.counted("north", lambda: full["two"]):
            await looks()
            assert said == [{"north": 2}]
            for _ in range(14):
                ticks.put_nowait(None)
                await looks()
            assert said == [{"north": 2}], "nothing new is not said each time"
            ticks.put_nowait(None)
            await looks()
            assert said == [{"north": 2}] * 2, "but again, so that it does not look as if nobody spoke any more"
            full["one"] = False
            ticks.put_nowait(None)
            await looks()
            assert said[-1] == {"north": 1}
        ticks.put_nowait(None)
        await asyncio.wait_for(waiting._telling, 10)
        assert said[-1] == {}

    asyncio.run(scenario())


def test_pods_that_have_room_cost_no_word() -> None:
    said: list[dict[str, float]] = []

    async def scenario() -> None:
        waiting = Waiting(said.append, lambda _seconds: asyncio.sleep(0))
        async with waiting.counted("north", lambda: False):
            await asyncio.sleep(0.01)
        await asyncio.wait_for(waiting._telling, 10)

    asyncio.run(scenario())
    assert said == []
