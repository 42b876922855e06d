"""Where the data are that a service needs: providers of each collection, by EODAG's bundled settings, and places, by the table of holdings.

Nothing is nearer than the table says: what it does not place is reachable over the internet, from nowhere better than from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from enum import StrEnum

from earthself.benchmark.errors import UnknownCollection
from earthself.data import bundled
from earthself.data.bundled import Login, Offered
from earthself.data.holdings import Holding, digest, holding

_LONGEST_NAME = 80
"""Of a collection, in a message."""


class Kind(StrEnum):
    """How a collection is available at a place; the best first."""

    ONLINE = "online"
    """All of it is kept there and can be read at once."""
    CACHED = "cached"
    """Some of it is kept there: an archive that rolls, or a copy of a part."""
    ORDERABLE = "orderable"
    """It is kept there, and comes when it is asked for, after a while."""
    UNKNOWN = "unknown"
    """It is kept there; nobody has looked up how much of it."""
    EXTERNAL = "external"
    """It is reached over the internet, from wherever it is kept."""
    NOT_THERE = "not there"
    """No provider has it."""


@dataclass(frozen=True)
class Provider:
    """A provider of a collection."""

    name: str
    login: Login
    """What it asks credentials for."""
    orders: bool
    """Whether what is not online there can be ordered."""
    may_be_offline: bool
    """Whether its catalogue says of products that they are not online; where it says nothing of it, False."""
    holding: Holding | None
    """Where it keeps the collection, and who says so; None where nobody has written that down."""

    @property
    def kind(self) -> Kind:
        """How the collection is available where this provider keeps it; `EXTERNAL` where that is not known."""
        if self.holding is None:
            return Kind.EXTERNAL
        return Kind(self.holding.availability.value) if self.holding.availability else Kind.UNKNOWN


@dataclass(frozen=True)
class At:
    """How a collection is available at a place."""

    cloud: str
    region: str
    collection: str
    kind: Kind
    providers: tuple[str, ...]
    """Those through which it is available in this way."""
    same_cloud: bool
    """Whether a region of this cloud keeps it, this one or another; a fact about the company, not about a distance."""
    source: str = ""
    """Address of the page that says that it is kept here; empty where none does."""
    day: date | None = None
    """When it said so."""
    doubtful: str = ""
    """Why it may be otherwise."""


@dataclass(frozen=True)
class Availability:
    """Which providers have collections, and where."""

    collections: dict[str, tuple[Provider, ...]]
    """Providers of each collection that was asked for, by name; none where EODAG describes it and no provider has it."""
    version: str
    """Names the state of what this was made from."""

    def at(self, cloud: str, region: str, collection: str) -> At:
        """Say how a collection is available in a region of a cloud, never nearer than the table of holdings says.

        Where more than one provider keeps it there, the best kind counts, and of it a certain line before a doubtful one.
        Raises `UnknownCollection` for one that was not asked for.
        """
        if collection not in self.collections:
            asked = ", ".join(self.collections) or "none"
            raise UnknownCollection(f"collection {_cut(collection)} was not asked for, only {asked}; ask for it, too")
        providers = self.collections[collection]
        kept = [(one.kind, one.holding, one.name) for one in providers if one.holding]
        same_cloud = any(held.cloud == cloud.lower() for _, held, _ in kept)
        here = [one for one in kept if one[1].is_at(cloud, region)]
        if not here:
            kind = Kind.EXTERNAL if providers else Kind.NOT_THERE
            return At(cloud, region, collection, kind, tuple(one.name for one in providers), same_cloud)
        ranks = list(Kind)
        best, said, _ = min(here, key=lambda one: (ranks.index(one[0]), bool(one[1].doubtful), one[2]))
        names = tuple(name for kind, _, name in here if kind == best)
        return At(cloud, region, collection, best, names, same_cloud, said.source, said.looked_up, said.doubtful)


@dataclass(frozen=True)
class Known:
    """A collection that can be asked for."""

    collection: str
    title: str
    providers: int
    """How many have it."""


def availability(collections: Sequence[str]) -> Availability:
    """Say who has collections (EODAG's names) and where, without asking the network, settings or credentials of anybody.

    Raises `UnknownCollection`, naming those that are spelled alike.
    """
    offered = bundled.offered()
    return Availability({name: tuple(map(_provider, offered.get(name) or _of_nobody(name))) for name in collections}, version())


def known(word: str = "") -> list[Known]:
    """List the collections that can be asked for, by name; with a word those that have it in their name or title, whatever its case."""
    offered, titles = bundled.offered(), bundled.titles()
    every = (Known(name, titles.get(name, name), len(offered.get(name, ()))) for name in sorted({*offered, *titles}))
    return [one for one in every if word.lower() in f"{one.collection} {one.title}".lower()]


def version() -> str:
    """Name the state of what is known about data: EODAG's version and a digest of the table of holdings."""
    return f"EODAG {bundled.eodag_version()}, holdings {digest()}"


def _provider(offered: Offered) -> Provider:
    where = holding(offered.provider, offered.collection)
    return Provider(offered.provider, offered.login, offered.orders, offered.may_be_offline, where)


def _of_nobody(name: str) -> tuple[Offered, ...]:
    """Nobody, for a collection that EODAG describes; an error for one that it does not know."""
    names = {one.upper(): one for one in (*bundled.titles(), *bundled.offered())}
    if name in names.values():
        return ()
    near = [names[one] for one in get_close_matches(name[:_LONGEST_NAME].upper(), names, n=3)]
    meant = f"is it {' or '.join(near)}? If not, find" if near else "find"
    raise UnknownCollection(f"EODAG knows no collection {_cut(name)}; {meant} its name with: earthself-suggest data --like WORD")


def _cut(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…")
