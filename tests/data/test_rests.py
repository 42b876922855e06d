"""When a provider counts as failing: its own redirects and the headers of empty promises do not make it well."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from earthself.data.broker import Limits, LocalBroker, Resting
from earthself.data.broker.breaker import FAILURES
from earthself.data.errors import Damaged, TryAgain
from earthself.data.sources import Sources
from provider import QUICK, Answer, Cut, File, Provider, Stall, raster_bytes

Worker = Callable[..., Sources]


@pytest.fixture(params=["folder", "service"])
def broker_kind(request: pytest.FixtureRequest) -> str:
    """The workers of a cluster are to see no difference."""
    return request.param


@pytest.fixture
def worker(sources: Worker, tmp_path: Path) -> Worker:
    """Make sources as another process of the machine has them."""
    return lambda **more: sources(broker=str(tmp_path / "broker"), **more)


def product(provider: Provider) -> dict[str, Any]:
    properties = {"earthself:provider": "hostile", "earthself:collection": "S2_MSI_L2A", "earthself:access": "open"}
    return {"type": "Feature", "id": "P", "properties": properties, "assets": {"B04": {"href": f"{provider.url}/B04.tif"}}}


def fails(worker: Sources, provider: Provider, tmp_path: Path, times: int) -> None:
    """Download in vain until the provider has failed so often."""
    for _ in range(-(-times // 3)):
        with pytest.raises((TryAgain, Damaged)):
            worker.download(product(provider), tmp_path / "out", ["B04"])


def test_files_that_are_elsewhere_and_fail_there_are_failures(provider: Provider, worker: Worker, tmp_path: Path) -> None:
    provider.files["/B04.tif"] = File(b"", redirect="/there.tif")
    provider.files["/there.tif"] = File(b"", always=Answer(503))
    fails(worker(), provider, tmp_path, FAILURES)
    with pytest.raises(Resting, match=r"hostile is left alone .* since it answered 503"):
        worker().download(product(provider), tmp_path / "out", ["B04"])


@pytest.mark.parametrize("fault", [Stall(), Cut(0)], ids=["silent", "cut"])
def test_headers_without_a_byte_after_them_are_failures(provider: Provider, worker: Worker, tmp_path: Path, fault: Stall | Cut) -> None:
    provider.files["/B04.tif"] = File(bytes(100_000), always=fault)
    fails(worker(timeout=QUICK), provider, tmp_path, FAILURES)
    with pytest.raises(Resting, match=r"hostile is left alone .* since it gave no answer"):
        worker().download(product(provider), tmp_path / "out", ["B04"])


def test_a_body_that_moves_on_is_no_failure(provider: Provider, worker: Worker, tmp_path: Path) -> None:
    provider.files["/B04.tif"] = File(bytes(100_000), always=Cut(50_000), ranges=False)
    fails(worker(), provider, tmp_path, 2 * FAILURES)
    (status,) = LocalBroker(tmp_path / "broker").status()
    assert status.breaker == "closed"


def test_a_server_that_asks_for_no_wait_is_waited_for_all_the_same(
    provider: Provider, worker: Worker, tmp_path: Path, slept: list[float]
) -> None:
    provider.files["/B04.tif"] = File(b"", always=Answer(503, {"Retry-After": "0"}))
    fails(worker(), provider, tmp_path, 3)
    assert slept == [1.0, 2.0]


def test_downloads_wait_for_a_connection_and_not_at_the_provider(provider: Provider, worker: Worker, tmp_path: Path) -> None:
    provider.files["/B04.tif"] = File(raster_bytes(np.ones((64, 64), np.uint16)))
    begun, on = threading.Event(), threading.Event()

    def hold(_path: str, _headers: dict[str, str]) -> None:
        begun.set()
        on.wait(30)

    provider.guard = hold
    one = {"limits": {"hostile": Limits(connections=1)}, "timeout": 60}
    threads = [
        threading.Thread(target=each.download, args=(product(provider), tmp_path / str(number), ["B04"]))
        for number, each in enumerate((worker(**one), worker(**one)))
    ]
    threads[0].start()
    begun.wait(30)
    threads[1].start()
    watching = LocalBroker(tmp_path / "broker")
    while not (status := watching.status()[0]).waiting:
        pass
    assert (status.connections, len(provider.requests)) == (1, 1)
    on.set()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.glob("*/P/B04.tif"))) == 2
