"""A reader that is gone, or over its deadline, costs the database nothing more, in the middle of a question, too."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context

import pytest
import sqlalchemy as sa
from earthself.signature import calls
from earthself.signature.errors import OverTime, Unavailable
from earthself.signature.server import OWN_PATH
from earthself.signature.waiting import WAITING, Waiting
from earthself.signature.wire import POOL
from processes import wait_for

HOURS = sa.text(
    "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless WHERE n < 2000000000) SELECT count(*) FROM endless"
)


def asking(store, begun, ended):
    """Ask something that takes hours, and say how it ended."""
    try:
        with store.catalog._reading() as connection:
            begun.append(connection)
            connection.execute(HOURS)
    except OverTime as error:
        ended.append(error)


def in_a_thread(function, *arguments):
    thread = threading.Thread(target=copy_context().run, args=(function, *arguments), daemon=True)
    thread.start()
    return thread


def test_a_question_ends_when_its_caller_gives_up(open_store, tmp_path):
    store, waiting, begun, ended = open_store(tmp_path), Waiting(), [], []
    token = WAITING.set(waiting)
    thread = in_a_thread(asking, store, begun, ended)
    WAITING.reset(token)
    wait_for(lambda: begun)
    assert ended == []
    waiting.give_up()
    thread.join(30)
    assert len(ended) == 1
    assert store.statistics().products == 0  # the connection serves others as before


def test_no_question_begins_when_its_caller_is_gone(open_store, tmp_path):
    store, waiting = open_store(tmp_path), Waiting()
    waiting.give_up()
    token = WAITING.set(waiting)
    with pytest.raises(Unavailable, match="nobody waits"):
        store.statistics()
    WAITING.reset(token)


def test_giving_up_after_the_answer_ends_nothing(open_store, tmp_path):
    called = []
    waiting = Waiting()
    with waiting.ended_by(lambda: called.append(1)):
        pass
    waiting.give_up()
    assert called == []
    with waiting.ended_by(lambda: called.append(2)):
        pass
    assert called == [2]


def test_a_server_gives_its_threads_back_when_readers_leave(open_store, tmp_path):
    """More readers than threads ask for hours, and hang up; the next one is answered."""
    store, begun, ended = open_store(tmp_path), [], []
    find = POOL.FindServiceByName(OWN_PATH).methods_by_name["Find"]
    method = calls.Method(find, lambda _: iter(asking(store, begun, ended) or ()), 1 << 20)

    async def readers():
        workers = calls.Workers(2)
        shared = calls.Calls(workers, None, None, None, None)

        class Context:
            def peer(self):
                return "ipv4:127.0.0.1:1"

        tasks = [asyncio.create_task(calls._Call(shared, method, Context(), ["unknown"])._answers(b"")) for _ in range(4)]
        await asyncio.to_thread(wait_for, lambda: len(begun) == 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return await asyncio.wait_for(workers.run(lambda: "answered"), 30)

    assert asyncio.run(readers()) == "answered"
    wait_for(lambda: len(ended) == 2)
