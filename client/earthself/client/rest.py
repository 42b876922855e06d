"""All HTTP of the client: the token, timeouts, and what an answer means to a person."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from earthself.client.errors import BadInput, ClientError, LoginExpired, LoginRefused, NotAllowed, NotThere, ServerNotThere, TryAgain
from earthself.client.logins import Login

Note = Callable[[str], None]
"""Takes one line for a person."""

_TIMEOUT = httpx.Timeout(30, connect=5)
_PAUSE = 1.0
"""Seconds between two questions to a server that does not answer."""


class Rest:
    """A conversation with one server as one user."""

    def __init__(
        self,
        login: Login,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Log in at the first request; `transport` replaces the network in tests, `sleep` and `clock` (seconds) the time."""
        self._sleep = sleep
        self._clock = clock
        self._patience = 0.0
        self._note: Note | None = None
        self.url = login.url
        self.user = login.user
        self._password = login.password
        self._token = login.token
        local = "//127.0.0.1" in login.url or "//localhost" in login.url
        self._http = httpx.Client(base_url=login.url, timeout=_TIMEOUT, transport=transport, trust_env=not local)

    def token(self) -> str:
        """Return a token, logging in with the password where there is none; raises `LoginRefused` for a wrong one."""
        if not self._token:
            answer = self._send("POST", "/auth/token", json={"username": self.user, "password": self._password})
            if answer.status_code in {400, 401, 403, 422}:
                raise LoginRefused(
                    f"{self.url} does not accept this password for {self.user!r}; check it (the local stack's are in passwords.json)"
                )
            self._check(answer)
            self._token = str(self._decode(answer)["access_token"])
        return self._token

    @contextmanager
    def patient(self, seconds: float, note: Note | None = None) -> Iterator[None]:
        """Ask again for so many seconds where a question (not an order) gets no answer, as while the server restarts."""
        before = self._patience, self._note
        self._patience, self._note = seconds, note
        try:
            yield
        finally:
            self._patience, self._note = before

    def get(self, path: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401 - query parameters
        """GET JSON."""
        return self._decode(self._authorised("GET", path, params=params))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON and return JSON."""
        return self._decode(self._authorised("POST", path, json=body))

    def content(self, path: str) -> bytes:
        """GET a file."""
        return self._authorised("GET", path).content

    def _authorised(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """Send as the user; a GET that gets no answer is sent again while the patience lasts."""
        limit = self._clock() + self._patience if method == "GET" else 0.0
        told = False
        while True:
            try:
                return self._once(method, path, **options)
            except (ServerNotThere, TryAgain):
                if self._clock() >= limit:
                    raise
            if self._note and not told:
                self._note(f"{self.url} does not answer; asking again for up to {self._patience:.0f} s")
                told = True
            self._sleep(_PAUSE)

    def _once(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        answer = self._send(method, path, headers={"Authorization": f"Bearer {self.token()}"}, **options)
        if _login_is_void(answer) and self._password:
            self._token = ""  # it expired; the password gives a new one
            answer = self._send(method, path, headers={"Authorization": f"Bearer {self.token()}"}, **options)
        self._check(answer)
        return answer

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            return self._http.request(method, path, **options)
        except httpx.ConnectError as error:
            raise ServerNotThere(
                f"nothing answers at {self.url}; start the local stack with `make up`, or name the server with EARTHSELF_URL"
            ) from error
        except httpx.TimeoutException as error:
            raise TryAgain(f"{self.url} did not answer in time; try again in a minute") from error
        except httpx.UnsupportedProtocol as error:
            raise BadInput(f"{self.url!r} is not an address; it begins with http:// or https://") from error
        except httpx.TransportError as error:
            if "illegal" in str(error):  # h11's word for what is no HTTP at all, such as EarthSignature's gRPC port
                raise self._stranger() from error
            raise TryAgain(f"the connection to {self.url} broke ({error}); try again") from error

    def _check(self, answer: httpx.Response) -> None:
        status, where = answer.status_code, answer.request.url.path
        if answer.is_success:
            return
        detail = _detail(answer)
        if _login_is_void(answer):
            raise LoginExpired(
                f"your login at {self.url} is not valid or too old; run `earthself login`, or replace EARTHSELF_TOKEN where it is set"
            )
        if status == 403:
            raise NotAllowed(
                f"{self.user or 'this user'} may not do this at {self.url}; log in as somebody who may start workflows, such as creator"
            )
        if status == 404:
            raise NotThere(f"{self.url} does not know {where} ({detail}); check the name")
        if status in {400, 409, 413, 422}:
            raise BadInput(detail)
        if status == 429 or status >= 500:
            raise TryAgain(f"{self.url} answered {status} to {where} ({detail}); try again in a minute")
        raise ClientError(f"{self.url} answered {status} to {where}: {detail}")

    def _decode(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise self._stranger()
        return content

    def _stranger(self) -> ServerNotThere:
        return ServerNotThere(f"what answers at {self.url} is not EarthSelf; check the address and its port, or EARTHSELF_URL")


def _login_is_void(answer: httpx.Response) -> bool:
    """Tell a token that is not accepted (Airflow answers 401 to an expired one, 403 to a forged one) from rights that are missing."""
    return answer.status_code == 401 or (answer.status_code == 403 and "JWT" in _detail(answer))


def _detail(answer: httpx.Response) -> str:
    """Return the reason in an error answer: Airflow's `detail` is a text, a list of field errors, or an object with a reason.

    Of a text the first line: what follows there is the dump of a schema.
    """
    try:
        detail = answer.json().get("detail", "")
    except (ValueError, AttributeError):
        return answer.reason_phrase
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(str(p) for p in part.get('loc', [])[1:])}: {part.get('msg', '')}" for part in detail)
    if isinstance(detail, dict):
        return str(detail.get("message") or detail.get("reason") or detail)
    return str(detail).strip().partition("\n")[0] or answer.reason_phrase
