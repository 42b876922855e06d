"""Tools of the data tests: the misbehaving provider, sources that wait for nothing, the public sample files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from earthself.data.broker import Broker, LocalBroker, RemoteBroker
from earthself.data.catalogue import Catalogue
from earthself.data.login import Logins
from earthself.data.query import SourceConfig
from earthself.data.retries import RetryPolicy
from earthself.data.sources import Sources
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from provider import Provider
from served import TOKEN, in_thread

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
def broker_kind() -> str:
    """How workers share accounts: by `folder`, or by `service`; a test file that tries both has a fixture of this name."""
    return "folder"


@pytest.fixture
def sources(
    provider: Provider, slept: list[float], tmp_path: Path, catalogues: dict[str, Catalogue], broker_kind: str
) -> Iterator[Callable[..., Sources]]:
    """Make sources that know the provider as `hostile`; with `timeout=QUICK` they give stalled servers up soon."""
    made: list[Sources] = []
    waited: list[float] = []
    services: dict[Path, str] = {}
    running = ExitStack()

    def clock() -> float:
        return time.time() + sum(slept) + sum(waited)

    def shared(folder: Path | None) -> Broker:
        if broker_kind == "folder" or folder is None:
            return LocalBroker(folder, clock=clock, sleep=waited.append)
        if folder not in services:
            # Time flies where those who wait do not: nobody must count as dead meanwhile.
            services[folder] = running.enter_context(in_thread(folder, clock, waited.append, lease=1e9))
        return RemoteBroker(services[folder], TOKEN, sleep=waited.append)

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
        broker = shared(Path(wanted.broker) if wanted.broker else None)
        one = Sources(wanted, retries=retries, downloads=tmp_path / "downloads", broker=broker)
        one._catalogue = catalogues.setdefault(replace(wanted, broker="").to_json(), one._catalogue)
        one._catalogue.retries, one._catalogue.broker, one._catalogue.config = retries, broker, wanted
        one._logins = Logins(one._catalogue, broker)
        made.append(one)
        return one

    yield make
    for each in made:
        each.close()
    running.close()


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the public data in {SHARED}: see ../shared/data/README.md")
    return SHARED
