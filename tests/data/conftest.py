"""Tools of the data tests: the misbehaving provider, sources that wait for nothing, the public sample files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from earthself.data.broker import LocalBroker
from earthself.data.catalogue import Catalogue
from earthself.data.login import Logins
from earthself.data.query import SourceConfig
from earthself.data.retries import RetryPolicy
from earthself.data.sources import Sources
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from provider import Provider

settings.register_profile("data", max_examples=40, deadline=None)
settings.load_profile("data")

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def server() -> Iterator[Provider]:
    with Provider() as served:
        yield served


@pytest.fixture
def provider(server: Provider) -> Provider:
    server.reset()
    return server


@pytest.fixture
def slept() -> list[float]:
    """Seconds that the code under test would have waited."""
    return []


@pytest.fixture(scope="session")
def catalogues() -> dict[str, Catalogue]:
    """EODAG takes half a second to set up: one for all tests with the same settings."""
    return {}


@pytest.fixture
def sources(provider: Provider, slept: list[float], tmp_path: Path, catalogues: dict[str, Catalogue]) -> Iterator[Callable[..., Sources]]:
    """Make sources that know the provider as `hostile`; with `timeout=QUICK` they give stalled servers up soon."""
    made: list[Sources] = []
    waited: list[float] = []

    def make(extra: str = "", **config: object) -> Sources:
        settings = {
            "providers": ("hostile",),
            "provider_config": provider.settings("hostile", extra),
            "timeout": 10,
            "attempts": 3,
            **config,
        }
        wanted = SourceConfig(**settings)
        retries = RetryPolicy(wanted.attempts, sleep=slept.append, jitter=lambda: 0.0)
        folder = Path(wanted.broker) if wanted.broker else None
        broker = LocalBroker(folder, clock=lambda: time.time() + sum(slept) + sum(waited), sleep=waited.append)
        one = Sources(wanted, retries=retries, downloads=tmp_path / "downloads", broker=broker)
        one._catalogue = catalogues.setdefault(replace(wanted, broker="").to_json(), one._catalogue)
        one._catalogue.retries, one._catalogue.broker, one._catalogue.config = retries, broker, wanted
        one._logins = Logins(one._catalogue, broker)
        made.append(one)
        return one

    yield make
    for each in made:
        each.close()


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the public data in {SHARED}: see ../shared/data/README.md")
    return SHARED
