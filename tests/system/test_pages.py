"""What people look at, in a real browser: the report of a run and the form that orders one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from earthself.client import Run
from playwright.sync_api import Browser, Page, expect

from tests.system.running import DAY, Started

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test when its scripts do."""
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert not faults


def login(page: Page, started: Started, user: str, then: str) -> None:
    page.goto(f"{started.running.url}/auth/login")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", started.stack.home.passwords()[user])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/login" not in url)
    page.goto(f"{started.running.url}{then}")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_report_shows_its_map_and_table_without_asking_the_network(page: Page, made: Run, size: dict) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size(size)
    page.goto(Path(made.place("report.html")).as_uri())
    expect(page.get_by_role("heading", name="Salzach")).to_be_visible()
    pictures = page.locator("img")
    expect(pictures.first).to_be_visible()
    assert all(pictures.nth(number).evaluate("img => img.naturalWidth") > 100 for number in range(pictures.count()))
    for row in made.areas():
        expect(page.get_by_role("row").filter(has_text=row.name).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], "nobody scrolls sideways"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_a_map_is_ordered_by_the_form_and_its_report_opened_by_the_link(page: Page, started: Started) -> None:
    login(page, started, "creator", "/dags/land_cover_map")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    for text in ("Area", "Start", "End", "Most clouds", "Cloud mask", "Model", "longitude before latitude"):
        expect(form).to_contain_text(text)
    typed = {"area": "[12.93, 48.1, 12.94, 48.106]", "start": DAY["start"], "end": DAY["end"], "title": "From the form"}
    for name, value in typed.items():
        form.locator(f"[name=element_{name}]").fill(value)
    form.get_by_role("button", name="Trigger", exact=True).click()
    page.wait_for_url("**/dags/land_cover_map/runs/*")
    run = started.client().run(unquote(urlsplit(page.url).path.rpartition("/")[2]))
    assert run.wait(timeout=180, interval=0.2).conf.items() >= {"title": "From the form", "area": [12.93, 48.1, 12.94, 48.106]}.items()
    page.goto(f"{started.running.url}/dags/land_cover_map/runs/{quote(run.run_id, safe='')}/tasks/publish/details")
    page.get_by_role("link", name="Report").click()
    expect(page.get_by_role("heading", name="From the form")).to_be_visible()
