"""Training a model: files in, what is refused, scores counted by hand, and a model that anybody can repeat to the byte."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import rasterio
from affine import Affine
from earthself.processing.errors import BadInput
from earthself.processing.models import load_model
from earthself.processing.training import scores
from earthself.processing.training.__main__ import main
from earthself.processing.training.calibrate import doubt
from earthself.processing.training.document import bounds
from earthself.processing.training.features import BANDS, COUNT, STILL, features
from earthself.processing.training.fit import Recipe, fit
from earthself.processing.training.folds import RANDOM, SITE, SITE_AND_SEASON, UNSEEN, Answers, folds
from earthself.processing.training.network import Network, graph
from earthself.processing.training.sources import read_patches, read_truth
from earthself.processing.training.truth import BUILT, FIELD, FOREST, KINDS, OBSCURED, OTHER, UNLABELLED, WATER, Scene, pool
from pyproj import Transformer

SPECTRA = {
    1: [0.15, 0.16, 0.18, 0.19, 0.2, 0.21, 0.22, 0.22, 0.25, 0.24],
    2: [0.04, 0.07, 0.06, 0.12, 0.28, 0.35, 0.36, 0.37, 0.23, 0.14],
    3: [0.02, 0.035, 0.02, 0.06, 0.2, 0.26, 0.27, 0.28, 0.12, 0.05],
    5: [0.05, 0.07, 0.05, 0.04, 0.03, 0.03, 0.03, 0.03, 0.01, 0.01],
}


def write(path, values, *, names=None, scale=None, crs="EPSG:32633"):
    values = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[2], height=values.shape[1], count=len(values), dtype=values.dtype, crs=crs,
        transform=Affine(10, 0, 300000, 0, -10, 5400000),
    ) as data:  # fmt: skip
        data.write(values)
        if names:
            data.descriptions = names
        if scale:
            data.scales, data.offsets = [scale[0]] * len(values), [scale[1]] * len(values)


def scenery(seed, side=48):
    """Level-3 codes in four quarters, and reflectances that go with them."""
    random = np.random.default_rng(seed)
    first = np.zeros((side, side), np.uint8)
    half = side // 2
    first[:half, :half], first[:half, half:], first[half:, :half], first[half:, half:] = 1, 2, 3, 5
    image = np.array([SPECTRA[c] for c in first.ravel()]).T.reshape(10, side, side)
    image = image * random.lognormal(0, 0.04, image.shape) * np.where(first == 1, random.lognormal(0, 0.3, first.shape), 1)
    level3 = np.select([first == 1, first == 2, first == 3], [112, 211, 312], 512).astype(np.uint16)
    return image.astype(np.float32), level3


@pytest.fixture
def truth_folder(tmp_path):
    """Three sites of one's own; the first is seen in two seasons. Written as integers with ESA's offset."""
    for seed, (site, day) in enumerate([("here", "20200610"), ("here", "20201220"), ("there", "20200611"), ("yonder", "20210601")]):
        folder = tmp_path / "truth" / "own" / site
        folder.mkdir(parents=True, exist_ok=True)
        image, codes = scenery(seed)
        write(folder / f"{day}_a.tif", np.rint(image * 10000 + 1000).astype(np.uint16), names=BANDS, scale=(0.0001, -0.1))
        write(folder / f"{day}_a_codes.tif", codes)
    return tmp_path / "truth"


# --- features and network


def test_a_smooth_image_has_no_roughness_and_a_rough_one_has_its_standard_deviation():
    image = np.full((10, 5, 5), 0.2, np.float32)
    made = features(image)
    assert made.shape == (COUNT, 5, 5)
    assert made[:10] == pytest.approx(np.log(0.2), abs=1e-6)
    assert made[10:13] == pytest.approx(np.log(STILL), abs=0.01)
    assert made[13:16] == pytest.approx(np.log(STILL), abs=0.1), "what single precision leaves of 81 squares"
    image[6, 2, 2] = 0.4
    logs = np.log([0.2] * 8 + [0.4])
    assert features(image)[12, 2, 2] == pytest.approx(np.log(logs.std() + STILL), abs=1e-4)
    assert features(image)[12, 0, 0] == pytest.approx(np.log(STILL), abs=0.01), "two pixels away nothing near changes"
    every = np.log([0.2] * 24 + [0.4])
    assert features(image)[15] == pytest.approx(np.log(every.std() + STILL), abs=1e-4), "all 5 x 5 pixels lie in the wide surroundings"
    assert features(image)[16, 1, 1] == pytest.approx(np.log(0.2), abs=1e-6), "B04 is as it was"
    assert features(image)[17, 1, 1] == pytest.approx(logs.mean(), abs=1e-6)


def test_wide_roughness_ends_four_pixels_away():
    image = np.full((10, 1, 12), 0.2, np.float32)
    image[0, 0, 0] = 0.4
    logs = np.log([0.4] + [0.2] * 8)
    assert features(image)[13, 0, 4] == pytest.approx(np.log(logs.std() + STILL), abs=1e-4)
    assert features(image)[13, 0, 5] == pytest.approx(np.log(STILL), abs=0.01)


def test_a_neighbour_without_reflectance_weighs_nothing():
    image = np.full((10, 4, 4), 0.2, np.float32)
    image[:, 1, 1] = np.nan
    made = features(image)
    assert made[10:13, 0, 0] == pytest.approx(np.log(STILL), abs=0.01)
    assert made[13:16, 0, 0] == pytest.approx(np.log(STILL), abs=0.1)
    assert made[16:, 0, 0] == pytest.approx(np.log(0.2), abs=1e-6)


def test_the_onnx_file_is_the_network_that_was_scored():
    import onnxruntime

    random = np.random.default_rng(3)

    def normal(*shape):
        return random.normal(0, 0.5, shape).astype(np.float32)

    kinds = len(KINDS)
    network = Network(
        mean=normal(COUNT) - 2,
        spread=np.exp(normal(COUNT)),
        layers=((normal(12, COUNT), normal(12)), (normal(kinds, 12), normal(kinds))),
        whiten=normal(10, 10),
        prototypes=tuple(normal(n, 10) for n in (16, 3, 9, 1, 0, 0)),
        reach=(1.0, 2.0, 0.5, 3.0, 1.0, 1.0),
    )
    image = random.lognormal(-2, 1, (10, 40, 30)).astype(np.float32)
    image[:, 5:9, 6:8] = 0
    session = onnxruntime.InferenceSession(graph(network), providers=["CPUExecutionProvider"])
    probabilities, novelty = session.run(["probabilities", "novelty"], {"reflectance": image[None]})
    rows = features(image).reshape(COUNT, -1).T
    assert np.allclose(probabilities[0].reshape(kinds, -1).T, network.probabilities(rows), atol=2e-3)
    assert np.allclose(novelty[0].reshape(kinds, -1).T, network.novelty(rows), rtol=1e-3, atol=1e-3)


# --- files


def test_own_files_are_read_with_site_date_scale_and_codes_of_any_level(truth_folder):
    scenes = list(read_truth(truth_folder))
    assert [(s.site, s.day) for s in scenes] == [
        ("here", date(2020, 6, 10)),
        ("here", date(2020, 12, 20)),
        ("there", date(2020, 6, 11)),
        ("yonder", date(2021, 6, 1)),
    ]
    image, _ = scenery(0)
    assert scenes[0].reflectance == pytest.approx(image, abs=6e-5)
    assert [int(scenes[0].kind[y, x]) for y, x in ((0, 0), (0, 47), (47, 0), (47, 47))] == [BUILT, FIELD, FOREST, WATER]


def test_scenes_say_where_they_lie(truth_folder):
    here = next(read_truth(truth_folder))
    corners = Transformer.from_crs(32633, 4326, always_xy=True).transform([300_000, 300_000, 300_480, 300_480], [5_400_000, 5_399_520] * 2)
    (west, east), (south, north) = ((min(edges), max(edges)) for edges in corners)
    assert here.bounds == pytest.approx((west, south, east, north), abs=1e-6)


def test_a_site_is_as_wide_as_all_its_scenes():
    def at(*places):
        return pool([scene(site, date(2020, 7, day), [FIELD], bounds=edges) for day, (site, edges) in enumerate(places, 1)])

    two = at(("a", (12.0, 48.0, 12.1, 48.1)), ("b", (5.00001, 50.0, 5.1, 50.10001)), ("a", (12.3, 47.9, 12.4, 48.05)))
    assert dict(zip(two.sites, two.bounds, strict=True)) == {"a": (12.0, 47.9, 12.4, 48.1), "b": (5.00001, 50.0, 5.1, 50.10001)}
    assert two.take(two.at("b")).bounds == two.bounds
    assert bounds(two) == {"a": [12.0, 47.9, 12.4, 48.1], "b": [5.0, 50.0, 5.1, 50.1001]}, "rounded outwards"
    assert at(("a", (179.9, 50.0, 180.0, 50.1)), ("a", (-180.0, 50.0, -179.9, 50.1))).bounds == ((179.9, 50.0, -179.9, 50.1),)


def test_codes_without_a_kind_are_not_used(truth_folder):
    path = truth_folder / "own" / "here" / "20200610_a_codes.tif"
    _, codes = scenery(0)
    codes[0, :3] = 0, 411, 999
    write(path, codes)
    assert next(read_truth(truth_folder)).kind[0, :3].tolist() == [UNLABELLED] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "20200610_a.tif").unlink(), r"beside it belongs 20200610_a\.tif"),
        (lambda f: write(f / "20200610_a.tif", np.ones((9, 48, 48), np.float32), names=BANDS[:9]), r"20200610_a\.tif lacks B12"),
        (lambda f: write(f / "20200610_a.tif", np.ones((10, 48, 48), np.uint16), names=BANDS), "integers without a scale"),
        (lambda f: write(f / "20200610_a_codes.tif", np.ones((50, 48), np.uint16)), "different grids"),
        (lambda f: write(f / "20200610_a_codes.tif", np.ones((48, 48), np.uint16), crs="EPSG:32632"), "different grids"),
        (lambda f: [write(p, np.ones((10, 48, 48)), names=BANDS, crs=None) for p in f.glob("20200610*")], "no coordinate system"),
        (lambda f: [p.rename(p.with_name("may_" + p.name)) for p in f.glob("20200610*")], "must begin with the date"),
    ],
)
def test_own_files_that_cannot_be_used_are_named(truth_folder, change, message):
    change(truth_folder / "own" / "here")
    with pytest.raises(BadInput, match=message):
        list(read_truth(truth_folder))


def test_a_folder_without_truth_is_refused(tmp_path, capsys):
    assert main(["--truth", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 65
    assert "is not a folder; docs/models.md" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["--truth", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 65
    assert "no labelled pixel was found" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_site_is_not_enough_to_be_honest(truth_folder, tmp_path, capsys):
    for site in ("there", "yonder"):
        for path in (truth_folder / "own" / site).iterdir():
            path.unlink()
    assert main(["--truth", str(truth_folder), "--out", str(tmp_path / "out")]) == 65
    assert "scores need another one to be left out" in capsys.readouterr().err


def test_neighbouring_patches_are_one_site(tmp_path):
    for h, v in ((10, 10), (12, 13), (40, 10)):
        write(tmp_path / f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{h}_{v}_12b.tif", np.ones((10, 4, 4), np.uint16), names=BANDS)
    sites = [site for site, _ in read_patches(tmp_path).values()]
    assert sites == ["T33UUP 10_10", "T33UUP 10_10", "T33UUP 40_10"]


# --- folds and scores


def scene(site, day, kinds, clear=True, bounds=(12.0, 48.0, 12.1, 48.1)):
    """One row of pixels of these kinds; each pixel is a block of its own."""
    kind = np.array([kinds], np.int8)
    every = np.full(kind.shape, clear)
    image = np.full((10, *kind.shape), 0.1, np.float32)
    block = np.arange(kind.size, dtype=np.int32).reshape(kind.shape)
    return Scene(site, day, image, kind, every, every, block, "parcels", bounds)


@pytest.fixture
def two_sites():
    summer, winter = date(2020, 7, 1), date(2020, 12, 31)
    return pool(
        [
            scene("a", summer, [FIELD, FIELD, BUILT, OBSCURED, UNLABELLED]),
            scene("a", winter, [FIELD, FOREST, WATER]),
            scene("b", winter, [FIELD, FIELD]),
            scene("b", summer, [FIELD], clear=False),
        ]
    )


def test_a_network_is_never_asked_about_what_it_saw(two_sites):
    made = list(folds(two_sites))
    assert {fold.way for fold in made} == {SITE, SITE_AND_SEASON, RANDOM, UNSEEN}
    for fold in made:
        assert not (fold.train & fold.test).any(), fold.name
        assert fold.test.any()
        assert two_sites.clear[fold.test].all()
    for fold in made:
        if fold.way == SITE_AND_SEASON:
            seasons, sites = set(two_sites.season[fold.test]), set(two_sites.site[fold.test])
            assert not np.isin(two_sites.season[fold.train], list(seasons)).any()
            assert not np.isin(two_sites.site[fold.train], list(sites)).any()
    # Without site a and its winter nothing clear is left to learn from; site b has nothing clear in summer to be asked about.
    assert [fold.name for fold in made if fold.way == SITE_AND_SEASON] == ["a, June-August", "b, December-February"]


def test_scores_are_those_counted_by_hand(two_sites):
    rows = np.flatnonzero(two_sites.clear & np.isin(two_sites.kind, (BUILT, FIELD, FOREST, WATER)))
    # Site a: 2 of 3 fields right, one without a class; built-up called fields; forest and water right.
    # Site b: 1 of 2 fields right, the other called forest.
    said = scores.Said(rows, np.array([2, 0, 2, 2, 3, 5, 2, 3], np.uint16), np.zeros(8, np.uint8))
    found = scores.classes(two_sites, said)
    # Sites weigh the same: a pixel of a is 1/6, one of b 1/2.
    right, true, called = 2 / 6 + 1 / 2, 3 / 6 + 1, 3 / 6 + 1 / 2
    assert found["classes"]["2"]["f1"]["value"] == pytest.approx(2 * right / (true + called), abs=1e-4)
    assert found["classes"]["2"]["precision"]["value"] == pytest.approx(right / called, abs=1e-4)
    assert found["classes"]["2"]["recall"]["value"] == pytest.approx(right / true, abs=1e-4)
    assert found["classes"]["2"]["coverage"]["value"] == pytest.approx(1 - (1 / 6) / true, abs=1e-4)
    assert found["classes"]["1"]["f1"]["value"] == 0
    assert found["coverage"]["value"] == pytest.approx(1 - (1 / 6) / 2, abs=1e-4)
    assert found["macro_f1"]["value"] == pytest.approx(np.mean([c["f1"]["value"] for c in found["classes"].values()]), abs=1e-4)
    assert found["pixels"] == found["blocks"] == 8
    low, value, high = (found["classes"]["2"]["f1"][k] for k in ("low", "value", "high"))
    assert low < value < high


def test_doubt_costs_each_left_out_site_the_same_share_of_its_fields():
    truth = pool([scene(site, date(2020, 7, 1), [FIELD] * 200 + [BUILT]) for site in ("a", "b")])
    answers = []
    for number, fold in enumerate(f for f in folds(truth) if f.way == SITE):
        rows = np.flatnonzero(fold.test)
        chances = np.zeros((len(rows), len(KINDS)), np.float32)
        chances[:, BUILT] = (1 + number) * np.linspace(0, 0.2, len(rows))
        chances[:, FIELD] = 1 - chances[:, BUILT]
        answers.append(Answers(fold, rows, chances, np.zeros_like(chances)))
    found = doubt(truth, answers, (BUILT, OTHER), 0.6)
    # 3 % of both sites together are 6 % of the one with the greater doubts.
    assert found == {BUILT: pytest.approx(0.4 * 0.94, abs=0.01)}, "a kind that nobody learnt has no limit"
    assert doubt(truth, answers[:1], (BUILT,), 0.85) == {BUILT: pytest.approx(0.15 * 0.97, abs=0.01)}, "pixels that get no class anyhow"
    answers[0].probabilities[:, BUILT] = 1e-6
    assert doubt(truth, answers[:1], (BUILT,), 0.6) == {BUILT: 0.05}, "a trace says nothing"


def test_parcels_are_judged_by_their_worst_clear_date():
    truth = pool([scene("a", date(2020, 7, day), [FIELD] * 40 + [BUILT] * 40) for day in (1, 2)])
    codes = np.array([2] * 30 + [3] * 10 + [1] * 40 + [2] * 38 + [0] * 2 + [1] * 20 + [2] * 20, np.uint16)
    (found,) = scores.parcels(truth, scores.Said(np.arange(160), codes, np.zeros(160, np.uint8))).values()
    assert found["clear_dates"] == 2
    assert found["fields_called_forest"] == {"mean": 0.125, "worst": 0.25, "worst_date": "2020-07-01"}
    assert found["built_up_called_fields"] == {"mean": 0.25, "worst": 0.5, "worst_date": "2020-07-02"}
    assert found["fields_called_fields"]["worst"] == 0.75


# --- the command


def test_the_command_makes_a_model_that_works(truth_folder, tmp_path, capsys):
    assert main(["--truth", str(truth_folder), "--out", str(tmp_path / "models" / "mine"), "--version", "7"]) == 0
    said = capsys.readouterr()
    assert "mine:7" in said.out
    assert "left_out_site " in said.out
    assert "progress 0.00 reading" in said.err
    model = load_model("mine", environ={"EARTHSELF_MODELS": str(tmp_path / "models")})
    assert model.id == "mine:7"
    assert model.card.document["scores"]["left_out_site"]["macro_f1"]["value"] > 0.9, "the sites look alike"
    assert model.card.document["training"]["sources"] == ["images and CORINE codes of the person who trained the model"]
    assert list(model.card.document["training"]["bounds"]) == ["here", "there", "yonder"]
    image, codes = scenery(99)
    said = model.predict(image, np.ones(codes.shape, bool)).codes
    for code in (1, 2, 3, 5):
        right = said[codes // 100 == code] == code
        assert right.mean() > (0.5 if code == 1 else 0.9)


def test_the_same_truth_and_seed_give_the_same_file(truth_folder):
    truth = pool(read_truth(truth_folder))
    one, same, other = (graph(fit(truth, Recipe(seed=seed, epochs=2))) for seed in (4, 4, 5))
    assert one == same
    assert one != other


def test_a_class_that_no_other_site_confirms_is_learnt_but_not_said(truth_folder, tmp_path):
    for site in ("there", "yonder"):
        for path in (truth_folder / "own" / site).glob("*_codes.tif"):
            _, codes = scenery(0)
            write(path, np.where(codes == 312, 0, codes).astype(np.uint16))
    assert main(["--truth", str(truth_folder), "--out", str(tmp_path / "models" / "mine")]) == 0
    card = load_model("mine", environ={"EARTHSELF_MODELS": str(tmp_path / "models")}).card
    assert card.codes == (1, 2, 5)
    assert any("Forest and semi-natural areas (code 3) is never said" in limit for limit in card.limits)
