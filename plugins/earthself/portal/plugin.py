"""How Airflow finds the portal: an entry point that every Airflow process loads, so it must cost next to nothing.

The application itself is imported when the first request comes, which only the web server ever sees.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/earthself"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def portal(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand a request to the application (ASGI)."""
    app = importlib.import_module("earthself.portal.app").app
    await app(scope, receive, send)


class EarthSelfPlugin(AirflowPlugin):
    """Mounts the portal at `/earthself`."""

    name = "earthself"
    fastapi_apps = [{"app": portal, "url_prefix": PREFIX, "name": "EarthSelf"}]  # noqa: RUF012 - declared so by Airflow
    external_views = [  # noqa: RUF012
        {"name": "Watched areas", "href": f"{PREFIX}/monitor", "url_route": "earthself-monitor", "destination": "nav", "category": "browse"}
    ]
