"""Requests signed with EODAG's login plugins: one session for an account, shared through the broker by all products and workers.

A token for each product makes providers ban the session, and a host that is not the provider's must never see one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from earthself.data import session
from earthself.data.broker import Account, Broker, Gate, Grant
from earthself.data.catalogue import LOGIN, Catalogue
from earthself.data.errors import BadInput, CredentialsRefused
from earthself.data.http import Access, Signed
from earthself.data.items import ORDER_LINK

_PRESIGNED_SECONDS = 3600


class Logins:
    """All logins of one process. Safe to share between threads."""

    def __init__(self, catalogue: Catalogue, broker: Broker) -> None:
        """Nothing is asked yet."""
        self._catalogue, self._broker = catalogue, broker
        self._logins: dict[tuple[str, str], _Login] = {}
        self._lock = threading.Lock()

    def access(self, item: Mapping[str, Any]) -> Access:
        """The way to the files of an item that was found with `earthself:access` login."""
        provider = str(item["properties"]["earthself:provider"])
        collection = str(item["properties"]["earthself:collection"])
        hrefs = [str(asset["href"]) for asset in item["assets"].values()]
        return _ItemAccess(self._login(provider, collection, hrefs[0] if hrefs else ""), frozenset(map(_origin, hrefs)))

    def auth(self, item: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what the library requests takes as auth
        """The login for orders of an item, as EODAG's own requests take it; None where its provider asks for none."""
        properties, link = item["properties"], str(item["properties"].get(ORDER_LINK) or "")
        if not self._catalogue.needs_login(str(properties["earthself:provider"]), [link]):
            return None
        return self._login(str(properties["earthself:provider"]), str(properties["earthself:collection"]), link).auth(link)

    def _login(self, provider: str, collection: str, href: str) -> _Login:
        with self._lock:
            login = self._logins.get((provider, collection))
            if login is None:
                account = self._catalogue.config.account(provider)
                login = self._logins[provider, collection] = _Login(self._catalogue, self._broker, account, collection, href)
            return login


@dataclass(frozen=True)
class _ItemAccess:
    """A login, and the origins (scheme and host) that one item's files lie on."""

    login: _Login
    origins: frozenset[str]

    @property
    def provider(self) -> str:
        return self.login.account.provider

    @property
    def gate(self) -> Gate:
        return self.login.gate

    def sign(self, url: str) -> Signed:
        return self.login.sign(url, self.origins)

    def renew(self, login: str) -> bool:
        return self.login.renew(login)


class _Login:
    """EODAG's login plugin of one provider and collection."""

    def __init__(self, catalogue: Catalogue, broker: Broker, account: Account, collection: str, href: str) -> None:
        self.account = account
        self.gate = Gate(broker, account)
        self._catalogue, self._broker, self._collection, self._href = catalogue, broker, collection, href
        self._plugin: Any = None
        self._auth: Any = None
        self._lock = threading.Lock()
        self._renewed = 0
        self._refused: str | None = None

    def sign(self, url: str, origins: frozenset[str]) -> Signed:
        """The URL with its token, or the headers, that the plugin gives; unchanged for hosts that the plugin is not for."""
        found = self._catalogue.session(self.account.provider, self._href)
        if found is None or urlsplit(url).scheme == "s3":
            return self._sign_here(url, origins)
        name, pattern = found
        if not _is_for(pattern, url, origins):
            return Signed(url)
        grant = self._broker.token(self.account, name, self._log_in, self._refused)
        return Signed(session.signed_with(grant, url), grant.headers, grant.id)

    def auth(self, url: str) -> Any:  # noqa: ANN401
        """The login for a request that EODAG makes itself to this address."""
        found = self._catalogue.session(self.account.provider, url)
        if found is not None:
            return session.as_auth(self._broker.token(self.account, found[0], self._log_in, self._refused))
        with self._lock:
            plugin = self._built()
            return None if plugin is None else self._catalogue.once(self.account.provider, plugin.authenticate)

    def renew(self, login: str) -> bool:
        """Drop a login that was refused, unless another thread did so already; False when there was none."""
        if not login:
            return False
        with self._lock:
            if not login.isdecimal():
                self._refused = login
            elif int(login) == self._renewed:
                self._plugin = self._auth = None
                self._renewed += 1
        return True

    def _sign_here(self, url: str, origins: frozenset[str]) -> Signed:
        """Sign with a login that opens no session: it is this process's own."""
        import requests

        with self._lock:
            plugin = self._built()
            if urlsplit(url).scheme == "s3":
                return Signed(self._presigned(plugin, url), {}, str(self._renewed))
            if (
                plugin is None
                or hasattr(plugin, "get_s3_client")
                or not _is_for(getattr(plugin.config, "matching_url", None), url, origins)
            ):
                return Signed(url)
            plain = requests.Request("GET", url).prepare()
            before = dict(plain.headers)
            self._auth = self._catalogue.once(self.account.provider, plugin.authenticate)
            signed = self._auth(plain)
            added = {str(k): str(v) for k, v in signed.headers.items() if before.get(k) != v}
            return Signed(str(signed.url), added, str(self._renewed))

    def _log_in(self, before: Grant | None) -> Grant:
        return self._catalogue.once(self.account.provider, lambda: session.log_in(self._build(), before), self.gate, LOGIN)

    def _presigned(self, plugin: Any, url: str) -> str:  # noqa: ANN401 - EODAG's plugin or None
        """The https address, valid for an hour, of an s3:// object."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if plugin is None or not hasattr(plugin, "get_s3_client"):
            raise CredentialsRefused(f"{self.account.provider} offers {url} on s3 without a login for it; choose another provider")
        wanted = {"Bucket": bucket, "Key": key}
        if getattr(plugin.config, "requester_pays", False):
            wanted["RequestPayer"] = "requester"

        def presign() -> str:
            client = plugin.get_s3_client()
            return str(client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=_PRESIGNED_SECONDS))

        return self._catalogue.once(self.account.provider, presign)

    def _built(self) -> Any:  # noqa: ANN401 - EODAG's plugin or None
        if self._plugin is None:
            self._plugin = self._catalogue.once(self.account.provider, self._build) or False
        return self._plugin or None

    def _build(self) -> Any:  # noqa: ANN401
        from eodag.api.product import EOProduct

        dag = self._catalogue.gateway()
        if self.account.provider not in self._catalogue.providers():
            raise BadInput(
                f"the product is of provider {self.account.provider!r}, which is not in the provider settings of this task; add it"
            )
        properties = {"id": "x", "geometry": "POINT (0 0)", "eodag:download_link": self._href}
        product = EOProduct(self.account.provider, properties, collection=self._collection)
        # EODAG has no public way to the login of a product that was not just searched; it is pinned below its next major version.
        product._register_downloader_from_manager(dag._plugins_manager)  # noqa: SLF001
        return product.downloader_auth


def _is_for(pattern: str | None, url: str, origins: frozenset[str]) -> bool:
    """Whether a request may carry the login: to the hosts that it is for, and in the clear only where the catalogue itself says http."""
    here = _origin(url)
    if not here.startswith("https://") and here not in origins:
        return False
    if pattern:
        return re.match(pattern, url) is not None
    return here in origins or here.replace("https://", "http://", 1) in origins


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
