"""Reuse and ingest against a real EarthSignature server on loopback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import signed
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from earthself.hooks.earthsignature import EarthSignatureHook
from earthself.operators import (
    EarthSignatureIngestOperator,
    EarthSignatureListOperator,
    PlanBatchesOperator,
    ProcessingStepOperator,
    accounts,
    catalogs,
)
from earthself.operators.identity import Identity, signature_identity
from earthself.operators.notes import collect
from earthself.signature.errors import BadSetting
from structlog.testing import capture_logs


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own; gives its port."""
    from earthself.signature.testing import running_server

    with running_server(tmp_path_factory.mktemp("signature") / "home") as running:
        yield int(running.target.rpartition(":")[2])


@pytest.fixture(autouse=True)
def connection(server, monkeypatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_EARTHSIGNATURE_DEFAULT", json.dumps({"conn_type": "earthsignature", "host": "127.0.0.1", "port": server})
    )


@pytest.fixture(scope="module")
def identity() -> Identity:
    return signature_identity("baseline")


@pytest.fixture
def prefix(request) -> str:
    """Ids of one test do not meet those of another on the shared server."""
    return re.sub(r"\W", "_", request.node.name)[:60]


def now(identity: Identity, mask: str = "scl") -> dict[str, str]:
    """Properties of a signature as it would be made now."""
    return {"earthself:model": identity.model, "earthself:legend": identity.legend, "earthself:preprocessing": identity.preprocessing[mask]}


def ingest(context, workspace, items, known=None, batches=1):
    """Lay items out as batch 0 of the step `sign` left them, and run the operator."""
    run = workspace / "runs/a_dag/manual__1/work"
    planned = [catalogs.write_catalog(run / f"batches/{n:04d}", "b", list(items) if n == 0 else []).to_dict() for n in range(batches)]
    left(run, catalogs.write_catalog(run / "signed/0000", "signed", items))
    return EarthSignatureIngestOperator(task_id="ingest", batches=planned, known=known).execute(context())


def left(run, output, task="sign", number=0):
    """Say for a mapped step where its output lies, as its task does."""
    folder = run / f"steps/{task}~{number}"
    folder.mkdir(parents=True, exist_ok=True)
    accounts.left(folder, output)


def found(workspace, products, area=None):
    return catalogs.write_catalog(workspace / "runs/a_dag/manual__1/work/found", "products", products, area or signed.footprint()).to_dict()


def look_up(context, workspace, products, mask="auto", area=None):
    reference = EarthSignatureListOperator(task_id="known", products=found(workspace, products, area), mask=mask).execute(context())
    return {item["properties"]["earthself:found_as"]: item for item in catalogs.read_items(Path(reference["href"]))}, reference


def in_batch(workspace, item, **changes):
    return signed.signature(workspace / "runs/a_dag/manual__1/work/signed/0000", item, **changes)


def test_what_was_stored_is_reused_pixel_by_pixel(context, workspace, identity, prefix):
    products = [signed.product(f"{prefix}_{n}") for n in range(3)]
    items = [in_batch(workspace, product, code=n + 1, **now(identity)) for n, product in enumerate(products)]
    reference = ingest(context, workspace, items)
    assert reference["count"] == 3
    before = {n: (workspace / f"runs/a_dag/manual__1/work/signed/0000/{prefix}_{n}/segmentation.tif").read_bytes() for n in range(3)}
    known, reference = look_up(context, workspace, [*products, signed.product(f"{prefix}_new")])
    assert sorted(known) == sorted(product["id"] for product in products)
    folder = Path(reference["href"]).parent
    import rasterio

    for n, product in enumerate(products):
        item = known[product["id"]]
        assert item["properties"]["earthself:inputs"][0]["sha256"] == "ab" * 32
        assert item["properties"]["earthself:reused"]
        with rasterio.open(folder / product["id"] / "segmentation.tif") as got, rasterio.MemoryFile(before[n]).open() as sent:
            assert (got.read(1) == n + 1).all()
            assert (got.crs, got.transform) == (sent.crs, sent.transform)
        for layer in ("confidence", "flags", "cloud_mask"):
            assert (folder / product["id"] / f"{layer}.tif").is_file()


def test_only_what_is_not_known_is_planned(context, workspace, identity, prefix):
    old, new = signed.product(f"{prefix}_old"), signed.product(f"{prefix}_new")
    ingest(context, workspace, [in_batch(workspace, old, **now(identity))])
    _, known = look_up(context, workspace, [old, new])
    products = found(workspace, [old, new])
    planned = PlanBatchesOperator(task_id="plan", products=products, known=known).execute(context())
    assert [item["id"] for batch in planned for item in catalogs.read_items(Path(batch["href"]))] == [new["id"]]
    assert catalogs.area_beside(Path(planned[0]["href"])) == signed.footprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"earthself:model": "baseline:0.0.1"},
        {"earthself:legend": "clc:2"},
        {"earthself:preprocessing": "pre0:scl:60"},
        {"earthself:preprocessing": "pre1:none"},
        {"earthself:observation": "S2A_33UUP_20170713T101031_R022"},
        {"earthself:baseline": "N0209"},
    ],
)
def test_a_signature_of_something_else_is_not_reused(context, workspace, identity, prefix, changes):
    product = signed.product(prefix)
    item = in_batch(workspace, product, **{**now(identity), **changes})
    ingest(context, workspace, [item])
    known, _ = look_up(context, workspace, [product])
    assert not known


def test_a_copy_of_the_observation_under_another_id_is_reused(context, workspace, identity, prefix):
    stored = signed.product(f"{prefix}_at_one_provider", observation=prefix)
    ingest(context, workspace, [in_batch(workspace, stored, **now(identity))])
    other = signed.product(f"{prefix}_at_another", observation=prefix, baseline="N0500")
    known, reference = look_up(context, workspace, [other])
    assert list(known) == [other["id"]]
    products = found(workspace, [other])
    (batch,) = PlanBatchesOperator(task_id="plan", products=products, known=reference).execute(context())
    assert batch["count"] == 0


def test_a_window_that_does_not_reach_as_far_as_the_area_is_not_reused(context, workspace, identity, prefix):
    product = signed.product(prefix)
    west, south, east, north = product["bbox"]
    half = {
        "type": "Polygon",
        "coordinates": [[[west, south], [(west + east) / 2, south], [(west + east) / 2, north], [west, north], [west, south]]],
    }
    # Inside a big product the window's edge is far from the product's own: only the area decides.
    big = {
        **product,
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                [[west - 1, south - 1], [east + 1, south - 1], [east + 1, north + 1], [west - 1, north + 1], [west - 1, south - 1]]
            ],
        },
    }
    window = {**in_batch(workspace, product, **now(identity)), "geometry": half}
    ingest(context, workspace, [window])
    assert not look_up(context, workspace, [big], area=signed.footprint())[0]
    quarter = {
        "type": "Polygon",
        "coordinates": [
            [[west, south], [west + (east - west) / 4, south], [west + (east - west) / 4, north], [west, north], [west, south]]
        ],
    }
    assert list(look_up(context, workspace, [big], area=quarter)[0]) == [product["id"]]


def test_the_mask_that_was_asked_for_decides(context, workspace, identity, prefix):
    product = signed.product(prefix, scl=False)
    ingest(context, workspace, [in_batch(workspace, product, **now(identity, "csmask"))])
    assert look_up(context, workspace, [product], mask="auto")[0]
    assert look_up(context, workspace, [product], mask="csmask")[0]
    assert not look_up(context, workspace, [product], mask="none")[0]


def test_storing_again_is_silent_and_another_content_is_a_warning(context, workspace, identity, prefix, read):
    from earthself.data.workspace import Workspace

    product = signed.product(prefix)
    run = Workspace(workspace).run("a_dag", "manual__1")
    ingest(context, workspace, [in_batch(workspace, product, code=1, **now(identity))])
    ingest(context, workspace, [in_batch(workspace, product, code=1, **now(identity))])
    assert collect(run) == []
    with capture_logs() as logs:
        reference = ingest(context, workspace, [in_batch(workspace, product, code=2, **now(identity))])
    assert reference["count"] == 1
    assert any("EarthSignature holds other ones of " + prefix in warning for warning in collect(run))
    assert any(entry["log_level"] == "warning" and "which stay" in entry["event"] for entry in logs)


@pytest.mark.parametrize(
    "earlier",
    [{"earthself:preprocessing": "pre1:none"}, {"earthself:model": "baseline:0.0.1"}, {"earthself:baseline": "N0209"}],
    ids=["without a mask", "an older model", "an older baseline"],
)
def test_a_signature_that_was_made_in_another_way_lies_beside_and_both_are_reused(context, workspace, identity, prefix, earlier):
    from earthself.data.workspace import Workspace

    product = signed.product(prefix)
    run = Workspace(workspace).run("a_dag", "manual__1")
    ingest(context, workspace, [in_batch(workspace, product, code=1, **{**now(identity), **earlier})])
    for _ in range(2):  # the second time it is known, and silent
        ingest(context, workspace, [in_batch(workspace, product, code=2, **now(identity))])
        assert collect(run) == []
    known, reference = look_up(context, workspace, [product])
    item = known[product["id"]]
    assert item["id"].startswith(product["id"] + "_M")
    assert item["properties"]["earthself:product"] == product["id"]
    planned = PlanBatchesOperator(task_id="plan", products=found(workspace, [product]), known=reference).execute(context())
    assert planned[0]["count"] == 0
    if earlier == {"earthself:preprocessing": "pre1:none"}:
        assert look_up(context, workspace, [product], mask="none")[0][product["id"]]["id"] == product["id"]
    ingest(context, workspace, [in_batch(workspace, product, code=3, **now(identity))])
    assert any("EarthSignature holds other ones of " + prefix in warning for warning in collect(run)), "made alike, and yet other pixels"


def test_without_a_server_the_run_goes_on_and_says_so(context, workspace, identity, prefix, monkeypatch):
    import socket

    from earthself.data.workspace import Workspace

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv(
        "AIRFLOW_CONN_EARTHSIGNATURE_DEFAULT", json.dumps({"conn_type": "earthsignature", "host": "127.0.0.1", "port": port})
    )
    product = signed.product(prefix)
    known, _ = look_up(context, workspace, [product])
    assert not known
    assert ingest(context, workspace, [in_batch(workspace, product, **now(identity))])["count"] == 1
    said = collect(Workspace(workspace).run("a_dag", "manual__1"))
    assert any(f"127.0.0.1:{port}" in warning and "nothing was reused" in warning for warning in said)
    assert any("were not stored" in warning for warning in said)


def test_a_model_that_is_not_there_is_named(context):
    with pytest.raises(Exception, match="no model 'nonesuch'"):
        signature_identity("nonesuch")


def test_a_batch_that_was_killed_costs_only_its_products(context, workspace, identity, prefix, read):
    good, bad = signed.product(f"{prefix}_good"), signed.product(f"{prefix}_bad")
    run = workspace / "runs/a_dag/manual__1/work"
    batches = [catalogs.write_catalog(run / f"batches/{n:04d}", "b", [item]).to_dict() for n, item in enumerate((good, bad))]
    left(run, catalogs.write_catalog(run / "signed/0000", "s", [in_batch(workspace, good, **now(identity))]))
    (run / "steps/sign~1").mkdir(parents=True)
    (run / "steps/sign~1/error.json").write_text(json.dumps({"error": "sign was killed for memory", "retry": False}))
    reference = EarthSignatureIngestOperator(task_id="ingest", batches=batches).execute(context())
    assert reference["count"] == 1
    assert read(run / "signatures/failures.json") == [{"id": bad["id"], "error": "sign was killed for memory", "retry": False}]


def test_what_an_earlier_plan_had_signed_does_not_stand_for_a_batch_of_this_one(context, workspace, identity, prefix, read):
    from airflow.sdk import DAG

    one, two = signed.product(f"{prefix}_1"), signed.product(f"{prefix}_2")
    run = workspace / "runs/a_dag/manual__1/work"
    with DAG("a_dag", schedule=None):
        plan = PlanBatchesOperator(task_id="plan", products=found(workspace, [one, two]))
        plan >> ProcessingStepOperator(task_id="sign", step="sign")
    for number, item in enumerate((one, two)):
        output = catalogs.write_catalog(run / f"signed/000{number}", "s", [in_batch(workspace, item, **now(identity))])
        left(run, output, number=number)
        (run / f"steps/sign~{number}/run.json").write_text("{}")
        (run / f"steps/sign~{number}/log").write_text("it went well")
    for path in (run / "times/sign~1.json", run / "times/search.json", run / "notes/sign.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    planned = plan.execute(context())
    assert not list(run.glob("steps/sign-*/*.json"))
    assert [path.name for path in run.glob("times/*") if path.name != "plan.json"] == ["search.json"], "what came before still counts"
    assert not (run / "notes/sign.json").exists()
    assert (run / "steps/sign~1/log").is_file()
    left(run, catalogs.write_catalog(run / "signed/0001", "s", [in_batch(workspace, two, **now(identity))]), number=1)
    reference = EarthSignatureIngestOperator(task_id="ingest", batches=planned).execute(context())
    lost = {failure["id"] for failure in read(run / "signatures/failures.json")}
    kept = {item["id"] for item in catalogs.read_items(Path(reference["href"]))}
    assert lost | kept == {one["id"], two["id"]}
    assert not lost & kept
    assert len(lost) == 1


def test_the_mapped_step_may_have_any_name_and_output(context, workspace, identity, prefix, read):
    item = signed.product(prefix)
    run = workspace / "runs/a_dag/manual__1/work"
    batch = catalogs.write_catalog(run / "batches/0000", "b", [item]).to_dict()
    left(run, catalogs.write_catalog(run / "mine/0000", "s", [in_batch(workspace, item, **now(identity))]), task="mine")
    ingest = EarthSignatureIngestOperator(task_id="ingest", batches=[batch], sign_task_id="mine")
    assert ingest.execute(context())["count"] == 1
    assert "sign_task_id" in ingest.template_fields
    with capture_logs() as logs, pytest.raises(AirflowFailException):
        EarthSignatureIngestOperator(task_id="ingest", batches=[batch]).execute(context())
    said = next(entry["event"] for entry in logs if "Task Runner" not in entry["event"])
    assert "no task 'sign' took it up (work/steps/sign~0 is missing)" in said
    assert "sign_task_id" in said


def test_a_bad_product_is_named_by_the_step_that_met_it(context, workspace, identity, prefix, read):
    good = signed.product(f"{prefix}_good")
    run = workspace / "runs/a_dag/manual__1/work"
    (run / "signed/0000").mkdir(parents=True)
    failures = [{"id": "bad", "error": "offsets disagree: -1000 and 0", "retry": False}]
    (run / "signed/0000/failures.json").write_text(json.dumps(failures))
    assert ingest(context, workspace, [in_batch(workspace, good, **now(identity))])["count"] == 1
    assert read(run / "signatures/failures.json") == failures


def test_when_all_are_lost_the_task_fails_and_its_first_line_says_why(context, workspace):
    run = workspace / "runs/a_dag/manual__1/work"
    batch = catalogs.write_catalog(run / "batches/0000", "b", [signed.product("one"), signed.product("two")]).to_dict()
    (run / "steps/sign~0").mkdir(parents=True)
    with capture_logs() as logs, pytest.raises(AirflowFailException):
        EarthSignatureIngestOperator(task_id="ingest", batches=[batch]).execute(context())
    first = next(entry for entry in logs if "Task Runner" not in entry["event"])
    assert first["log_level"] == "error"
    assert first["event"] == "all 2 products were lost; the first, one: its task was killed before it could say why"


def test_nothing_planned_and_nothing_to_do_are_skipped(context, workspace):
    with pytest.raises(AirflowSkipException, match="nothing was planned"):
        EarthSignatureIngestOperator(task_id="ingest", batches=None).execute(context())
    run = workspace / "runs/a_dag/manual__1/work"
    batch = catalogs.write_catalog(run / "batches/0000", "b", [signed.product("one")]).to_dict()
    left(run, catalogs.write_catalog(run / "signed/0000", "s", []))
    with pytest.raises(AirflowSkipException, match="no product has pixels in the area"):
        EarthSignatureIngestOperator(task_id="ingest", batches=[batch]).execute(context())
    empty = catalogs.write_catalog(run / "found", "f", []).to_dict()
    for operator in (EarthSignatureListOperator(task_id="known", products=empty), PlanBatchesOperator(task_id="plan", products=empty)):
        with pytest.raises(AirflowSkipException, match="no product matches"):
            operator.execute(context())


def test_a_connection_names_the_authorities_to_trust(monkeypatch, tmp_path):
    missing = str(tmp_path / "ca.crt")
    said = {"conn_type": "earthsignature", "host": "db.example.org", "port": 443, "extra": {"tls_ca": missing}}
    monkeypatch.setenv("AIRFLOW_CONN_EARTHSIGNATURE_DEFAULT", json.dumps(said))
    with pytest.raises(BadSetting, match=re.escape(f"{missing} cannot be read")):
        EarthSignatureHook().client()
