"""What tests of several parts share: a real browser, a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack

import pytest
from earthself.signature.errors import NotFound
from earthself.signature.testing_postgres import HOW_TO_GET, running_postgres

from tests import kube

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser():
    """Chromium for the tests of a module; not longer, since its driver keeps an event loop in the main thread."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium; get it with: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def cluster():
    """A PostgreSQL with PostGIS; skips where there is none."""
    with ExitStack() as running:
        try:
            made = running.enter_context(running_postgres())
        except NotFound as error:
            if str(error) != HOW_TO_GET:
                raise
            pytest.skip(HOW_TO_GET)
        yield made


@pytest.fixture(scope="session")
def cluster_config():
    """The kubeconfig of a cluster; skips where there is none."""
    config = os.environ.get("KUBECONFIG", "")
    if not config or shutil.which("kubectl") is None:
        pytest.skip(kube.HOW_TO_GET)
    return config


def pytest_collection_modifyitems(items):
    """Pods come last: their network interfaces come and go, and a browser ends its requests whenever one does."""
    items.sort(key=lambda item: "cluster_config" in getattr(item, "fixturenames", ()))
