"""What the baseline looks at: each pixel's spectrum, and how rough the 3x3 and the 9x9 pixels around it are.

Differences of log reflectances are logs of band ratios, so the network can form any normalised index by itself. Roughness
tells a village from a field: the near one cuts the farmyards of the labelled parcels that are taken for fields to a third, the wide one
leaves more fields of unseen sites with their class and finds more of the built-up land.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Bands that every labelled source has, at 10 or 20 m."""
ROUGH = (0, 2, 6)
"""Positions in `BANDS` whose roughness is taken: B02, B04, B08, all at 10 m."""
SMOOTH = (1, 2)
"""Positions in `ROUGH` whose local mean is a feature too: B04, B08."""
WIDE = 3
"""The wide surroundings are 3x3 blocks of `WIDE` x `WIDE` pixels."""
CONTEXT = 1 + WIDE
"""Pixels around a pixel that change its features."""
COUNT = len(BANDS) + 2 * len(ROUGH) + len(SMOOTH)
"""Number of features: log reflectances, roughness of the near and of the wide surroundings, means of the near ones."""
BRIGHTNESS = tuple(range(len(BANDS))) + tuple(range(len(BANDS) + 2 * len(ROUGH), COUNT))
"""Features that move together when a whole scene is brighter or darker."""

FLOOR = 0.001
"""Reflectance below which differences are noise; logs are taken above it."""
CEILING = 2.0
"""Reflectance above which all is cloud or glint."""
STILL = 0.01
"""Standard deviation of log reflectance that counts as smooth."""


def features(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (COUNT, h, w) of reflectance (bands, h, w); pixels with a reflectance of 0 or none weigh nothing for their neighbours."""
    seen = np.where(np.isfinite(image), image, 0).astype(np.float32)
    log = np.log(np.clip(seen, FLOOR, CEILING))
    weight = (seen.min(axis=0, keepdims=True) > 0).astype(np.float32)
    weighed = log[list(ROUGH)] * weight
    padded = np.pad(np.concatenate([weight, weighed, weighed * log[list(ROUGH)]]), [(0, 0), (CONTEXT, CONTEXT), (CONTEXT, CONTEXT)])
    sums = _sum3(padded, 1)
    near, wide = sums[:, WIDE:-WIDE, WIDE:-WIDE], _sum3(sums, WIDE)
    mean, rough = _moments(near)
    return np.concatenate([log, rough, _moments(wide)[1], mean[list(SMOOTH)]]).astype(np.float32)


def _moments(sums: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and log standard deviation, each (len(ROUGH), h, w), of sums of weights, values and squares."""
    parts = np.asarray(sums[1:] / np.maximum(sums[:1], 1), np.float32)
    mean, square = parts[: len(ROUGH)], parts[len(ROUGH) :]
    return mean, np.asarray(np.log(np.sqrt(np.maximum(square - mean**2, 0)) + STILL), np.float32)


def _sum3(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Sum over 3x3 pixels of (..., h, w) that lie `step` apart; the result is smaller by `step` on each side."""
    rows = values[..., : -2 * step, :] + values[..., step:-step, :] + values[..., 2 * step :, :]
    return np.asarray(rows[..., : -2 * step] + rows[..., step:-step] + rows[..., 2 * step :], np.float32)
