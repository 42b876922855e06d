"""Tools of the data tests: the misbehaving provider, sources that wait for nothing, the public sample files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from earthself.data.http import RetryPolicy
from earthself.data.query import SourceConfig
from earthself.data.sources import Sources
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from provider import Provider

settings.register_profile("data", max_examples=40, deadline=None)
settings.load_profile("data")

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as served:
        yield served


@pytest.fixture
def slept() -> list[float]:
    """Seconds that the code under test would have waited."""
    return []


@pytest.fixture
def sources(provider: Provider, slept: list[float], tmp_path: Path) -> Iterator[Callable[..., Sources]]:
    """Make sources that know the provider as `hostile`."""
    made: list[Sources] = []

    def make(extra: str = "", **config: object) -> Sources:
        settings = {
            "providers": ("hostile",),
            "provider_config": provider.settings("hostile", extra),
            "timeout": 0.3,
            "attempts": 3,
            **config,
        }
        retries = RetryPolicy(int(settings["attempts"]), sleep=slept.append, jitter=lambda: 0.0)
        made.append(Sources(SourceConfig(**settings), retries=retries, downloads=tmp_path / "downloads"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the public data in {SHARED}: see ../shared/data/README.md")
    return SHARED
