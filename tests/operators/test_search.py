"""Search, download, planning and the provider settings: what they hand on, and what they refuse."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import signed
from airflow.sdk.exceptions import AirflowFailException
from earthself.data.errors import TryAgain
from earthself.data.query import DEFAULT_PROVIDERS, Count, Found
from earthself.hooks.eodag import EodagHook
from earthself.operators import EODAGDownloadOperator, EODAGSearchOperator, EstimateOperator, PlanBatchesOperator, catalogs
from earthself.operators.errors import TemporaryFailure
from earthself.operators.planning import MAX_BATCH, MAX_BATCHES, batch_size
from earthself.operators.request import SCHEMA, params, validated
from structlog.testing import capture_logs

sys.path.insert(1, str(Path(__file__).parents[1] / "data"))
from provider import Answer, Provider, raster_bytes

PIECES = {"type": "MultiPolygon", "coordinates": [[[[x, y], [x + 0.1, y], [x, y + 0.1], [x, y]]] for x, y in ((0, 0), (30, 40))]}
WHERE = {"area": [12.7, 48.1, 12.8, 48.2], "start": "2017-06-01", "end": "2017-07-01"}


class Catalogue:
    """Answers as `earthself.data.sources.Sources` does."""

    def __init__(self, products: int = 2, error: Exception | None = None) -> None:
        self.items = [signed.product(f"P{n}") for n in range(products)]
        self.error, self.asked, self.searches = error, [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def anywhere(self, item, work):
        return work(item)

    def count(self, request):
        self.asked.append(request)
        if self.error:
            raise self.error
        return Count(len(self.items), len(self.items) * 10**9, "p", ())

    def search(self, request):
        self.asked.append(request)
        self.searches += 1
        if self.error:
            raise self.error
        return Found(self.items[: request.limit], [signed.product("OLD")], "p", ["q failed, the next provider was asked"], len(self.items))

    def download(self, item, folder, bands=None):
        path = folder / item["id"] / "B04.tif"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"whole")
        return {"B04": path}


@pytest.fixture
def catalogue(monkeypatch) -> Catalogue:
    made = Catalogue()
    monkeypatch.setattr(EodagHook, "sources", lambda _self: made)
    return made


def test_products_are_left_with_area_superseded_and_warnings(context, workspace, catalogue, read):
    with capture_logs() as logs:
        reference = EODAGSearchOperator(task_id="search", **WHERE).execute(context())
    folder = workspace / "runs/a_dag/manual__1/work/found"
    assert reference["count"] == 2
    assert [item["id"] for item in catalogs.read_items(folder / "catalog.json")] == ["P0", "P1"]
    assert read(folder / "superseded.json")[0]["id"] == "OLD"
    assert read(folder / "area.geojson")["type"] == "Polygon"
    assert read(folder / "search.json")["warnings"] == ["q failed, the next provider was asked"]
    assert any(entry["log_level"] == "warning" and "next provider" in entry["event"] for entry in logs)


def test_values_that_templating_made_text_are_read(context, workspace, catalogue):
    texts = {"area": json.dumps(WHERE["area"]), "max_cloud_cover": "12.5", "provider": "", "max_products": "5"}
    EODAGSearchOperator(task_id="search", **{**WHERE, **texts}).execute(context())
    assert catalogue.asked[0].max_cloud_cover == 12.5
    assert catalogue.asked[0].provider is None
    assert catalogue.asked[0].limit == 6


@pytest.mark.parametrize("text", ["5", "5.0", 5.0])
def test_a_whole_number_may_be_written_with_a_point(context, workspace, catalogue, text):
    EODAGSearchOperator(task_id="search", max_products=text, **WHERE).execute(context())
    assert catalogue.asked[0].limit == 6
    assert repr(validated({**WHERE, "max_products": 5.0})["max_products"]) == "5"


@pytest.mark.parametrize("text", ["five", "5.5", "0", "-1", "nan"])
def test_what_is_no_number_of_products_is_refused(context, workspace, catalogue, text):
    with pytest.raises(AirflowFailException, match=f"max_products '{text}' is not a"):
        EODAGSearchOperator(task_id="search", max_products=text, **WHERE).execute(context())


@pytest.mark.parametrize("area", ["12.7,48.1,12.8,48.2", '{"type": "Point"}', "somewhere", "/no/such/file"])
def test_an_area_may_be_text(context, workspace, catalogue, area):
    operator = EODAGSearchOperator(task_id="search", **{**WHERE, "area": area})
    if area[0].isdigit():
        assert operator.execute(context())["count"] == 2
    else:
        with pytest.raises(AirflowFailException, match="area"):
            operator.execute(context())


def test_more_than_wanted_is_refused(context, workspace, catalogue):
    with pytest.raises(AirflowFailException, match="more than 1 products match; raise max_products"):
        EODAGSearchOperator(task_id="search", max_products=1, **WHERE).execute(context())


def test_a_busy_provider_is_tried_again(context, workspace, catalogue):
    catalogue.error = TryAgain("p answers 504")
    with pytest.raises(TemporaryFailure, match="504"):
        EODAGSearchOperator(task_id="search", **WHERE).execute(context())


def test_whole_downloads_are_shared_by_runs(context, workspace, catalogue):
    products = EODAGSearchOperator(task_id="search", **WHERE).execute(context())
    reference = EODAGDownloadOperator(task_id="download", products=products, bands=["B04"]).execute(context())
    hrefs = [Path(item["assets"]["B04"]["href"]) for item in catalogs.read_items(Path(reference["href"]))]
    assert [path.read_bytes() for path in hrefs] == [b"whole", b"whole"]
    assert all(path.is_relative_to(workspace / "downloads") for path in hrefs)


def test_a_download_that_fails_is_made_from_the_next_provider(context, workspace, monkeypatch, read):
    stated = {"s2:datatake_id": "GS2A_20170613T101031_010324_N02.05", "sat:relative_orbit": 22, "grid:code": "MGRS-33UUP"}
    whole = raster_bytes(np.ones((64, 64), np.uint16))
    with Provider() as first, Provider() as second:
        name = "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608"
        first.add_product(name, {"B04": whole}, geometry=signed.footprint())
        first.files[f"/{name}/B04.tif"].always = Answer(503)
        second.add_product("S2A_33UUP_20170613_0_L2A", {"B04": whole}, {"s2:processing_baseline": "02.05", **stated}, signed.footprint())
        config = {"provider_config": first.settings("first") + second.settings("second"), "providers": "first,second", "attempts": 1}
        monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": config}))
        west, south, east, north = signed.product("x")["bbox"]
        where = {**WHERE, "area": [west + 0.001, south + 0.001, east - 0.001, north - 0.001]}
        products = EODAGSearchOperator(task_id="search", **where).execute(context())
        reference = EODAGDownloadOperator(task_id="download", products=products, bands=["B04"]).execute(context())
    (item,) = catalogs.read_items(Path(reference["href"]))
    assert Path(item["assets"]["B04"]["href"]).read_bytes() == whole
    assert item["properties"]["earthself:provider"] == "second"
    (warning,) = read(workspace / "runs/a_dag/manual__1/work/notes/download.json")
    assert f"{name} was taken from second as S2A_33UUP_20170613_0_L2A: first is busy or broken" in warning


def test_an_id_of_a_provider_cannot_leave_the_folder(context, workspace, catalogue):
    catalogue.items = [{**signed.product("x"), "id": name} for name in ("../../evil", "a/b", ".hidden", "a b", "a_b", "x" * 300)]
    reference = EODAGSearchOperator(task_id="search", **WHERE).execute(context())
    paths = catalogs.item_paths(Path(reference["href"]))
    assert len(set(paths)) == 6
    assert all(path.is_relative_to(workspace / "runs/a_dag/manual__1/work/found") and path.is_file() for path in paths)


def test_the_estimate_comes_before_everything(context, workspace, catalogue, read):
    with capture_logs() as logs:
        found = EstimateOperator(task_id="estimate").execute(context(**WHERE))
    assert found["products"] == 2
    assert any("Estimate: 2 products" in entry["event"] for entry in logs)
    run = workspace / "runs/a_dag/manual__1/work"
    request = read(run / "request.json")
    assert request["max_products"] == 200
    assert request["area"]["type"] == "Polygon"
    assert read(run / "model.json")["card"]["name"] == "baseline"
    assert catalogue.searches == 0


def test_too_many_are_refused_before_any_search_and_the_first_line_says_so(context, workspace, catalogue):
    catalogue.items = [signed.product(f"P{n}") for n in range(7)]
    with capture_logs() as logs, pytest.raises(AirflowFailException):
        EstimateOperator(task_id="estimate").execute(context(**WHERE, max_products=6))
    first = next(entry for entry in logs if "Task Runner" not in entry["event"])
    assert first["log_level"] == "error"
    assert first["event"].startswith("7 products match, more than max_products=6. They would take: 7 products")
    assert catalogue.searches == 0


def test_an_unknown_model_is_refused_at_once(context, workspace, catalogue):
    with pytest.raises(AirflowFailException, match="no model 'nonesuch'; known: baseline"):
        EstimateOperator(task_id="estimate").execute(context(**WHERE, model="nonesuch"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"area": [48.1, 112.7, 48.2, 112.8]}, "longitude comes first"),
        ({"area": "everywhere"}, "area"),
        ({"area": [-180, -90, 180, 90]}, r"510,\d+,\d+ km2, more than 1,000,000 km2; order it in parts"),
        ({"area": [5, 40, 20, 55]}, r"the area has 1,\d+,\d+ km2, more than"),
        ({"area": PIECES}, r"lie in a box of \d+,\d+,\d+ km2, more than 4,000,000 km2; order it in parts"),
        ({"start": "yesterday"}, "yesterday"),
        ({"end": "2017-06-01"}, "empty"),
        ({"mask": "perhaps"}, "mask"),
        ({"max_products": 10_001}, "max_products"),
        ({"max_cloud_cover": "60"}, "max_cloud_cover"),
        ({"title": "two\x00words"}, "title.*One line"),
        ({"title": "two\nlines"}, "title.*One line"),
        ({"model": "base\x00line"}, "model"),
        ({"provider": "p\x00"}, "provider"),
        ({"collection": "S2\x00"}, "collection"),
        ({"surprise": 1}, "surprise is not part of a request"),
    ],
)
def test_bad_requests_fail_at_once_and_say_what_to_write(context, workspace, catalogue, change, says):
    with pytest.raises(AirflowFailException, match=says):
        EstimateOperator(task_id="estimate").execute(context(**{**WHERE, **change}))
    assert not catalogue.asked


@pytest.mark.parametrize("area", [[5, 45, 15, 55], [175, 60, -175, 69.9], [14.0, 48.0, 14.00001, 48.00001]])
def test_areas_of_a_country_and_over_the_antimeridian_are_welcome(area):
    assert validated({**WHERE, "area": area})["area"]["type"] in ("Polygon", "MultiPolygon")


def test_defaults_are_those_of_the_contract():
    made = validated(WHERE)
    usual = {"collection": "S2_MSI_L2A", "provider": None, "max_cloud_cover": 60, "mask": "auto", "model": "baseline"}
    usual |= {"max_products": 200, "staging_hours": 6}
    assert {name: made[name] for name in SCHEMA if "default" in SCHEMA[name]} == {**usual, "title": None}
    assert list(params()) == ["area", "start", "end", *usual, "title"]


@pytest.mark.parametrize("products", [1, 2, 3, 7, 20, 50, 200, 1999, 2001, 10_000])
@pytest.mark.parametrize("workers", [1, 2, 16])
def test_batches_stay_few_and_losses_small(products, workers):
    size = batch_size(products, workers)
    batches = -(-products // size)
    assert 1 <= batches <= MAX_BATCHES
    assert size <= MAX_BATCH or products > MAX_BATCH * MAX_BATCHES
    assert batches >= min(products, workers) or size == 1 or products / size > workers / 2


def test_ten_thousand_products_are_planned(context, workspace):
    one = signed.product("x")
    products = catalogs.write_catalog(workspace / "many", "products", ({**one, "id": f"P{n}"} for n in range(10_000)), signed.footprint())
    planned = PlanBatchesOperator(task_id="plan", products=products.to_dict()).execute(context())
    assert len(planned) == MAX_BATCHES
    assert sum(batch["count"] for batch in planned) == 10_000


def test_the_connection_form_becomes_provider_settings(monkeypatch):
    credentials = '{"cop_dataspace": {"username": "u", "password": "hunter2"}}'
    extra = {"providers": "cop_dataspace, earth_search", "credentials": credentials, "provider_config": "", "timeout": None}
    monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
    config = EodagHook().config()
    assert config.providers == ("cop_dataspace", "earth_search")
    assert config.credentials == {"cop_dataspace": {"username": "u", "password": "hunter2"}}
    assert "hunter2" not in repr(config)


def test_without_a_connection_the_defaults_need_no_credentials(monkeypatch, airflow_home):
    monkeypatch.delenv("EARTHSELF_SOURCES", raising=False)
    assert EodagHook().config().providers == DEFAULT_PROVIDERS


def test_credentials_that_are_no_json_are_not_repeated(context, workspace, monkeypatch):
    extra = {"credentials": "password=hunter2"}
    monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
    with pytest.raises(AirflowFailException, match="credentials of the EODAG connection are not JSON") as caught:
        EODAGSearchOperator(task_id="search", **WHERE).execute(context())
    assert "hunter2" not in str(caught.value)


def test_a_step_reads_the_settings_from_a_private_file_that_vanishes(context, program, workspace, monkeypatch, read):
    from earthself.operators import ProcessingStepOperator

    extra = {"providers": "p", "credentials": {"p": {"apikey": "hunter2"}}}
    monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
    command = program("""
path = Path(os.environ['EARTHSELF_SOURCES'])
print('read', json.loads(path.read_text())['credentials']['p']['apikey'][:3])
leave(message=f"{path} {path.stat().st_mode:o}")""")
    with capture_logs() as logs:
        ProcessingStepOperator(task_id="t", command=command).execute(context())
    path, mode = read(workspace / "runs/a_dag/manual__1/work/steps/t/result.json")["message"].split()
    assert stat.S_IMODE(int(mode, 8)) == 0o600
    assert not Path(path).exists()
    assert not Path(path).parent.exists()
    assert "read hun" in [entry["event"] for entry in logs]


def test_the_provider_says_what_airflow_asks(airflow_home):
    import jsonschema
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
    from earthself.operators.provider import get_provider_info

    schema = json.loads((Path(__import__("airflow").__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)
    hooks = ProvidersManagerTaskRuntime().hooks
    assert hooks["eodag"].hook_class_name == "earthself.hooks.eodag.EodagHook"
    assert hooks["earthsignature"].connection_type == "earthsignature"


def test_workers_of_all_teams_share_the_accounts_of_the_machine(workspace, monkeypatch, airflow_home, tmp_path):
    extra = {"providers": "cop_dataspace", "limits": '{"cop_dataspace": {"rate": 2.5}}', "team": "forest"}
    monkeypatch.setenv("AIRFLOW_CONN_EODAG_DEFAULT", json.dumps({"conn_type": "eodag", "extra": extra}))
    monkeypatch.setenv("EARTHSELF_TEAM", "water")
    config = EodagHook().config()
    assert (config.team, config.limits["cop_dataspace"].rate) == ("forest", 2.5)
    assert config.broker == str(tmp_path / "home" / "broker")
    monkeypatch.delenv("AIRFLOW_CONN_EODAG_DEFAULT")
    config = EodagHook().config()
    assert (config.team, config.broker) == ("water", str(tmp_path / "home" / "broker"))
    monkeypatch.setenv("EARTHSELF_BROKER", "https://broker.earthself:8083")
    (tmp_path / "token").write_text("word-of-the-cluster\n")
    monkeypatch.setenv("EARTHSELF_BROKER_TOKEN_FILE", str(tmp_path / "token"))
    config = EodagHook().config()
    assert (config.broker, config.broker_token) == ("https://broker.earthself:8083", "word-of-the-cluster")
    assert "word-of-the-cluster" not in repr(config)
