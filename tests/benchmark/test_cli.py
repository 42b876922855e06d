"""The command, as a person and a program use it."""

from __future__ import annotations

import json

import pytest
from earthself.benchmark.cli import app
from typer.testing import CliRunner


@pytest.fixture
def suggest(tmp_path):
    def run(*words: str, code: int = 0):
        done = CliRunner().invoke(app, list(words), env={"EARTHSELF_DATABASE_URL": f"sqlite:///{tmp_path / 'p.db'}"})
        assert done.exit_code == code, done.output
        return done

    return run


def test_what_is_measured_is_shown_kept_and_given_away(suggest, tmp_path):
    words = ("probe", "numpy_one", "network", "--seconds", "1", "--cloud", "North", "--offer", "s-2", "--scratch", str(tmp_path))
    shown = suggest(*words, "--repeats", "2", "--out", str(tmp_path / "s.ndjson")).stdout
    assert "numpy_one pixels" in shown
    assert "not trusted: too few repeats" in shown
    assert "network" in shown
    assert len((tmp_path / "s.ndjson").read_text().splitlines()) == 3
    assert suggest("import", str(tmp_path / "s.ndjson")).stdout == "3 samples read, 0 of them are new\n"
    assert suggest("export", str(tmp_path / "all.ndjson"), "--cloud", "north", "--test", "numpy_one").stdout.startswith("2 samples written")
    assert suggest("export", "-", "--cloud", "south").stdout == ""


def test_programs_get_json(suggest, tmp_path):
    said = json.loads(suggest("probe", "numpy_one", "--seconds", "1", "--repeats", "5", "--scratch", str(tmp_path), "--json").stdout)
    (found,) = said["results"]
    assert (found["test"], found["metric"], found["unit"], found["count"]) == ("numpy_one", "pixels", "Mpixel/s", 5)
    assert found["low"] <= found["median"] <= found["high"]
    listed = [json.loads(line) for line in suggest("probe", "--list", "--json").stdout.splitlines()]
    (about,) = (one["measures"] for one in listed if one["name"] == "numpy_all")
    assert about == [{"name": "pixels", "unit": "Mpixel/s", "better": "higher"}]


def test_nothing_measured_is_a_failure(suggest, tmp_path):
    assert "nobody says where an iperf3 listens" in suggest("probe", "network", "--scratch", str(tmp_path), code=1).stdout


def test_what_has_no_place_is_not_measured_unless_it_is_asked_for(suggest, tmp_path, monkeypatch):
    asked = []

    def samples(_run, probes, _note):
        asked.extend(probe.name for probe in probes)
        return iter(())

    def measured(*words):
        asked.clear()
        suggest("probe", "--scratch", str(tmp_path), *words, code=1)
        return set(asked)

    monkeypatch.setattr("earthself.benchmark.probing.Run.samples", samples)
    wanted = ("--provider", "near", "--area", "1,2,3,4", "--period", "2017-06-01/2017-07-01")
    everywhere = measured()
    assert not everywhere & {"network", "object_store", "download", "catalogue_search", "staging", "ready_pod"}
    assert measured("--raster", "https://h/x.tif") - everywhere == {"raster_windows", "download"}
    assert measured("network") == {"network"}
    assert measured(*wanted) - everywhere == {"catalogue_search", "products_online"}
    assert measured(*wanted, "--order", "5", "--namespace", "n", "--image", "i") - everywhere >= {"staging", "ready_pod"}


def test_each_probe_is_kept_as_soon_as_it_has_measured(suggest, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("earthself.benchmark.probes.PROBES", _with_second(interrupted))
    suggest("probe", "numpy_one", "network", "--seconds", "1", "--repeats", "1", "--scratch", str(tmp_path), code=130)
    assert len(suggest("export", "-", "--test", "numpy_one").stdout.splitlines()) == 1


def _with_second(once):
    """The probes, of which one does something else."""
    from dataclasses import replace

    from earthself.benchmark.probes import PROBES

    return PROBES | {"network": replace(PROBES["network"], once=once, needs=())}


@pytest.mark.parametrize("words", [("probe", "cpu"), ("probe", "numpy_one", "--out", "/proc/none/x")])
def test_bad_requests_end_with_65(suggest, words):
    assert "earthself-suggest: " in suggest(*words, code=65).stderr


def test_a_bad_file_brings_nothing_in(suggest, tmp_path):
    good = {"test": "t", "metric": "m", "value": 1, "timestamp": 1, "run_uri": "r", "sample_uri": "s", "unit": None, "labels": ""}
    (tmp_path / "x").write_text(json.dumps(good) + "\n{}\n")
    assert "x, line 2: test is 'None'" in suggest("import", str(tmp_path / "x"), code=65).stderr
    assert suggest("export", "-").stdout == ""
