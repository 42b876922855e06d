"""What the tests of searching share: a request, and products to be found."""

from __future__ import annotations

from collections.abc import Callable

from earthself.data.area import Area
from earthself.data.query import SearchRequest
from earthself.data.sources import Sources
from provider import Provider

HERE = Area.from_conf([16.1, 48.1, 16.3, 48.3])
Make = Callable[..., Sources]


def request(**changed: object) -> SearchRequest:
    return SearchRequest(**{"area": HERE, "start": "2017-06-01", "end": "2017-07-01", **changed})


def name(day: int, baseline: str = "N0205", tile: str = "33UUP", made: str = "20170613T101608") -> str:
    return f"S2A_MSIL2A_201706{day:02d}T101031_{baseline}_R022_T{tile}_{made}"


def add(provider: Provider, day: int, hour: str = "10:10:31", **changed: str) -> str:
    item = provider.add_product(name(day, **changed), properties={"datetime": f"2017-06-{day:02d}T{hour}Z"})
    return str(item["id"])
