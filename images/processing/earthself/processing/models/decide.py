"""From probabilities to codes: every rule by which a pixel gets a class, or none and a flag that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from earthself.data.flags import NO_CLASS, NOVEL, WATER
from earthself.processing.models.card import RULE_BANDS

if TYPE_CHECKING:
    from earthself.processing.models.card import ModelCard, WaterLimits
    from numpy.typing import NDArray

_STEPS = 1000


class Decider:
    """The rules of one card, made ready once. Calls are pure: the same pixel always gets the same answer."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        codes = sorted({c.code for c in card.classes})
        self._members = [[i for i, c in enumerate(card.classes) if c.code == code] for code in codes]
        self._codes = np.array(codes, dtype=np.uint16)
        least = [min(c.min_probability for c in card.classes if c.code == code) for code in codes]
        self._least = np.array(least, dtype=np.float32)
        row, names = {code: i for i, code in enumerate(codes)}, [c.name for c in card.classes]
        self._doubts = [(row[c.code], names.index(name), limit) for c in card.classes for name, limit in c.max_doubt]
        self._curves = np.stack([_curve(card.classes[members[0]].confidence) for members in self._members])
        self._bands = {name: i for i, name in enumerate(card.bands)}

    def __call__(
        self, pixels: NDArray[np.float32], probabilities: NDArray[np.float32], novelty: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint8]]:
        """Decide code, confidence, flags, (n), of reflectance (bands, n), probabilities (classes, n), novelty (1 or classes, n) or None."""
        probabilities = self._normalised(probabilities)
        merged = self._merge(probabilities)
        best = merged.argmax(axis=0)
        lead = np.take_along_axis(merged, best[None], axis=0)[0]
        code = self._codes[best]
        sure = (code != 0) & (lead >= self._least[best])
        for row, doubted, limit in self._doubts:
            sure &= (best != row) | (probabilities[doubted] <= limit)
        if self._card.min_margin > 0 and len(merged) > 1:
            second = np.partition(merged, -2, axis=0)[-2]
            sure &= lead - second >= self._card.min_margin
        flags = np.where(sure, 0, NO_CLASS).astype(np.uint8)
        if novelty is not None and self._card.novelty_threshold is not None:
            # Written so that a distance which is not a number counts as far away.
            novel = ~(self._distance(novelty, best) <= self._card.novelty_threshold)
            flags[novel] = NOVEL
        confidence = self._curves[best, (lead * _STEPS).astype(np.int32).clip(0, _STEPS)]
        self._apply_snow(pixels, flags)
        self._apply_water(pixels, code, confidence, flags)
        unknown = (flags & (NOVEL | NO_CLASS)) != 0
        code[unknown] = 0
        confidence[unknown] = 0
        return code, confidence, flags

    def _normalised(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._card.softmax:
            return outputs
        raised = np.exp(outputs - outputs.max(axis=0))
        return np.asarray(raised / raised.sum(axis=0), np.float32)

    def _merge(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(self._members) == len(probabilities):
            return probabilities[[m[0] for m in self._members]]
        return np.stack([probabilities[m].sum(axis=0) for m in self._members])

    def _distance(self, novelty: NDArray[np.float32], best: NDArray[np.intp]) -> NDArray[np.float32]:
        """Novelty with respect to the best code, where the network gives one per class."""
        if len(novelty) == 1:
            return np.asarray(novelty[0], np.float32)
        per_code = novelty[[m[0] for m in self._members]]
        for row, members in enumerate(self._members):
            if len(members) > 1:
                per_code[row] = novelty[members].min(axis=0)
        return np.asarray(np.take_along_axis(per_code, best[None], axis=0)[0], np.float32)

    def _apply_snow(self, pixels: NDArray[np.float32], flags: NDArray[np.uint8]) -> None:
        """Normalised difference snow index: Hall et al. 1995, doi:10.1016/0034-4257(95)00137-P."""
        rule = self._card.snow
        if rule is not None:
            green, nir, swir = (pixels[self._bands[b]] for b in RULE_BANDS)
            flags[(green - swir >= rule.ndsi_min * (green + swir)) & (nir >= rule.nir_min)] = NO_CLASS

    def _apply_water(
        self, pixels: NDArray[np.float32], code: NDArray[np.uint16], confidence: NDArray[np.uint8], flags: NDArray[np.uint8]
    ) -> None:
        rule = self._card.water
        if rule is None:
            return
        green, nir, swir = (pixels[self._bands[b]] for b in RULE_BANDS)
        perhaps = inside(rule.perhaps, green, nir, swir)
        if not perhaps.any():
            return
        sure = perhaps & inside(rule.sure, green, nir, swir)
        flags[perhaps] = NO_CLASS
        flags[sure] = WATER
        code[sure] = rule.code
        confidence[sure] = rule.confidence


def inside(limits: WaterLimits, green: NDArray[np.float32], nir: NDArray[np.float32], swir: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where all limits hold, (n), without divisions, so that dark pixels do no harm.

    NDWI: McFeeters 1996, doi:10.1080/01431169608948714; MNDWI: Xu 2006, doi:10.1080/01431160600589179.
    """
    ndwi = green - nir >= limits.ndwi_min * (green + nir)
    mndwi = green - swir >= limits.mndwi_min * (green + swir)
    return ndwi & mndwi & (nir <= limits.nir_max) & (swir <= limits.swir_max)


def _curve(knots: tuple[tuple[float, float], ...]) -> NDArray[np.uint8]:
    probability, confidence = zip(*knots, strict=True)
    return np.asarray(np.rint(np.interp(np.arange(_STEPS + 1) / _STEPS, probability, confidence)).clip(0, 100), np.uint8)
