"""`POST /earthself/api/v1/estimate` as a program and as a browser meets it."""

from __future__ import annotations

import pytest
from earthself.data.errors import TryAgain
from earthself.data.query import Count
from earthself.hooks.eodag import EodagHook

PATH = "/earthself/api/v1/estimate"
CONF = {"area": [14.0, 48.0, 14.1, 48.1], "start": "2017-06-01", "end": "2017-07-01"}


class Provider:
    """Stands in for the catalogues of the internet."""

    def __init__(self, products: int = 7, error: Exception | None = None) -> None:
        self.products, self.error, self.asked = products, error, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def count(self, request):
        self.asked.append(request)
        if self.error:
            raise self.error
        return Count(self.products, self.products * 10**9, "p", window_m2=1e8)


@pytest.fixture
def provider(monkeypatch, run_folder) -> Provider:
    made = Provider()
    monkeypatch.setattr(EodagHook, "sources", lambda _self: made)
    return made


def test_a_creator_is_told_what_it_will_cost(login, provider):
    answer = login("creator").post(PATH, json=CONF)
    assert answer.status_code == 200
    found = answer.json()
    assert found["products"] == 7
    assert found["gigabytes"] == 7
    assert found["minutes_low"] < found["minutes"] < found["minutes_high"]
    assert found["within_limit"]
    assert found["max_products"] == 200
    assert provider.asked[0].max_cloud_cover == 60, "defaults are those of the workflow"


def test_too_many_products_are_estimated_and_marked(login, provider):
    found = login("creator").post(PATH, json={**CONF, "max_products": 6}).json()
    assert found["products"] == 7
    assert not found["within_limit"]


def test_without_a_login_it_is_401_and_a_viewer_may_not(login, provider):
    assert login().post(PATH, json=CONF).status_code == 401
    refused = login("viewer").post(PATH, json=CONF)
    assert refused.status_code == 403
    assert refused.json()["detail"] == "viewer may not start runs of land_cover_map; ask the operator of the platform for the right"
    assert not provider.asked


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"area": [48.0, 120.0, 48.1, 120.1]}, "longitude comes first"),
        ({"area": None}, "area"),
        ({"start": "2017-13-01"}, "2017-13-01"),
        ({"end": "2017-05-01"}, "ends before it starts"),
        ({"max_cloud_cover": 101}, "max_cloud_cover"),
        ({"mask": "magic"}, "mask"),
        ({"model": "nobody"}, "nobody"),
        ({"max_products": 0}, "max_products"),
        ({"colour": "red"}, "colour is not part of a request"),
    ],
)
def test_bad_input_is_422_with_what_to_do(login, provider, change, says):
    answer = login("creator").post(PATH, json={**CONF, **change})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_a_missing_key_is_named(login, provider):
    answer = login("creator").post(PATH, json={"area": CONF["area"]})
    assert answer.status_code == 422
    assert "lacks start" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"area=1", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b'{"area": "' + b"x" * 5_000_000 + b'"}', "application/json", 413),
    ],
)
def test_only_json_objects_of_moderate_size_are_read(login, provider, content, kind, code):
    answer = login("creator").post(PATH, content=content, headers={"Content-Type": kind})
    assert answer.status_code == code
    assert answer.json()["detail"]


@pytest.mark.parametrize("depth", [*range(700, 1150, 50), 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"type": "Feature", "geometry": ', b"}")])
def test_json_that_is_nested_however_deep_is_refused_in_a_sentence(login, provider, depth, opening, closing):
    content = b'{"start": "2017-06-01", "end": "2017-07-01", "area": ' + depth * opening + b"1" + depth * closing + b"}"
    answer = login("creator").post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_page_of_another_site_cannot_use_the_session(login, provider):
    client = login("creator", cookie=True)
    assert client.post(PATH, json=CONF, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post(PATH, json=CONF, headers={"Origin": "null"}).status_code == 403
    assert client.post(PATH, json=CONF, headers={"Origin": "http://testserver"}).status_code == 200


def test_a_busy_provider_is_503_and_another_try_may_help(login, provider):
    provider.error = TryAgain("earth_search answers 504; try again in some minutes")
    answer = login("creator").post(PATH, json=CONF)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json() == {"detail": "earth_search answers 504; try again in some minutes", "retry": True}


def test_the_plugin_costs_other_processes_nothing():
    import subprocess
    import sys

    code = "import sys, earthself.portal.plugin; sys.exit(', '.join(m for m in ('fastapi', 'eodag', 'rasterio') if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
