"""What sources say is kept for the record, and the newest of it counts."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from earthself.benchmark.errors import BadOffers, CatalogueBroken
from earthself.benchmark.offers.catalogue import Added, Catalogue
from earthself.benchmark.offers.model import Allocation, Carbon, Offers, Price, Rate, Tier
from earthself.benchmark.samples import Sample
from earthself.benchmark.tables import Samples

from tests.benchmark.offers import NEWER, OLDER, one_of_each, price, source


def amounts(kept):
    return [each.amount for each in kept.snapshot().prices]


def test_all_kinds_of_rows_come_back_as_they_were(url):
    rows = one_of_each()
    with Catalogue(url) as kept:
        assert kept.snapshot() == Offers()
        assert kept.add(rows) == Added(read=len(rows), new=len(rows), replaced=0)
        found = kept.snapshot()
    flat = [row for group in vars(found).values() for row in group]
    assert sorted(map(repr, flat)) == sorted(map(repr, rows))
    assert [offer.offer for offer in found.offers] == ["g-8", "s-2"], "in the order of their keys"
    assert type(found.prices[0].allocation) is Allocation


def test_the_newest_day_counts_whatever_the_order_of_reading(url):
    with Catalogue(url) as kept:
        assert kept.add([price(2.0, source=source(day=NEWER))]).new == 1
        assert kept.add([price(1.0, source=source(day=OLDER))]).new == 1
        assert amounts(kept) == [2.0]
        kept.add([price(3.0, source=source(day=NEWER))])
        assert amounts(kept) == [3.0]


def test_what_is_said_otherwise_about_the_same_day_is_replaced(url):
    with Catalogue(url) as kept:
        kept.add([price(1.0), price(5.0, region="eu-berlin")])
        assert kept.add([price(1.5), price(5.0, region="eu-berlin")]) == Added(2, 0, 1)
        assert amounts(kept) == [5.0, 1.5]


def test_of_several_sources_the_newest_counts_and_of_one_day_the_first_by_name(url):
    with Catalogue(url) as kept:
        kept.add([price(1.0, source=source("b")), price(2.0, source=source("B")), price(3.0, source=source("c", OLDER))])
        assert amounts(kept) == [2.0], "capitals come first in any database"
        kept.add([price(4.0, source=source("z", NEWER))])
        assert amounts(kept) == [4.0]


def test_prices_differ_by_zone_allocation_and_term(url):
    reserved = [price(each, allocation=Allocation.RESERVED, term_months=int(each)) for each in (12.0, 36.0)]
    rows = [price(1.0), price(2.0, zone="a"), price(3.0, allocation=Allocation.SPOT), *reserved]
    with Catalogue(url) as kept:
        assert kept.add(rows).new == 5
        assert sorted(amounts(kept)) == [1.0, 2.0, 3.0, 12.0, 36.0]


def test_all_rows_are_kept_or_none(url):
    def broken():
        yield from one_of_each()
        yield price(0.0)

    with Catalogue(url) as kept:
        with pytest.raises(BadOffers, match="amount is 0"):
            kept.add(broken())
        assert kept.snapshot() == Offers()
        assert kept.revision() == "0" * 32


def test_the_revision_names_the_content(url, tmp_path):
    rows = one_of_each()
    with Catalogue(url) as kept, Catalogue(f"sqlite:///{tmp_path / 'other.db'}") as other:
        kept.add(rows)
        first = kept.revision()
        kept.add(rows)
        assert kept.revision() == first, "nothing changed"
        for row in reversed(rows):
            other.add([row])
        assert other.revision() == first, "the same facts, in another order, in another database"
        kept.add([price(9.0)])
        assert kept.revision() != first
        kept.add([price()])
        assert kept.revision() == first, "as it was before"
        kept.add([replace(price(), source=source(day=OLDER))])
        assert kept.revision() != first, "what stays for the record only is content, too"
        state = kept.state()
        assert (state.revision, state.offers) == (kept.revision(), kept.snapshot())


def test_whole_numbers_are_the_same_facts_as_the_database_gives_back(url):
    with Catalogue(url) as kept:
        assert kept.add([price(1, upfront=0)]).new == 1
        assert kept.add(kept.snapshot().prices) == Added(1, 0, 0)


def test_the_last_of_one_fact_counts_within_a_reading(url):
    with Catalogue(url) as kept:
        assert kept.add([price(1.0), price(2.0)]) == Added(2, 1, 0)
        assert amounts(kept) == [2.0]


def test_many_rows_are_kept_in_one_go(url):
    rows = [price(1 + number / 7, offer=f"m-{number}") for number in range(12_000)]
    with Catalogue(url) as kept:
        assert kept.add(rows).new == 12_000
        changed = [replace(row, amount=row.amount + 1) for row in rows[:6000]]
        assert kept.add(changed + rows[6000:]) == Added(12_000, 0, 6000)
        assert sum(amounts(kept)) == pytest.approx(sum(row.amount for row in rows) + 6000)


def test_samples_that_were_kept_before_there_were_offers_are_still_there(tmp_path):
    url, made = f"sqlite:///{tmp_path / 'p.db'}", Sample("t", "m", 1.0, "", {}, 1.0, "r", "s")
    with Samples(url) as samples:
        samples.add([made])
    with sqlite3.connect(tmp_path / "p.db") as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table' AND name LIKE 'benchmark_%'").fetchall():
            if name not in ("benchmark_sample", "benchmark_version"):
                database.execute(f"DROP TABLE {name}")
        database.execute("DROP INDEX benchmark_sample_place")
        database.execute("UPDATE benchmark_version SET version_num='0001'")
    with Catalogue(url) as kept, Samples(url) as samples:
        assert kept.snapshot() == Offers()
        assert list(samples.find()) == [made]


def test_a_database_that_is_away_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CatalogueBroken, match="cannot be used"), Catalogue(f"sqlite:///{tmp_path / 'file' / 'p.db'}"):
        pass


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (price(float("nan")), "amount is nan"),
        (price(-1.0), "amount is -1"),
        (price(True), "amount is True"),
        (price(2e6), "amount is 2000000"),
        (price(currency="eur"), "ISO 4217"),
        (price(currency="XXY"), "ISO 4217"),
        (price(cloud="North"), "lower-case"),
        (price(cloud=""), "cloud is empty"),
        (price(region=""), "region is empty"),
        (price(offer="s" * 251), "at most 250"),
        (price(offer="s\n2"), "one line"),
        (price(zone=" a"), "without spaces around"),
        (price(term_months=12), "only reserved"),
        (price(allocation="ondemand"), "one of ondemand, spot, reserved"),
        (price(valid_until=date(1970, 1, 1)), "valid_until is 1970-01-01"),
        (price(source=source("")), "source has no name"),
        (price(source=source(day=datetime.now(UTC).date() + timedelta(days=2))), "yet to come"),
        (replace(one_of_each()[0], country="UK"), "ISO 3166-1"),
        (replace(one_of_each()[1], latitude=91.0), "latitude is 91"),
        (replace(one_of_each()[2], vcpus=0.0), "vcpus is 0"),
        (replace(one_of_each()[7], tiers=()), "tiers end at"),
        (replace(one_of_each()[7], tiers=(Tier(5.0, 1.0),)), "last one without"),
        (replace(one_of_each()[7], tiers=(Tier(5.0, 1.0), Tier(5.0, 2.0), Tier(None, 1.0))), "whose ends rise"),
        (replace(one_of_each()[7], tiers=(Tier(None, -1.0),)), "tier amount is -1"),
        (Rate("EUR", 1.0, source()), "another currency"),
        (Carbon(5.0, source(), cloud="north"), "neither country nor"),
    ],
)
def test_what_cannot_be_is_not_kept(row, says, tmp_path):
    with Catalogue(f"sqlite:///{tmp_path / 'p.db'}") as kept, pytest.raises(BadOffers, match=says):
        kept.add([row])


def test_tomorrow_is_a_day_that_clocks_elsewhere_may_have(tmp_path):
    soon = source(day=datetime.now(UTC).date() + timedelta(days=1))
    with Catalogue(f"sqlite:///{tmp_path / 'p.db'}") as kept:
        assert kept.add([price(source=soon)]).new == 1
        assert isinstance(kept.snapshot().prices[0], Price)
