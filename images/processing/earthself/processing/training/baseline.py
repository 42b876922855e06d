"""The shipped model from truth to folder: left-out answers, calibration, scores, the network, its card."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.processing.errors import BadInput
from earthself.processing.models.card import ModelCard
from earthself.processing.models.decide import Decider
from earthself.processing.training import scores
from earthself.processing.training.calibrate import confidence, doubt, reach
from earthself.processing.training.document import MIN_PROBABILITY, Calibration, Subject, card, limits
from earthself.processing.training.fit import Recipe, fit
from earthself.processing.training.folds import RANDOM, SITE, SITE_AND_SEASON, UNSEEN, Answers, answer, ask, folds
from earthself.processing.training.network import Network, graph
from earthself.processing.training.truth import BUILT, FIELD, GROUND, KINDS, OTHER, Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CALLED = {
    SITE: "left-out site",
    SITE_AND_SEASON: "left-out site and season (sites with several)",
    RANDOM: "random split (flatters)",
}


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
    """Train, calibrate and score; `say(fraction, text)` hears how far it is. Raises `BadInput` for a truth of a single site."""
    plan = list(folds(truth, recipe.seed))
    if sum(fold.way == SITE for fold in plan) < 2:
        raise BadInput(f"the truth has one site with clear land, {', '.join(truth.sites)}; scores need another one to be left out")
    answers: dict[str, list[Answers]] = {}
    for number, fold in enumerate(plan):
        say(number / (len(plan) + 1), f"without {fold.name}" if fold.way != RANDOM else "on half of all pixels")
        answers.setdefault(fold.way, []).append(ask(truth, fold, recipe))
    say(len(plan) / (len(plan) + 1), "on everything")
    far = reach(truth, answers[SITE])
    network = fit(truth, recipe).with_reach(far)
    onnx = graph(network)
    curves = {code: confidence(truth, answers[SITE], code) for code in MIN_PROBABILITY}
    doubts = doubt(truth, answers[SITE], (BUILT, OTHER), MIN_PROBABILITY[KINDS[FIELD].code])
    made = card(truth, Subject(name, version, recipe, onnx), Calibration(curves, doubts))
    made["scores"] = _scores(truth, answers, ModelCard.from_json(made), network)
    made["limits"] = limits(truth, made)
    return Trained(network, onnx, made)


def own_answers(truth: Truth, network: Network, made: ModelCard) -> scores.Said:
    """What a network says about all clear pixels of kinds on the ground, those that it was trained on included."""
    rows = np.flatnonzero(truth.clear & np.isin(truth.kind, GROUND))
    codes, _, flags = _decide(Decider(made), truth, rows, *answer(network, truth.features[rows]))
    return scores.Said(rows, codes, flags)


def _scores(truth: Truth, answers: dict[str, list[Answers]], made: ModelCard, network: Network) -> dict[str, Any]:
    decide, far = Decider(made), network.reach
    said = {way: _decided(truth, found, decide, far) for way, found in answers.items() if way != UNSEEN}
    ways = {way: scores.classes(truth, one) for way, one in said.items()}
    ways[SITE]["sources"] = {
        name: scores.classes(truth, said[SITE].where(truth.of(name))) for name in truth.sources if truth.of(name).any()
    }
    ways[SITE]["sites"] = {f.fold.name: scores.classes(truth, _decided(truth, [f], decide, far)) for f in answers[SITE]}
    parcels = {
        way: scores.parcels(truth, one) for way, one in {"shipped": own_answers(truth, network, made), **said}.items() if way != RANDOM
    }
    return {
        "summary": scores.summary(ways, _CALLED),
        **ways,
        UNSEEN: {f.fold.name: scores.shares(_decided(truth, [f], decide, far)) for f in answers.get(UNSEEN, [])},
        "parcels": parcels,
        "about": (scores.__doc__ or "").partition("\n\n")[2].strip().replace("\n", " "),
    }


def _decided(truth: Truth, found: Sequence[Answers], decide: Decider, far: Sequence[float]) -> scores.Said:
    units = np.array(far, np.float32)
    parts = [(f.rows, *_decide(decide, truth, f.rows, f.probabilities, f.novelty / units)) for f in found]
    rows, codes, _, flags = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return scores.Said(rows, codes, flags)


def _decide(
    decide: Decider, truth: Truth, rows: NDArray[np.intp], probabilities: NDArray[np.float32], novelty: NDArray[np.float32]
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint8]]:
    return decide(truth.reflectance[rows].T, probabilities.T, novelty.T)
