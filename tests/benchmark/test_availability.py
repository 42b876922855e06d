"""Where data are: never nearer than the table of holdings says, and always with who says it."""

from __future__ import annotations

import json
from datetime import date

import pytest
from earthself.benchmark import availability as availabilities
from earthself.benchmark.availability import Kind, availability, known, version
from earthself.benchmark.cli import app
from earthself.benchmark.errors import UnknownCollection
from earthself.data.bundled import eodag_version
from earthself.data.holdings import Held, Holding, digest
from typer.testing import CliRunner


def kept(provider, cloud="north", availability=None, doubtful="", regions=("n-1",)):
    return Holding(provider, "S2_*", cloud, regions, f"https://{provider}.example", date(2026, 11, 23), availability, doubtful)


@pytest.fixture
def holdings(monkeypatch):
    """Let providers keep their Sentinel-2 where these lines say."""

    def use(*lines):
        table = {line.provider: line for line in lines}
        monkeypatch.setattr(availabilities, "holding", lambda provider, _collection: table.get(provider))
        return availability(["S2_MSI_L2A"])

    return use


@pytest.fixture
def suggest():
    def run(*words: str, code: int = 0):
        done = CliRunner().invoke(app, ["data", *words])
        assert done.exit_code == code, done.output
        return done

    return run


def test_what_the_table_places_is_there_and_says_who_says_so():
    at = availability(["S2_MSI_L2A"]).at("AWS", "us-west-2", "S2_MSI_L2A")
    assert (at.kind, at.providers, at.same_cloud) == (Kind.ONLINE, ("earth_search",), True)
    assert at.source == "https://registry.opendata.aws/sentinel-2-l2a-cogs/"
    assert at.day is not None
    rolling = availability(["S2_MSI_L2A"]).at("cloudferro", "waw3-1", "S2_MSI_L2A")
    assert (rolling.kind, rolling.providers) == (Kind.CACHED, ("creodias", "creodias_s3"))


def test_another_region_of_the_same_cloud_is_no_nearer_but_of_the_same_cloud():
    at = availability(["S2_MSI_L2A"]).at("aws", "us-east-1", "S2_MSI_L2A")
    assert (at.kind, at.same_cloud, at.source, at.day) == (Kind.EXTERNAL, True, "", None)
    assert {"earth_search", "creodias", "wekeo_main"} <= set(at.providers)


@pytest.mark.parametrize("place", [("ovh", "gra"), ("", ""), ("aws2", "us-west-2")])
def test_a_place_that_the_table_does_not_know_is_near_to_nothing(place):
    at = availability(["S2_MSI_L2A"]).at(*place, "S2_MSI_L2A")
    assert (at.kind, at.same_cloud, at.source) == (Kind.EXTERNAL, False, "")


def test_a_collection_that_no_provider_has_is_not_there():
    found = availability(["VENUS_L1C"])
    assert found.collections == {"VENUS_L1C": ()}
    at = found.at("aws", "us-west-2", "VENUS_L1C")
    assert (at.kind, at.providers, at.same_cloud) == (Kind.NOT_THERE, (), False)


def test_what_nobody_has_looked_up_is_unknown_and_loses_to_what_is_known(holdings):
    found = holdings(kept("creodias"))
    assert found.at("north", "n-1", "S2_MSI_L2A").kind == Kind.UNKNOWN
    found = holdings(kept("aws_eos"), kept("creodias", availability=Held.ORDERABLE))
    assert found.at("north", "n-1", "S2_MSI_L2A").providers == ("creodias",)


def test_the_best_kind_counts_and_of_it_a_certain_line_before_a_doubtful_one(holdings):
    found = holdings(
        kept("aws_eos", availability=Held.ONLINE, doubtful="an old page"),
        kept("creodias", availability=Held.ONLINE),
        kept("dedl", availability=Held.CACHED),
        kept("sara", availability=Held.ONLINE, regions=("n-2",)),
    )
    at = found.at("north", "n-1", "S2_MSI_L2A")
    assert (at.kind, at.providers, at.source, at.doubtful) == (Kind.ONLINE, ("aws_eos", "creodias"), "https://creodias.example", "")
    assert holdings(kept("dedl", doubtful="an old page")).at("north", "n-1", "S2_MSI_L2A").doubtful == "an old page"


def test_providers_are_all_that_eodag_has_each_with_what_it_asks():
    providers = {one.name: one for one in availability(["S1_SAR_GRD"]).collections["S1_SAR_GRD"]}
    assert {"aws_eos", "cop_dataspace", "dedl", "geodes", "wekeo_main"} <= set(providers)
    assert (providers["wekeo_main"].kind, providers["wekeo_main"].holding) == (Kind.EXTERNAL, None)
    assert providers["wekeo_main"].orders
    assert providers["cop_dataspace"].login == "files"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("S2_MSI_L2a", "is it S2_MSI_L2A"),
        ("S2_MSI_2A", "S2_MSI_L2A"),
        ("zzzzqqqq", "'zzzzqqqq'; find its name with: earthself-suggest data --like WORD"),
        ("", "find its name"),
        ("x" * 10_000, "xxx…'; find"),
        ("GENERIC_COLLECTION", "find its name|is it"),
    ],
)
def test_a_collection_that_eodag_does_not_know_is_refused_with_what_is_spelled_alike(name, says):
    with pytest.raises(UnknownCollection, match=says) as raised:
        availability([name])
    assert len(str(raised.value)) < 300


def test_a_collection_that_was_not_asked_for_is_no_answer():
    with pytest.raises(UnknownCollection, match="'NAIP' was not asked for, only S2_MSI_L2A"):
        availability(["S2_MSI_L2A"]).at("aws", "us-west-2", "NAIP")


def test_an_answer_names_the_state_that_it_is_from():
    assert availability(["NAIP"]).version == version() == f"EODAG {eodag_version()}, holdings {digest()}"


def test_collections_are_found_by_a_word_of_their_title():
    found = {one.collection: one for one in known("sentinel2 LEVEL-2a")}
    assert found["S2_MSI_L2A"].providers >= 10
    assert len(known()) > 400
    assert known("no such word") == []


def test_a_person_sees_who_has_a_collection_and_where(suggest):
    shown = suggest("S2_MSI_L2A").stdout
    (line,) = (line for line in shown.splitlines() if " earth_search " in line)
    assert line.split() == ["S2_MSI_L2A", "earth_search", "online", "aws", "us-west-2", "2026-11-23", "nothing", "no"]
    assert "cloudferro WAW3-1 (doubtful)" in shown
    assert shown.splitlines()[-1] == f"state: {version()}"
    assert "creodias" not in suggest("S2_MSI_L2A", "--cloud", "AWS").stdout
    assert "nobody says that it is kept at ovh" in suggest("S2_MSI_L2A", "--cloud", "ovh").stdout
    assert "(another region has it)" in suggest("S2_MSI_L2A", "--cloud", "aws", "--region", "eu-west-3").stdout
    assert "Landsat Collection 2 Level-1 Product" in suggest("--like", "landsat").stdout


def test_programs_get_json(suggest):
    said = json.loads(suggest("S2_MSI_L2A", "NAIP", "--cloud", "aws", "--region", "us-west-2", "--json").stdout)
    assert said["state"] == version()
    assert [(one["collection"], one["kind"], one["day"]) for one in said["places"]] == [
        ("S2_MSI_L2A", "online", "2026-11-23"),
        ("NAIP", "unknown", "2026-11-23"),
    ]
    offers = json.loads(suggest("VENUS_L1C", "S2_MSI_L2A_COG", "--json").stdout)["offers"]
    assert [(one["name"], one["holding"]["regions"], one["login"]) for one in offers] == [("earth_search", ["us-west-2"], "nothing")]
    assert {"collection": "NAIP", "title": "National Agriculture Imagery Program", "providers": 3} in json.loads(
        suggest("--like", "naip", "--json").stdout
    )["collections"]


@pytest.mark.parametrize("words", [("S2_MSI_L2",), ("S2_MSI_L2A", "--region", "gra"), ("--cloud", "ovh")])
def test_bad_requests_end_with_65(suggest, words):
    assert "earthself-suggest: " in suggest(*words, code=65).stderr
