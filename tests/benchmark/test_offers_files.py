"""What operators write down, with the mistakes that people make, and the European Central Bank's files."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

import jsonschema
import pytest
from earthself.benchmark.errors import BadOffers
from earthself.benchmark.offers import from_ecb, from_file
from earthself.benchmark.offers.catalogue import Catalogue
from earthself.benchmark.offers.from_table import Said
from earthself.benchmark.offers.model import Allocation, Offer, Price, Region, Source

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "benchmark/earthself/benchmark/schemas/offers.schema.json"
HEAD = "source: {name: list, day: 2026-11-01}\n"
ROW = "cloud: north, region: p, offer: s"
SAID = Said(date(2026, 11, 1), "North's list", "https://north.example")
TABLE = "cloud,region,offer,amount,currency"


@pytest.fixture
def read(tmp_path):
    def rows(text, name="offers.yaml", said=None):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return list(from_file.rows(tmp_path / name, said))

    return rows


def test_the_example_of_the_documentation_can_be_read(url):
    found = list(from_file.rows(ROOT / "docs/examples/offers.yaml"))
    with Catalogue(url) as kept:
        assert kept.add(found).new == len(found)
        offers = kept.snapshot()
    assert all(vars(offers).values()), "it shows each kind of fact"
    boat = next(price for price in offers.prices if price.offer == "boat")
    assert (boat.source.name, boat.source.day, boat.currency) == ("Harbour Cloud, offer by letter", date(2026, 10, 12), "NOK")
    assert all("example" in cloud.cloud for cloud in offers.clouds)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))


def test_json_says_the_same_as_yaml(read):
    document = {"source": {"name": "list", "day": "2026-11-01"}, "prices": [
        {"cloud": "north", "region": "p", "offer": "s", "amount": 1, "currency": "EUR", "allocation": "spot"},
    ]}  # fmt: skip
    (found,) = read(json.dumps(document), "offers.json")
    assert found == Price("north", "p", "s", Allocation.SPOT, 1.0, "EUR", Source("list", "", date(2026, 11, 1)))
    assert read(HEAD + f"prices: [{{{ROW}, amount: 1, currency: EUR, allocation: spot}}]") == [found]


def test_norway_and_names_that_look_like_something_else_stay_names(read):
    (region,) = read(HEAD + "regions: [{cloud: north, region: on, name: yes, country: NO}]")
    assert isinstance(region, Region)
    assert (region.region, region.name, region.country) == ("on", "yes", "NO")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prices: []", r"the document: 'source' is a required property"),
        ("- a", r"the document: .* is not of type 'object'"),
        ("", r"the document: None is not of type"),
        (HEAD + "price: []", r"'price' was unexpected.*known are source, clouds"),
        (HEAD + f"prices: [{{{ROW}, amount: 0, currency: EUR}}]", r"prices\[0\]\.amount: 0 is less than or equal"),
        (HEAD + f"prices: [{{{ROW}, amount: -1, currency: EUR}}]", r"prices\[0\]\.amount: -1"),
        (HEAD + f"prices: [{{{ROW}, amount: .nan, currency: EUR}}]", r"prices\[0\]\.amount: '.nan' is not of type 'number'"),
        (HEAD + f"prices: [{{{ROW}, amount: 1e999, currency: EUR}}]", r"prices\[0\]\.amount: inf"),
        (HEAD + f"prices: [{{{ROW}, amount: '0,05', currency: EUR}}]", r"amount: '0,05' is not of .* decimal point, no comma"),
        (HEAD + f"prices: [{{{ROW}, amount: 1:30, currency: EUR}}]", r"amount: '1:30' is not of type 'number'"),
        (HEAD + "regions: [{cloud: north, region: p, name: P, zones: [1]}]", r"zones\[0\]: 1 is not of type 'string'; .*quotes"),
        (HEAD + f"prices: [{{{ROW}, amount: 1, currency: Euro}}]", r"prices\[0\]\.currency: 'Euro' does not match"),
        (HEAD + f"prices: [{{{ROW}, amount: 1, currency: ABC}}]", r"prices\[0\]: currency is 'ABC'.*ISO 4217"),
        (HEAD + f"prices: [{{{ROW}, amount: 1, currency: EUR, term_months: 12}}]", r"prices\[0\]: term_months is 12 for ondemand"),
        (HEAD + f"prices: [{{{ROW}, amount: 1, currency: EUR, allocation: rent}}]", r"allocation: 'rent' is not one of \['ondemand'"),
        (HEAD + f"prices: [{{{ROW}, amount: 1, currency: EUR, valid_until: 2026-02-30}}]", r"prices\[0\]: '2026-02-30' is no day"),
        (HEAD + f"prices: [{{{ROW}, currency: EUR}}]", r"prices\[0\]: 'amount' is a required property"),
        (HEAD + f"prices:\n- &a {{{ROW}, amount: 1, currency: EUR}}\n- *a\n", "there is a YAML alias"),
        (HEAD + f"prices:\n- {{{ROW}, amount: 1, currency: EUR}}\n- {{{ROW}, amount: 2, currency: EUR}}",
         r"prices\[1\] says the same thing as prices\[0\]"),
        (HEAD + HEAD, r"line 1: 'source' stands twice"),
        (HEAD + "prices: [", r"line 2: this is no YAML|line 3: this is no YAML"),
        (HEAD + "1: 2", "a name is no text"),
        (HEAD + "prices: !!python/object:os.system {}", "this is no YAML"),
        (HEAD.replace("2026", "2099"), r"source: the source's day 2099-11-01 is yet to come"),
        (HEAD.replace("2026-11-01", "1.11.2026"), r"source\.day: '1\.11\.2026' does not match"),
        (HEAD + "regions: [{cloud: north, region: p, name: P, country: UK}]", r"regions\[0\]: country is 'UK'.*GB"),
        (HEAD + "regions: [{cloud: North, region: p, name: P}]", r"regions\[0\]\.cloud: 'North' does not match"),
        (HEAD + f"offers: [{{cloud: north, offer: {'s' * 251}}}]", r"offers\[0\]\.offer: .* is too long"),
        (HEAD + "offers: [{cloud: north, offer: s, vcpus: 0}]", r"offers\[0\]\.vcpus: 0 is less"),
        (HEAD + "egress_prices: [{cloud: n, region: p, currency: EUR, tiers: [{up_to_gb: 5, amount: 1}]}]", r"_prices\[0\]: tiers end"),
        (HEAD + "carbon: [{grams_per_kwh: 5}]", r"carbon\[0\]: carbon has neither"),
        (HEAD + "rates: [{currency: EUR, euros: 1}]", r"rates\[0\]: currency is 'EUR'"),
        ("[" * 5000, "no YAML|cannot be read as YAML"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(read, text, says):
    with pytest.raises(BadOffers, match=says) as raised:
        read(text)
    assert "offers.yaml" in str(raised.value)


@pytest.mark.parametrize("text", ['{"source": 1, "source": 2}', "{", "[" * 200_000, '{"source": NaN}'])
def test_bad_json_is_refused(read, text):
    with pytest.raises(BadOffers):
        read(text, "offers.json")


def test_a_document_says_itself_where_it_is_from(read):
    with pytest.raises(BadOffers, match="says itself where it is from"):
        read(HEAD, said=SAID)


def test_files_of_other_kinds_and_sizes_are_refused(read, tmp_path, monkeypatch):
    with pytest.raises(BadOffers, match=r"ends with \.xlsx; it must end with \.csv"):
        read("", "prices.xlsx")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadOffers, match="not in UTF-8"):
        list(from_file.rows(tmp_path / "x.csv", SAID))
    monkeypatch.setattr(from_file, "MOST_BYTES", 5)
    with pytest.raises(BadOffers, match="has 42 bytes; at most 5"):
        read(HEAD.ljust(42))


def test_a_table_gives_prices_and_each_machine_once(read):
    text = (
        "\ufeffcloud,offer,vcpus,memory_gib,gpus,region,zone,allocation,term_months,amount,upfront,currency,valid_until\n"
        "north,s-2,2,,0,paris,,,,0.05,,EUR,2027-01-01\n"
        '"north","s-2",,4,,berlin,a,reserved,12,3e-2,10,EUR,\n\n'
        "north,s-4,4,8,0,paris,,,,,,,\n"
    )
    source = Source("North's list", "https://north.example", date(2026, 11, 1))
    assert read(text, "n.csv", SAID) == [
        Price("north", "paris", "s-2", Allocation.ON_DEMAND, 0.05, "EUR", source, valid_until=date(2027, 1, 1)),
        Price("north", "berlin", "s-2", Allocation.RESERVED, 0.03, "EUR", source, zone="a", upfront=10.0, term_months=12),
        Offer("north", "s-2", source, 2.0, 4.0, gpus=0.0),
        Offer("north", "s-4", source, 4.0, 8.0, gpus=0.0),
    ]
    assert read(text, "n.csv", Said(SAID.day))[0].source == Source("n.csv", "", date(2026, 11, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: there is no column cloud, offer"),
        ("cloud;region;offer;amount;currency\n", "line 1: cells are divided by semicolons"),
        (TABLE.replace("amount,", ""), "line 1: there is no column amount"),
        (TABLE + ",price", "line 1: nobody knows the column 'price'; known are cloud"),
        (TABLE + ",cloud", "line 1: a column stands twice"),
        (TABLE + "\nnorth,p,s,0,05,EUR", "line 2: 6 cells for 5 columns; a decimal comma"),
        (TABLE + '\nnorth,p,s,"0,05",EUR', "line 2: amount is '0,05', which is no number; write a decimal point"),
        (TABLE + "\nnorth,p,s,1,EUR\nnorth,p,t,1 EUR,EUR", "line 3: amount is '1 EUR'"),
        (TABLE + "\nnorth,p,s,-1,EUR", "line 2: amount is '-1'"),
        (TABLE + "\nnorth,p,s,nan,EUR", "line 2: amount is 'nan'"),
        (TABLE + "\nnorth,p,s,1e999,EUR", "line 2: amount is inf"),
        (TABLE + "\nnorth,p,s,0.0,EUR", "line 2: amount is 0, which is no price"),
        (TABLE + "\nnorth,p,s,1,", "line 2: currency is ''"),
        (TABLE + "\nnorth,,s,1,EUR", "line 2: region is empty"),
        (TABLE + "\nNorth,p,s,1,EUR", "line 2: cloud is 'North'"),
        (TABLE + "\nnorth,p,s,1,EUR\nnorth,p,s,2,EUR", "line 3: this price stands in line 2 already"),
        (TABLE + ",allocation\nnorth,p,s,1,EUR,rent", "line 2: allocation is 'rent'; give one of ondemand, spot, reserved"),
        (TABLE + ",architecture\nnorth,p,s,1,EUR,amd64", "line 2: architecture is 'amd64'; give one of x86_64, aarch64"),
        (TABLE + ",disk_kind\nnorth,p,s,1,EUR,NVMe", "line 2: disk_kind is 'NVMe'; give one of ssd, nvme ssd"),
        (TABLE + ",valid_until\nnorth,p,s,1,EUR,30.6.2027", "line 2: '30.6.2027' is no day"),
        (TABLE + ",vcpus\nnorth,p,s,1,EUR,2\nnorth,q,s,1,EUR,4", "line 3: vcpus of s is 4.0 here and 2.0 in line 2"),
        (TABLE + '\nnorth,p,"s,1,EUR', "line 2: this is no CSV|line 3: this is no CSV"),
    ],
)
def test_mistakes_in_a_table_are_named_with_their_line(read, text, says):
    with pytest.raises(BadOffers, match=says) as raised:
        read(text, "n.csv", SAID)
    assert str(raised.value).startswith("n.csv, line ")


def test_a_table_needs_a_day(read):
    with pytest.raises(BadOffers, match=r"n\.csv does not say of which day .* --day"):
        read(TABLE, "n.csv")


def test_a_table_has_an_end(read, monkeypatch):
    monkeypatch.setattr("earthself.benchmark.offers.from_table.MOST_ROWS", 1)
    with pytest.raises(BadOffers, match="more than 1 lines"):
        read(TABLE + "\nnorth,p,s,1,EUR\nnorth,p,t,1,EUR", "n.csv", SAID)


# As the bank publishes them: the day's file, its history, its XML.
DAY = "Date, USD, JPY, NOK, \n20 November 2026, 1.25, 160.00, 11.5, \n"
HISTORY = "Date,USD,JPY,CYP,\n2026-11-20,1.25,160,N/A,\n2026-11-19,1.2,161,N/A,\n2007-12-31,1.4721,164.93,0.585274,\n"
XML = """<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
<gesmes:subject>Reference rates</gesmes:subject><Cube><Cube time='2026-11-19'><Cube currency='USD' rate='1.2'/></Cube>
<Cube time='2026-11-20'><Cube currency='USD' rate='1.25'/><Cube currency='JPY' rate='160'/></Cube></Cube></gesmes:Envelope>"""


@pytest.mark.parametrize(("text", "currencies"), [(DAY, ["JPY", "NOK", "USD"]), (HISTORY, ["CYP", "JPY", "USD"]), (XML, ["JPY", "USD"])])
def test_the_banks_files_give_each_currencys_newest_rate(text, currencies, tmp_path):
    (tmp_path / "eurofxref").write_text(text)
    found = {rate.currency: rate for rate in from_ecb.rows(tmp_path / "eurofxref")}
    assert list(found) == currencies
    assert (found["USD"].euros, found["USD"].source.day, found["USD"].source.name) == (0.8, date(2026, 11, 20), "European Central Bank")
    assert found["JPY"].euros == 0.00625
    assert "CYP" not in found or found["CYP"].source.day == datetime(2007, 12, 31).date()  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no table of the bank's rates"),
        ("Date,Dollar,\n2026-11-20,1.25,\n", "no table of the bank's rates"),
        (HISTORY.replace("1.25", "1,25"), "line 2: 6 cells for 5 columns"),
        (HISTORY.replace("1.25", "0"), "line 2, USD: '0' is no rate"),
        (HISTORY.replace("2026-11-19", "19/11/2026"), "line 3: '19/11/2026' is no day"),
        (HISTORY.replace(",1.2,161,N/A,", ",1.2"), "line 3: 2 cells for 5 columns"),
        ("Date,USD,\n", "has no rates"),
        (XML.replace("1.25", "-1"), "2026-11-20, USD: '-1' is no rate"),
        (XML.replace("JPY", "gold"), "this is no currency"),
        (XML[:-5], "is no XML"),
        (XML.replace("<gesmes:Env", '<!DOCTYPE a [<!ENTITY b "c">]><gesmes:Env', 1), "defines entities"),
    ],
)
def test_a_file_that_is_not_the_banks_is_refused(text, says, tmp_path):
    (tmp_path / "x").write_text(text)
    with pytest.raises(BadOffers, match=says):
        list(from_ecb.rows(tmp_path / "x"))
