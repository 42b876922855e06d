"""Those who wait for the same account: one look at its book serves them all, so that two hundred cost little more than one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from earthself.data.broker.book import Book
from earthself.data.broker.books import Books
from earthself.data.errors import EarthSelfError

Ask = Callable[[Book], tuple[Any, float]]
"""Looks into the book; gives the answer, or None and the seconds after which to look again."""


@dataclass
class _Waiting:
    """One who waits."""

    ask: Ask
    """What is asked."""
    answer: asyncio.Future[Any] = field(repr=False)
    """Where the answer comes."""


class Line:
    """Who waits for one account. For one event loop."""

    def __init__(self, books: Books, name: str, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Nobody waits yet. `name` is that of the account."""
        self._books, self._name, self._sleep = books, name, sleep
        self._waiting: dict[str, _Waiting] = {}
        self._looking: asyncio.Task[None] | None = None

    def join(self, ticket: str, ask: Ask) -> asyncio.Future[Any]:
        """Wait for an answer. Whoever asks again with the same ticket takes the place of the one before, whose answer is None."""
        self.leave(ticket)
        one = self._waiting[ticket] = _Waiting(ask, asyncio.get_running_loop().create_future())
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return one.answer

    def leave(self, ticket: str) -> None:
        """Wait no longer."""
        if (one := self._waiting.pop(ticket, None)) and not one.answer.done():
            one.answer.set_result(None)

    def dissolve(self) -> None:
        """Let all go without an answer."""
        for ticket in list(self._waiting):
            self.leave(ticket)

    async def _look(self) -> None:
        while self._waiting:
            try:
                with self._books.named(self._name) as book:
                    again = min([self._asked(book, ticket, one) for ticket, one in list(self._waiting.items())])
            except EarthSelfError as error:  # the book itself cannot be had
                for one in self._waiting.values():
                    one.answer.set_exception(error)
                self._waiting.clear()
                return
            if self._waiting:
                await self._sleep(again)

    def _asked(self, book: Book, ticket: str, one: _Waiting) -> float:
        try:
            answer, again = one.ask(book)
        except EarthSelfError as error:
            del self._waiting[ticket]
            one.answer.set_exception(error)
            return 0.0
        if answer is not None:
            del self._waiting[ticket]
            one.answer.set_result(answer)
        return again
