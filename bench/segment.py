"""Classification with the shipped model in megapixels a CPU second, one thread; the peer is scikit-learn's random forest.

Both get the same real pixels (the BigEarthNet patches of ../shared/data) and turn each into a class with its confidence. The
forest is what land-cover scripts usually hold: 100 trees on the ten bands, grown on the codes that the model gives.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PATCHES = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "bigearthnet_v2"
ROUNDS = 5
TREES = 100
GROWN_ON = 20_000
SIDE = 1200


def scene() -> np.ndarray:
    """Reflectance (10, SIDE, SIDE): the patches side by side, over and over."""
    from earthself.processing.training.sources import read_patches

    patches = [np.nan_to_num(image, nan=0.01) for _, image in read_patches(PATCHES).values()]
    rows = [np.concatenate([patches[(i + j) % len(patches)] for j in range(SIDE // 120)], axis=2) for i in range(SIDE // 120)]
    return np.concatenate(rows, axis=1)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def run() -> list[dict[str, Any]]:
    """Measure both in turns and keep the best round of each: whatever else the machine does only adds to the times."""
    if not PATCHES.is_dir():
        print("skipped: the patches are not in ../shared/data; docs/models.md says where to get them", file=sys.stderr)
        return []
    from earthself.processing.models import load_model
    from sklearn.ensemble import RandomForestClassifier

    image = scene()
    valid = np.ones(image.shape[1:], bool)
    model = load_model(threads=1)
    codes = model.predict(image, valid).codes.ravel()
    pixels = np.ascontiguousarray(image.reshape(len(image), -1).T)
    some = np.random.default_rng(0).choice(len(pixels), GROWN_ON, replace=False)
    forest = RandomForestClassifier(TREES, n_jobs=1, random_state=0).fit(pixels[some], codes[some])
    part = pixels[: len(pixels) // 20]

    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(cpu(lambda: model.predict(image, valid)))
        theirs.append(cpu(lambda: forest.predict_proba(part).argmax(axis=1)))
    value, peer = valid.size / 1e6 / min(ours), len(part) / 1e6 / min(theirs)
    return [
        {
            "name": f"segment, baseline on {SIDE} x {SIDE} pixels",
            "value": value,
            "unit": "Mpx/CPU s",
            "peer": f"random forest of scikit-learn, {TREES} trees",
            "peer_value": peer,
            "ratio": value / peer,
            "goal": 10,
        }
    ]


if __name__ == "__main__":
    print(run())
