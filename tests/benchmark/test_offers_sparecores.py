"""A dump as sparecores-crawler writes it, of made-up clouds (sparecores.sql)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers.catalogue import Catalogue
from earthself.benchmark.offers.from_sparecores import rows
from earthself.benchmark.offers.model import (
    Allocation,
    Certificate,
    Cloud,
    EgressPrice,
    Offer,
    Price,
    Region,
    Source,
    StorageKind,
    StoragePrice,
    Tier,
)  # fmt: skip

DAY = date(2026, 11, 1)


@pytest.fixture
def dump(tmp_path):
    """Give the file, after changes."""

    def make(*changes: str) -> Path:
        file = tmp_path / "sc dump?.db"
        with closing(sqlite3.connect(file)) as database:
            database.executescript(Path(__file__).with_name("sparecores.sql").read_text())
            for change in changes:
                database.execute(change)
            database.commit()
        return file

    return make


def read(file, kind):
    return [row for row in rows(file) if isinstance(row, kind)]


def test_what_is_active_is_read_with_its_day(dump):
    file, reasons = dump(), Counter()
    found = list(rows(file, lambda why: reasons.update([why])))
    source = Source("Spare Cores", "https://sparecores.com/", DAY)
    assert [row for row in found if isinstance(row, Cloud)] == [Cloud("north", "North Cloud", source, "https://north.example", "FR")]
    assert [row for row in found if isinstance(row, Region)] == [
        Region("north", "eu-paris", "Paris (FR)", source, "FR", "Paris", 2.35, 48.86, ("eu-paris-a", "eu-paris-b"))
    ]
    assert [row.name for row in found if isinstance(row, Certificate)] == ["iso-27001", "soc-2-type-2"]
    assert reasons["server: not active"] == 1
    assert reasons["server_price: its machine, region or zone is not active"] == 2
    assert reasons["server_price: not for Linux"] == reasons["server_price: not by the hour"] == reasons["server_price: 0"] == 1


def test_machines_have_what_the_dump_says_of_them(dump):
    small, large = read(dump(), Offer)
    assert (small.offer, small.vcpus, small.memory_gib, small.architecture) == ("s-2", 2, 4.0, "x86_64")
    assert (small.cpu_model, small.gpus, small.disk_gb, small.disk_kind, small.network_gbps) == ("AMD EPYC 7R13", 0.0, 0, None, 0.5)
    assert (large.architecture, large.memory_gib, large.disk_gb, large.disk_kind) == ("aarch64", 64.0, 450, "nvme ssd")
    assert (large.gpus, large.gpu_model, large.gpu_memory_gib, large.network_gbps) == (0.5, "NVIDIA A10", 24.0, None)


def test_prices_are_of_zones_under_the_names_that_users_know(dump):
    found = {(row.zone, row.offer, row.allocation): row for row in read(dump(), Price)}
    assert {key: row.amount for key, row in found.items()} == {
        ("eu-paris-a", "s-2", Allocation.ON_DEMAND): 0.05,
        ("eu-paris-b", "s-2", Allocation.ON_DEMAND): 0.05,
        ("eu-paris-a", "s-2", Allocation.SPOT): 0.02,
        ("eu-paris-a", "g-8", Allocation.ON_DEMAND): 1.25,
    }
    spot = found["eu-paris-a", "s-2", Allocation.SPOT]
    assert (spot.region, spot.currency, spot.source.day) == ("eu-paris", "EUR", date(2026, 11, 3))


def test_storage_and_egress_have_their_prices(dump):
    file = dump()
    (storage,), (egress,) = read(file, StoragePrice), read(file, EgressPrice)
    assert (storage.kind, storage.name, storage.amount, storage.currency) == (StorageKind.BLOCK, "Fast SSD", 0.08, "EUR")
    assert egress.tiers == (Tier(100.0, 0.0), Tier(10240.0, 0.09), Tier(None, 0.07))
    assert egress.currency == "USD"


def test_gibibytes_are_made_gigabytes(dump):
    file = dump("UPDATE storage_price SET unit='GIB'", "UPDATE traffic_price SET unit='GIB', price_tiered='[]'")
    assert read(file, StoragePrice)[0].amount == pytest.approx(0.08 / 1.073741824)
    assert read(file, EgressPrice)[0].tiers == (Tier(None, pytest.approx(0.09 / 1.073741824)),)


def test_tiers_that_leave_a_gap_are_left_out(dump):
    file = dump("UPDATE traffic_price SET price_tiered=replace(price_tiered, '\"lower\": 100.0', '\"lower\": 200.0')")
    assert read(file, EgressPrice) == []


def test_a_dump_of_before_accelerators_is_read(dump):
    file = dump(
        "ALTER TABLE server RENAME COLUMN accelerator_count TO gpu_count",
        "ALTER TABLE server RENAME COLUMN accelerator_memory_min TO gpu_memory_min",
        "ALTER TABLE server RENAME COLUMN accelerator_manufacturer TO gpu_manufacturer",
        "ALTER TABLE server RENAME COLUMN accelerator_model TO gpu_model",
        "ALTER TABLE server RENAME COLUMN network_speed_baseline TO network_speed",
        "ALTER TABLE server DROP COLUMN accelerator_type",
    )
    small, large = read(file, Offer)
    assert (large.gpus, large.gpu_model, large.gpu_memory_gib, small.network_gbps) == (0.5, "NVIDIA A10", 24.0, 0.5)


def test_a_tpu_is_no_gpu(dump):
    assert [row.gpus for row in read(dump("UPDATE server SET accelerator_type='TPU'"), Offer)] == [0.0, 0.0]


def test_a_row_that_cannot_be_is_left_out_and_counted(dump):
    reasons = []
    found = list(rows(dump("UPDATE server_price SET currency='doubloons' WHERE allocation='SPOT'"), reasons.append))
    assert "Price: currency cannot be" in reasons
    assert not [row for row in found if isinstance(row, Price) and row.allocation is Allocation.SPOT]


def test_what_is_read_can_be_kept_and_the_dump_is_left_alone(dump, url):
    file = dump()
    before = file.read_bytes()
    with Catalogue(url) as kept:
        assert kept.add(rows(file)).new == kept.add(rows(file)).read
        assert len(kept.snapshot().prices) == 4
    assert file.read_bytes() == before
    assert list(file.parent.glob("*dump*")) == [file]


def test_another_file_is_refused_with_what_is_missing(dump, tmp_path):
    (tmp_path / "x.bz2").write_bytes(b"BZh9" * 500)
    with pytest.raises(BadOffers, match=r"x\.bz2 is no SQLite file .*unpack it first"):
        list(rows(tmp_path / "x.bz2"))
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(BadOffers, match=r"empty\.db is no Spare Cores dump .* table vendor has no country_id, homepage"):
        list(rows(tmp_path / "empty.db"))
    with pytest.raises(BadOffers, match="table server has no memory_amount"):
        list(rows(dump("ALTER TABLE server DROP COLUMN memory_amount")))


def test_a_dump_with_a_broken_day_says_so(dump):
    with pytest.raises(BadOffers, match=r"cannot be read to its end .*fetch the dump again"):
        list(rows(dump("UPDATE server SET observed_at='soon'")))
