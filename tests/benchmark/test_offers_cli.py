"""`earthself-suggest offers`, as a person and a program use it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from earthself.benchmark.cli import app
from typer.testing import CliRunner

TODAY = datetime.now(UTC).date()
TABLE = """cloud,region,offer,vcpus,memory_gib,amount,currency
north,eu-paris,s-2,2,4,0.05,EUR
north,eu-paris,s-4,4,8,0.10,USD
north,eu-berlin,s-4,4,8,0.11,EUR
north,eu-paris,s-8,8,,0.2,XPF
north,,s-16,16,64,,
"""


@pytest.fixture
def offers(tmp_path):
    def run(*words: str, code: int = 0):
        done = CliRunner().invoke(app, ["offers", *map(str, words)], env={"EARTHSELF_DATABASE_URL": f"sqlite:///{tmp_path / 'p.db'}"})
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def filled(offers, tmp_path):
    (tmp_path / "n.csv").write_text(TABLE)
    (tmp_path / "fx.csv").write_text(f"Date,USD,\n{TODAY},1.25,\n")
    offers("load", "file", tmp_path / "n.csv", "--day", TODAY)
    offers("load", "ecb", tmp_path / "fx.csv")
    return offers


def table(done):
    return [line.split() for line in done.stdout.splitlines()]


def test_machines_are_listed_with_their_price_in_euros_the_cheapest_first(filled):
    lines = table(filled("list"))
    assert [line[:6] for line in lines[1:4]] == [
        ["north", "s-2", "eu-paris", "2", "4", "0.0500"],
        ["north", "s-4", "eu-paris", "4", "8", "0.0800"],
        ["north", "s-4", "eu-berlin", "4", "8", "0.1100"],
    ]
    assert lines[4][4:] == ["unknown", "unknown", "0.2000", "XPF", "without", "a", "rate,", "price", "of", str(TODAY)]
    assert lines[5] == ["north", "s-16", "unknown", "16", "64", "unknown", "unknown"]
    assert "(old)" not in filled("list").stdout


def test_a_list_can_be_narrowed_and_what_is_not_known_does_not_fit(filled):
    def names(*words):
        return [json.loads(line)["offer"] for line in filled("list", "--json", *words).stdout.splitlines()]

    assert names("--min-vcpus", "4") == ["s-4", "s-4", "s-8", "s-16"]
    assert names("--min-memory", "8") == ["s-4", "s-4", "s-16"]
    assert names("--region", "eu-berlin") == ["s-4"]
    assert names("--cloud", "south") == []
    assert "nothing in the catalogue fits" in filled("list", "--cloud", "south").stdout
    assert "3 more; --limit shows them" in filled("list", "--limit", "2").stdout


def test_programs_get_json_with_none_for_what_is_unknown(filled):
    cheap, *_, without_rate, without_price = [json.loads(line) for line in filled("list", "--json").stdout.splitlines()]
    assert (cheap["euros"], cheap["rate_day"], cheap["price_day"], cheap["source"], cheap["old"]) == (
        0.05,
        None,
        str(TODAY),
        "n.csv",
        False,
    )
    assert (without_rate["euros"], without_rate["amount"], without_rate["currency"]) == (None, 0.2, "XPF")
    assert (without_price["euros"], without_price["amount"], without_price["region"]) == (None, None, None)


def test_old_prices_and_prices_by_old_rates_say_so(offers, tmp_path):
    (tmp_path / "n.csv").write_text(TABLE)
    offers("load", "file", tmp_path / "n.csv", "--day", TODAY - timedelta(days=181))
    assert f"price of {TODAY - timedelta(days=181)} (old)" in offers("list").stdout
    offers("load", "file", tmp_path / "n.csv", "--day", TODAY - timedelta(days=180))
    assert "(old)" not in offers("list").stdout
    (tmp_path / "fx.csv").write_text(f"Date,USD,\n{TODAY - timedelta(days=91)},1.25,\n")
    offers("load", "ecb", tmp_path / "fx.csv")
    assert next(line[-1] for line in table(offers("list")) if line[1] == "s-4") == "(old)"


def test_a_price_that_is_no_longer_valid_is_old(offers, tmp_path):
    (tmp_path / "n.csv").write_text(f"cloud,region,offer,amount,currency,valid_until\nn,p,s,1,EUR,{TODAY - timedelta(days=1)}\n")
    offers("load", "file", tmp_path / "n.csv", "--day", TODAY)
    assert "(old)" in offers("list").stdout


def test_one_machine_is_shown_with_its_source(filled):
    shown = filled("show", "north", "s-4").stdout
    assert "vcpus            4.0\n" in shown
    assert "gpus             unknown\n" in shown
    assert "source           n.csv\n" in shown
    assert "eu-berlin" in shown
    said = json.loads(filled("show", "north", "s-4", "--json").stdout)
    assert said["offer"]["gpus"] is None
    assert [price["region"] for price in said["prices"]] == ["eu-berlin", "eu-paris"]
    assert "nobody says anything about m of north" in filled("show", "north", "m", code=65).stderr


def test_every_way_of_filling_it_says_what_came_of_it(offers, tmp_path):
    said = json.loads(offers("load", "libcloud", "--json").stdout)
    assert said["read"] == said["new"] > 10_000
    assert said["left_out"]["no price known there (0.0)"] > 0
    example = Path(__file__).parents[2] / "docs/examples/offers.yaml"
    assert "facts read" in offers("load", "file", example).stdout
    script = f"import sqlite3; sqlite3.connect(sys.argv[1]).executescript(open({str(Path(__file__).with_name('sparecores.sql'))!r}).read())"
    subprocess.run([sys.executable, "-c", f"import sys; {script}", str(tmp_path / "sc.db")], check=True)
    assert (
        "left out:       2 server_price: its machine, region or zone is not active"
        in offers("load", "sparecores", tmp_path / "sc.db").stdout
    )
    assert "g-8" in offers("list", "--cloud", "north").stdout


def test_bad_files_end_with_65_and_leave_nothing(offers, tmp_path):
    (tmp_path / "good.csv").write_text(TABLE)
    (tmp_path / "bad.csv").write_text(TABLE + "north,eu-paris,s-2,2,4,0,EUR\n")
    files = (tmp_path / "good.csv", tmp_path / "bad.csv")
    assert "earthself-suggest: bad.csv, line 7: amount is 0" in offers("load", "file", *files, "--day", TODAY, code=65).stderr
    assert "bad.csv does not say of which day" in offers("load", "file", tmp_path / "bad.csv", code=65).stderr
    for kind in ("libcloud", "sparecores", "ecb"):
        assert "bad.csv" in offers("load", kind, tmp_path / "bad.csv", code=65).stderr
    assert "nothing in the catalogue fits" in offers("list").stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from earthself.benchmark.cli import app;"
        "words = [[], ['offers'], ['offers', 'load'], ['offers', 'list']];"
        "done = [CliRunner().invoke(app, [*each, '--help']).exit_code for each in words];"
        "sys.exit(any(done) or ' '.join({'sqlalchemy', 'yaml', 'jsonschema', 'libcloud', 'numpy'} & {*sys.modules}) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
