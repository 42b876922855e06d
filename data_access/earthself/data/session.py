"""Sessions at a provider's login server, by EODAG's plugins: what they give is taken out, so that other workers can use and renew it.

EODAG keeps tokens in its plugins, one set in each process. Only plugins that fetch a token are of interest here: those that send a
password or a key with each request open no session.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from earthself.data.broker.interface import Grant

_NOWHERE = "https://nowhere.invalid/"
_SESSION = ("refresh_token", "refresh_token_expiration")


def name_of(auth: Any) -> str | None:  # noqa: ANN401 - the settings of an EODAG plugin
    """A name for the sessions that these login settings open, the same for all collections; None where they open none."""
    from eodag.plugins.authentication.base import Authentication
    from eodag.plugins.authentication.openid_connect import OIDCRefreshTokenBase
    from eodag.plugins.authentication.token import TokenAuth
    from eodag.plugins.authentication.token_exchange import OIDCTokenExchangeAuth

    plugin = Authentication.get_plugin_by_class_name(auth.type)
    if not issubclass(plugin, (TokenAuth, OIDCRefreshTokenBase, OIDCTokenExchangeAuth)):
        return None
    server = [
        str(getattr(auth, key, "")) for key in ("type", "auth_uri", "oidc_config_url", "token_uri", "client_id", "audience", "subject")
    ]
    return hashlib.sha256("\n".join(server).encode()).hexdigest()[:8]


def log_in(plugin: Any, before: Grant | None, clock: Callable[[], float] = time.time) -> Grant:  # noqa: ANN401 - EODAG's plugin
    """Fetch a token, in the session of `before` where the server has such; raises what the plugin does."""
    import requests

    keeper = getattr(plugin, "subject", plugin)
    _prepare(keeper, before)
    with _one_session(keeper):
        auth = plugin.authenticate()
    plain = requests.Request("GET", _NOWHERE).prepare()
    unsigned = dict(plain.headers)
    signed = auth(plain)
    now = clock()
    headers = {str(name): str(value) for name, value in signed.headers.items() if unsigned.get(name) != value}
    query = dict(parse_qsl(urlsplit(str(signed.url)).query))
    return Grant(f"s{secrets.token_hex(4)}", headers, query, now, _expires(keeper, headers, query, now), _memory(keeper))


def signed_with(grant: Grant, url: str) -> str:
    """The address with the parameters that the login needs, and nothing else of it changed."""
    if not grant.query:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(grant.query)}"


def as_auth(grant: Grant) -> Callable[[Any], Any]:
    """The login as EODAG's own requests take it."""

    def add(request: Any) -> Any:  # noqa: ANN401 - a prepared request of requests
        request.url = signed_with(grant, str(request.url))
        request.headers.update(grant.headers)
        return request

    return add


@contextlib.contextmanager
def _one_session(keeper: Any) -> Iterator[None]:  # noqa: ANN401
    """Keep EODAG from opening a second session because the login server was too busy to renew the first: only a refusal is a reason."""
    name = next((each for each in ("_request_new_token", "_token_request") if hasattr(keeper, each)), None)
    if name is None:
        yield
        return
    begin = getattr(keeper, name)
    setattr(keeper, name, partial(_begin_where_refused if name == "_request_new_token" else _ask_once, begin))
    try:
        yield
    finally:
        setattr(keeper, name, begin)


def _begin_where_refused(begin: Callable[[], Any]) -> Any:  # noqa: ANN401
    """For OpenID plugins, which begin a session while they handle what became of the renewal."""
    import requests

    failure = sys.exc_info()[1]
    response = getattr(failure, "response", None)
    if isinstance(failure, requests.RequestException) and (response is None or _busy(response.status_code)):
        raise failure
    return begin()


def _ask_once(ask: Callable[..., Any], session: Any) -> Any:  # noqa: ANN401 - EODAG's method and a session of requests
    """For token plugins, which renew with `session.post` and go on with the password after an `HTTPError`."""
    import requests

    renew = session.post

    def renew_or_fail(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        response = renew(*args, **kwargs)
        if _busy(response.status_code):
            raise requests.RequestException(f"the renewal was answered with {response.status_code}", response=response)
        return response

    session.post = renew_or_fail
    return ask(session=session)


def _busy(status: int) -> bool:
    return status >= 500 or status == 429


def _prepare(keeper: Any, before: Grant | None) -> None:  # noqa: ANN401
    """Make the plugin ask for a new token, whatever it holds, and let it go on with a session that another worker began."""
    for name, past in (("token_expiration", datetime.min), ("access_token_expiration", datetime.min.replace(tzinfo=UTC))):  # noqa: DTZ901
        if hasattr(keeper, name):
            setattr(keeper, name, past)
    memory = before.memory if before else {}
    if hasattr(keeper, "refresh_token"):
        keeper.refresh_token = memory.get("refresh_token", "")
        if ends := memory.get("refresh_token_expiration"):
            keeper.refresh_token_expiration = datetime.fromisoformat(ends)


def _memory(keeper: Any) -> dict[str, str]:  # noqa: ANN401
    kept = {name: getattr(keeper, name, None) for name in _SESSION}
    return {name: value.isoformat() if isinstance(value, datetime) else str(value) for name, value in kept.items() if value}


def _expires(keeper: Any, headers: Mapping[str, str], query: Mapping[str, str], now: float) -> float | None:  # noqa: ANN401
    """When the token ends: by itself where it is a JSON Web Token, else by what the server said with it."""
    import jwt

    for value in (*headers.values(), *query.values()):
        with contextlib.suppress(jwt.PyJWTError, KeyError, TypeError, ValueError):
            claims = jwt.decode(value.rpartition(" ")[2], options={"verify_signature": False})
            return now + float(claims["exp"]) - float(claims.get("iat", now))  # whatever the clocks of the two say
    if getattr(keeper.config, "token_expiration_key", None) and hasattr(keeper, "token_expiration"):
        return float(keeper.token_expiration.timestamp())
    return None
