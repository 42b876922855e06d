"""The picture of a map: what a person must be able to see in it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from earthself.data.legends import legend
from earthself.processing import layout, picture
from earthself.processing.catalog import read_items
from earthself.processing.errors import BadInput
from earthself.processing.steps.mosaic import mosaic
from earthself.processing.steps.quicklook import quicklook
from PIL import Image
from scenes import Scenes, context, grid, inside
from stac_schemas import check_item

COLOURS = legend("clc:1").colors()


@pytest.fixture
def scenes(tmp_path):
    return Scenes(tmp_path / "in")


def draw(scenes, tmp_path, area, resolution=10, **parameters):
    mosaic(scenes.context(tmp_path / "map", area=area), resolution=resolution)
    result = quicklook(context(tmp_path / "map", tmp_path / "look"), **parameters)
    return result, np.asarray(Image.open(tmp_path / "look" / "quicklook.png").convert("RGB"))


def count(image, colour):
    return int((image == np.array(colour, np.uint8)).all(axis=-1).sum())


def test_the_classes_on_the_map_are_in_the_picture_in_their_colours(scenes, tmp_path):
    code = np.full((60, 80), 2)
    code[:, 40:] = 5
    code[:20] = 0
    hidden = np.zeros((60, 80), np.uint8)
    hidden[:, :10] = 2
    where = grid(width=80, height=60)
    scenes.add(code=code, where=where, flags=hidden)
    _, image = draw(scenes, tmp_path, inside(where))
    assert image.shape[1] == 1200
    agriculture, water = (count(image, COLOURS[value]) for value in (2, 5))
    assert agriculture > 20_000
    assert water / agriculture == pytest.approx(40 / 30, rel=0.1)
    for absent in (1, 3, 4):
        assert count(image, COLOURS[absent]) == 0
    assert count(image, (201, 206, 211)) > 3_000  # not observed: grey, with stripes
    assert count(image, (166, 173, 180)) > 3_000
    assert count(image, (250, 250, 248)) > 10_000  # observed without a class: nearly white, with dots


def test_warnings_and_mask_are_named_in_the_picture(scenes, tmp_path, monkeypatch):
    said = []
    written = picture._Page.text
    monkeypatch.setattr(
        picture._Page,
        "text",
        lambda self, figure, left, top, text, **style: said.append(text) or written(self, figure, left, top, text, **style),
    )
    hidden = np.zeros((10, 12), np.uint8)
    hidden[:, :6] = 2
    scenes.add(code=2, flags=hidden, **{"earthself:mask": "none"})
    draw(scenes, tmp_path, inside(grid()), title="Tulln 2017", warnings=["a further one"])
    text = "\n".join(said)
    assert "Tulln 2017" in text
    assert "Cloud mask: NONE" in text
    assert "no cloud mask was used for 1 of 1 products" in text
    assert "50.0% of the area was not observed" in text
    assert "a further one" in text
    assert "Agricultural areas" in text
    assert "Wetlands" not in text
    assert "Model: baseline:1" in text
    assert "Validated at CORINE level 1" in text


@pytest.mark.parametrize("where", [grid(width=400, height=300), grid(width=40, height=300)], ids=["wide", "narrow"])
@pytest.mark.parametrize("warning", ["w " * 90, "W" * 200, "Å gy 地図 " * 30])
def test_no_text_runs_into_another_or_off_the_page(scenes, tmp_path, monkeypatch, where, warning):
    """All 44 classes of level 3 with warnings of wide letters, under a wide map and a narrow one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    boxes = {}
    write = FigureCanvasAgg.print_figure

    def look(canvas, *arguments, **options):
        write(canvas, *arguments, **options)
        figure, renderer = canvas.figure, canvas.get_renderer()
        for text in figure.texts:
            boxes[text] = text.get_window_extent(renderer)
        boxes["page"] = figure.bbox
        boxes["bars"] = [one.get_window_extent(renderer) for one in figure.artists]

    monkeypatch.setattr(FigureCanvasAgg, "print_figure", look)
    codes = [entry.code for entry in legend("clc:3").entries]
    code = np.resize(np.repeat(codes, 100), (where.height, where.width))
    scenes.add(code=code, where=where, legend="clc:3", **{"earthself:mask": "none", "earthself:validated_level": 3})
    mosaic(scenes.context(tmp_path / "map", area=inside(where)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        quicklook(context(tmp_path / "map", tmp_path / "look"), title="A very wide WWWWWWW title " * 9, warnings=(warning,) * 12)
    page, bars = boxes.pop("page"), boxes.pop("bars")
    assert len(boxes) > 60
    said = list(boxes.items())
    for number, (text, box) in enumerate(said):
        assert box.x0 >= page.x0
        assert box.x1 <= page.x1, text.get_text()
        assert box.y0 >= page.y0, text.get_text()
        for other, beside in said[number + 1 :]:
            assert _apart(box, beside), (text.get_text(), other.get_text())
        if text.get_color() == picture._ALERT:
            assert all(_apart(box, bar) for bar in bars)


def _apart(one, other):
    """Whether two boxes share no more than the pixel or two by which letters reach over their line."""
    return min(one.x1, other.x1) - max(one.x0, other.x0) < 1 or min(one.y1, other.y1) - max(one.y0, other.y0) < 3


@pytest.mark.parametrize("title", ["$\\frac{1}{0}$ <b>x</b> %s {0}", "地図 🛰 " + "x" * 500, "", "a\nb\tc"])
def test_a_title_is_text_whatever_it_holds(scenes, tmp_path, title):
    scenes.add(code=2)
    _, image = draw(scenes, tmp_path, inside(grid()), title=title)
    assert image.shape[1] == 1200


def test_parts_far_from_each_other_get_a_panel_each(scenes, tmp_path):
    """Two squares of 600 m, 40 km apart: on one map they would be specks of a few pixels."""
    here, there = grid(width=60, height=60), grid(left=530_000, top=5_330_000, width=60, height=60)
    scenes.add(code=2, where=here)
    scenes.add(code=5, where=there)
    area = {"type": "MultiPolygon", "coordinates": [inside(here)["coordinates"], inside(there)["coordinates"]]}
    _, image = draw(scenes, tmp_path, area, resolution=20)
    for value in (2, 5):
        assert count(image, COLOURS[value]) > 50_000


def test_parts_beside_each_other_share_a_map():
    import shapely

    beside = shapely.MultiPolygon([shapely.box(0, 0, 10, 10), shapely.box(11, 0, 21, 10)])
    assert len(layout.regions(beside)) == 1
    apart = shapely.MultiPolygon([shapely.box(0, 0, 10, 10), shapely.box(200, 300, 210, 310), shapely.box(202, 300, 215, 305)])
    assert len(layout.regions(apart)) == 2


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6])
def test_panels_share_a_scale_and_do_not_overlap(number):
    sizes = [(0, 0, 100 + 70 * n, 300 - 40 * n) for n in range(number)]
    made = layout.plan(sizes, 5, 5.6, 0.5)
    assert made.width <= 5 + 1e-9
    assert made.height <= 5.6 + 1e-9
    for number_, one in enumerate(made.panels):
        assert one.width == pytest.approx((one.bounds[2] - one.bounds[0]) * made.scale)
        for other in made.panels[number_ + 1 :]:
            apart = one.left + one.width <= other.left or other.left + other.width <= one.left
            assert apart or one.top + one.height <= other.top or other.top + other.height <= one.top


def test_a_picture_of_a_large_map_reads_little_of_it():
    assert max(picture.thinned_shape((10_980, 10_980))) <= picture.SIDE
    assert picture.thinned_shape((100, 40)) == (100, 40)
    assert picture.thinned_shape((100_000, 3)) == (picture.SIDE, 1)


def test_the_item_lists_the_picture(scenes, tmp_path):
    scenes.add(code=2)
    draw(scenes, tmp_path, inside(grid()))
    (item,) = read_items(tmp_path / "look")
    check_item(item)
    assert item.assets["quicklook"].media_type == "image/png"
    assert item.assets["quicklook"].roles == ["overview"]


def test_signatures_get_thumbnails(scenes, tmp_path):
    hidden = np.zeros((10, 12), np.uint8)
    hidden[0] = 2
    scenes.add(code=5, flags=hidden, name="one")
    scenes.add(code=2, where=grid(width=900, height=300), name="two")
    quicklook(scenes.context(tmp_path / "look"))
    items = {item.id: item for item in read_items(tmp_path / "look")}
    for item in items.values():
        check_item(item)
    one = np.asarray(Image.open(items["one"].assets["thumbnail"].href))
    assert one.shape == (10, 12, 4)
    assert tuple(one[5, 5]) == (*COLOURS[5], 255)
    assert one[0, 0, 3] == 0
    assert Image.open(items["two"].assets["thumbnail"].href).size == (256, 85)


def test_an_area_over_the_antimeridian_is_drawn(scenes, tmp_path):
    scenes.add(code=2, where=grid(left=180_000, top=8_130_000, width=200, height=100, crs="EPSG:32701"))
    _, image = draw(scenes, tmp_path, [179.99, -16.91, -179.99, -16.9], resolution=20)
    assert image.shape[1] == 1200


def test_what_is_no_map_is_refused(scenes, tmp_path):
    item = scenes.add(code=2)
    del item.assets["segmentation"]
    with pytest.raises(BadInput, match="neither an asset"):
        quicklook(scenes.context(tmp_path / "look"))


def test_nothing_to_draw_is_no_failure(scenes, tmp_path):
    assert quicklook(scenes.context(tmp_path / "look")).status == "nothing"
