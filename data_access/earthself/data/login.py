"""Requests signed with EODAG's login plugins: one login for a provider and collection, shared by all its products.

A token for each product makes providers ban the session, and a host that is not the provider's must never see one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from earthself.data.catalogue import Catalogue
from earthself.data.errors import BadInput, CredentialsRefused
from earthself.data.http import Access

_PRESIGNED_SECONDS = 3600


class Logins:
    """All logins of one process. Safe to share between threads."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Nothing is asked yet."""
        self._catalogue = catalogue
        self._logins: dict[tuple[str, str], _Login] = {}
        self._lock = threading.Lock()

    def access(self, item: Mapping[str, Any]) -> Access:
        """The way to the files of an item that was found with `earthself:access` login."""
        provider = str(item["properties"]["earthself:provider"])
        collection = str(item["properties"]["earthself:collection"])
        hrefs = [str(asset["href"]) for asset in item["assets"].values()]
        with self._lock:
            login = self._logins.get((provider, collection))
            if login is None:
                login = self._logins[provider, collection] = _Login(self._catalogue, provider, collection, hrefs[0] if hrefs else "")
        return _ItemAccess(login, frozenset(map(_origin, hrefs)))


@dataclass(frozen=True)
class _ItemAccess:
    """A login, and the origins (scheme and host) that one item's files lie on."""

    login: _Login
    origins: frozenset[str]

    @property
    def provider(self) -> str:
        return self.login.provider

    def sign(self, url: str) -> tuple[str, dict[str, str]]:
        return self.login.sign(url, self.origins)

    @property
    def generation(self) -> int:
        return self.login.generation

    def renew(self, generation: int) -> bool:
        return self.login.renew(generation)


class _Login:
    """EODAG's login plugin of one provider and collection."""

    def __init__(self, catalogue: Catalogue, provider: str, collection: str, href: str) -> None:
        self.provider = provider
        self._catalogue, self._collection, self._href = catalogue, collection, href
        self._plugin: Any = None
        self._auth: Any = None
        self._lock = threading.Lock()
        self.generation = 0

    def sign(self, url: str, origins: frozenset[str]) -> tuple[str, dict[str, str]]:
        """The URL with its token, or the headers, that the plugin gives; unchanged for hosts that the plugin is not for."""
        import requests

        with self._lock:
            plugin = self._built()
            if urlsplit(url).scheme == "s3":
                return self._presigned(plugin, url), {}
            if plugin is None or hasattr(plugin, "get_s3_client") or not _is_for(plugin, url, origins):
                return url, {}
            plain = requests.Request("GET", url).prepare()
            before = dict(plain.headers)
            # Plugins keep and refresh their tokens, so asking again is cheap - but not those that are not told when a token expires.
            if self._auth is None or not _fetches_each_time(plugin):
                self._auth = self._catalogue.once(self.provider, plugin.authenticate)
            signed = self._auth(plain)
        return str(signed.url), {k: str(v) for k, v in signed.headers.items() if before.get(k) != v}

    def renew(self, generation: int) -> bool:
        """Forget the plugin with its token, since that was refused, unless another thread did so already; False when there was none."""
        with self._lock:
            if generation != self.generation:
                return True
            had = self._auth is not None
            self._plugin = self._auth = None
            self.generation += 1
            return had

    def _presigned(self, plugin: Any, url: str) -> str:  # noqa: ANN401 - EODAG's plugin or None
        """The https address, valid for an hour, of an s3:// object."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if plugin is None or not hasattr(plugin, "get_s3_client"):
            raise CredentialsRefused(f"{self.provider} offers {url} on s3 without a login for it; choose another provider")
        wanted = {"Bucket": bucket, "Key": key}
        if getattr(plugin.config, "requester_pays", False):
            wanted["RequestPayer"] = "requester"

        def presign() -> str:
            client = plugin.get_s3_client()
            return str(client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=_PRESIGNED_SECONDS))

        return self._catalogue.once(self.provider, presign)

    def _built(self) -> Any:  # noqa: ANN401 - EODAG's plugin or None
        if self._plugin is None:
            self._plugin = self._catalogue.once(self.provider, self._build) or False
        return self._plugin or None

    def _build(self) -> Any:  # noqa: ANN401
        from eodag.api.product import EOProduct

        dag = self._catalogue.gateway()
        if self.provider not in self._catalogue.providers():
            raise BadInput(f"the product is of provider {self.provider!r}, which is not in the provider settings of this task; add it")
        properties = {"id": "x", "geometry": "POINT (0 0)", "eodag:download_link": self._href}
        product = EOProduct(self.provider, properties, collection=self._collection)
        # EODAG has no public way to the login of a product that was not just searched; it is pinned below its next major version.
        product._register_downloader_from_manager(dag._plugins_manager)  # noqa: SLF001
        return product.downloader_auth


def _fetches_each_time(plugin: Any) -> bool:  # noqa: ANN401
    return hasattr(plugin, "token_expiration") and not getattr(plugin.config, "token_expiration_key", None)


def _is_for(plugin: Any, url: str, origins: frozenset[str]) -> bool:  # noqa: ANN401
    """Whether a request may carry the login: to the hosts that it is for, and in the clear only where the catalogue itself says http."""
    here = _origin(url)
    if not here.startswith("https://") and here not in origins:
        return False
    pattern = getattr(plugin.config, "matching_url", None)
    if pattern:
        return re.match(pattern, url) is not None
    return here in origins or here.replace("https://", "http://", 1) in origins


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
