"""Where everything lies below the server's root, so that links and routes cannot differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from starlette.requests import Request

COLLECTION = "earthsignature"
"""The one STAC collection: all stored products."""
_ODD = re.compile(r"[^A-Za-z0-9_~:+.-]")


def slug(name: str) -> str:
    """Write an id as one part of a path that stays whole when a server decodes it: what is odd is encoded twice.

    So are ids of dots alone, which clients take for the folder above.
    """
    if not name.strip("."):
        return name.replace(".", "%252E")
    return quote(_ODD.sub(lambda found: quote(found[0], safe=""), name), safe=":+~")


def candidates(part: str) -> tuple[str, ...]:
    """Read a part of a path: the id as a client wrote it, and as `slug` did."""
    return (part,) if unquote(part) == part else (part, unquote(part))


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
