"""Products that lie in a provider's archive: ordered once for all workers, and then asked about until they are online.

EODAG would order and wait inside a download, which looks like a freeze. Here staging is a state that a product is in, with an estimate,
so that nobody has to wait with a worker in hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from earthself.data.broker import Account, Broker, Gate, Order
from earthself.data.catalogue import Catalogue
from earthself.data.errors import DataError, NotThere, TryAgain
from earthself.data.finding import online
from earthself.data.items import ORDER_LINK, PRODUCT
from earthself.data.login import Logins

_USUAL_SECONDS = 3600.0  # what an order is expected to take until one has been seen to end
_ONLINE = "succeeded"


@dataclass(frozen=True)
class Staging:
    """How far an offline product is."""

    item: dict[str, Any]
    """The product; once it is online, with the addresses that it can be read at."""
    order: Order | None
    """The order that is being worked on; None when the product is online."""

    @property
    def online(self) -> bool:
        """Whether the product can be read now."""
        return self.order is None


class Stager:
    """Orders of one configuration."""

    def __init__(self, catalogue: Catalogue, logins: Logins, broker: Broker, clock: Callable[[], float] = time.time) -> None:
        """Nothing is ordered yet."""
        self._catalogue, self._logins, self._broker, self._clock = catalogue, logins, broker, clock

    def stage(self, item: Mapping[str, Any]) -> Staging:
        """Order an offline product, unless anybody has, and say how far it is.

        Raises `NotThere` where the provider takes no orders, `Resting` when the account has as many orders as it may, `DataError` when
        the provider gives the order up, and what the account meets.
        """
        if online(item):
            return Staging(dict(item), None)
        account = self._catalogue.config.account(str(item["properties"]["earthself:provider"]))
        name = str(item["id"])
        order = self._broker.order(account, name, lambda: self._place(account, item))
        try:
            product = self._asked(account, item, order)
        except TryAgain:
            raise
        except DataError:
            self._broker.staged(account, name, well=False)
            raise
        if product.properties.get("order:status") != _ONLINE:
            return Staging({**item, "properties": {**item["properties"], "order:status": "ordered"}}, order)
        self._broker.staged(account, name)
        return Staging(_online_item(item, product), None)

    def _place(self, account: Account, item: Mapping[str, Any]) -> Order:
        product, plugin = self._product(account, item, {})
        if not getattr(plugin.config, "order_enabled", False) or not item["properties"].get(ORDER_LINK):
            raise NotThere(f"{item['id']} is offline at {account.provider}, which takes no orders here; choose another provider")
        auth = self._logins.auth(item)
        since = self._clock()
        # EODAG orders only within a download; it is pinned below its next major version.
        self._request(account, lambda: plugin._order(product=product, auth=auth))  # noqa: SLF001
        memory = {key: value for key, value in product.properties.items() if key.startswith("eodag:") and isinstance(value, str)}
        return Order(str(item["id"]), since, since + _USUAL_SECONDS, memory=memory)

    def _asked(self, account: Account, item: Mapping[str, Any], order: Order) -> Any:  # noqa: ANN401 - EODAG's product
        product, plugin = self._product(account, item, order.memory)
        if product.properties.get("eodag:status_link"):
            auth = self._logins.auth(item)
            self._request(account, lambda: plugin._order_status(product=product, auth=auth))  # noqa: SLF001
        return product

    def _request(self, account: Account, work: Callable[[], object]) -> None:
        self._catalogue.once(account.provider, work, Gate(self._broker, account), "order")

    def _product(self, account: Account, item: Mapping[str, Any], memory: Mapping[str, str]) -> tuple[Any, Any]:
        """EODAG's product for an item, with what it remembers of its order, and the plugin that orders it."""
        from eodag.api.product import EOProduct

        stated = item["properties"]
        properties = {
            "id": str(item["id"]),
            "title": str(stated.get("title") or item["id"]),
            "geometry": item.get("geometry") or "POINT (0 0)",
            "order:status": "ordered" if memory else "orderable",
            "eodag:order_link": stated.get(ORDER_LINK),
            **memory,
        }
        product = EOProduct(account.provider, properties, collection=str(stated["earthself:collection"]))
        return product, self._catalogue.gateway()._plugins_manager.get_download_plugin(product)  # noqa: SLF001


def _online_item(item: Mapping[str, Any], product: Any) -> dict[str, Any]:  # noqa: ANN401 - EODAG's product
    properties = {**item["properties"], "order:status": _ONLINE}
    assets = {key: dict(asset) for key, asset in item["assets"].items()}
    if link := product.properties.get("eodag:download_link"):
        assets[PRODUCT] = {**assets.get(PRODUCT, {"type": "application/zip", "roles": ["data"]}), "href": str(link)}
    return {**item, "properties": properties, "assets": assets}
