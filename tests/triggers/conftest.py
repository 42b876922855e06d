from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("operators", "data", "triggers"))
import airflow_sandbox
from earthself.data.sources import SourceConfig, Sources
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.memory import Memory
from earthself.triggers.rounds import Rounds
from provider import Provider
from watched import Clock


@pytest.fixture(scope="session", autouse=True)
def airflow_home() -> Path:
    return airflow_sandbox.migrate()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A platform's database of its own."""
    monkeypatch.setenv("EARTHSELF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EARTHSELF_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("EODAG_STRICT_COLLECTIONS", "true")
    monkeypatch.setenv("EODAG_CFG_DIR", str(tmp_path / "eodag"))
    for name in ("EARTHSELF_DATABASE_URL", "EARTHSELF_SOURCES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(EODAGNewProductsTrigger, "watching", {})
    return tmp_path / "home"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory() as opened:
        yield opened


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def rounds(provider: Provider, clock: Clock) -> Callable[[], Rounds]:
    """Make the loop's state anew, as a process that starts does."""

    # EODAG takes a tenth of a second to set up, and some tests look hundreds of times.
    sources = Sources(SourceConfig(("loop",), provider_config=provider.settings("loop"), timeout=2, attempts=1))
    return lambda: Rounds("eodag_default", clock, lambda: sources, clock.sleep)


@pytest.fixture
def publish(provider: Provider) -> Callable[..., str]:
    """List a product that was sensed on a day at 10:10:31; gives its id."""

    def make(day: str, *, baseline: str = "0510", made: str | None = None, tile: str = "33UUP", **more: Any) -> str:
        compact = day.replace("-", "")
        name = f"S2A_MSIL2A_{compact}T101031_N{baseline}_R022_T{tile}_{made or compact + 'T143000'}"
        properties = {"datetime": f"{day}T10:10:31Z", "eo:cloud_cover": more.pop("cloud", 5.0), **more.pop("properties", {})}
        provider.add_product(name, properties=properties, **more)
        return name

    return make


@dataclass(frozen=True)
class World:
    """All of it, for tests that need most of it."""

    rounds: Callable[[], Rounds]
    publish: Callable[..., str]
    provider: Provider
    clock: Clock
    memory: Memory


@pytest.fixture
def world(rounds, publish, provider, clock, memory) -> World:
    return World(rounds, publish, provider, clock, memory)
