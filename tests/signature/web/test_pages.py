"""The pages in a real browser: the map moves, says what is there and fits a phone; nothing is loaded from elsewhere."""

from __future__ import annotations

import pytest
from web_site import RESULT

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


@pytest.fixture
def page(browser, site):
    """A page that fails the test when its scripts do, or when it asks another server."""
    context = browser.new_context(viewport=DESK)
    opened = context.new_page()
    faults = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("request", lambda request: None if request.url.startswith((site.url, "data:")) else faults.append(request.url))
    yield opened
    context.close()
    assert not faults


def seen(page):
    """Tiles that are drawn and in sight."""
    return page.evaluate(
        """() => [...document.querySelectorAll("#tiles img")].filter((i) => i.complete && i.naturalWidth === 256)
        .map((i) => i.src + " " + i.style.left + " " + i.style.top)"""
    )


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize(
    "path", ["/", "/results", "/api.html", "/products/forest/map", f"/results/{RESULT}/map", "/products/described/map"]
)
def test_pages_fit_their_window(page, site, size, path):
    page.set_viewport_size(size)
    page.goto(site.url + path)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], "nobody scrolls sideways"
    assert page.locator("h1").inner_text()


def test_a_map_is_zoomed_dragged_and_asked(page, site):
    from playwright.sync_api import expect

    page.goto(f"{site.url}/products/forest/map")
    page.wait_for_load_state("networkidle")
    first = seen(page)
    assert first
    page.mouse.click(420, 400)
    expect(page.locator("#readout")).to_contain_text("Broad-leaved forest · 48.75")
    page.get_by_role("button", name="Farther").click()
    page.wait_for_load_state("networkidle")
    assert seen(page) != first
    page.get_by_role("button", name="Show all of it").click()
    page.wait_for_load_state("networkidle")
    assert sorted(seen(page)) == sorted(first)
    page.mouse.move(400, 400)
    page.mouse.down()
    page.mouse.move(500, 450, steps=4)
    page.mouse.up()
    page.wait_for_load_state("networkidle")
    assert sorted(seen(page)) != sorted(first)
    page.locator("#view").focus()
    page.keyboard.press("+")
    page.mouse.wheel(0, -240)
    page.wait_for_load_state("networkidle")
    assert seen(page)


def test_a_map_over_the_antimeridian_shows_both_sides(page, site):
    page.goto(f"{site.url}/products/over180/map")
    page.wait_for_load_state("networkidle")
    columns = {int(tile.split("/tiles/")[1].split("/")[1]) for tile in seen(page)}
    zoom = int(seen(page)[0].split("/tiles/")[1].split("/")[0])
    assert zoom >= 12
    assert {0, 2**zoom - 1} <= columns


def test_layers_change_the_map_and_its_legend(page, site):
    from playwright.sync_api import expect

    page.goto(f"{site.url}/products/forest/map")
    legend = page.locator("#legend")
    expect(legend).to_contain_text("Coniferous forest")
    expect(legend).to_contain_text("No class, or not observed")
    page.get_by_label("Flags").check()
    expect(legend).to_contain_text("Unlike what the model was trained on")
    page.wait_for_load_state("networkidle")
    assert all("/flags/tiles/" in tile for tile in seen(page))


def test_the_first_page_leads_to_products_and_results(page, site):
    page.goto(site.url)
    page.get_by_role("link", name="town", exact=True).click()
    assert page.locator("h1").inner_text() == "town"
    page.get_by_role("link", name="EarthSelf").click()
    page.get_by_role("link", name="published results").click()
    page.get_by_role("link", name="A map").click()
    assert page.locator("h1").inner_text() == "A map"
    assert "4 % of the area was not observed" in page.locator("aside").inner_text()
