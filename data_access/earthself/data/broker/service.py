"""The broker of a cluster: pods share no folder, so they ask this service, which keeps the books in a folder of its own.

What a kernel does for the processes of one machine, leases do here: who holds a login or a connection says now and then that it still
does, and loses it otherwise. Who waits holds no thread. Secrets stay where they are: a caller names its account by a digest.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from earthself.data.broker.book import LOOK, ORDERS, Book
from earthself.data.broker.books import Books
from earthself.data.broker.interface import Account, Order
from earthself.data.broker.line import Ask, Line
from earthself.data.broker.wire import Question, error_told
from earthself.data.errors import BadInput, DataError, EarthSelfError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

LEASE = 20.0
"""Seconds after which somebody who has not been heard of loses what it holds."""
_POLL = 10.0  # seconds after which a caller that waits is asked to ask again
_MOST_BODY = 1 << 18
_REMEMBERED = 10_000  # reports of the last minutes, so that one that is sent twice counts once
_AGAIN = {"again": True}
_log = logging.getLogger("earthself.data.broker")


class BrokerService:
    """Answers the questions of `Broker` to callers that have a token. For one event loop, which never waits for more than a file."""

    def __init__(
        self,
        folder: Path,
        tokens: Callable[[], list[bytes]] = list,
        *,
        lease: float = LEASE,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`tokens` gives those that are good now; where there are none, nobody has to show one. `clock` gives Unix seconds."""
        self._books, self._tokens, self._lease, self._clock, self._sleep = Books(folder, clock), tokens, lease, clock, sleep
        self._lines: dict[str, Line] = {}
        self._reported: OrderedDict[str, Any] = OrderedDict()
        self._stopping = False

    def application(self) -> Starlette:
        """The service as a server of ASGI runs it."""
        questions: dict[str, Callable[[Question, Request], Awaitable[Any]]] = {
            "request": self._request,
            "connection": self._connection,
            "token": self._token,
            "logged-in": self._logged_in,
            "order": self._order,
            "placed": self._placed,
            "staged": self._staged,
            "answered": self._answered,
            "moved": self._moved,
            "hold": self._hold,
            "leave": self._leave,
        }
        routes = [Route(f"/v1/{name}", partial(self._asked, answer), methods=["POST"]) for name, answer in questions.items()]
        routes += [
            Route("/v1/key", partial(self._shown, self._key)),
            Route("/v1/status", partial(self._shown, self._status)),
            Route("/healthz", self._health),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    def stop(self) -> None:
        """Send those who wait away, to ask whoever comes after this service."""
        self._stopping = True
        for line in self._lines.values():
            line.dissolve()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Begin where the service before ended: nobody could say to it what they still hold."""
        self._books.key()
        for name in self._books.names():
            with self._books.named(name) as book:
                book.heard(None, self._lease)
        yield

    async def _asked(self, answer: Callable[[Question, Request], Awaitable[Any]], request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        try:
            return JSONResponse(await answer(Question(await _body(request)), request))
        except EarthSelfError as error:
            return JSONResponse(error_told(error), 400 if isinstance(error, BadInput) else 409)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - a server would write the error's text to its log, which may hold a token
            return _unexpected(request, error)

    async def _shown(self, what: Callable[[], Any], request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        try:
            return JSONResponse(what())
        except EarthSelfError as error:
            return JSONResponse(error_told(error), 409)

    def _refused(self, request: Request) -> Response | None:
        """Refuse who has no token, in a time that says nothing about those that are good."""
        try:
            good = self._tokens()
        except EarthSelfError as error:
            _log.error(str(error))
            return JSONResponse({"error": "TryAgain", "message": "the broker cannot read its tokens; its log says why"}, 503)
        kind, _, shown = request.headers.get("Authorization", "").partition(" ")
        matches = [hmac.compare_digest(each, shown.encode("latin-1")) for each in good]
        if not good or (kind.lower() == "bearer" and any(matches)):
            return None
        return JSONResponse({"error": "BrokerRefused", "message": "no token, or one that is not known here"}, 401)

    async def _health(self, _request: Request) -> Response:
        try:
            self._books.names()
            self._books.key()
        except (EarthSelfError, OSError) as error:
            return JSONResponse({"status": "failing", "message": str(error)}, 503)
        return JSONResponse({"status": "ok"})

    def _key(self) -> dict[str, str]:
        return {"key": self._books.key().hex()}

    def _status(self) -> list[dict[str, Any]]:
        return [asdict(each) for each in self._books.status()]

    async def _request(self, asked: Question, request: Request) -> Any:  # noqa: ANN401 - JSON
        account, ticket, worker = asked.account(), asked.ticket(), asked.text("worker")
        rate = account.limits.rate
        warnings: list[str] = []

        def ask(book: Book) -> tuple[Any, float]:
            turn = book.turn(account, ticket, worker)
            warnings.extend([turn.warning] if turn.warning else [])
            # Turns are dealt three ahead: a look for all has to come before they are over.
            look = min(turn.look, max(0.01, 1.5 / rate)) if rate else turn.look
            if turn.at is None:
                return None, look
            return {"in": max(0.0, turn.at - self._clock()), "warning": warnings[0] if warnings else None}, look

        return await self._waited(account, ticket, ask, request)

    async def _connection(self, asked: Question, request: Request) -> Any:  # noqa: ANN401
        account, ticket, worker = asked.account(), asked.ticket(), asked.text("worker")
        if account.limits.connections is None:
            raise BadInput("the account has no limit of connections, so that there is none to wait for")

        def ask(book: Book) -> tuple[Any, float]:
            held = book.held(ticket) or book.connection(account, ticket, worker, partial(self._taken, book, account, ticket))
            return (self._held() if held else None), LOOK / 2

        return await self._waited(account, ticket, ask, request)

    async def _token(self, asked: Question, request: Request) -> Any:  # noqa: ANN401
        account, ticket, name, refused = asked.account(), asked.ticket(), asked.text("name"), asked.optional("refused")

        def ask(book: Book) -> tuple[Any, float]:
            found, last = book.grant(name, refused)
            if found and not found.due(self._clock()):
                book.leave(ticket)
                return {"grant": asdict(found)}, LOOK
            if book.held(ticket) == name or self._taken(book, account, ticket, name):
                told = {"found": found and asdict(found), "last": last and asdict(last), "now": self._clock()}
                return self._held() | {"log_in": told}, LOOK
            return (found and {"grant": asdict(found)}), LOOK  # another worker renews it, in time

        return await self._waited(account, ticket, ask, request)

    async def _logged_in(self, asked: Question, _request: Request) -> Any:  # noqa: ANN401
        account, ticket, name, refused, began = (
            asked.account(),
            asked.ticket(),
            asked.text("name"),
            asked.optional("refused"),
            asked.number("began"),
        )
        with self._books.of(account) as book:
            mine = book.held(ticket) is not None
            book.leave(ticket)
            if asked.has("failed"):
                found = asked.grant("found") if asked.has("found") else None
                if mine:
                    book.login_failed(name, found, asked.error(), began)
                return {}
            # Who lost the lease, or tells this a second time, must not take the place of a login that others use.
            found, _ = (None, None) if mine else book.grant(name, refused)
            return {"grant": asdict(found or book.logged_in(name, asked.grant(), refused, began))}

    async def _order(self, asked: Question, request: Request) -> Any:  # noqa: ANN401
        account, ticket, product = asked.account(), asked.ticket(), asked.text("product")

        def ask(book: Book) -> tuple[Any, float]:
            if book.held(ticket) == ORDERS:
                return self._held(), LOOK
            if known := book.ordered(account, product):
                return {"order": asdict(known)}, LOOK
            return (self._held() if self._taken(book, account, ticket, ORDERS) else None), LOOK

        return await self._waited(account, ticket, ask, request)

    async def _placed(self, asked: Question, _request: Request) -> Any:  # noqa: ANN401
        account, ticket, product, made = asked.account(), asked.ticket(), asked.text("product"), asked.order()
        with self._books.of(account) as book:
            known: Order | None = None if book.held(ticket) else book.ordered(account, product)
            book.leave(ticket)
            return {"order": asdict(known or book.placed(product, made))}

    async def _staged(self, asked: Question, _request: Request) -> Any:  # noqa: ANN401
        with self._books.of(asked.account()) as book:
            book.staged(asked.text("product"), well=asked.flag("well"))
        return {}

    async def _answered(self, asked: Question, _request: Request) -> Any:  # noqa: ANN401
        account, status = asked.account(), int(asked.number("status"))
        wait = asked.number("wait") if asked.has("wait") else None
        return self._once(asked.ticket(), account, lambda book: {"warning": book.answered(account, status, wait)})

    async def _moved(self, asked: Question, _request: Request) -> Any:  # noqa: ANN401
        account, count = asked.account(), int(asked.number("count"))

        def count_it(book: Book) -> dict[str, Any]:
            book.moved(account, count)
            return {}

        return self._once(asked.ticket(), account, count_it)

    async def _hold(self, asked: Question, _request: Request) -> Any:  # noqa: ANN401
        lost: list[str] = []
        holds, known = asked.tickets(), set(self._books.names())
        for name, tickets in holds.items():
            if name not in known:
                lost += tickets
                continue
            with self._books.named(name) as book:
                lost += book.heard(tickets, self._lease)
        return {"lost": lost}

    async def _leave(self, asked: Question, _request: Request) -> Any:  # noqa: ANN401
        with self._books.of(asked.account()) as book:
            book.leave(asked.ticket())
        return {}

    def _held(self) -> dict[str, Any]:
        return {"lease": self._lease}

    def _taken(self, book: Book, account: Account, ticket: str, what: str) -> bool | None:
        """Lease to the ticket what nobody has, neither far away nor on this machine."""
        free = None if book.leased(what) else self._books.take(self._books.name(account), what)
        if free is None:
            return None
        free()
        book.lease(ticket, what, self._lease)
        return True

    def _once(self, ticket: str, account: Account, work: Callable[[Book], Any]) -> Any:  # noqa: ANN401
        if ticket in self._reported:
            return self._reported[ticket]
        with self._books.of(account) as book:
            told = self._reported[ticket] = work(book)
        if len(self._reported) > _REMEMBERED:
            self._reported.popitem(last=False)
        return told

    async def _waited(self, account: Account, ticket: str, ask: Ask, request: Request) -> Any:  # noqa: ANN401
        """The answer, or that the caller is to ask again; a caller that is gone gives up its place."""

        def ask_or_leave(book: Book) -> tuple[Any, float]:
            try:
                return ask(book)
            except EarthSelfError:
                book.leave(ticket)
                raise

        with self._books.of(account) as book:
            answer, _ = ask_or_leave(book)
        if answer is not None or self._stopping:
            return answer or _AGAIN
        name = self._books.name(account)
        line = self._lines.setdefault(name, Line(self._books, name, self._sleep))
        waiting, gone = line.join(ticket, ask_or_leave), asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({waiting, gone}, timeout=_POLL, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result() or _AGAIN
            line.leave(ticket)
            if gone.done():
                with self._books.of(account) as book:
                    book.leave(ticket)
        finally:
            gone.cancel()
        return _AGAIN


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> object:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > _MOST_BODY:
            raise BadInput(f"a question has at most {_MOST_BODY} bytes")
    try:
        return json.loads(data)
    except ValueError:
        raise BadInput("the question is no JSON") from None


def _unexpected(request: Request, error: Exception) -> Response:
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else "?"
    _log.error("%s failed: %s in %s", request.url.path, type(error).__name__, where)
    return JSONResponse(error_told(DataError("the broker failed; its log says where")), 500)
