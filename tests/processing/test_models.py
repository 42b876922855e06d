"""A model by its name: what a creator's own folder must hold, what is refused and in which words, and that windows join without a seam."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
from earthself.processing.models import BadCard, BrokenModel, DoesNotFit, ModelCard, UnknownModel, load_card, load_model, model_names

BANDS = ["B03", "B04", "B08", "B11"]
WATER = {
    "code": 5,
    "confidence": 90,
    "sure": {"mndwi_min": 0.2, "ndwi_min": 0.0, "nir_max": 0.12, "swir_max": 0.06},
    "perhaps": {"mndwi_min": 0.0, "ndwi_min": -0.2, "nir_max": 0.18, "swir_max": 0.1},
}

SNOW = {"ndsi_min": 0.4, "nir_min": 0.11}


def linear(weight, bias, *, layout="pixels", bands=4, name="probabilities", novelty=None, kernel=1):
    """An ONNX model: scores are a linear map of the bands, or of the sum over a square of pixels."""
    from onnx import TensorProto, helper, numpy_helper

    weight, bias = np.asarray(weight, np.float32), np.asarray(bias, np.float32)
    constants = [numpy_helper.from_array(bias if layout == "pixels" else bias[:, None, None], "bias")]
    if layout == "pixels":
        constants.append(numpy_helper.from_array(weight.T, "weight"))
        nodes = [helper.make_node("MatMul", ["x", "weight"], ["product"])]
        inside, outside = ["pixels", bands], ["pixels", len(bias)]
    else:
        square = np.repeat(np.repeat(weight[:, :, None, None], kernel, 2), kernel, 3)
        constants.append(numpy_helper.from_array(square, "weight"))
        nodes = [helper.make_node("Conv", ["x", "weight"], ["product"], pads=[kernel // 2] * 4)]
        inside, outside = [1, bands, "h", "w"], [1, len(bias), "h", "w"]
    nodes.append(helper.make_node("Add", ["product", "bias"], [name]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, outside)]
    if novelty is not None:
        constants.append(numpy_helper.from_array(np.asarray(novelty, np.float32).reshape(-1, 1), "far"))
        nodes.append(helper.make_node("MatMul", ["x", "far"], ["novelty"]))
        outputs.append(helper.make_tensor_value_info("novelty", TensorProto.FLOAT, ["pixels", 1]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, inside)]
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def card(network, **changes):
    made = {
        "card": 1,
        "name": "mine",
        "version": "3",
        "title": "Test",
        "input": {"bands": BANDS, "layout": "pixels"},
        "output": {
            "legend": "clc:1",
            "validated_level": 1,
            "activation": "softmax",
            "classes": [{"code": 2, "name": "fields"}, {"code": 3, "name": "forest"}],
        },
        "training": {"sources": ["a field trip"]},
        "scores": {},
        "limits": [],
        "file": {"sha256": hashlib.sha256(network).hexdigest(), "bytes": len(network)},
    }
    for place, value in changes.items():
        *parents, last = place.split("__")
        inner = made
        for name in parents:
            inner = inner[name]
        inner[last] = value
    return made


FIELDS_ARE_BRIGHT = linear([[0, 50, 0, 0], [0, -50, 0, 0]], [-2.5, 2.5])


@pytest.fixture
def registry(tmp_path):
    """Put a model into a folder of its own; gives the environment that lists the folder."""

    def put(network=FIELDS_ARE_BRIGHT, document=None, place="mine", **changes):
        folder = tmp_path / "models" / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(network)
        (folder / "card.json").write_text(json.dumps(document or card(network, **changes)))
        return {"EARTHSELF_MODELS": os.pathsep.join([str(tmp_path / "none"), str(tmp_path / "models")])}

    return put


def pixel(model, *values):
    """Code, confidence and flags of one pixel with these reflectances."""
    said = model.predict(np.array(values, np.float32).reshape(-1, 1, 1), np.ones((1, 1), bool))
    return int(said.codes[0, 0]), int(said.confidence[0, 0]), int(said.flags[0, 0])


# --- by name


def test_the_shipped_model_is_the_default_and_knows_its_id():
    model = load_model()
    assert model.id == f"baseline:{model.card.version}"
    assert model.card.codes == (1, 2, 3, 5)
    assert load_card("baseline").sha256 == model.card.sha256


def test_a_creators_model_is_used_by_its_name(registry):
    environ = registry()
    assert model_names(environ) == ["baseline", "mine"]
    model = load_model("mine", environ=environ)
    assert model.id == "mine:3"
    assert pixel(model, 0.1, 0.2, 0.3, 0.2)[0] == 2
    assert pixel(model, 0.1, 0.01, 0.3, 0.2)[0] == 3


def test_the_environment_of_the_process_names_the_folders(registry, monkeypatch):
    monkeypatch.setenv("EARTHSELF_MODELS", registry()["EARTHSELF_MODELS"])
    assert load_model("mine").card.title == "Test"


def test_nobody_can_replace_the_shipped_model(registry):
    environ = registry(place="baseline", document=card(FIELDS_ARE_BRIGHT, name="baseline"))
    assert load_model("baseline", environ=environ).card.bands != tuple(BANDS)


@pytest.mark.parametrize("name", ["nonesuch", "../baseline", "/etc", "", "Baseline", "a" * 65])
def test_a_name_that_is_none_lists_those_that_are(name, registry):
    with pytest.raises(UnknownModel, match=r"known: baseline, mine\..*EARTHSELF_MODELS") as caught:
        load_model(name, environ=registry())
    assert caught.value.exit_code == 65
    assert not caught.value.retry


def test_a_model_made_with_scikit_learn_works_as_it_is_exported(registry):
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(1)
    x = random.uniform(0, 0.4, (400, 4)).astype(np.float32)
    forest = RandomForestClassifier(10, random_state=0).fit(x, np.where(x[:, 1] > 0.2, 2, 3))
    network = to_onnx(forest, x[:1], options={"zipmap": False}, target_opset=17).SerializeToString()
    model = load_model("mine", environ=registry(network, output__activation="none"))
    said = model.predict(x.T.reshape(4, 20, 20).copy(), np.ones((20, 20), bool))
    assert (said.codes.ravel() == forest.predict(x)).all()


# --- what is refused


def test_a_file_that_is_not_the_cards_is_refused(registry, tmp_path):
    environ = registry()
    path = tmp_path / "models" / "mine" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BrokenModel, match="SHA-256"):
        load_model("mine", environ=environ)


def test_a_missing_or_broken_file_is_said(registry, tmp_path):
    environ = registry(b"no network at all")
    with pytest.raises(BrokenModel, match="cannot be loaded as an ONNX model"):
        load_model("mine", environ=environ)
    (tmp_path / "models" / "mine" / "model.onnx").unlink()
    with pytest.raises(BrokenModel, match=r"model\.onnx is not there"):
        load_model("mine", environ=environ)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output__classes": [{"code": 2, "name": "a"}, {"code": 7, "name": "b"}]}, r"codes \[7\] are not in legend clc:1"),
        ({"output__classes": [{"code": 2, "name": "a"}, {"code": 311, "name": "b"}]}, r"codes \[311\] are not in legend clc:1"),
        ({"output__validated_level": 2}, "legend clc:1 is of level 1, validated_level is 2"),
        ({"output__classes": [{"code": 0, "name": "a"}]}, "no class has a code"),
        ({"output__water": WATER, "input__bands": ["B02", "B04", "B08", "B11"]}, "the water rule needs B03"),
        ({"output__snow": SNOW, "input__bands": ["B02", "B04", "B08", "B12"]}, "the snow rule needs B03, B11"),
        ({"output__water": WATER | {"code": 9}}, r"codes \[9\]"),
        ({"output__classes": [{"code": 2, "name": "a", "confidence": [[0.5, 1], [0.5, 2]]}]}, "must rise"),
        ({"output__classes": [{"code": 2, "name": "a", "max_doubt": {"b": 0.1}}]}, "max_doubt: 'b' must be the name of one other class"),
        ({"output__classes": [{"code": 2, "name": "a", "max_doubt": {"a": 0.1}}]}, "max_doubt: 'a' must be the name of one other class"),
        ({"input__bands": []}, "input/bands"),
        ({"input__bands": ["B03", "B03"]}, "input/bands"),
        ({"input__bands": ["B03", "B04", "B08", "B99"]}, "input/bands: B99 are not among Sentinel-2's bands B01, "),
        ({"input__context": 1}, "layout 'pixels' sees single pixels"),
        ({"training": {}}, "training: 'sources' is a required property"),
        ({"training__bounds": {"a": [1, 2, 3]}}, r"training/bounds/a: \[1, 2, 3\]"),
        ({"training__bounds": {"a": [12, 48, 13, 95]}}, "training/bounds/a/3: 95"),
        ({"training__bounds": {"a": [12, 49, 13, 48]}}, r"training/bounds/a: \[12, 49, 13, 48\] has no extent"),
        ({"file__sha256": "abc"}, "file/sha256"),
        ({"name": "Mine!"}, "name"),
        ({"surprise": 1}, "surprise"),
        ({"name": "other"}, "they must agree"),
    ],
)
def test_a_card_that_is_wrong_says_where(registry, changes, message):
    with pytest.raises(BadCard, match=message):
        load_model("mine", environ=registry(**changes))


def test_a_card_that_is_no_json_is_said(registry, tmp_path):
    environ = registry()
    (tmp_path / "models" / "mine" / "card.json").write_text("{")
    with pytest.raises(BadCard, match="cannot be read as JSON"):
        load_card("mine", environ)


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (linear(np.zeros((2, 3)), [0, 0], bands=3), {}, r"wants input \['pixels', 3\].*'pixels' with 4 bands, that is \(pixels, 4\)"),
        (linear(np.zeros((2, 4)), [0, 0], layout="image"), {}, r"its card says layout 'pixels'"),
        (FIELDS_ARE_BRIGHT, {"output__novelty": {"threshold": 1}}, "has a novelty threshold, but .* no output 'novelty'"),
        (linear(np.zeros((2, 4)), [0, 0], name="a", novelty=[0] * 4), {}, "name the one with a value per class 'probabilities'"),
    ],
)
def test_a_network_that_is_not_its_cards_is_refused_when_it_is_opened(registry, network, changes, message):
    with pytest.raises(DoesNotFit, match=message):
        load_model("mine", environ=registry(network, **changes))


@pytest.mark.parametrize("declared", [True, False])
def test_a_network_with_another_number_of_classes_is_refused_when_it_is_opened(registry, declared):
    from onnx import load_from_string

    network = load_from_string(linear(np.zeros((3, 4)), [0, 0, 0]))
    if not declared:
        network.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(DoesNotFit, match="its card has 2 classes"):
        load_model("mine", environ=registry(network.SerializeToString()))


def test_a_network_that_cannot_take_a_tile_is_refused_when_it_is_opened(registry):
    from onnx import load_from_string

    fixed = load_from_string(FIELDS_ARE_BRIGHT)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    with pytest.raises(DoesNotFit, match="refused an input of shape"):
        load_model("mine", environ=registry(fixed.SerializeToString()))


def test_numbers_that_no_json_has_are_refused_with_their_place(registry, tmp_path):
    environ = registry(output__classes=[{"code": 2, "name": "fields", "min_probability": float("nan")}, {"code": 3, "name": "forest"}])
    with pytest.raises(BadCard, match=r"output/classes/0/min_probability: nan is not a number"):
        load_card("mine", environ)
    environ = registry(output__novelty={"threshold": 4e9})
    path = tmp_path / "models" / "mine" / "card.json"
    path.write_text(path.read_text().replace("4000000000.0", "1e999"))
    with pytest.raises(BadCard, match=r"output/novelty/threshold: inf is not a number"):
        load_card("mine", environ)


def test_pixels_without_a_band_that_the_model_needs_are_refused(registry):
    model = load_model("mine", environ=registry())
    with pytest.raises(DoesNotFit, match="the 4 bands B03, B04, B08, B11; it was given"):
        model.predict(np.zeros((3, 5, 5), np.float32), np.ones((5, 5), bool))
    with pytest.raises(DoesNotFit, match="valid mask"):
        model.predict(np.zeros((4, 5, 5), np.float32), np.ones((5, 4), bool))
    with pytest.raises(DoesNotFit, match="valid mask is float64"):
        model.predict(np.zeros((4, 5, 5), np.float32), np.ones((5, 5)))


# --- from probabilities to codes


def test_a_pixel_that_the_model_is_unsure_of_gets_no_class_and_a_flag(registry):
    classes = [{"code": 2, "name": "fields", "min_probability": 0.9}, {"code": 3, "name": "forest"}]
    model = load_model("mine", environ=registry(output__classes=classes))
    assert pixel(model, 0.1, 0.06, 0.3, 0.2) == (0, 0, 32)
    assert pixel(model, 0.1, 0.2, 0.3, 0.2) == (2, 100, 0)


def test_a_pixel_that_may_well_be_another_class_gets_none_and_a_flag(registry):
    network = linear([[0, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0]], [2, 0, 0])
    classes = [{"code": 2, "name": "fields", "max_doubt": {"works": 0.2}}, {"code": 3, "name": "forest"}, {"code": 0, "name": "works"}]
    model = load_model("mine", environ=registry(network, output__classes=classes))
    assert pixel(model, 0.1, 0.0, 0.06, 0.2)[0] == 2, "works at 0.18"
    assert pixel(model, 0.1, 0.0, 0.08, 0.2) == (0, 0, 32), "works at 0.21"
    assert pixel(model, 0.1, 0.15, 0.0, 0.2)[0] == 2, "forest at 0.35 is nobody's concern"
    assert pixel(model, 0.1, 0.5, 0.45, 0.2)[0] == 3, "the limit is that of fields alone"


def test_doubt_is_measured_on_probabilities_whether_the_network_or_the_card_makes_them(registry):
    classes = [{"code": 2, "name": "fields", "max_doubt": {"forest": 0.2}}, {"code": 3, "name": "forest"}]
    for share, code in ((0.19, 2), (0.21, 0)):
        given = np.log([1 - share, share])
        assert pixel(load_model("mine", environ=registry(linear(np.zeros((2, 4)), given), output__classes=classes)), 0, 0, 0, 0)[0] == code
        changes = {"output__classes": classes, "output__activation": "none"}
        assert pixel(load_model("mine", environ=registry(linear(np.zeros((2, 4)), np.exp(given)), **changes)), 0, 0, 0, 0)[0] == code


def test_a_close_second_leaves_the_pixel_without_a_class(registry):
    model = load_model("mine", environ=registry(output__min_margin=0.5))
    assert pixel(model, 0.1, 0.055, 0.3, 0.2) == (0, 0, 32)
    assert pixel(model, 0.1, 0.07, 0.3, 0.2)[0] == 2


def test_a_kind_without_a_code_is_known_but_not_said(registry):
    model = load_model("mine", environ=registry(output__classes=[{"code": 2, "name": "fields"}, {"code": 0, "name": "cloud"}]))
    assert pixel(model, 0.1, 0.0, 0.3, 0.2) == (0, 0, 32)


def test_classes_that_share_a_code_add_up(registry):
    network = linear(np.zeros((3, 4)), np.log([0.3, 0.3, 0.4]))
    classes = [{"code": 3, "name": "broad-leaved"}, {"code": 3, "name": "coniferous"}, {"code": 2, "name": "fields"}]
    model = load_model("mine", environ=registry(network, output__classes=classes))
    assert pixel(model, 0.1, 0.1, 0.1, 0.1) == (3, 60, 0)


def test_confidence_follows_the_cards_curve(registry):
    network = linear(np.zeros((2, 4)), np.log([0.8, 0.2]))
    classes = [{"code": 2, "name": "fields", "confidence": [[0.5, 10], [1, 60]]}, {"code": 3, "name": "forest"}]
    assert pixel(load_model("mine", environ=registry(network, output__classes=classes)), 0, 0, 0, 0) == (2, 40, 0)


def test_a_pixel_far_from_the_training_is_novel(registry):
    network = linear([[0, 50, 0, 0], [0, -50, 0, 0]], [-2.5, 2.5], novelty=[0, 0, 10, 0])
    model = load_model("mine", environ=registry(network, output__novelty={"threshold": 5}))
    assert pixel(model, 0.1, 0.2, 0.49, 0.2)[0] == 2
    assert pixel(model, 0.1, 0.2, 0.51, 0.2) == (0, 0, 16)


def test_water_by_rule_overrules_the_network(registry):
    model = load_model("mine", environ=registry(output__water=WATER))
    assert model.card.codes == (2, 3, 5)
    assert pixel(model, 0.08, 0.2, 0.03, 0.02) == (5, 90, 64)
    assert pixel(model, 0.08, 0.2, 0.09, 0.07) == (0, 0, 32), "perhaps water"
    assert pixel(model, 0.08, 0.2, 0.3, 0.2)[0] == 2
    assert pixel(model, 0.0, 0.0, 0.0, 0.0)[2] == 64, "black is inside all limits and divides nothing"


def test_snow_by_rule_gets_no_class_and_water_stays_water(registry):
    model = load_model("mine", environ=registry(output__water=WATER, output__snow=SNOW))
    assert pixel(model, 0.8, 0.8, 0.8, 0.1) == (0, 0, 32)
    assert pixel(model, 0.3, 0.2, 0.3, 0.125) == (0, 0, 32)
    assert pixel(model, 0.3, 0.2, 0.3, 0.135)[0] == 2
    assert pixel(model, 0.3, 0.2, 0.115, 0.05)[0] == 5, "water takes no more light in the infrared than that"


def test_pixels_that_are_not_valid_stay_empty_and_valid_ones_without_reflectance_are_nodata(registry):
    model = load_model("mine", environ=registry())
    image = np.full((4, 1, 3), 0.2, np.float32)
    image[1, 0, 2] = np.nan
    said = model.predict(image, np.array([[True, False, True]]))
    assert said.codes.tolist() == [[2, 0, 0]]
    assert said.flags.tolist() == [[0, 0, 1]]
    assert (said.codes.dtype, said.confidence.dtype, said.flags.dtype) == (np.uint16, np.uint8, np.uint8)


def test_nothing_valid_gives_an_empty_window(registry):
    said = load_model("mine", environ=registry()).predict(np.zeros((4, 3, 3), np.float32), np.zeros((3, 3), bool))
    assert not said.codes.any()
    assert not said.flags.any()


def test_a_card_says_which_classes_were_learnt_in_other_months():
    months = [{"code": 2, "name": "fields"}, {"code": 3, "name": "forest", "months": [6, 7]}]
    made = ModelCard.from_json(card(b"x", output__classes=months))
    assert made.cautions(6) == ()
    (caution,) = made.cautions(1)
    assert "Forest and semi-natural areas (code 3) from June, July only; in January" in caution


# --- windows


def around(model, image, valid, window):
    """Predict a window as the steps do: with the model's context around it, where the image goes on."""
    row, column, height, width = window
    c = model.card.context
    top, left = max(0, row - c), max(0, column - c)
    part = (slice(top, row + height + c), slice(left, column + width + c))
    said = model.predict(image[:, *part].copy(), valid[part].copy())
    inner = (slice(row - top, row - top + height), slice(column - left, column - left + width))
    return [a[inner] for a in (said.codes, said.confidence, said.flags)]


@pytest.fixture(scope="module")
def wide():
    """An image wider than a tile, smooth in places and rough in others, with holes."""
    random = np.random.default_rng(5)
    levels = np.array([0.03, 0.06, 0.05, 0.1, 0.25, 0.3, 0.32, 0.33, 0.2, 0.1])[:, None, None]
    fields = random.lognormal(0, 0.5, (10, 20, 25)).repeat(16, axis=1).repeat(16, axis=2)
    image = (levels * fields * random.lognormal(0, 0.1, (10, 320, 400))).astype(np.float32)
    image[:, 100:110, 200:230] = np.nan
    valid = random.random((320, 400)) < 0.97
    return image, valid


@pytest.mark.parametrize("window", [(0, 0, 320, 200), (0, 200, 320, 200), (37, 101, 150, 211), (90, 190, 40, 50), (319, 399, 1, 1)])
def test_a_window_gives_what_the_whole_gives_bit_for_bit(wide, window):
    image, valid = wide
    model = load_model()
    whole = model.predict(image, valid)
    row, column, height, width = window
    part = (slice(row, row + height), slice(column, column + width))
    for whole_raster, window_raster in zip((whole.codes, whole.confidence, whole.flags), around(model, image, valid, window), strict=True):
        assert np.array_equal(whole_raster[part], window_raster)


def test_a_creators_network_with_context_joins_without_a_seam(registry, wide):
    image, valid = wide
    network = linear([[0, 5, 0, 0], [0, -5, 0, 0]], [-6, 6], layout="image", kernel=5)
    model = load_model("mine", environ=registry(network, input__layout="image", input__context=2))
    four = image[[1, 2, 6, 8]]
    whole = model.predict(four, valid)
    assert set(np.unique(whole.codes)) == {0, 2, 3}
    codes, confidence, _ = around(model, four, valid, (40, 50, 130, 260))
    assert np.array_equal(codes, whole.codes[40:170, 50:310])
    # The network's own convolution may round differently near a tile's edge.
    assert np.abs(confidence.astype(int) - whole.confidence[40:170, 50:310]).max() <= 1


def test_a_network_of_a_fixed_size_is_given_that_size(registry, wide):
    from onnx import load_from_string

    network = load_from_string(linear([[0, 5, 0, 0], [0, -5, 0, 0]], [-6, 6], layout="image", kernel=5))
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.shape.dim[2].dim_value = value.type.tensor_type.shape.dim[3].dim_value = 64
    image, valid = wide
    changes = {"input__layout": "image", "input__context": 2}
    fixed = load_model("mine", environ=registry(network.SerializeToString(), **changes)).predict(image[[1, 2, 6, 8]], valid)
    free = linear([[0, 5, 0, 0], [0, -5, 0, 0]], [-6, 6], layout="image", kernel=5)
    assert np.array_equal(fixed.codes, load_model("mine", environ=registry(free, **changes)).predict(image[[1, 2, 6, 8]], valid).codes)


def test_a_tile_that_context_fills_is_refused(registry):
    from onnx import load_from_string

    network = load_from_string(linear(np.zeros((2, 4)), [0, 0], layout="image"))
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.shape.dim[2].dim_value = value.type.tensor_type.shape.dim[3].dim_value = 32
    with pytest.raises(DoesNotFit, match="nothing is left inside"):
        load_model("mine", environ=registry(network.SerializeToString(), input__layout="image", input__context=16))
