"""The step contract: what a process that runs a step leaves, says and answers, whoever starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pystac
import pytest
from earthself.data.errors import NotThere
from earthself.processing import BadInput, ProcessingError, StepContext, StepResult, TryAgain, step_main
from earthself.processing.step import RESULT_LIMIT

CATALOG = {"type": "Catalog", "stac_version": "1.1.0", "id": "in", "description": "-", "links": []}


def item(name: str, href: str | None = None) -> dict:
    assets = {} if href is None else {"data": {"href": href, "type": "text/plain"}}
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "geometry": None, "properties": {"datetime": "2017-06-13T10:10:31Z"},
        "links": [], "assets": assets,
    }  # fmt: skip


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An input with one item, its asset beside it; returns (input, output, result file)."""
    for name in ("INPUT", "OUTPUT", "RESULT", "SCRATCH", "CPUS", "MEMORY"):
        monkeypatch.delenv(f"EARTHSELF_STEP_{name}", raising=False)
    source = tmp_path / "in"
    (source / "a").mkdir(parents=True)
    (source / "a" / "data.txt").write_text("hello")
    (source / "a" / "a.json").write_text(json.dumps(item("a", "./data.txt")))
    links = [{"rel": "item", "href": "./a/a.json"}]
    (source / "catalog.json").write_text(json.dumps(CATALOG | {"links": links}))
    return source, tmp_path / "out", tmp_path / "result.json"


def run(function, folders, *arguments) -> tuple[int, dict]:
    source, output, result = folders
    code = step_main(function, ["--input", str(source), "--output", str(output), "--result", str(result), *arguments])
    return code, json.loads(result.read_text())


def copying(ctx: StepContext, *, suffix: str = "!") -> StepResult:
    """Copy the text of every item."""
    for each in ctx.items():
        text = Path(each.assets["data"].href).read_text() + suffix
        (ctx.output / "copy.txt").write_text(text)
        each.assets["data"].href = str(ctx.output / "copy.txt")
        ctx.write([each], **{"notes.json": {"suffix": suffix}, "notes.txt": text})
    return StepResult(message="copied", metrics={"bytes": len(text)})


def test_output_is_a_catalog_whose_relative_hrefs_lead_to_the_files(folders):
    code, result = run(copying, folders, "--suffix", "?")
    assert code == 0
    assert (result["status"], result["outputs"], result["message"]) == ("done", 1, "copied")
    assert result["metrics"]["bytes"] == 6
    assert {"seconds", "cpu_seconds", "peak_memory_bytes"} <= set(result["metrics"])
    found = list(pystac.Catalog.from_file(str(folders[1] / "catalog.json")).get_items())
    assert [each.id for each in found] == ["a"]
    assert found[0].assets["data"].href == "../copy.txt"
    assert Path(found[0].assets["data"].get_absolute_href()).read_text() == "hello?"
    assert json.loads((folders[1] / "notes.json").read_text()) == {"suffix": "?"}
    assert (folders[1] / "notes.txt").read_text() == "hello?"


def test_folders_may_come_from_the_environment(folders, monkeypatch):
    source, output, result = folders
    monkeypatch.setenv("EARTHSELF_STEP_INPUT", str(source))
    monkeypatch.setenv("EARTHSELF_STEP_OUTPUT", str(output))
    monkeypatch.setenv("EARTHSELF_STEP_RESULT", str(result))
    monkeypatch.setenv("EARTHSELF_STEP_CPUS", "1.5")
    monkeypatch.setenv("EARTHSELF_STEP_MEMORY", "1000")
    seen = []

    def look(ctx: StepContext) -> StepResult:
        seen.append((ctx.cpus, ctx.memory, ctx.scratch.is_dir()))
        return StepResult("nothing", "looked")

    assert step_main(look, []) == 0
    assert seen == [(1.5, 1000, True)]
    assert json.loads(result.read_text())["status"] == "nothing"
    assert json.loads((output / "catalog.json").read_text())["links"][0]["rel"] == "root"


def test_a_later_run_replaces_the_output_as_a_whole(folders):
    run(copying, folders)
    (folders[1] / "left_over.txt").write_text("of an earlier run")
    assert run(copying, folders)[0] == 0
    assert not (folders[1] / "left_over.txt").exists()
    assert [p.name for p in folders[1].parent.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (BadInput("wrong"), 65, False),
        (TryAgain("busy"), 75, True),
        (NotThere("gone"), 69, False),
        (ProcessingError("broke"), 1, False),
        (RuntimeError("bug"), 1, False),
        (MemoryError(), 137, False),
    ],
)
def test_errors_end_with_their_code_and_leave_no_output(folders, capsys, error, code, retry):
    def failing(ctx: StepContext) -> StepResult:
        (ctx.output / "half.tif").write_text("half")
        raise error

    found, result = run(failing, folders)
    assert found == code
    assert (result["status"], result["retry"]) == ("failed", retry)
    assert (str(error) or "memory") in result["message"]
    assert f"error: {result['message']}" in capsys.readouterr().err
    assert sorted(p.name for p in folders[1].parent.iterdir()) == ["in", "result.json"]


def test_a_failing_run_keeps_the_earlier_output(folders):
    run(copying, folders, "--suffix", "1")

    def failing(ctx: StepContext) -> StepResult:
        raise BadInput("no")

    run(failing, folders)
    assert (folders[1] / "copy.txt").read_text() == "hello1"


def all_kinds(
    ctx: StepContext,
    *,
    word: str,
    count: int = 1,
    share: Annotated[float, "0 to 1"] = 0.5,
    flag: bool = False,
    kind: Literal["a", "b"] = "a",
    many: tuple[float, ...] = (),
    names: list[str] = [],  # noqa: B006
    maybe: int | None = None,
    settings: dict = {},  # noqa: B006
) -> StepResult:
    return StepResult(message=repr((word, count, share, flag, kind, many, names, maybe, settings)))


def test_parameters_are_read_by_their_annotations(folders):
    given = ["--word=x=y", "--count", "3", "--share", "0.25", "--flag", "true", "--kind", "b", "--many", "1,2.5", "--maybe", "7"]
    code, result = run(all_kinds, folders, *given, "--names", '["p q", "r"]', "--settings", '{"k": [1]}')
    assert code == 0
    assert result["message"] == repr(("x=y", 3, 0.25, True, "b", (1.0, 2.5), ["p q", "r"], 7, {"k": [1]}))
    code, result = run(all_kinds, folders, "--word", "--weird", "--maybe", "null", "--many", "[]")
    assert result["message"] == repr(("--weird", 1, 0.5, False, "a", (), [], None, {}))


@pytest.mark.parametrize("given", [["--result", "{}"], ["--result={}"]])
@pytest.mark.parametrize("rest", [[], ["--input"], ["--output", "out", "--input"]])
def test_a_command_line_that_cannot_be_read_is_said_in_the_result_too(tmp_path, monkeypatch, given, rest):
    for name in ("INPUT", "OUTPUT", "RESULT"):
        monkeypatch.delenv(f"EARTHSELF_STEP_{name}", raising=False)
    file = tmp_path / "new" / "result.json"
    assert step_main(copying, [*(word.format(file) for word in given), *rest]) == 65
    document = json.loads(file.read_text())
    assert document["status"] == "failed"
    assert "--input" in document["message"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--count", "3"], "missing parameter --word"),
        (["--word", "x", "--count", "three"], "--count 'three' is not int"),
        (["--word", "x", "--kind", "c"], "--kind 'c' is not a|b"),
        (["--word", "x", "--flag", "maybe"], "--flag 'maybe' is not bool"),
        (["--word", "x", "--settings", "[1]"], "--settings '[1]' is not dict"),
        (["--word", "x", "--colour", "red"], "unknown parameter --colour"),
        (["--word"], "--word needs a value"),
        (["word"], "unexpected argument 'word'"),
    ],
)
def test_a_parameter_that_does_not_fit_is_bad_input(folders, arguments, said):
    code, result = run(all_kinds, folders, *arguments)
    assert code == 65
    assert said in result["message"]


def test_a_name_that_the_runner_needs_cannot_be_a_parameter(folders):
    def greedy(ctx: StepContext, *, output: str = "") -> StepResult:
        return StepResult()

    code, result = run(greedy, folders)
    assert code == 65
    assert "'output'" in result["message"]


def test_the_result_document_is_cut_to_its_limit_and_says_so(folders, capsys):
    def chatty(ctx: StepContext) -> StepResult:
        metrics = {f"metric_{n}": float(n) for n in range(20)} | {"endless": float("inf"), "nan": float("nan")}
        return StepResult("done", "ü" * 3000, metrics, [f"warning {n}: " + "x" * 300 for n in range(40)])

    code, result = run(chatty, folders)
    assert code == 0
    assert folders[2].stat().st_size <= RESULT_LIMIT
    assert result["metrics"]["metric_19"] == 19
    assert not {"endless", "nan"} & set(result["metrics"])
    assert result["warnings"][0].startswith("warning 0")
    kept = len(result["warnings"]) - 1
    assert result["warnings"][-1] == f"{40 - kept} further warnings are in the step's log"
    assert "warning 39: " in capsys.readouterr().err


def test_more_metrics_than_fit_are_left_out(folders):
    def counting(ctx: StepContext) -> StepResult:
        return StepResult(metrics={f"metric_number_{n}": n for n in range(500)})

    assert run(counting, folders)[0] == 0
    assert folders[2].stat().st_size <= RESULT_LIMIT


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ([{"rel": "item", "href": "https://example.com/a.json"}], "local folders only"),
        ([{"rel": "item", "href": "./missing.json"}], "does not exist"),
        ([{"rel": "item", "href": "./broken.json"}], "cannot be read as JSON"),
        ([{"rel": "item", "href": "./nothing.json"}], "is not a STAC item"),
        ([{"rel": "child", "href": "./catalog.json"}], "links to itself"),
    ],
)
def test_an_input_that_cannot_be_read_is_bad_input(folders, links, said):
    (folders[0] / "broken.json").write_text("{")
    (folders[0] / "nothing.json").write_text("{}")
    (folders[0] / "catalog.json").write_text(json.dumps(CATALOG | {"links": links}))
    code, result = run(copying, folders)
    assert code == 65
    assert said in result["message"]


def test_items_of_child_catalogs_come_in_the_order_of_the_links(folders):
    source = folders[0]
    (source / "b.json").write_text(json.dumps(item("b")))
    (source / "child.json").write_text(
        json.dumps(CATALOG | {"links": [{"rel": "item", "href": "b.json"}, {"rel": "item", "href": "a/a.json"}]})
    )
    (source / "catalog.json").write_text(json.dumps(CATALOG | {"links": [{"rel": "child", "href": "./child.json"}]}))
    seen = []

    def look(ctx: StepContext) -> StepResult:
        seen.extend(each.id for each in ctx.items())
        return StepResult()

    run(look, folders)
    assert seen == ["b", "a"]


def test_the_output_never_replaces_the_input_or_a_stranger_s_files(folders, tmp_path):
    source, output, result = folders
    for place in (source, tmp_path):
        assert run(copying, (source, place, result))[0] == 65
    output.mkdir()
    (output / "thesis.doc").write_text("years of work")
    code, document = run(copying, folders)
    assert code == 65
    assert "no step wrote" in document["message"]
    assert (output / "thesis.doc").read_text() == "years of work"


def test_an_output_that_is_a_mount_point_is_filled_in_place(folders, monkeypatch):
    folders[1].mkdir()

    def refuse(self, target):
        raise OSError(16, "Device or resource busy", str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    assert run(copying, folders)[0] == 0
    assert (folders[1] / "copy.txt").read_text() == "hello!"
    assert not list(folders[1].parent.glob(".out*"))


def test_an_asset_that_was_not_written_is_an_error(folders):
    def forgetful(ctx: StepContext) -> StepResult:
        each = ctx.items()[0]
        each.assets["data"].href = str(ctx.output / "never.tif")
        ctx.write([each])
        return StepResult()

    code, result = run(forgetful, folders)
    assert code == 1
    assert "never.tif" in result["message"]
    assert not folders[1].exists()


def test_the_area_lies_beside_the_catalog(folders):
    seen = []

    def look(ctx: StepContext) -> StepResult:
        seen.append(ctx.area())
        return StepResult()

    run(look, folders)
    square = {"type": "Polygon", "coordinates": [[[14, 48], [15, 48], [15, 49], [14, 49], [14, 48]]]}
    (folders[0] / "area.geojson").write_text(json.dumps(square))
    run(look, folders)
    assert seen[0] is None
    assert seen[1].bounds == (14, 48, 15, 49)
    (folders[0] / "area.geojson").write_text("{")
    assert run(look, folders)[0] == 65


PROGRAM = """
import hashlib, sys, time
from earthself.processing import StepContext, StepResult, runner, step_main

runner.GRACE_SECONDS = 0.2
def waiting(ctx: StepContext) -> StepResult:
    (ctx.output / "half.tif").write_text("half")
    ctx.progress(0.424, "waiting\\nfor  the end")
    {wait}
    return StepResult()

sys.exit(step_main(waiting))
"""


@pytest.mark.parametrize(
    "wait",
    ["time.sleep(60)", "hashlib.pbkdf2_hmac('sha256', b'x', b'y', 2**31 - 1)"],
    ids=["in Python", "in a library that does not return"],
)
def test_sigterm_stops_a_step_that_leaves_nothing_half_written(folders, wait):
    source, output, result = folders
    environment = os.environ | {
        "EARTHSELF_STEP_INPUT": str(source),
        "EARTHSELF_STEP_OUTPUT": str(output),
        "EARTHSELF_STEP_RESULT": str(result),
    }
    program = PROGRAM.format(wait=wait)
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "progress 0.42 waiting for the end\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    process.stderr.close()
    assert not output.exists()
    assert not (source.parent / ".out.partial").exists()


def test_the_command_lists_steps_and_their_parameters(folders):
    text = subprocess.run([sys.executable, "-m", "earthself.processing", "--help"], capture_output=True, text=True, check=True).stdout
    assert "--dilate float  (default 60.0)" in text
    listed = subprocess.run([sys.executable, "-m", "earthself.processing", "--json"], capture_output=True, text=True, check=True).stdout
    steps = {step["name"]: step for step in json.loads(listed)}
    assert {"sign", "fetch", "mask", "segment"} <= set(steps)
    assert {"name": "mask", "type": "auto|scl|csmask|none", "required": False, "default": "auto"}.items() <= steps["sign"]["parameters"][
        1
    ].items()


@pytest.mark.parametrize("title", ["--help", "-h"])
def test_a_value_that_looks_like_a_question_for_help_is_a_value(folders, capsys, title):
    from earthself.processing.cli import main

    source, output, result = folders
    for words in (["--title", title], [f"--title={title}"]):
        assert main(["quicklook", "--input", str(source), "--output", str(output), "--result", str(result), *words]) == 65
        assert "neither an asset 'land_cover'" in json.loads(result.read_text())["message"], "the step ran and looked at its input"
    for words in (["--help"], ["-h"], ["--title", "x", "--help"], ["--title=x", "--json", "-h"]):
        capsys.readouterr()
        assert main(["quicklook", *words]) == 0
        assert "--title str" in capsys.readouterr().out


def test_the_command_refuses_what_it_does_not_know(folders, capsys):
    from earthself.processing.cli import main

    assert main([]) == 2
    assert main(["--input", "x"]) == 2
    assert main(["no_such_step", "--input", "x", "--output", "y"]) == 65
    assert "there is no step 'no_such_step'" in capsys.readouterr().err
    assert main(["sign"]) == 65
    assert "EARTHSELF_STEP_INPUT" in capsys.readouterr().err


def test_the_result_document_is_written_in_place(folders):
    result = folders[2]
    result.write_text("what a container runtime has put there")
    file = result.stat().st_ino
    code, document = run(copying, folders)
    assert (code, document["status"]) == (0, "done")
    assert result.stat().st_ino == file, "a mounted file cannot be replaced by another"
