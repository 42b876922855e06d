from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
import airflow_sandbox
import signed

ROOT = airflow_sandbox.ROOT


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    return airflow_sandbox.migrate()


@pytest.fixture(scope="session")
def load(airflow_home: Path) -> Callable[[Path], Any]:
    """Import a DAG file and give its one DAG."""

    def make(path: Path) -> Any:
        spec = importlib.util.spec_from_file_location(f"dag_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        from airflow.sdk import DAG

        held = [each for value in vars(module).values() for each in (value, getattr(value, "dag", None))]
        (dag,) = {id(each): each for each in held if isinstance(each, DAG)}.values()
        return dag

    return make


class Catalogue:
    """Answers as `earthself.data.sources.Sources` does; products lie side by side."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.searches = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def count(self, _request):
        from earthself.data.query import Count

        return Count(len(self.names), len(self.names) * 10**6, "test", window_m2=1e6)

    def search(self, _request):
        from earthself.data.query import Found

        self.searches += 1
        items = [signed.product(name, column=column) for column, name in enumerate(self.names)]
        return Found(items, [], "test", [], len(items))


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    from earthself.hooks.eodag import EodagHook

    made = Catalogue()
    monkeypatch.setattr(EodagHook, "sources", lambda _self: made)
    return made


@pytest.fixture(scope="session")
def fake_steps(tmp_path_factory) -> Path:
    """A distribution whose step `sign` comes before the real one: it makes small signatures without any provider."""
    folder = tmp_path_factory.mktemp("fake")
    (folder / "fake_steps.py").write_text(_FAKE, encoding="utf-8")
    info = folder / "fake_steps-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-steps\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[earthself.steps]\nsign = fake_steps:sign\n")
    return folder


@pytest.fixture
def home(tmp_path: Path, fake_steps: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A platform's state of its own, three workers, and the step of `fake_steps`."""
    for name, value in {
        "EARTHSELF_HOME": tmp_path,
        "EARTHSELF_WORKSPACE": tmp_path / "workspace",
        "EARTHSELF_WORKERS": 3,
        "PYTHONPATH": f"{fake_steps}:{Path(signed.__file__).parent}",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("EARTHSELF_DATABASE_URL", raising=False)
    return tmp_path


@pytest.fixture
def earthsignature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A real EarthSignature server, empty."""
    from earthself.signature.testing import running_server

    with running_server(tmp_path / "signature") as running:
        port = int(running.target.rpartition(":")[2])
        connection = {"conn_type": "earthsignature", "host": "127.0.0.1", "port": port}
        monkeypatch.setenv("AIRFLOW_CONN_EARTHSIGNATURE_DEFAULT", json.dumps(connection))
        yield running


_FAKE = """
import os

import pystac
import signed
from earthself.processing.masks import MaskOptions
from earthself.processing.models import load_card
from earthself.processing.step import StepContext, StepResult


def sign(ctx: StepContext, *, model: str = "baseline", mask: str = "auto") -> StepResult:
    card, made, failures = load_card(model), [], []
    for item in ctx.items():
        if item.id in os.environ.get("FAKE_HUNGRY", "").split():
            hoard = bytearray(2**30)
            hoard[::4096] = b"1" * len(hoard[::4096])
        if item.id in os.environ.get("FAKE_BAD", "").split():
            failures.append({"id": item.id, "error": "its offsets disagree: -1000 and 0", "retry": False})
            continue
        product = item.to_dict(include_self_link=False, transform_hrefs=False)
        west = signed.product("x")["bbox"][0]
        column = round((item.bbox[0] - west) / (signed.product("x", column=1)["bbox"][0] - west))
        own = {"earthself:model": card.id, "earthself:legend": card.legend, "earthself:preprocessing": MaskOptions("scl").preprocessing}
        document = signed.signature(ctx.output, {**product, "links": []}, code=2 + column % 2, column=column, **own)
        for asset in document["assets"].values():
            asset["href"] = str(ctx.output / item.id / asset["href"])
        made.append(pystac.Item.from_dict(document))
    ctx.write(made, **{"failures.json": failures})
    return StepResult("done" if made else "nothing", f"{len(made)} signed", {"items": len(made), "pixels": 4096 * len(made)})
"""


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch):
    """The shipped sample, served as a provider that EODAG searches and reads like any other."""
    import socket
    import subprocess
    import time
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "earthself.local.sample", "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.05)
        config = _SAMPLE.format(port=port)
        extra = {"providers": ["sample"], "provider_config": config}
        monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
        monkeypatch.setenv("EODAG_STRICT_COLLECTIONS", "true")
        yield port
    finally:
        process.terminate()
        process.wait(10)


_SAMPLE = """
sample:
  url: http://127.0.0.1:{port}
  search:
    type: StacSearch
    api_endpoint: http://127.0.0.1:{port}/search
    need_auth: false
    discover_collections: {{fetch_url: null}}
    discover_queryables: {{fetch_url: null, collection_fetch_url: null}}
  products:
    S2_MSI_L2A: {{_collection: sentinel-2-l2a}}
  download: {{type: HTTPDownload, extract: false}}
"""
