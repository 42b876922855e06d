"""The prices inside apache-libcloud, as the package has them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import date

import pytest
from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers import from_libcloud
from earthself.benchmark.offers.model import Allocation, Offer, Price


@pytest.fixture(scope="module")
def found():
    reasons = Counter()
    rows = list(from_libcloud.rows(left_out=lambda why: reasons.update([why])))
    return rows, reasons


@pytest.fixture
def pricing(tmp_path):
    def write(ec2, azure=None, updated=1_780_000_000):
        (tmp_path / "pricing.json").write_text(
            json.dumps({"compute": {"ec2_linux": ec2, "azure_linux": azure or {}}, "updated": updated}), encoding="utf-8"
        )
        return tmp_path / "pricing.json"

    return write


def prices(rows, **wanted):
    return [row for row in rows if isinstance(row, Price) and all(getattr(row, name) == value for name, value in wanted.items())]


def test_prices_of_ec2_are_dollars_of_the_day_of_the_file(found):
    (price,) = prices(found[0], cloud="aws", offer="m5.large", region="us-east-1")
    assert (price.amount, price.currency, price.allocation) == (0.096, "USD", Allocation.ON_DEMAND)
    assert (price.source.day, price.source.name) == (date(2025, 3, 2), "apache-libcloud 3.9.1")


def test_nought_is_no_price_anywhere(found):
    rows, reasons = found
    assert reasons["no price known there (0.0)"] > 1000
    assert min(row.amount for row in prices(rows)) > 0
    assert not prices(rows, cloud="aws", offer="m5.large", region="ap-south-1")


def test_what_ec2s_machines_have_comes_from_the_librarys_own_table(found):
    machines = {row.offer: row for row in found[0] if isinstance(row, Offer)}
    assert (machines["m5.large"].vcpus, machines["m5.large"].memory_gib, machines["m5.large"].architecture) == (2.0, 8.0, "x86_64")
    assert machines["m6g.large"].architecture == "aarch64"
    assert machines["p3.2xlarge"].gpus == 1.0
    assert machines["c6a.metal"].vcpus is None, "the table does not know it"
    assert machines["m5.large"].gpus is None, "nobody says that there is none"
    assert "m5" not in machines, "the price of a whole host is not that of a machine"


def test_azures_prices_have_the_day_since_which_they_are_the_same(found):
    (price,) = prices(found[0], cloud="azure", offer="standardd2v3", region="westeurope", allocation=Allocation.ON_DEMAND)
    (spot,) = prices(found[0], cloud="azure", offer="standardd2v3", region="westeurope", allocation=Allocation.SPOT)
    assert price.source.day == date(2020, 8, 30)
    assert spot.amount < price.amount
    assert {row.cloud for row in prices(found[0])} == {"aws", "azure"}


def test_a_newer_file_has_its_own_day(pricing):
    file = pricing({"m5.large": {"eu-west-1": 0.1, "x": 0.0, "y": "n/a", "z": "0.2"}}, {"standardd2v3": {"westeurope": 0.1}})
    reasons = []
    rows = list(from_libcloud.rows(file, reasons.append))
    assert {(row.cloud, row.region, row.amount) for row in prices(rows)} == {
        ("aws", "eu-west-1", 0.1), ("aws", "z", 0.2), ("azure", "westeurope", 0.1),
    }  # fmt: skip
    assert {row.source.day for row in rows} == {date(2026, 5, 28)}
    assert reasons == ["no price known there (0.0)", "no number"]


@pytest.mark.parametrize("text", ["{", "[1]", '{"compute": {}}', '{"compute": {}, "updated": 1}', '{"compute": [], "updated": 1e99}'])
def test_another_file_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadOffers, match=r"x\.json (is no pricing\.json|has no ec2_linux)"):
        list(from_libcloud.rows(tmp_path / "x.json"))


def test_reading_does_not_import_the_library():
    code = "import sys; from earthself.benchmark.offers import from_libcloud as f; next(f.rows()); sys.exit('libcloud' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
