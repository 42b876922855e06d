"""The shipped model from truth to folder: left-out answers, calibration, scores, the network, its card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.processing.models.card import ModelCard
from earthself.processing.models.decide import Decider
from earthself.processing.training import scores
from earthself.processing.training.calibrate import INSIDE, confidence, reach
from earthself.processing.training.features import BANDS, CONTEXT
from earthself.processing.training.fit import Recipe, fit
from earthself.processing.training.folds import RANDOM, SITE, SITE_AND_SEASON, UNSEEN, Answers, answer, ask, folds
from earthself.processing.training.network import Network, graph
from earthself.processing.training.truth import BUILT, FIELD, FOREST, KINDS, OTHER, WATER, Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_PROBABILITY = {1: 0.96, 2: 0.6, 3: 0.7}
"""Below these a class is not said. Built-up land is rare and field edges resemble it: it must be nearly sure."""
WATER_RULE = {
    "code": 5,
    "confidence": 95,
    "sure": {"mndwi_min": 0.2, "ndwi_min": 0.0, "nir_max": 0.12, "swir_max": 0.06},
    "perhaps": {"mndwi_min": -0.05, "ndwi_min": -0.2, "nir_max": 0.18, "swir_max": 0.1},
}
"""Open water is dark in the infrared and brighter in the green."""

_SOURCES = Path(__file__).with_name("sources.json")


@dataclass(frozen=True)
class Trained:
    """A model ready to be written."""

    network: Network
    """The weights, with their reach."""
    onnx: bytes
    """The network as a file."""
    card: dict[str, Any]
    """Its card as JSON."""

    def write(self, folder: Path) -> None:
        """Write `model.onnx` and `card.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.onnx)
        (folder / "card.json").write_text(json.dumps(self.card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def train(truth: Truth, name: str, version: str, recipe: Recipe, say: Callable[[float, str], None]) -> Trained:
    """Train, calibrate and score; `say(fraction, text)` hears how far it is."""
    plan = list(folds(truth, recipe.seed))
    answers: dict[str, list[Answers]] = {}
    for number, fold in enumerate(plan):
        say(number / (len(plan) + 1), f"without {fold.name}" if fold.way != RANDOM else "on half of all pixels")
        answers.setdefault(fold.way, []).append(ask(truth, fold, recipe))
    say(len(plan) / (len(plan) + 1), "on everything")
    far = reach(truth, answers[SITE])
    network = fit(truth, recipe).with_reach(far)
    curves = {code: confidence(truth, answers[SITE], code) for code in MIN_PROBABILITY}
    onnx = graph(network)
    card = _card(truth, name, version, recipe, curves=curves, onnx=onnx)
    decide = Decider(ModelCard.from_json(card))
    said = {way: _decided(truth, found, decide, far) for way, found in answers.items() if way != UNSEEN}
    card["scores"] = {way: scores.classes(truth, one) for way, one in said.items()}
    card["scores"][SITE]["sites"] = {
        f.fold.name: scores.classes(truth, _decided(truth, [f], decide, far)) for f in _labelled(truth, answers[SITE])
    }
    card["scores"][UNSEEN] = {f.fold.name: scores.shares(_decided(truth, [f], decide, far)) for f in answers[UNSEEN]}
    card["scores"]["parcels"] = {
        "shipped": scores.parcels(truth, own_answers(truth, network, ModelCard.from_json(card))),
        SITE: scores.parcels(truth, said[SITE]),
        SITE_AND_SEASON: scores.parcels(truth, said[SITE_AND_SEASON]),
    }
    card["scores"]["about"] = scores.__doc__.partition("\n\n")[2].strip().replace("\n", " ")
    return Trained(network, onnx, card)


def own_answers(truth: Truth, network: Network, card: ModelCard) -> scores.Said:
    """What a network says about all clear pixels of kinds on the ground, those that it was trained on included."""
    rows = np.flatnonzero(truth.clear & np.isin(truth.kind, (BUILT, FIELD, FOREST, WATER, OTHER)))
    codes, _, flags = _decide(Decider(card), truth, rows, *answer(network, truth.features[rows]))
    return scores.Said(rows, codes, flags)


def _decided(truth: Truth, found: Sequence[Answers], decide: Decider, far: Sequence[float]) -> scores.Said:
    units = np.array(far, np.float32)
    parts = [(f.rows, *_decide(decide, truth, f.rows, f.probabilities, f.novelty / units)) for f in found]
    rows, codes, _, flags = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return scores.Said(rows, codes, flags)


def _decide(
    decide: Decider, truth: Truth, rows: NDArray[np.intp], probabilities: NDArray[np.float32], novelty: NDArray[np.float32]
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint8]]:
    return decide(truth.reflectance[rows].T, probabilities.T, novelty.T)


def _labelled(truth: Truth, found: Sequence[Answers]) -> list[Answers]:
    return [f for f in found if np.isin(truth.kind[f.rows], (BUILT, FIELD, FOREST, WATER)).any()]


def _card(truth: Truth, name: str, version: str, recipe: Recipe, *, curves: Mapping[int, Any], onnx: bytes) -> dict[str, Any]:
    about = json.loads(_SOURCES.read_text(encoding="utf-8"))
    classes: list[dict[str, Any]] = []
    for number, kind in enumerate(KINDS):
        entry: dict[str, Any] = {"code": kind.code, "name": kind.name}
        if kind.code:
            days = np.unique(truth.day[(truth.kind == number) & truth.clear])
            months = sorted({date.fromordinal(int(d)).month for d in days})
            entry |= {"min_probability": MIN_PROBABILITY[kind.code], "confidence": curves[kind.code], "months": months}
            entry["evidence"] = about["evidence"][str(kind.code)]
        classes.append(entry)
    return {
        "card": 1,
        "name": name,
        "version": version,
        "title": "Land cover at CORINE level 1 from one Sentinel-2 L2A product",
        "description": about["description"],
        "licence": "Apache-2.0",
        "input": {"bands": list(BANDS), "layout": "image", "context": CONTEXT, "quantity": "surface reflectance", "resolution": 10},
        "output": {
            "legend": "clc:1",
            "validated_level": 1,
            "classes": classes,
            "novelty": {
                "threshold": 1.0,
                "method": about["novelty"],
                "calibration": f"{INSIDE:.0%} of the pixels of each kind on left-out sites lie within 1",
            },
            "confidence": {"method": about["confidence"]},
            "water": WATER_RULE | {"evidence": about["evidence"]["5"]},
        },
        "training": {
            "sources": [about["sources"][s] for number, s in enumerate(truth.sources) if (truth.source == number).any()],
            "sites": {site: _pixels(truth, number) for number, site in enumerate(truth.sites)},
            "recipe": asdict(recipe),
        },
        "scores": {},
        "limits": about["limits"],
        "file": {"sha256": hashlib.sha256(onnx).hexdigest(), "bytes": len(onnx)},
    }


def _pixels(truth: Truth, site: int) -> dict[str, int]:
    counts = np.bincount(truth.kind[truth.site == site], minlength=len(KINDS))
    return {kind.name: int(n) for kind, n in zip(KINDS, counts, strict=True) if n}
