"""EarthSelf for a person at a keyboard: `connect()`, one call for a land-cover map, and what came of it.

    from earthself.client import connect

    run = connect().land_cover_map(area=[14.2, 48.2, 14.4, 48.3], start="2017-06-13", end="2017-06-14")
    run.wait()
    for row in run.areas():
        print(row.name, row.hectares)

It speaks REST only, so it needs none of the packages that the server needs.
"""

from __future__ import annotations

from earthself.client.client import Client, connect
from earthself.client.errors import (
    BadInput,
    ClientError,
    LoginExpired,
    LoginRefused,
    NotAllowed,
    NotThere,
    RequestRefused,
    RunFailed,
    ServerNotThere,
    TryAgain,
)
from earthself.client.estimate import Estimate
from earthself.client.results import ClassArea
from earthself.client.run import Progress, Run

__all__ = [
    "BadInput",
    "ClassArea",
    "Client",
    "ClientError",
    "Estimate",
    "LoginExpired",
    "LoginRefused",
    "NotAllowed",
    "NotThere",
    "Progress",
    "RequestRefused",
    "Run",
    "RunFailed",
    "ServerNotThere",
    "TryAgain",
    "connect",
]
