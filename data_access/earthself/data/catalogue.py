"""The one owner of EODAG: its settings, its errors, and searching providers page by page (`login` adds its login plugins).

EODAG swallows errors, falls back without saying so, asks the web for collections that it does not know and keeps its settings in
the user's home. Here each of these is turned off, and every failure becomes an error that says whose fault it is.
EODAG takes seconds to import, so it is only loaded when a search or a login needs it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from earthself.data import session
from earthself.data.broker import NO_VERDICT, Account, Broker, Gate, Grant
from earthself.data.bundled import OVERRIDES
from earthself.data.deadline import TooLong, within
from earthself.data.eodag_errors import status_of, translated
from earthself.data.errors import BadInput, CredentialsRefused, DataError, Incomplete, TryAgain
from earthself.data.items import ORDER_LINK
from earthself.data.query import SearchRequest, SourceConfig
from earthself.data.retries import Busy, RetryPolicy

if TYPE_CHECKING:
    from eodag import EODataAccessGateway, SearchResult

_T = TypeVar("_T")
LOGIN = "login"
"""What a call of EODAG is for that only logs in: a login server that is well does not mean that files are served."""
_PAGE = 250
_EMPTY_PAGES = 3  # that many in a row without anything new, and the rest is taken for the same
# EODAG makes numbers of texts that look like some (`05.00`, but also `26_57`); under this name it passes the properties untouched.
_AS_STATED = "earthself:stated"
_SEARCH_AUTH = ("search_auth", "auth")
_AUTH_TOPICS = ("api", "auth", "search_auth", "download_auth")


class Catalogue:
    """EODAG, set up from one `SourceConfig`, loaded at first use."""

    def __init__(self, config: SourceConfig, retries: RetryPolicy | None = None, broker: Broker | None = None) -> None:
        """Nothing happens yet. Searches ask the broker for their turn, where there is one."""
        self.config = config
        self.broker = broker
        self.retries = retries or RetryPolicy(attempts=config.attempts)
        self.deadline = max(10.0, 4 * config.timeout)
        self._dag: EODataAccessGateway | None = None
        self._known: dict[str, Any] = {}
        self._locked: set[str] = set()
        self._lock = threading.Lock()
        self._here = threading.local()

    def providers(self) -> list[str]:
        """Names of all providers that can be asked."""
        self.gateway()
        return sorted(self._known)

    def offers(self, provider: str, collection: str) -> bool:
        """Whether a provider has a collection; raises `BadInput` for a provider that is not known."""
        return collection in self._provider(provider).collections_config

    def pages(self, provider: str, request: SearchRequest, page: int = _PAGE) -> Iterator[tuple[list[dict[str, Any]], int | None]]:
        """Search one provider: gives the STAC items of each page and the number of matches (None where the provider does not say).

        Raises `CredentialsRefused`, `TryAgain`, `NotThere` or `DataError` for a provider that fails, and `Incomplete` after the last page
        where it gave fewer than it says match.
        """
        size = min(page, _page_limit(self._provider(provider)))
        result = self._page(provider, request, size)
        # A server that caps its pages below what was asked counts them by its own size: ask for pages of that size.
        if 0 < len(result) < min(size, _matched(result) or 0):
            size = len(result)
            result = self._page(provider, request, size)
        seen: set[str] = set()
        matched, empty = _matched(result), 0
        while True:
            items = self.once(provider, lambda found=result: [_item(product) for product in found])  # type: ignore[misc]
            fresh = {item["id"]: item for item in items if item["id"] not in seen}
            if fresh or not (seen or empty):
                yield list(fresh.values()), matched
            seen.update(fresh)
            empty = 0 if fresh else empty + 1
            onward = _onward(result)
            done = bool(matched) and len(seen) >= (matched or 0) and not fresh  # EODAG says 0 where nothing is said, too
            if onward is None or done or empty > _EMPTY_PAGES:
                break
            result = self._page(provider, request, size, onward)
        if matched is not None and len(seen) < matched:
            raise Incomplete(f"{provider} says that {matched} products match and gives {len(seen)}; some may be missing")
        if empty > _EMPTY_PAGES:
            raise Incomplete(f"{provider} gives page after page without a new product after {len(seen)}; some may be missing")

    def needs_login(self, provider: str, hrefs: list[str]) -> bool:
        """Whether any of these addresses is served only with the provider's login plugin."""
        config = self._provider(provider).config
        for topic in ("auth", "download_auth"):
            plugin = getattr(config, topic, None)
            if plugin is None or getattr(config, "api", None) is not None:
                continue
            pattern = getattr(plugin, "matching_url", None)
            if pattern is None or any(re.match(pattern, href) for href in hrefs):
                return True
        return any(urlsplit(href).scheme == "s3" for href in hrefs)

    def session(self, provider: str, href: str, topics: Sequence[str] = ("auth", "download_auth")) -> tuple[str, str | None] | None:
        """Name of the session that requests to this address need, and the pattern of addresses that it is for; None where they need none.

        Raises `BadInput` for a provider that is not known.
        """
        if provider not in self.providers():
            raise BadInput(f"the product is of provider {provider!r}, which is not in the provider settings of this task; add it")
        config = self._known[provider].config
        for topic in topics:
            auth = getattr(config, topic, None)
            pattern = getattr(auth, "matching_url", None)
            if auth is not None and (pattern is None or re.match(pattern, href)):
                name = session.name_of(auth)
                return None if name is None else (name, pattern)
        return None

    def scrub(self, text: str) -> str:
        """The text on one line, without any of the configured secrets."""
        for secrets in self.config.credentials.values():
            for value in sorted((v for v in secrets.values() if len(v) > 3), key=len, reverse=True):
                text = text.replace(value, "***")
        return " ".join(text.split())[:300]

    def _page(self, provider: str, request: SearchRequest, size: int, onward: tuple[str, str] | None = None) -> SearchResult:
        account = self.config.account(provider)
        self.gateway()

        def work(refused: str | None = None) -> SearchResult:
            grant = self._grant_for_search(account, refused)  # asks for a turn of its own, so it comes first
            search = partial(self._search, provider, request, size, onward, grant)
            try:
                return self.once(provider, search, Gate(self.broker, account))
            except CredentialsRefused:
                if grant is None or refused:
                    raise
                return work(grant.id)

        return self.retries.run(work)

    def _grant_for_search(self, account: Account, refused: str | None) -> Grant | None:
        """The session that searches are made in, the account's one; None where they need none."""
        search = self._provider(account.provider).search_config
        address = str(getattr(search, "api_endpoint", ""))
        found = self.session(account.provider, address, _SEARCH_AUTH) if getattr(search, "need_auth", False) else None
        if found is None or self.broker is None:
            return None

        def log_in(before: Grant | None) -> Grant:
            manager = self.gateway()._plugins_manager  # noqa: SLF001
            return self.once(
                account.provider,
                lambda: session.log_in(next(manager.get_auth_plugins(account.provider, address, search)), before),
                Gate(self.broker, account),
                LOGIN,
            )

        return self.broker.token(account, found[0], log_in, refused)

    def _search(
        self, provider: str, request: SearchRequest, size: int, onward: tuple[str, str] | None, grant: Grant | None
    ) -> SearchResult:
        dag = self.gateway()
        self._here.auth = grant and session.as_auth(grant)
        if not self.offers(provider, request.collection):
            raise BadInput(f"provider {provider} does not offer {request.collection}; choose another provider or collection")
        criteria: dict[str, Any] = {}
        if request.max_cloud_cover is not None and request.max_cloud_cover < 100:
            criteria["eo:cloud_cover"] = request.max_cloud_cover
        # EODAG's public search forgets what a page without products states of others; this is what it is made of.
        plugins, criteria = dag._prepare_search(  # noqa: SLF001
            provider=provider,
            collection=request.collection,
            start=request.start.isoformat(),
            end=request.end.isoformat(),
            geom=request.area.geometry,
            **criteria,
        )
        plugin = next(iter(plugins))
        plugin.clear()
        token, key = onward or (None, None)
        paging = {"limit": size, "page": 1, "next_page_token": token, "next_page_token_key": key}
        return dag._do_search(plugin, count=onward is None, raise_errors=True, validate=False, **paging, **criteria)  # noqa: SLF001

    def once(self, provider: str, work: Callable[[], _T], gate: Gate | None = None, what: str = "search") -> _T:
        """Call EODAG, for at most the seconds of the deadline, and turn its errors into ours; with a gate as one request of the account.

        `what` the call is for is said where the provider refuses it.
        """
        gate = gate or Gate()
        gate.enter()
        try:
            made = within(self.deadline, work)
        except DataError as error:
            gate.answered(0 if error.retry else 200)
            raise
        except TooLong:
            gate.answered(0)
            raise TryAgain(f"{provider} did not answer within {self.deadline:g} s; try again later") from None
        except Exception as error:  # noqa: BLE001 - plugins raise whatever their libraries raise
            ours = translated(error, provider, what, self.scrub, self.config.timeout)
            gate.answered(status_of(error) or 0, ours.wait if isinstance(ours, Busy) else None)
            raise ours from None
        gate.answered(NO_VERDICT if what == LOGIN else 200)
        return made

    def gateway(self) -> EODataAccessGateway:
        """EODAG, set up."""
        with self._lock:
            if self._dag is None:
                self._dag = self._load()
            return self._dag

    def _provider(self, name: str) -> Any:  # noqa: ANN401 - EODAG's provider
        self.gateway()
        if name in self._locked:
            raise CredentialsRefused(
                f"{name} answers only with a login, and there is none; set its credentials in the provider settings (connection `eodag`)"
            )
        if name not in self._known:
            raise BadInput(f"provider {name!r} is not known; known are {', '.join(sorted(self._known))}")
        return self._known[name]

    def _load(self) -> EODataAccessGateway:
        import yaml  # type: ignore[import-untyped]

        try:
            extra = yaml.safe_load(self.config.provider_config) or {}
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            raise BadInput(
                f"provider_config is not YAML{f' (line {where.line + 1})' if where else ''}; see EODAG's provider settings"
            ) from None
        if not isinstance(extra, dict) or not all(isinstance(v, dict) for v in extra.values()):
            raise BadInput("provider_config must be a YAML mapping from provider names to their settings")
        # EODAG logs each failure with a traceback before it raises it; what matters is in the error that we make of it.
        logger = logging.getLogger("eodag")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)
        from eodag import EODataAccessGateway
        from eodag.config import EODAGSettings

        dag = EODataAccessGateway(settings=EODAGSettings(cfg_dir=self._settings_folder(), strict_collections=True))
        manager = dag._plugins_manager  # noqa: SLF001
        # EODAG has no other way to search with a login that it did not fetch itself.
        own = manager.get_auth
        manager.get_auth = lambda *args, **kwargs: getattr(self._here, "auth", None) or own(*args, **kwargs)
        try:
            _add(dag, extra)
            self._tune(dag)
            # EODAG copies the settings of all its providers whenever it is asked for them.
            providers = dag.providers
            self._known = dict(providers.items())
            self._locked = {name for name, why in providers.pruned_providers_reasons.items() if why["reason_type"] == "missing_credentials"}
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - EODAG answers a wrong setting with whatever it stumbles over
            raise BadInput(
                f"the provider settings are not usable ({self.scrub(str(error)) or type(error).__name__}); see EODAG's provider settings"
            ) from None
        return dag

    def _settings_folder(self) -> Path:
        if named := os.environ.get("EODAG_CFG_DIR"):
            return Path(named)
        folder = tempfile.mkdtemp(prefix="earthself-eodag-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def _tune(self, dag: EODataAccessGateway) -> None:
        """Credentials in, retries, time-outs and paging ours, the provider's own asset keys kept."""
        from earthself.data.stac_pages import EarthSelfStacSearch

        updates: dict[str, dict[str, Any]] = {}
        configs = dag.providers.configs
        once = {"retry_total": 0, "retry_status_forcelist": []}
        for name, config in configs.items():
            updates[name] = {topic: dict(once) for topic in _AUTH_TOPICS if getattr(config, topic, None) is not None}
            search = getattr(config, "search", None)
            if search is not None:
                updates[name]["search"] = {"timeout": self.config.timeout, **once}
            if getattr(search, "type", "") == "StacSearch":
                updates[name]["search"] |= {
                    "type": EarthSelfStacSearch.__name__,
                    "asset_key_from_href": False,
                    "metadata_mapping": {_AS_STATED: "$.properties"},
                }
        for name, secrets in self.config.credentials.items():
            config = configs.get(name) or dag.providers.pruned_providers_config.get(name)
            if config is None:
                raise BadInput(f"there are credentials for provider {name!r}, which is not known; mend its name in the provider settings")
            topics = [topic for topic in _AUTH_TOPICS if getattr(config, topic, None) is not None]
            if not topics:
                raise BadInput(f"there are credentials for provider {name!r}, which takes none; remove them from the provider settings")
            for topic in topics:
                updates.setdefault(name, {}).setdefault(topic, {})["credentials"] = dict(secrets)
        dag.update_providers_config(dict_conf=updates)


def _add(dag: EODataAccessGateway, extra: dict[str, dict[str, Any]]) -> None:
    """Put in our changes to bundled providers, and the providers of the settings."""
    dag.update_providers_config(dict_conf=OVERRIDES)
    if extra:
        dag.update_providers_config(dict_conf={name: {"name": name, **conf} for name, conf in extra.items()})
    # EODAG leaves out a provider whose settings it cannot read, with a line in its log.
    if lost := set(extra) - set(dag.providers.names) - set(dag.providers.pruned_providers_config):
        raise BadInput(f"the settings of provider {min(lost)!r} are not usable: it needs url, search (or api), products, download")


def _matched(result: SearchResult) -> int | None:
    number = result.number_matched
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _onward(result: SearchResult) -> tuple[str, str] | None:
    """Token of the next page and the name of that, or None at the end."""
    if hasattr(result, "onward"):
        return result.onward  # type: ignore[no-any-return]
    return None if result.next_page_token is None else (result.next_page_token, result.next_page_token_key)


def _page_limit(provider: Any) -> int:  # noqa: ANN401 - EODAG's provider
    pagination = getattr(provider.search_config, "pagination", None) or {}
    limit = pagination.get("max_limit") if isinstance(pagination, Mapping) else None
    return limit if isinstance(limit, int) and limit > 0 else _PAGE


def _item(product: Any) -> dict[str, Any]:  # noqa: ANN401 - EODAG's product
    """EODAG's product as a STAC 1.1 item with everything that the catalogue stated."""
    geometry = product.geometry.__geo_interface__
    known = {**product.properties, **product.properties.get(_AS_STATED, {})}
    properties = {k: v for k, v in known.items() if k not in ("id", _AS_STATED) and not k.startswith("eodag:") and v is not None}
    properties.setdefault("datetime", product.properties.get("start_datetime"))
    if order := product.properties.get("eodag:order_link"):
        properties[ORDER_LINK] = order
    assets = {key: dict(asset.as_dict()) for key, asset in product.assets.items() if asset.get("href")}
    link = product.properties.get("eodag:download_link")
    if link and not assets:
        stated = {key: properties[key] for key in ("file:size", "file:checksum") if key in properties}
        assets["product"] = {"href": link, "type": "application/zip", "roles": ["data"], **stated}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": str(product.properties["id"]),
        "geometry": _lists(geometry),
        "bbox": list(product.geometry.bounds),
        "properties": properties,
        "assets": assets,
        "links": [],
    }


def _lists(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {key: _lists(v) for key, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, (list, tuple)) else value
