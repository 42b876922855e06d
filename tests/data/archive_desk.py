"""Where a provider takes orders for products that lie in its archive: they are staged when the test says so.

desk = Desk()
desk.serve(provider)
sources(desk.settings(provider))
"""

from __future__ import annotations

import json
import threading
from typing import Any

from provider import Answer, File, Provider


class Desk:
    """Takes orders and says how far they are."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        """Products ordered, each time that they were."""
        self.fault: Answer | None = None
        """Befalls the next order."""
        self._lock = threading.Lock()

    def serve(self, provider: Provider) -> None:
        self.provider = provider
        provider.forms["/order"] = self.take

    def settings(self, provider: Provider) -> str:
        """EODAG's YAML of the downloads."""
        return (
            "    order_enabled: true\n    order_method: POST\n"
            "    order_on_response:\n      metadata_mapping:\n        eodag:status_link: $.json.status_link\n"
            "    order_status:\n      request: {method: GET}\n"
            "      metadata_mapping:\n        eodag:order_status: $.json.status\n        eodag:order_message: $.json.message\n"
            "      success: {eodag:order_status: done}\n      error: {eodag:order_status: failed}\n"
            "      on_success:\n        metadata_mapping:\n          eodag:download_link: $.json.download\n"
        )

    def take(self, form: dict[str, str]) -> tuple[int, Any]:
        with self._lock:
            if fault := self.fault:
                self.fault = None
                return fault.status, {"error": "no"}
            product = form["id"]
            self.orders.append(product)
            self.say(product, "accepted")
            return 200, {"status_link": f"{self.provider.url}/orders/{product}"}

    def say(self, product: str, status: str, **more: str) -> None:
        """What is answered to those who ask for an order."""
        content = json.dumps({"status": status, "message": "", "download": "", **more}).encode()
        self.provider.files[f"/orders/{product}"] = File(content, headers={"Content-Type": "application/json"}, ranges=False)

    def stage(self, product: str, archive: bytes) -> None:
        """Bring a product online."""
        self.provider.files[f"/archive/{product}.zip"] = File(archive)
        self.say(product, "done", download=f"{self.provider.url}/archive/{product}.zip")

    def item(self, product: str) -> dict[str, Any]:
        """A product that a search found offline."""
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": product,
            "geometry": {"type": "Polygon", "coordinates": [[[16, 48], [17, 48], [17, 49], [16, 48]]]},
            "bbox": [16, 48, 17, 49],
            "properties": {
                "datetime": "2017-06-13T10:10:31Z",
                "earthself:provider": "hostile",
                "earthself:collection": "S2_MSI_L2A",
                "earthself:observation": product,
                "earthself:access": "open",
                "earthself:order_link": f'{self.provider.url}/order?{{"id": "{product}"}}',
                "order:status": "orderable",
            },
            "assets": {"product": {"href": f"{self.provider.url}/archive/{product}.zip", "type": "application/zip"}},
            "links": [],
        }
