"""What tests of several parts share: a real browser, a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from earthself.signature.errors import NotFound
from earthself.signature.testing_postgres import HOW_TO_GET, running_postgres

from tests import kube
from tests.images import base, images, loader, stager, tool  # noqa: F401 - fixtures
from tests.s3_server import Proxy, S3Server

_HERE = Path(__file__).parent
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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A new, empty database of the platform."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'platform.db'}"
    return request.getfixturevalue("cluster").new_database().replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(scope="session")
def cluster_config():
    """The kubeconfig of a cluster; skips where there is none."""
    config = os.environ.get("KUBECONFIG", "")
    if not config or shutil.which("kubectl") is None:
        pytest.skip(kube.HOW_TO_GET)
    return config


@pytest.fixture(scope="session")
def s3():
    """An S3 server with the bucket `maps`."""
    with S3Server() as served:
        served.bucket("maps")
        yield served


@pytest.fixture
def s3_empty(s3):
    """The same without anything in the bucket."""
    for key in s3.keys("maps"):
        s3.client.delete_object(Bucket="maps", Key=key)
    for upload in s3.client.list_multipart_uploads(Bucket="maps").get("Uploads", ()):
        s3.client.abort_multipart_upload(Bucket="maps", Key=upload["Key"], UploadId=upload["UploadId"])
    return s3


@pytest.fixture
def proxy(s3_empty):
    """The way to it, on which a test can do what storages do."""
    with Proxy(s3_empty) as before:
        yield before


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Pods come after browsers: their network interfaces come and go, and a browser ends its requests whenever one does.

    With `-n 2 --dist loadgroup` one worker has both, first of all and in this order; what shares a folder's fixtures stays together.
    """
    parallel = hasattr(config, "workerinput")
    items.sort(key=lambda item: _rank(item) if parallel else "cluster_config" in item.fixturenames)
    if parallel:
        for item in items:
            item.add_marker(pytest.mark.xdist_group("network" if _rank(item) < 2 else item.path.relative_to(_HERE).parts[0]))


def _rank(item) -> int:
    if "cluster_config" in item.fixturenames:
        return 1
    return 0 if "browser" in item.fixturenames else 2
