"""A step that takes more memory than it has: what is said, what is tried, and that the result is the same as without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from earthself.operators import ProcessingStepOperator, StepResources, catalogs
from earthself.operators.errors import BadRequest, TemporaryFailure
from structlog.testing import capture_logs

SMALL = StepResources(memory="96Mi")

GREEDY = """
MIB = json.loads((Path(__file__).parent / "mib.json").read_text())
names = inputs()
(Path(__file__).parent / "begun").open("a").write(",".join(names) + "\\n")
print("working on", *names, flush=True)
hog = bytearray(2**20 * sum(MIB.get(name, 1) for name in names))
hog[::4096] = b"1" * len(hog[::4096])
time.sleep(0.5)
fail = Path(__file__).parent / "fail"
if fail.exists() and names == json.loads(fail.read_text()):
    fail.unlink(); sys.exit(75)
metrics = {"items": len(names), "peak_x": len(names)}
leave(*[name + "x" for name in names], metrics=metrics, warnings=["careful"], message=f"did {len(names)}")
(OUT / "failures.json").write_text(json.dumps([{"id": name, "error": "none", "retry": False} for name in names]))
"""


@pytest.fixture
def four(tmp_path):
    """Reference dict of a catalogue of four items, with the area beside it."""
    items = [{"type": "Feature", "id": f"P{n}", "links": [], "assets": {}, "properties": {}} for n in range(1, 5)]
    return catalogs.write_catalog(tmp_path / "four", "four", items, {"type": "Polygon", "coordinates": []}).to_dict()


@pytest.fixture
def greedy(program, tmp_path):
    """Make a step that takes as many MiB as the items say; `begun` lists what each of its processes was given."""

    def make(mib, fail=None, body=GREEDY):
        (tmp_path / "mib.json").write_text(json.dumps(mib))
        if fail:
            (tmp_path / "fail").write_text(json.dumps(fail))
        return program(body)

    return make


def step(command, inputs, **kwargs):
    return ProcessingStepOperator(task_id="t", command=command, inputs=inputs, eodag_conn_id=None, **{"resources": SMALL} | kwargs)


def folder(workspace) -> Path:
    return workspace / "runs/a_dag/manual__1/work/steps/t"


def left(reference) -> dict:
    """All files of an output with what is in them."""
    root = Path(reference["href"]).parent
    return {str(path.relative_to(root)): json.loads(path.read_text()) for path in root.rglob("*") if path.is_file()}


def test_halves_of_the_work_give_the_same_result_and_nothing_is_done_twice(context, greedy, four, read, tmp_path):
    workspace = tmp_path / "workspace"
    whole = step(greedy({}), four, output="whole").execute(context())
    (tmp_path / "begun").unlink()
    with capture_logs() as logs:
        reference = step(greedy({"P3": 60, "P4": 60}), four, output="parts", splittable=True).execute(context())
    assert (reference["count"], left(reference)) == (whole["count"], left(whole))
    assert (tmp_path / "begun").read_text().split() == ["P1,P2,P3,P4", "P1,P2", "P3,P4", "P3", "P4"]
    said = [entry["event"] for entry in logs if entry["log_level"] == "warning" and "killed" in entry["event"]]
    assert [line.rpartition("; ")[2] for line in said] == [
        "tried again: 2 items with 96.0 MiB, then 2 items with 96.0 MiB",
        "tried again: 1 item with 96.0 MiB, then 1 item with 96.0 MiB",
    ]
    assert "request 96.0 MiB, limit 96.0 MiB, peak " in said[0]
    account = read(folder(workspace) / "run.json")
    assert [(one["first"], one["items"], one["killed"]) for one in account["attempts"]] == [
        (0, 4, True), (0, 2, False), (2, 2, True), (2, 1, False), (3, 1, False),
    ]  # fmt: skip
    assert account["exit_code"] == 0
    assert account["peak_memory"] > 96 * 2**20
    assert account["document"] == {
        "status": "done", "message": "did 2 | did 1", "metrics": {"items": 4, "peak_x": 2}, "warnings": ["careful"],
    }  # fmt: skip
    assert "working on P3" in (folder(workspace) / "attempts/004/log").read_text()
    assert "working on P1 P2 P3 P4" in (folder(workspace) / "log").read_text()
    assert sorted(path.name for path in folder(workspace).iterdir()) == ["attempts", "log", "output.json", "result.json", "run.json"]
    assert sorted(path.name for path in (folder(workspace) / "attempts/005").iterdir()) == ["log", "output.json", "result.json", "run.json"]


def test_the_next_size_up_is_tried_until_the_limit(context, greedy, four, workspace, read):
    resources = StepResources(memory="64Mi", memory_up_to="200Mi")
    reference = step(greedy({"P1": 140}), four, resources=resources).execute(context())
    assert reference["count"] == 4
    sizes = [one["memory"] // 2**20 for one in read(folder(workspace) / "run.json")["attempts"]]
    assert sizes == [64, 128, 200]


def test_where_nothing_is_left_to_try_the_error_says_all(context, greedy, four, workspace, read):
    resources = StepResources(memory="64Mi", memory_up_to="128Mi")
    with pytest.raises(AirflowFailException) as error:
        step(greedy({"P3": 500}), four, resources=resources, splittable=True).execute(context())
    said = str(error.value)
    assert "t was killed for memory: request 128.0 MiB, limit 128.0 MiB, peak " in said
    assert "4 items with 64.0 MiB, 2 items with 64.0 MiB, 1 item with 64.0 MiB, 1 item with 128.0 MiB" in said
    assert "a single item takes more than 128.0 MiB; raise memory_up_to" in said
    assert read(folder(workspace) / "error.json") == {"error": said, "retry": False}
    assert read(folder(workspace) / "run.json")["document"]["status"] == "failed"
    assert not (workspace / "runs/a_dag/manual__1/work/t").exists()
    assert not list(folder(workspace).rglob("staging"))


def test_an_item_that_fits_in_no_size_may_be_lost_and_is_named(context, greedy, four, workspace, read):
    resources = StepResources(memory="64Mi", memory_up_to="128Mi")
    with capture_logs() as logs:
        reference = step(greedy({"P4": 500}), four, resources=resources, splittable=True, may_lose=True).execute(context())
    made = Path(reference["href"]).parent
    assert [item["id"] for item in catalogs.read_items(made / "catalog.json")] == ["P1x", "P2x", "P3x"]
    lost = {one["id"]: one["error"] for one in read(made / "failures.json")}
    why = lost.pop("P4")
    assert why.startswith("alone with 128.0 MiB, t was killed for memory: request 128.0 MiB, limit 128.0 MiB, peak ")
    assert lost == {"P1": "none", "P2": "none", "P3": "none"}
    assert any(entry["event"].endswith("P4 is lost, the others are not") for entry in logs if entry["log_level"] == "warning")
    account = read(folder(workspace) / "run.json")
    assert (account["document"]["status"], account["document"]["metrics"]["items"]) == ("done", 3)
    assert f"P4 is lost: {why}" in account["document"]["message"]
    assert [one["items"] for one in account["attempts"] if one["lost"]] == [1]
    assert account["exit_code"] == 0


def test_where_all_are_lost_the_step_has_done_nothing(context, greedy, four, workspace, read):
    operator = step(greedy(dict.fromkeys(("P1", "P2", "P3", "P4"), 200)), four, splittable=True, may_lose=True)
    reference = operator.execute(context())
    assert reference["count"] == 0
    made = Path(reference["href"]).parent
    assert [one["id"] for one in read(made / "failures.json")] == ["P1", "P2", "P3", "P4"]
    assert read(folder(workspace) / "run.json")["document"]["status"] == "nothing"


def test_losing_items_takes_splitting_them(context, greedy, four):
    with pytest.raises(AirflowFailException, match=r"may_lose=True gives up single items.*give both"):
        step(greedy({}), four, may_lose=True).execute(context())


def test_a_step_that_can_neither_be_split_nor_have_more_fails_at_once(context, greedy, four, tmp_path):
    with pytest.raises(AirflowFailException, match=r"request 96.0 MiB, limit 96.0 MiB, peak .* \(seen\); give it more"):
        step(greedy({"P1": 300}), four).execute(context())
    assert len((tmp_path / "begun").read_text().split()) == 1


def test_what_was_done_is_not_done_again_by_the_next_try_of_airflow(context, greedy, four, tmp_path):
    operator = step(greedy({"P1": 60, "P2": 60}, fail=["P2"]), four, splittable=True)
    with pytest.raises(TemporaryFailure, match="asks to be tried again"):
        operator.execute(context())
    assert operator.execute(context())["count"] == 4
    assert (tmp_path / "begun").read_text().split() == ["P1,P2,P3,P4", "P1,P2", "P1", "P2", "P2", "P3,P4"]


class Died(BaseException):
    """The worker is no more."""


@pytest.mark.parametrize("where", ["done", "after", "put_together", "clear"])
def test_a_worker_that_dies_between_attempts_loses_nothing_that_was_done(context, greedy, four, tmp_path, where):
    operator = step(greedy({"P1": 60, "P2": 60}), four, splittable=True)
    with pytest.MonkeyPatch.context() as patch:
        from earthself.operators.attempts import Attempts

        real = getattr(Attempts, where)

        def dies(*args):
            real(*args) if where in ("done", "after") else None
            raise Died

        patch.setattr(Attempts, where, dies)
        with pytest.raises(Died):
            operator.execute(context())
    assert operator.execute(context())["count"] == 4
    assert (tmp_path / "begun").read_text().split() == ["P1,P2,P3,P4", "P1,P2", "P1", "P2", "P3,P4"]


def test_a_task_that_is_cleared_does_everything_anew(context, greedy, four, tmp_path):
    operator = step(greedy({"P1": 60, "P2": 60}, fail=["P2"]), four, splittable=True)
    with pytest.raises(TemporaryFailure):
        operator.execute(context())
    cleared = context()
    cleared["ti"].max_tries = 4
    (tmp_path / "begun").unlink()
    assert operator.execute(cleared)["count"] == 4
    assert (tmp_path / "begun").read_text().split()[0] == "P1,P2,P3,P4"


@pytest.mark.parametrize(
    ("leave", "says"),
    [
        ("(OUT / 'table.csv').write_text(names[0])", "another table.csv for each part of its work.*leave splittable out"),
        (
            "c = json.loads((OUT / 'catalog.json').read_text()); (OUT / 'catalog.json').write_text(json.dumps(c | {'type': 'Collection'}))",
            "leaves a Collection",
        ),
    ],
)
def test_what_cannot_be_put_together_is_refused(context, greedy, four, leave, says):
    with pytest.raises(AirflowFailException, match=says):
        step(greedy({"P1": 50, "P3": 50}, body=GREEDY + leave), four, splittable=True).execute(context())


def test_a_step_that_says_137_itself_is_tried_with_more(context, program, four, workspace, read):
    command = program("if int(os.environ['EARTHSELF_STEP_MEMORY']) < 2**28: sys.exit(137)\nleave('a')")
    resources = StepResources(memory="128Mi", memory_up_to="1Gi")
    assert step(command, four, resources=resources).execute(context())["count"] == 1
    assert [one["exit_code"] for one in read(folder(workspace) / "run.json")["attempts"]] == [137, 0]


def test_sizes_that_contradict_each_other_are_refused():
    with pytest.raises(BadRequest, match="memory_up_to='1Gi' is less than memory='2Gi'"):
        StepResources(memory="2Gi", memory_up_to="1Gi")
