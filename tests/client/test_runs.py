"""Runs through the Python client: progress, results here and far, failures and what is advised."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest
import rasterio
from earthself.client import (
    BadInput,
    Client,
    LoginExpired,
    LoginRefused,
    NotAllowed,
    NotThere,
    RequestRefused,
    RunFailed,
    ServerNotThere,
    TryAgain,
)
from earthself.client import run as run_module
from earthself.client.logins import Login
from earthself.client.rest import Rest
from earthself.client.run import Progress, Run
from rasterio.transform import from_origin

from tests.client.conftest import ESTIMATE

LINZ = {"area": [14.2, 48.2, 14.4, 48.3], "start": "2017-06-13", "end": "2017-06-14"}


DUMP = """Invalid input for param mask: 'foo' is not one of ['auto', 'scl']

Failed validating 'enum' in schema:
    {'enum': ['auto', 'scl']}
"""


def the_run(rest: Rest, **conf: object) -> Run:
    return Run(rest, "land_cover_map", "run+1", {**LINZ, **conf}, sleep=lambda _seconds: None)


def test_a_map_is_started_with_the_conf_and_waited_for(rest, server) -> None:
    run = Client(rest).land_cover_map(**LINZ, max_cloud_cover=30, title=None)
    sent = json.loads(server.asked[-1].content)
    assert sent == {"logical_date": None, "conf": {**LINZ, "max_cloud_cover": 30}}
    run._sleep = lambda _seconds: None
    server.publish()
    seen: list[list[Progress]] = []
    assert run.wait(progress=seen.append) is run
    assert [(task.task, task.state, task.done, task.total) for task in seen[0]] == [("search", "success", 1, 1), ("sign", "running", 1, 2)]
    assert len(seen) == 1, "told once, since nothing changed"


def test_results_are_read_from_this_machine_where_it_has_them(rest, server) -> None:
    server.states = ["success"]
    server.publish()
    run = the_run(rest)
    assert run.result["status"] == "complete"
    assert [(row.code, row.hectares, row.hectares_low) for row in run.areas()] == [(2, 60, None), (3, 30, 25), (-1, 10, None)]
    assert run.report == str(server.folder / "report.html")
    assert not [request for request in server.asked if "/files/" in request.url.path]


def test_results_of_a_far_server_come_over_rest(rest, server) -> None:
    server.states = ["success"]
    run = the_run(rest)
    assert run.result["status"] == "complete"
    assert run.areas()[0].name == "Agricultural areas"
    assert run.report == "http://server/earthself/api/v1/runs/land_cover_map/run%2B1/files/report.html"
    with pytest.raises(NotThere, match="no land_cover"):
        run.read("land_cover.tif")


def test_the_map_opens_as_xarray_with_crs_and_pixel_centres(rest, server) -> None:
    server.states = ["success"]
    server.publish()
    pixels = np.arange(24, dtype=np.uint16).reshape(3, 2, 4)
    path = server.folder / "land_cover.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=4,
        height=2,
        count=3,
        dtype="uint16",
        crs="EPSG:32633",
        transform=from_origin(300000, 5400000, 10, 10),
    ) as raster:
        raster.write(pixels)
        for number, name in enumerate(("code", "confidence", "observations"), 1):
            raster.set_band_description(number, name)
    array = the_run(rest).to_xarray()
    assert array.dims == ("band", "y", "x")
    assert list(array.band.values) == ["code", "confidence", "observations"]
    assert (float(array.x[0]), float(array.y[-1])) == (300005, 5399985)
    assert array.attrs["crs"] == "EPSG:32633"
    np.testing.assert_array_equal(array.values, pixels)


def test_a_failed_run_says_the_reason_that_its_task_logged(rest, server) -> None:
    server.states = ["failed"]
    server.log = [
        {"event": "::group::", "level": "info"},
        {"event": "300 products match, more than max_products=200", "level": "error"},
        {"event": "Traceback", "level": "error"},
    ]
    with pytest.raises(RunFailed, match="search failed: 300 products match") as raised:
        the_run(rest).wait()
    assert raised.value.exit_code == 1
    with pytest.raises(NotThere, match="published nothing"):
        the_run(rest).areas()


def test_a_request_that_cannot_be_done_is_told_from_a_run_that_broke(rest, server) -> None:
    server.states = ["failed"]
    chain = [{"exc_type": "AirflowFailException"}, {"exc_type": "BadRequest", "is_cause": True}]
    server.log = [
        {"event": "there is no model 'x'; known: baseline", "level": "error"},
        {"event": "Task failed with exception", "level": "error", "error_detail": chain},
    ]
    with pytest.raises(RequestRefused, match="search failed: there is no model 'x'") as raised:
        the_run(rest).wait()
    assert raised.value.exit_code == 65


def test_all_of_the_servers_errors_that_the_user_must_mend_are_known_by_name() -> None:
    from earthself.data.broker.interface import BrokerRefused
    from earthself.data.errors import EarthSelfError
    from earthself.data.radiometry import RadiometryDisagrees
    from earthself.operators.errors import BadRequest

    def family(kind: type) -> set[type]:
        return {kind}.union(*(family(child) for child in kind.__subclasses__()))

    ours = {kind for kind in family(EarthSelfError) if kind.__module__.startswith(("earthself.data.", "earthself.operators."))}
    assert {RadiometryDisagrees, BadRequest, BrokerRefused} < ours
    assert {kind.__name__ for kind in ours if kind.exit_code == 65} == run_module._REFUSALS


def test_what_never_began_is_not_called_failed(rest, server) -> None:
    server.states = ["failed"]
    assert [(task.task, task.state) for task in the_run(rest).tasks()] == [("search", "failed"), ("sign", "not started")]


def test_waiting_ends_at_its_limit_and_the_run_goes_on(rest, server) -> None:
    server.states = ["running"]
    with pytest.raises(TryAgain, match="still running after 0 s"):
        the_run(rest).wait(timeout=0)


class Outage:
    """A web server that is gone for so many seconds of a clock that only sleeping moves."""

    def __init__(self, server, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds
        server.refuse = self.refuse
        self.rest = Rest(
            Login("http://server", user="creator", password="right"), httpx.MockTransport(server), sleep=self.sleep, clock=lambda: self.now
        )

    def refuse(self, request: httpx.Request) -> httpx.Response | None:
        if self.now >= self.seconds or request.method == "POST":
            return None
        if int(self.now) % 3 == 0:
            raise httpx.ConnectError("refused")
        if int(self.now) % 3 == 1:
            raise httpx.RemoteProtocolError("cut")
        return httpx.Response(502, text="starting")

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_run_that_is_waited_for_outlives_a_restart_of_the_web_server(server) -> None:
    outage, said = Outage(server, 100), []
    server.publish()
    run = the_run(outage.rest)
    assert run.wait(note=said.append) is run
    assert said == ["http://server does not answer; asking again for up to 120 s"]


def test_when_the_server_stays_away_the_run_is_named_and_not_ordered_again(server) -> None:
    outage = Outage(server, 1e9)
    with pytest.raises(TryAgain, match=r"run run\+1 is kept and goes on; do not start it again: `earthself status run\+1`"):
        the_run(outage.rest).wait()
    assert 120 <= outage.now < 130
    with pytest.raises(ServerNotThere):
        the_run(outage.rest).status  # noqa: B018 - who does not wait is told at once


def test_an_order_is_never_sent_twice(server) -> None:
    outage = Outage(server, 100)
    outage.rest.token()
    server.refuse = lambda _request: httpx.Response(503)
    asked = len(server.asked)
    with outage.rest.patient(60), pytest.raises(TryAgain):
        Client(outage.rest).land_cover_map(**LINZ)
    assert len(server.asked) == asked + 1


def empty(server, *estimates: int) -> None:
    server.states, server.result, server.estimates = ["success"], {"status": "empty", "products": {"found": 0}}, list(estimates)


def test_no_clear_scene_is_told_from_no_scene(rest, server) -> None:
    empty(server, 7)
    (sentence,) = the_run(rest, max_cloud_cover=20).advice()
    assert "at most 20 % clouds, but 7 cloudier ones exist" in sentence
    assert json.loads(server.asked[-1].content)["max_cloud_cover"] == 100
    empty(server, 0)
    assert the_run(rest).advice() == ["no scene was found from 2017-06-13 to 2017-06-14; take a longer period, or another provider"]


def test_who_asked_the_sample_only_is_told_so(rest, server, monkeypatch) -> None:
    empty(server, 0)
    monkeypatch.setitem(ESTIMATE, "provider", "sample")
    assert "--provider earth_search" in the_run(rest).advice()[1]


def test_an_area_in_the_sea_and_swapped_coordinates_are_guessed_from_an_empty_result(rest, server) -> None:
    empty(server, 0)
    sentences = the_run(rest, area=[-36, 40, -35, 40.4]).advice()
    assert "open sea (40.2 N, 35.5 W)" in sentences[1]
    assert len(sentences) == 2, "swapped it would be in the sea as well"
    empty(server, 0)
    scotland_swapped = [57, -4.1, 57.1, -4]
    assert "swapped it would lie on land" in the_run(rest, area=scotland_swapped).advice()[2]


def test_holes_are_explained(rest, server) -> None:
    server.states = ["success"]
    server.result = {
        "status": "partial",
        "products": {"found": 5, "failed": [{"id": "a", "error": "cut", "retry": True}]},
        "observed_fraction": 0.3,
    }
    sentences = the_run(rest).advice()
    assert "1 of 5 products are missing" in sentences[0]
    assert "run the same request again" in sentences[0]
    assert "only 30%" in sentences[1]
    server.result["observed_fraction"] = 0.004
    assert "less than 1% of the area" in the_run(rest).advice()[1]


def test_an_estimate_is_read_and_newer_fields_are_left_out(rest, server) -> None:
    found = Client(rest).estimate(**LINZ)
    assert (found.products, found.minutes, found.warnings) == (2, 2, ())


def test_an_estimate_says_what_is_needed_and_what_it_is_at_most(rest, server, monkeypatch) -> None:
    assert "about 40 MB to read (at most 1.5 GB)" in str(Client(rest).estimate(**LINZ))
    monkeypatch.delitem(ESTIMATE, "gigabytes_needed")
    server.estimates = [2]
    assert "products from earth_search, at most 1.5 GB to read" in str(Client(rest).estimate(**LINZ))


def test_an_unknown_option_is_refused_before_anything_is_sent(rest, server) -> None:
    with pytest.raises(BadInput, match=r"'cloud' is not an option.*max_cloud_cover"):
        Client(rest).land_cover_map(**LINZ, cloud=3)
    assert server.asked == []


def test_a_wrong_password_is_refused(server) -> None:
    with pytest.raises(LoginRefused, match="does not accept this password for 'creator'"):
        Rest(Login("http://server", user="creator", password="wrong"), httpx.MockTransport(server)).token()


def test_a_viewer_may_not_start_a_run(server) -> None:
    rest = Rest(Login("http://server", user="viewer", password="weak"), httpx.MockTransport(server))
    with pytest.raises(NotAllowed, match=r"viewer may not do this.*creator"):
        Client(rest).land_cover_map(**LINZ)


def test_an_expired_token_is_renewed_with_a_password_and_told_without(rest, server) -> None:
    rest.token()
    server.valid.clear()
    assert Client(rest).estimate(**LINZ).products == 2
    stale = Rest(Login("http://server", user="creator", token="old"), httpx.MockTransport(server))
    with pytest.raises(LoginExpired, match="earthself login"):
        the_run(stale).status  # noqa: B018 - asking is the point


def test_a_token_that_is_none_is_not_taken_for_missing_rights(rest, server) -> None:
    forged = httpx.Response(403, json={"detail": "Invalid JWT token"})
    stale = Rest(Login("http://server", token="garbage"), httpx.MockTransport(lambda _request: forged))
    with pytest.raises(LoginExpired, match=r"earthself login.*EARTHSELF_TOKEN"):
        the_run(stale).status  # noqa: B018 - asking is the point
    rest.token()
    old = rest._token
    server.refuse = lambda request: forged if request.headers.get("Authorization") == f"Bearer {old}" else None
    assert Client(rest).estimate(**LINZ).products == 2, "a new server secret: the password gives a new token"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (httpx.Response(500, text="boom"), TryAgain, "answered 500"),
        (httpx.Response(429, json={"detail": "slow down"}), TryAgain, "slow down"),
        (httpx.Response(400, json={"detail": "Invalid input for param area"}), BadInput, "Invalid input for param area"),
        (httpx.Response(400, json={"detail": DUMP}), BadInput, r"^Invalid input for param mask: 'foo' is not one of \['auto', 'scl'\]$"),
        (httpx.Response(422, json={"detail": [{"loc": ["body", "conf"], "msg": "is no object"}]}), BadInput, "conf: is no object"),
        (httpx.Response(404, json={"detail": "Not Found"}), NotThere, "no workflow 'land_cover_map'"),
        (httpx.Response(200, text="<html>"), ServerNotThere, "is not EarthSelf"),
        (httpx.Response(200, json=[1]), ServerNotThere, "is not EarthSelf"),
    ],
)
def test_each_refusal_has_its_class_and_its_reason(rest, server, answer, error, message) -> None:
    rest.token()
    server.refuse = lambda _request: answer
    with pytest.raises(error, match=message):
        Client(rest).land_cover_map(**LINZ)


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (httpx.ReadTimeout("slow"), TryAgain),
        (httpx.RemoteProtocolError("cut"), TryAgain),
        (httpx.ConnectError("no"), ServerNotThere),
        (httpx.RemoteProtocolError("illegal request line"), ServerNotThere),
    ],
)
def test_a_broken_connection_says_what_to_do(raised, error) -> None:
    def break_off(_request: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(error):
        Rest(Login("http://server", user="a", password="b"), httpx.MockTransport(break_off)).token()


def test_an_address_that_is_none_is_bad_input() -> None:
    with pytest.raises(BadInput, match="begins with http"):
        Rest(Login("server:8080", user="a", password="b")).token()
