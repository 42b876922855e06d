"""What the shipped model promises on real labelled scenes, and that its card's scores are its own.

A date of a parcel site is clear when at least 30 % of its pixels are in the SCL classes that the default mask leaves; a promise
about a kind of land is checked on each clear date with at least 30 clear pixels of it.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from earthself.processing import models
from earthself.processing.models import load_card, load_model
from earthself.processing.training.document import bounds
from earthself.processing.training.sources import interpreted, read_truth
from earthself.processing.training.truth import pool
from model_truth import DATA, corine_patch, needs_data, parcels, patch_labels, patches

CLEAR_DATE = 0.3
FEWEST = 30

pytestmark = needs_data


@cache
def said():
    """Predictions by parcel site and clear day, for clear pixels."""
    model = load_model()
    return [
        (site, [(day, model.predict(day.reflectance, day.clear)) for day in site.days if day.clear.mean() >= CLEAR_DATE])
        for site in parcels()
    ]


@cache
def painted():
    """Predictions of the patches, by id."""
    model = load_model()
    return {patch: model.predict(image, np.ones(image.shape[1:], bool)) for patch, image in patches().items()}


def by_date(covers, code, *, snow=True):
    """Share of the clear pixels of these covers with this code, by site and date, where there are enough of them."""
    found = {}
    for site, days in said():
        for day, prediction in days:
            asked = day.clear & np.isin(site.cover, covers) & (snow | ~day.snow)
            if asked.sum() >= FEWEST:
                found[site.name, day.day.isoformat()] = float((prediction.codes[asked] == code).mean())
    return found


def worst(figures):
    return max(figures.items(), key=lambda item: item[1])


FIELDS, BUILT_UP = (11, 13), (60,)


def test_there_are_enough_clear_dates_for_the_promises_to_mean_something():
    assert [len(days) for _, days in said()] == [63, 44]
    assert len(by_date(FIELDS, 3)) >= 100
    assert len(by_date(BUILT_UP, 2)) >= 55


def test_fields_are_called_forest_on_at_most_a_tenth_of_any_clear_date():
    date, share = worst(by_date(FIELDS, 3))
    assert share <= 0.10, date


def test_built_up_land_is_hardly_ever_silently_called_fields():
    # The register's farmyards have meadow along their edges, which no spectrum can call built-up: hence not 0 (docs/models.md).
    shares = by_date(BUILT_UP, 2)
    date, share = worst(shares)
    assert share <= 0.032, date
    assert np.mean(list(shares.values())) <= 0.002
    assert sum(share > 0 for share in shares.values()) <= 6


def test_what_may_be_built_up_gets_no_class_rather_than_fields(tmp_path):
    """The same network without the limits of doubt, as the only difference."""
    card = json.loads(json.dumps(load_card().document)) | {"name": "sure"}
    fields = next(entry for entry in card["output"]["classes"] if entry["code"] == 2)
    assert all(0 < limit < 0.4 for limit in fields.pop("max_doubt").values())
    (tmp_path / "sure").mkdir()
    (tmp_path / "sure" / "card.json").write_text(json.dumps(card))
    shutil.copy(Path(models.__file__).parent / "baseline" / "model.onnx", tmp_path / "sure")
    bold = load_model("sure", environ={"EARTHSELF_MODELS": str(tmp_path)})
    cautious, lost, taken = said()[0][1][::6], [], []
    cover = said()[0][0].cover
    for day, prediction in cautious:
        codes = bold.predict(day.reflectance, day.clear).codes
        changed = codes != prediction.codes
        assert set(np.unique(codes[changed])) <= {2}
        assert not prediction.codes[changed].any()
        assert (prediction.flags[changed] == 32).all()
        lost.append(changed[day.clear & np.isin(cover, FIELDS)].mean())
        taken.append(((codes == 2) & day.clear & (cover == 60)).sum() - ((prediction.codes == 2) & day.clear & (cover == 60)).sum())
    assert sum(taken) > 0
    assert np.mean(lost) <= 0.10


def test_whatever_is_not_named_carries_a_flag_that_says_why():
    for _, days in said():
        for day, prediction in days:
            unnamed = day.clear & (prediction.codes == 0)
            assert (prediction.flags[unnamed] & (1 | 16 | 32)).all()
            named = day.clear & (prediction.codes != 0)
            assert not (prediction.flags[named] & (16 | 32)).any()
            assert (prediction.confidence[named] > 0).all()
            assert not prediction.confidence[unnamed].any()


def test_fields_are_called_built_up_or_water_on_few_pixels():
    assert worst(by_date(FIELDS, 1))[1] <= 0.10
    assert np.mean(list(by_date(FIELDS, 1).values())) <= 0.02
    assert worst(by_date(FIELDS, 5))[1] <= 0.001


def test_most_fields_get_their_class():
    shares = by_date(FIELDS, 2)
    for site in parcels():
        assert np.mean([share for (name, _), share in shares.items() if name == site.name]) >= 0.70


def test_the_corine_patch_is_mapped_as_corine_has_it():
    patch, truth = corine_patch()
    codes = painted()[patch].codes
    assert set(np.unique(truth)) == {2, 3}
    assert (codes[truth == 3] == 3).mean() >= 0.85
    # CORINE draws 25 ha and more: the small woods and farms inside its fields count against the model here.
    assert (codes[truth == 2] == 2).mean() >= 0.70
    assert (codes[truth == 2] == 3).mean() <= 0.10
    assert (codes[truth == 3] == 2).mean() <= 0.05


def test_rivers_and_lakes_are_water_and_never_fields():
    seen = np.concatenate(
        [
            painted()[patch].codes[y0:y1, x0:x1].ravel()
            for patch, rectangles in interpreted().items()
            if patch in painted()
            for code, x0, y0, x1, y1 in rectangles
            if code == 5
        ]
    )
    assert seen.size > 2000
    assert (seen == 5).mean() >= 0.90
    assert not (seen == 2).any()


def test_water_is_found_where_the_patch_labels_have_it_and_nowhere_else():
    # 37_89 has a river too narrow for CORINE's label.
    for patch, labels in patch_labels().items():
        share = (painted()[patch].codes == 5).mean()
        if "Inland waters" in labels:
            assert share > 0.0005, patch
        elif not patch.endswith("37_89"):
            assert share == 0, patch


def test_patches_labelled_urban_have_more_built_up_land_than_others():
    shares = {patch: (painted()[patch].codes == 1).mean() for patch in patch_labels()}
    urban = [shares[p] for p, labels in patch_labels().items() if "Urban fabric" in labels]
    other = [shares[p] for p, labels in patch_labels().items() if "Urban fabric" not in labels]
    assert np.mean([u > o for u in urban for o in other]) >= 0.8, "area under the ROC curve"


def test_every_patch_has_both_fields_and_forest_as_its_labels_say():
    for patch in patch_labels():
        codes = painted()[patch].codes
        assert (codes == 2).mean() > 0.01, patch
        assert (codes == 3).mean() > 0.05, patch


def test_a_thick_cloud_that_no_mask_took_away_is_hardly_named():
    # Some of it is thin enough to see bright stubble through.
    cloudy = next(p for p in patches() if p.endswith("38_58"))
    codes = painted()[cloudy].codes[60:100, 40:90]
    assert (codes == 0).mean() > 0.93


def test_nothing_like_the_training_is_named():
    """Colours that no land has: a bright blue roof sheet, a mirror, the same dark in all bands, snow."""
    model = load_model()
    strange = np.array(
        [
            [0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9],
            [1.5] * 10,
            [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1],
            [0.02, 0.02, 0.5, 0.02, 0.02, 0.5, 0.02, 0.5, 0.02, 0.5],
        ],
        np.float32,
    )
    for colour in strange:
        prediction = model.predict(np.broadcast_to(colour[:, None, None], (10, 4, 4)).copy(), np.ones((4, 4), bool))
        assert not prediction.codes.any(), colour
        assert (prediction.flags & (16 | 32)).all()


@pytest.mark.parametrize("green", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("rough", [0, 0.05])
def test_snow_gets_no_class_bright_or_dirty_flat_or_rough(green, rough):
    spectrum = green * np.array([1.02, 1, 0.99, 0.98, 0.97, 0.96, 0.94, 0.92, 0.15, 0.15])
    image = spectrum[:, None, None] * np.random.default_rng(1).lognormal(0, rough, (1, 30, 30))
    assert not load_model().predict(image.astype(np.float32), np.ones((30, 30), bool)).codes.any()


# --- the card


def test_the_cards_parcel_figures_are_those_of_the_file():
    """Rerun of the quickest part of the scores through `predict`, on the files as they are."""
    figures = load_card().document["scores"]["parcels"]["shipped"]
    assert len(figures) == 2
    # The scores leave out what the scene classification takes for snow: on these sites it is thick cloud.
    for name, cover, code, summed in (
        ("fields_called_forest", FIELDS, 3, max),
        ("fields_called_fields", FIELDS, 2, min),
        ("fields_called_built_up", FIELDS, 1, max),
        ("built_up_called_fields", BUILT_UP, 2, max),
    ):
        shares = by_date(cover, code, snow=False)
        for title, figure in figures.items():
            here = [share for (site, _), share in shares.items() if site in title]
            if here:
                assert figure[name]["worst"] == pytest.approx(summed(here), abs=0.002), (title, name)
                assert figure[name]["mean"] == pytest.approx(np.mean(here), abs=0.002), (title, name)


def test_the_card_gives_left_out_scores_beside_the_flattering_ones():
    scores = load_card().document["scores"]
    for way in ("left_out_site", "left_out_site_and_season", "random_split"):
        figure = scores[way]["macro_f1"]
        assert 0 < figure["low"] <= figure["value"] <= figure["high"] < 1
    assert set(scores["left_out_site"]["classes"]) == {"1", "2", "3", "5"}
    assert scores["left_out_site"]["macro_f1"]["value"] < scores["random_split"]["macro_f1"]["value"]
    first = next(iter(scores["summary"]))
    assert first == "macro-F1, left-out site"
    assert scores["summary"][first]["value"] == scores["left_out_site"]["macro_f1"]["value"]


@pytest.mark.parametrize(
    ("way", "forest", "built_up", "built_up_mean"), [("left_out_site", 0.08, 0.85, 0.08), ("left_out_site_and_season", 0.16, 0.80, 0.10)]
)
def test_mistakes_where_the_network_never_saw_the_site_are_as_the_manual_has_them(way, forest, built_up, built_up_mean):
    """Not what was hoped for: a tenth for forest, nothing for built-up land. A model that does better may lower these."""
    parcels = load_card().document["scores"]["parcels"][way]
    for site, figures in parcels.items():
        assert figures["fields_called_forest"]["worst"] <= forest, site
        assert figures["fields_called_fields"]["mean"] >= 0.63, site
    (farmyards,) = (figures["built_up_called_fields"] for figures in parcels.values() if "built_up_called_fields" in figures)
    assert farmyards["worst"] <= built_up
    assert farmyards["mean"] <= built_up_mean


def test_the_card_and_so_every_report_name_the_mistakes_above_a_tenth():
    limits = load_card().limits
    assert any("the site left out of the training: 7.5% of the built-up land is called fields" in limit for limit in limits)
    assert any("the site and its season left out of the training: 0.9% of the fields are called forest" in limit for limit in limits)


def test_the_cards_bounds_are_those_that_reading_the_truth_gives():
    assert load_card().document["training"]["bounds"] == bounds(pool(read_truth(DATA)))


def test_the_cards_bounds_hold_the_labelled_scenes_and_hardly_more():
    """Against the files' own grids, read without the training's code."""
    from netCDF4 import Dataset
    from pyproj import Transformer

    found = load_card().document["training"]["bounds"]
    assert list(found) == list(load_card().document["training"]["sites"])
    places = {"T33UUP 38_58": (32633, 345_600, 5_329_200, 346_800, 5_330_400)}
    for path in (DATA / "worldcereal").glob("OUTPUT_*.nc"):
        with Dataset(path) as data:
            places[next(site for site in found if data.tile in site)] = (int(data["LC"].epsg), *map(int, data["LC"].bounds))
    assert len(places) == 3
    for site, (epsg, *edges) in places.items():
        true = Transformer.from_crs(epsg, 4326, always_xy=True).transform_bounds(*edges)
        outside = [sign * (card - edge) for sign, card, edge in zip((-1, -1, 1, 1), found[site], true, strict=True)]
        assert min(outside) > -1e-6, site
        assert max(outside) < 1.1e-4, site


def test_the_card_claims_level_one_and_says_where_it_stops():
    card = load_card()
    assert (card.legend, card.validated_level) == ("clc:1", 1)
    assert 4 not in card.codes
    assert any("Wetlands" in limit for limit in card.limits)
    assert "Forest" in card.cautions(1)[0]
    assert card.cautions(6) == ()
    assert card.document["file"]["bytes"] < 2_000_000
