"""ProcessingStepOperator by what its user sees: folders, log lines, error classes, processes that are gone."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from airflow.sdk.exceptions import AirflowFailException
from earthself.operators import ProcessingStepOperator, StepResources
from earthself.operators.errors import TemporaryFailure
from structlog.testing import capture_logs


def run(context, command, inputs=None, **kwargs):
    operator = ProcessingStepOperator(task_id="t", command=command, inputs=inputs, eodag_conn_id=None, **kwargs)
    return operator.execute(context())


def lines(logs) -> list[str]:
    return [entry["event"] for entry in logs]


def test_a_step_in_any_language_reads_its_input_and_leaves_a_catalogue(context, program, products, workspace, read):
    command = program("leave(*[name + 'x' for name in inputs()])")
    reference = run(context, command, products, output="mine")
    assert reference["count"] == 2
    assert reference["href"] == str(workspace / "runs/a_dag/manual__1/work/mine/catalog.json")
    assert (workspace / "runs/a_dag/manual__1/work/mine/P1x/P1x.json").is_file()
    assert read(workspace / "runs/a_dag/manual__1/work/mine/area.geojson")["type"] == "Polygon", "the area travels on with the data"


def test_parameters_arrive_as_arguments(context, program, workspace, read):
    command = program("leave(message=json.dumps(sys.argv[1:]))")
    values = {"text": "a b; $(rm)", "number": 0.5, "flag": True, "none": None, "names": ["B02", "B03"]}
    run(context, command, parameters=values)
    got = json.loads(read(workspace / "runs/a_dag/manual__1/work/steps/t/result.json")["message"])
    assert got == ["--text", "a b; $(rm)", "--number", "0.5", "--flag", "true", "--names", '["B02", "B03"]']


def test_a_parameter_name_cannot_smuggle_an_option(context, program):
    with pytest.raises(AirflowFailException, match="cannot be a parameter's name"):
        run(context, program("leave()"), parameters={"x=1 --output": "/etc"})


SECRETS = {
    "AIRFLOW__CORE__FERNET_KEY": "x",
    "AIRFLOW_CONN_X": "x",
    "_AIRFLOW_PROCESS_CONTEXT": "client",
    "EARTHSELF_DATABASE_URL": "sqlite:////tmp/x.db",
    "EARTHSELF_SIGNATURE_DATABASE_URL": "x",
    "EARTHSELF_SIGNATURE_TOKEN": "x",
    "EARTHSELF_PASSWORD": "x",
    "EARTHSELF_HOME": "/x",
    "DATABASE_URL": "postgresql://me:hunter2@host/db",
    "PGPASSWORD": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "EODAG__PEPS__AUTH__CREDENTIALS__PASSWORD": "x",
    "GITHUB_TOKEN": "x",
}
HARMLESS = {
    "http_proxy": "http://me:pw@proxy:3128",
    "EARTHSELF_MODELS": "/models",
    "TOKENIZERS_PARALLELISM": "false",
    "GDAL_CACHEMAX": "64",
    "MY_PLACE": "http://host:80/@x",
}


def test_the_environment_says_what_the_step_may_use_and_keeps_the_platforms_secrets(context, program, workspace, read, monkeypatch):
    for name, value in (SECRETS | HARMLESS).items():
        monkeypatch.setenv(name, value)
    names = ["EARTHSELF_STEP_CPUS", "EARTHSELF_STEP_MEMORY", "OMP_NUM_THREADS", "MINE", "MY_TOKEN"]
    command = program(f"""
assert not [name for name in os.environ if name in {list(SECRETS)}]
assert all(os.environ[name] == value for name, value in {HARMLESS}.items())
assert Path(os.environ['EARTHSELF_STEP_SCRATCH']).is_dir()
leave(message=' '.join(os.environ[name] for name in {names}))""")
    run(context, command, resources=StepResources(cpu=2.5, memory="256Mi"), env={"MINE": "yes", "MY_TOKEN": "given"})
    assert read(workspace / "runs/a_dag/manual__1/work/steps/t/result.json")["message"] == f"2.5 {256 * 2**20} 2 yes given"


def test_every_line_reaches_the_log_once_and_progress_is_said_in_percent(context, program):
    command = program("""
for i in range(300):
    print(f"out {i}"); print(f"err {i}", file=sys.stderr)
print("progress 0.42 reading B04", file=sys.stderr)
print("progress of another kind", file=sys.stderr)
print("a bar\\rand its end without newline", end="")
leave()""")
    with capture_logs() as logs:
        run(context, command)
    said = lines(logs)
    for i in range(300):
        assert said.count(f"out {i}") == 1
        assert said.count(f"err {i}") == 1
    assert said.count(" 42 % reading B04") == 1
    assert said.count("progress of another kind") == 1
    assert said.count("and its end without newline") == 1


def test_warnings_of_the_result_document_are_warnings_of_the_task(context, program):
    with capture_logs() as logs:
        run(context, program("leave(warnings=['half of it is cloud'])"))
    assert [entry["log_level"] for entry in logs if entry["event"] == "half of it is cloud"] == ["warning"]


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (65, AirflowFailException, "no such band"),
        (75, TemporaryFailure, "asks to be tried again"),
        (1, AirflowFailException, "exit code 1: no such band"),
        (137, TemporaryFailure, "exit code 137"),
    ],
)
def test_exit_codes_say_whether_to_try_again(context, program, code, error, says):
    with pytest.raises(error, match=says):
        run(context, program(f"print('no such band', file=sys.stderr); sys.exit({code})"))


def test_a_crash_by_signal_may_pass(context, program):
    with pytest.raises(TemporaryFailure, match="signal 11"):
        run(context, program("os.kill(os.getpid(), 11)"))


def test_the_reason_is_the_one_that_the_result_document_gives(context, program):
    command = program(
        "RESULT.write_text(json.dumps({'status': 'failed', 'message': 'B99 is no band', 'retry': False})); print('noise'); sys.exit(65)"
    )
    with pytest.raises(AirflowFailException, match="B99 is no band"):
        run(context, command)


def test_a_failed_step_leaves_no_output_and_keeps_the_earlier_one(context, program, workspace):
    folder = workspace / "runs/a_dag/manual__1/work/t"
    run(context, program("leave('old')"))
    with pytest.raises(AirflowFailException):
        run(context, program("leave('new'); sys.exit(1)"))
    assert (folder / "old").is_dir()
    assert not (workspace / "runs/a_dag/manual__1/work/steps/t/output.json").exists(), "the earlier one is no output of this attempt"
    assert not (folder / "new").exists()
    run(context, program("leave('newer')"))
    assert sorted(path.name for path in folder.iterdir()) == ["catalog.json", "newer"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("leave(); RESULT.write_text('{')", "not JSON"),
        ("leave(status='finished')", "status is 'finished'"),
        ("leave(metrics={'pixels': 'many'})", "metrics is not an object of numbers"),
        ("leave(message='x' * 6000)", "6[0-9]{3} bytes, at most 4096"),
        ("RESULT.write_text(json.dumps({'status': 'done'}))", "left no catalog.json"),
        (
            "leave('a'); (OUT / 'a' / 'a.json').write_text(json.dumps({'id': 'a', 'assets': {'x': {'href': './gone.tif'}}}))",
            "where nothing is",
        ),
        (
            "leave('a'); (OUT / 'a' / 'a.json').write_text(json.dumps({'id': 'a', 'assets': {'x': {'href': str(OUT / 'x.tif')}}}))",
            "relative",
        ),
    ],
)
def test_what_breaks_the_contract_is_named(context, program, body, says):
    with pytest.raises(AirflowFailException, match=says):
        run(context, program(body))


def test_nothing_to_do_is_an_empty_catalogue(context, program):
    assert run(context, program("RESULT.write_text(json.dumps({'status': 'nothing', 'message': 'no scene'}))"))["count"] == 0


def test_a_step_with_an_empty_input_is_not_started(context, program, tmp_path, workspace, read):
    from earthself.operators import catalogs

    area = {"type": "Polygon", "coordinates": []}
    empty = catalogs.write_catalog(tmp_path / "empty", "nothing", [], area).to_dict()
    reference = run(context, program("sys.exit(1)"), empty)
    assert reference["count"] == 0
    assert read(Path(reference["href"]).parent / "area.geojson") == area
    assert read(workspace / "runs/a_dag/manual__1/work/steps/t/output.json") == reference, "those after it look there"


def test_children_of_the_output_count_too(context, program):
    command = program("""
leave('a')
(OUT / 'catalog.json').rename(OUT / 'inner.json')
(OUT / 'catalog.json').write_text('{"links": [{"rel": "child", "href": "./inner.json"}]}')""")
    assert run(context, command)["count"] == 1
    loop = program("""
leave()
(OUT / 'catalog.json').write_text('{"links": [{"rel": "child", "href": "catalog.json"}]}')""")
    with pytest.raises(AirflowFailException, match="links to itself"):
        run(context, loop)


def test_several_inputs_are_read_as_one_catalogue(context, program, workspace, products):
    first = run(context, program("leave('a')"), output="a")
    second = run(context, program("leave('b')"), output="b")
    command = program("leave(*[name + '2' for name in inputs()])")
    assert run(context, command, [first, None, second, products], output="c")["count"] == 4
    assert (workspace / "runs/a_dag/manual__1/work/c/area.geojson").is_file()


def test_an_input_that_changed_since_is_refused(context, program, products):
    Path(products["href"]).write_text("{}", encoding="utf-8")
    with pytest.raises(AirflowFailException, match="has changed since"):
        run(context, program("leave()"), products)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"step": "sing"}, "no step 'sing'; installed are .*sign"),
        ({"command": "ls -l"}, "one string"),
        ({"command": ["no-such-program"]}, "no-such-program: not found"),
        ({"step": "sign", "command": ["x"]}, "either"),
        ({}, "either"),
        ({"step": "sign", "runtime": "pod"}, "there is no connection 'kubernetes_default'"),
        ({"image": "x", "cloud": "north"}, "there is no connection 'north'"),
        ({"image": "x", "runtime": "local"}, "runs in a pod only"),
        ({"step": "sign", "runtime": "cloud"}, "choose from local, pod"),
        ({"command": ["true"], "output": "../../elsewhere"}, "no folder below"),
        ({"command": ["true"], "output": "steps/t"}, r"lies in steps/, where tasks keep their accounts; choose another"),
        ({"command": ["true"], "output": "x/../times"}, "lies in times/"),
        ({"command": ["true"], "output": "x/.."}, "no folder below"),
        ({"command": ["true"], "resources": {"memory": "lots"}}, "not a size"),
        ({"command": ["true"], "resources": {"memroy": "1Gi"}}, "StepResources has cpu"),
        ({"command": ["true"], "inputs": "relative/path"}, "not a catalogue"),
        ({"command": ["true"], "inputs": 5}, "neither a reference nor a path"),
        ({"command": ["true"], "inputs": []}, "empty list"),
    ],
)
def test_wrong_arguments_fail_at_once_and_say_what_to_write(context, arguments, says):
    operator = ProcessingStepOperator(task_id="t", eodag_conn_id=None, **arguments)
    with pytest.raises(AirflowFailException, match=says):
        operator.execute(context())


def test_what_only_a_cluster_enforces_is_said_once(context, program):
    with capture_logs() as logs:
        run(context, program("leave()"), resources=StepResources(scratch="1Gi", gpu=1), cloud="data")
    assert len([line for line in lines(logs) if "Only a cluster enforces" in line and "gpu=1" in line and "cloud='data'" in line]) == 1


def test_a_step_that_outgrows_its_memory_is_killed_with_all_its_children(context, program):
    command = program("""
import subprocess
code = "x = bytearray(300 * 2**20); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code])
print("child", child.pid, flush=True)
child.wait()""")
    started = time.monotonic()
    with (
        capture_logs() as logs,
        pytest.raises(AirflowFailException, match=r"killed for memory: request 128.0 MiB, limit 128.0 MiB, peak .* MiB \(seen\)"),
    ):
        run(context, command, resources=StepResources(memory="128Mi"))
    assert time.monotonic() - started < 20
    child = next(int(line.split()[1]) for line in lines(logs) if line.startswith("child"))
    assert gone(child)


def test_memory_that_processes_share_counts_once(context, program):
    command = program("""
x = bytearray(100 * 2**20); x[::4096] = b'1' * len(x[::4096])
children = []
for _ in range(4):
    pid = os.fork()
    if not pid:
        time.sleep(1.5); os._exit(0)
    children.append(pid)
for pid in children: os.waitpid(pid, 0)
leave()""")
    assert run(context, command, resources=StepResources(memory="260Mi"))["count"] == 0


def test_on_kill_ends_the_whole_session_even_what_ignores_sigterm(context, program, tmp_path):
    command = program(f"""
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60"])
Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep(60)""")
    operator = ProcessingStepOperator(task_id="t", command=command, eodag_conn_id=None)
    stopper = threading.Thread(target=lambda: (wait_for(tmp_path / "pids"), operator.on_kill()))
    stopper.start()
    started = time.monotonic()
    with pytest.raises(TemporaryFailure, match="was stopped"):
        operator.execute(context())
    stopper.join()
    assert time.monotonic() - started < 15
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_step_that_stops_by_itself_on_sigterm_gets_the_time(context, program, tmp_path):
    command = program(f"""
import signal
def tidy(*_):
    Path({str(tmp_path / "tidied")!r}).write_text("yes"); sys.exit(143)
signal.signal(signal.SIGTERM, tidy)
Path({str(tmp_path / "pids")!r}).write_text("x")
time.sleep(60)""")
    operator = ProcessingStepOperator(task_id="t", command=command, eodag_conn_id=None)
    stopper = threading.Thread(target=lambda: (wait_for(tmp_path / "pids"), operator.on_kill()))
    stopper.start()
    with pytest.raises(TemporaryFailure, match="was stopped"):
        operator.execute(context())
    stopper.join()
    assert (tmp_path / "tidied").read_text() == "yes"


@pytest.mark.parametrize("alone", [False, True], ids=["in the session", "in a session of its own"])
def test_what_a_step_leaves_running_is_ended_with_it(context, program, tmp_path, alone):
    command = program(f"""
import subprocess
child = subprocess.Popen(["sleep", "60"], start_new_session={alone})
Path({str(tmp_path / "pids")!r}).write_text(str(child.pid))
leave()""")
    started = time.monotonic()
    run(context, command)
    assert time.monotonic() - started < 10
    assert gone(int((tmp_path / "pids").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_step_ends_when_its_task_is_killed(tmp_path, program):
    body = program(f"""
import subprocess
stubborn = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60 & wait"])
alone = subprocess.Popen(["sleep", "60"], start_new_session=True)
Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{stubborn.pid}} {{alone.pid}}")
time.sleep(60)""")
    code = f"""
import os, pathlib
from earthself.operators._process import StepProcess
env = dict(os.environ, EARTHSELF_STEP_INPUT="/", EARTHSELF_STEP_OUTPUT="/", EARTHSELF_STEP_RESULT="/")
StepProcess({body!r}, env=env, cwd=pathlib.Path("/")).run(print)
"""
    import subprocess

    task = subprocess.Popen([sys.executable, "-c", code])
    wait_for(tmp_path / "pids")
    task.send_signal(signal.SIGKILL)
    task.wait()
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_the_outcome_is_kept_beside_the_log(context, program, workspace, read):
    with pytest.raises(AirflowFailException):
        run(context, program("print('hello'); sum(range(3_000_000)); sys.exit(1)"))
    folder = workspace / "runs/a_dag/manual__1/work/steps/t"
    account = read(folder / "run.json")
    assert account["exit_code"] == 1
    assert account["seconds"] > 0
    assert account["cpu_seconds"] > 0
    assert 2**20 < account["peak_memory"] < 60 * 2**20, "the step's own, not that of the task that started it"
    assert "hello" in (folder / "log").read_text()
    assert not (folder / "staging").exists()


def test_what_a_step_took_is_remembered_when_it_says_how_much_it_did(context, program, products):
    from earthself.operators.history import History

    run(context, program("leave('a')"), products)
    run(context, program("leave('a', metrics={'items': 2, 'pixels': 1000, 'bytes_read': 77})"), products)
    with History() as history:
        (record,) = history.recent("t")
    assert (record.products, record.pixels, record.bytes_read) == (2, 1000, 77)
    assert record.peak_memory > 0
    assert record.seconds > 0


def wait_for(path: Path, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether the process ends within the grace period (a zombie has ended)."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False
