"""The commands `answer` and `report`, with a database of prices and measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import chain

import pytest
import yaml
from earthself.benchmark.cli import app
from earthself.benchmark.offers.catalogue import Catalogue
from earthself.benchmark.tables import Samples
from typer.testing import CliRunner

from tests.benchmark.clouds import NEED, RATES, offer, offers, price, samples

PLOTS = ["cost-time.png", "costs.png", "weights.png"]


@pytest.fixture
def known(tmp_path):
    """Two machines that were measured, and one that was not."""
    url = f"sqlite:///{tmp_path / 'p.db'}"
    quick = {key: 2 * value for key, value in RATES.items()}
    rows = replace(offers(), offers=(offer(), offer("q4"), offer("new")), prices=(price(), price(0.6, "q4"), price(0.1, "new")))
    with Catalogue(url) as catalogue, Samples(url) as kept:
        catalogue.add(chain.from_iterable(vars(rows).values()))
        kept.add([*samples(), *samples("q4", rates=quick)])
    return url


@pytest.fixture
def suggest(known, tmp_path):
    (tmp_path / "need.yaml").write_text(yaml.safe_dump(NEED))

    def run(*words: str, code: int = 0, typed: str | None = None):
        given = {"EARTHSELF_DATABASE_URL": known, "EARTHSELF_OPERATOR": "Example Ltd", "EARTHSELF_OPERATOR_EARNS_FROM": "none"}
        done = CliRunner().invoke(app, [*words], env=given, input=typed)
        assert done.exit_code == code, done.output
        return done

    return run


def test_a_person_gets_sentences_and_a_table(suggest, tmp_path):
    said = suggest("answer", str(tmp_path / "need.yaml"), "--day", "2026-11-23").stdout
    assert said.startswith("Run it on q4 of north in n1: 0.128 h and 0.0771 EUR a month")
    assert "Example Ltd runs this platform and earns from none of the clouds." in said
    table = [line.split() for line in said.splitlines() if line.startswith(("1  ", "2  ", "-  "))]
    assert [(row[0], row[1]) for row in table] == [("1", "q4"), ("2", "m4"), ("-", "new")]
    assert "measured (5 times, 2026-11-20)" in said
    assert "of 2026-11-23, state " in said


def test_a_program_gets_json_also_for_what_is_typed(suggest):
    said = json.loads(suggest("answer", "-", "--day", "2026-11-23", "--json", typed=json.dumps(NEED)).stdout)
    assert [one.get("rank") for one in said["choices"]] == [1, 2, None]
    assert said["day"] == "2026-11-23"
    assert said["operator"] == {"name": "Example Ltd", "earns_from": []}


def test_the_day_decides_which_prices_are_old(suggest, tmp_path):
    said = suggest("answer", str(tmp_path / "need.yaml"), "--day", "2027-11-23").stdout
    assert said.startswith("There is no ranking: no offer is known well enough")
    assert "price of 2026-11-01 (old)" in said


def test_all_is_written_into_a_folder_and_nothing_is_left_beside(suggest, tmp_path):
    out = tmp_path / "new" / "folder"
    words = ("answer", str(tmp_path / "need.yaml"), "--out", str(out), "--day")
    said = suggest(*words, "2026-11-23").stdout
    assert sorted(path.name for path in out.iterdir()) == sorted(["answer.json", "report.html", *PLOTS])
    assert said.endswith(f"written to {out}: answer.json, cost-time.png, costs.png, report.html, weights.png\n")
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    suggest(*words, "2026-11-23")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert json.loads(first["answer.json"])["choices"][0]["offer"] == "q4"
    suggest(*words, "2027-11-23")
    assert sorted(path.name for path in out.iterdir()) == ["answer.json", "cost-time.png", "costs.png", "report.html"]


def test_a_report_is_a_file_and_plots_are_written_where_they_are_wanted(suggest, tmp_path):
    words = ("report", str(tmp_path / "need.yaml"), "--day", "2026-11-23", "--out", str(tmp_path / "r.html"))
    assert suggest(*words).stdout == f"{tmp_path / 'r.html'} written\n"
    assert "Run it on q4 of north in n1" in (tmp_path / "r.html").read_text(encoding="utf-8")
    said = json.loads(suggest(*words, "--plots", str(tmp_path / "plots"), "--json").stdout)
    assert said["plots"] == PLOTS == sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert suggest("report", str(tmp_path / "need.yaml"), "--out", str(tmp_path / "no" / "r.html"), code=65).stderr


@pytest.mark.parametrize("need", ["missing.yaml", "binary", "bad.yaml"])
def test_a_need_that_cannot_be_read_ends_with_65_and_its_name(suggest, tmp_path, need):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bad.yaml").write_text("work: 3")
    assert need in suggest("answer", str(tmp_path / need), "--out", str(tmp_path / "out"), code=65).stderr
    assert not (tmp_path / "out").exists()


def test_help_does_not_load_what_only_answers_need():
    heavy = "import sys, earthself.benchmark.cli; print(*({'numpy', 'matplotlib', 'sqlalchemy', 'jinja2', 'eodag'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
