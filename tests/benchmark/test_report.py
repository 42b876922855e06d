"""The report and its plots, as a browser and a reader get them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
from earthself.benchmark.suggestion.answer import Operator, ToMeasure
from earthself.benchmark.suggestion.plots import plots
from earthself.benchmark.suggestion.report import html
from PIL import Image

from tests.benchmark.answers import answer, candidate, choice, nothing_left, without_ranking

HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "</text></svg><img src=http://evil.test/x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "$\\frac{1}$",
    "&lt;b&gt;",
]


@cache
def shown(made):
    """The page of an answer, drawn once for all tests."""
    return html(made())


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.said, self.rows, self._table = [], [], [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._table = dict(attrs).get("id", "") if tag == "table" else self._table
        self.rows[self._table] = self.rows.get(self._table, 0) + (tag == "tr")

    def handle_data(self, data):
        self.said.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.said).split())


def hostile():
    """An answer in which every text that others write means harm."""
    done, bad = answer(), "".join(HOSTILE)
    spoiled = candidate(bad, bad, bad, country=bad)
    spoiled = replace(spoiled, price=replace(spoiled.price, zone=bad))
    said = {"candidate": spoiled, "unranked": (bad,), "warnings": (bad,)}
    choices = [replace(one, **said, carbon=replace(one.carbon, note=bad)) for one in done.choices]
    excluded = [replace(one, candidate=spoiled, misses=[replace(miss, reason=bad) for miss in one.misses]) for one in done.excluded]
    need = replace(done.need, title=bad, collections=(bad,), profile=replace(done.need.profile, name=bad))
    weights = [replace(one, criterion=replace(one.criterion, source=bad)) for one in done.weights]
    other = {"to_measure": [ToMeasure(bad, 1, bad)], "state": bad, "data_state": bad, "operator": Operator(bad, (bad,))}
    return replace(done, need=need, choices=choices, excluded=excluded, weights=weights, **other)


@pytest.mark.parametrize("made", [answer, without_ranking, nothing_left, hostile])
def test_the_page_asks_nobody_for_anything_and_runs_nothing(made):
    said = shown(made)
    page = Page(said)
    assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form", "image"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    addresses = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")]
    assert [value for value in addresses if not value.startswith("#")] == []
    assert [where for where in re.findall(r"url\(([^)]*)\)", said) if not where.strip("'\"").startswith("#")] == []
    assert "@import" not in said
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_hostile_names_are_shown_as_they_are_and_mean_nothing():
    page = Page(shown(hostile))
    for each in HOSTILE:
        assert " ".join(each.split()) in page.text
    assert "49" not in page.text.split("How it was computed")[0].split("What was asked for")[1]


def test_the_headline_comes_first_and_each_offer_has_its_row():
    done = answer()
    page = Page(shown(answer))
    assert page.rows["offers"] == 1 + 10
    assert page.rows["deciding"] == 1 + 10
    assert page.rows["reasons"] == 1 + 3
    assert page.rows["bounds"] == 1 + 3
    assert (
        page.text.index("Run it on b3-16 of birch in north-1") < page.text.index("Example Ltd runs this platform") < page.text.index("Rank")
    )
    for one in done.choices[:10]:
        assert f"{one.candidate.offer.offer} of {one.candidate.cloud}" in page.text


def test_badges_are_words_with_signs_and_not_colours_alone():
    page = Page(shown(answer))
    for said in ("● measured (5 times, 2026-11-20)", "€ price of 2026-11-02", "€ price of 2025-12-01 (old)", "◐ derived", "? unknown"):
        assert said in page.text


def test_what_makes_it_known_what_was_left_out_and_the_state_are_named():
    said = shown(answer)
    assert "<code>earthself-suggest offers load file FILE</code>" in said
    text = Page(said).text
    assert "nano of alder in island: region island is in GB; has 2 GiB of memory, less than 4" in text
    assert "State of the database: 0f3a9c51d2be ; of what is known about data: EODAG 4.10.0, holdings 5ad1" in text
    assert "deadline_hours 2" in text


def test_without_offers_there_are_neither_tables_of_them_nor_plots():
    page = Page(shown(nothing_left))
    assert "offers" not in page.rows
    assert "svg" not in page.tags
    assert "Nothing satisfies the need: 3 offers are left out." in page.text


def test_the_same_answer_has_the_same_page():
    assert html(answer()) == shown(answer)


def test_plots_are_pictures_of_a_sensible_size_with_words_for_who_does_not_see_them():
    drawn = plots(answer())
    assert [plot.name for plot in drawn] == ["cost-time", "weights", "costs"]
    for plot in drawn:
        with Image.open(io.BytesIO(plot.png())) as picture:
            assert picture.format == "PNG"
            assert picture.width == 660
            assert 300 < picture.height < 1200
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20
        page = Page(plot.svg())
        assert ("aria-label", plot.alt) in page.attributes
        assert ("role", "img") in page.attributes
    assert "b3-16 of birch in north-1, is at 41.2 h and 14.7 EUR" in drawn[0].alt
    assert "b3-16 north-1" in Page(drawn[0].svg()).text


def test_without_a_ranking_nothing_is_marked_as_suggested():
    drawn = plots(without_ranking())
    assert [plot.name for plot in drawn] == ["cost-time", "costs"]
    assert "None is suggested." in drawn[0].alt
    assert "suggested" not in Page(drawn[0].svg()).text


def test_what_is_unknown_is_no_short_bar():
    (costs,) = (plot for plot in plots(without_ranking()) if plot.name == "costs")
    assert "+ storage, unknown" in Page(costs.svg()).text
    assert "Hollow bars lack a part that nobody knows" in costs.caption


@pytest.mark.parametrize(("hours", "scale"), [(820.5, "log"), (819.5, "linear")])
def test_an_axis_is_logarithmic_only_where_the_spread_asks_for_it(hours, scale):
    plot = plots(answer(choices=[choice(candidate(), 41.0), choice(candidate("b"), hours)]))[0]
    assert plot._figure.axes[0].get_xscale() == scale


def test_of_thousands_of_offers_the_first_and_the_front_are_drawn():
    many = [choice(candidate(f"m{number}"), 10.0 + number) for number in range(2000)]
    plot = plots(answer(choices=[*many, replace(choice(candidate("quick", amount=90), 0.5), front=True)]))[0]
    assert plot.caption.startswith("The first 25 of 2001 offers and those that none other beats.")
    assert "quick north-1" in Page(plot.svg()).text
    assert len(plot.svg()) < 300_000


def test_a_browser_shows_it_on_a_telephone_without_a_request(browser, tmp_path):
    (tmp_path / "hostile.html").write_text(shown(hostile), encoding="utf-8")
    (tmp_path / "answer.html").write_text(shown(answer), encoding="utf-8")
    asked, said = [], []
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: said.append(line.text))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        for name in ("hostile", "answer"):
            page.goto((tmp_path / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator("#offers tbody tr").count() == 10
        assert page.locator(".headline").bounding_box()["y"] < 200
        assert all(box["width"] <= 390 for box in (one.bounding_box() for one in page.locator("figure svg").all()))
    assert asked == [(tmp_path / f"{name}.html").as_uri() for name in ("hostile", "answer")]
    assert said == []
