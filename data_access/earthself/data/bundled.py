"""What EODAG's bundled settings say: which provider has which collection, and what it asks for.

They are read from EODAG's files, since importing it takes seconds. No settings or credentials of a user come in, and no network; what
the platform itself sets otherwise (`OVERRIDES`) does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

# What EODAG's own settings make harder than it is: Earth Search's COGs lie in the open under https, EODAG only offers them as s3
# with a login and under another collection name.
OVERRIDES: dict[str, dict[str, Any]] = {
    "earth_search": {
        "products": {
            name: {"_collection": collection, "metadata_mapping": {"assets": "$.assets"}}
            for name, collection in (("S2_MSI_L2A", "sentinel-2-l2a"), ("S2_MSI_L2A_COG", "sentinel-2-l2a"))
        },
        "download": {"type": "HTTPDownload"},
    }
}
_ANY = "GENERIC_COLLECTION"
"""Stands in the settings for whatever a catalogue may have besides."""
_WITHOUT_CREDENTIALS = ("SASAuth",)
"""Login plugins that sign addresses for everybody."""


class Login(StrEnum):
    """What a provider asks credentials for."""

    NOTHING = "nothing"
    FILES = "files"
    SEARCH = "search"
    """And for its files."""


@dataclass(frozen=True)
class Offered:
    """A collection at a provider."""

    collection: str
    """EODAG's name of it."""
    provider: str
    """EODAG's name of it."""
    login: Login
    """What it asks credentials for."""
    orders: bool
    """Whether EODAG can order there what is not online."""
    may_be_offline: bool
    """Whether its catalogue says of products that they are not online; where it says nothing of it, False."""


@cache
def eodag_version() -> str:
    """Name the EODAG whose settings are read."""
    return metadata.version("eodag")


@cache
def offered() -> Mapping[str, tuple[Offered, ...]]:
    """Give the providers of each collection, by name; takes a quarter of a second once in a process."""
    found: dict[str, tuple[Offered, ...]] = {}
    for provider, settings in sorted(dict(_providers()).items()):
        own = OVERRIDES.get(provider, {}).get("products", {})
        for collection, mapping in {**settings.get("products", {}), **own}.items():
            if collection != _ANY:
                one = Offered(
                    collection,
                    provider,
                    _login(settings, in_the_open=collection in own),
                    orders=any((settings.get(topic) or {}).get("order_enabled", False) for topic in ("download", "api")),
                    may_be_offline="orderable" in _status(settings, mapping or {}),
                )
                found[collection] = (*found.get(collection, ()), one)
    return found


@cache
def titles() -> Mapping[str, str]:
    """Give the title of each collection that EODAG describes, also of those that no provider has; takes as long as `offered`."""
    (described,) = _documents(_resources() / "collections.yml")
    return {name: str(about.get("title") or name) for name, about in described.items() if name != _ANY}


def _providers() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in (_resources() / "providers").glob("*.yml"):
        for document in _documents(path):
            yield from document.items()


def _resources() -> Path:
    return Path(str(metadata.distribution("eodag").locate_file("eodag/resources")))


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    import yaml  # type: ignore[import-untyped]

    # libyaml's loader takes a tenth of the time; it is in all wheels of PyYAML.
    yield from yaml.load_all(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _login(settings: Mapping[str, Any], *, in_the_open: bool) -> Login:
    asked = settings.get("api") or settings.get("search") or {}
    if asked.get("need_auth", False):
        return Login.SEARCH
    login = settings.get("api") or settings.get("download_auth") or settings.get("auth")
    if login is None or in_the_open or login.get("type") in _WITHOUT_CREDENTIALS:
        return Login.NOTHING
    return Login.FILES


def _status(settings: Mapping[str, Any], product: Mapping[str, Any]) -> str:
    """How EODAG reads from the catalogue whether a product is online."""
    asked = settings.get("api") or settings.get("search") or {}
    return str({**asked.get("metadata_mapping", {}), **product.get("metadata_mapping", {})}.get("order:status", ""))
