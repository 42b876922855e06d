"""Where everything lies below the server's root, so that links and routes cannot differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.requests import Request

COLLECTION = "earthsignature"
"""The one STAC collection: all stored products."""
_ODD = re.compile(r"[^A-Za-z0-9_:+.-]|^\.+$")
_WRITTEN = re.compile(r"(?:~[0-9A-F]{2})+")


def slug(name: str) -> str:
    """Write an id as one part of a path that stays whole however often it is decoded on its way: QGIS does so twice with addresses of WMTS.

    What is odd is written as ~2F, not %2F; so are ids of dots alone, which clients take for the folder above.
    """
    return _ODD.sub(lambda found: "".join(f"~{byte:02X}" for byte in found[0].encode()), name)


def candidates(part: str) -> tuple[str, ...]:
    """Read a part of a path: as `slug` wrote it, as a client wrote it, and where that encoded it twice."""
    plain = _WRITTEN.sub(lambda found: bytes.fromhex(found[0].replace("~", "")).decode(errors="replace"), part)
    return tuple(dict.fromkeys((plain, part, unquote(part))))


def addresses(request: Request) -> Addresses:
    """Links below the address that a request was sent to."""
    return Addresses(str(request.base_url))


@dataclass(frozen=True)
class Addresses:
    """Links of one request."""

    root: str
    """Address of the landing page, with a slash at the end."""

    @property
    def collection(self) -> str:
        """The collection."""
        return f"{self.root}collections/{COLLECTION}"

    def item(self, product_id: str) -> str:
        """A product as STAC item."""
        return f"{self.collection}/items/{slug(product_id)}"

    def product(self, product_id: str) -> str:
        """What is drawn of a product lies below this, without a slash at the end."""
        return f"{self.root}products/{slug(product_id)}"

    def result(self, result_id: str) -> str:
        """What is drawn of a published result lies below this, without a slash at the end."""
        return f"{self.root}results/{slug(result_id)}"

    def legend(self, name: str, form: str) -> str:
        """A legend as json, png or svg."""
        return f"{self.root}legends/{slug(name)}.{form}"
