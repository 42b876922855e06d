from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from earthself.local.sample.provider import application


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """The sample provider on a real port of the loopback interface; its address."""
    import threading

    import uvicorn

    server = uvicorn.Server(uvicorn.Config(application(), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def provider(served: str) -> Iterator[httpx.Client]:
    """A client of the sample provider."""
    with httpx.Client(base_url=served, trust_env=False) as client:
        yield client
