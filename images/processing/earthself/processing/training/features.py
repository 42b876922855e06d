"""What the baseline looks at: each pixel's spectrum, and how rough the 3x3 pixels around it are.

Differences of log reflectances are logs of band ratios, so the network can form any normalised index by itself. Roughness
tells a village from a field: on the labelled parcels it cuts the farmyards taken for fields to a third.
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
CONTEXT = 1
"""Pixels around a pixel that change its features."""
COUNT = len(BANDS) + len(ROUGH) + len(SMOOTH)
"""Number of features."""
BRIGHTNESS = tuple(range(len(BANDS))) + tuple(range(len(BANDS) + len(ROUGH), COUNT))
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
    weight = (seen.min(axis=0) > 0).astype(np.float32)
    count = np.maximum(_sum3(weight), 1)
    chosen = log[list(ROUGH)] * weight
    mean = _sum3(chosen) / count
    variance = _sum3(chosen * log[list(ROUGH)]) / count - mean**2
    rough = np.log(np.sqrt(np.maximum(variance, 0)) + STILL)
    return np.concatenate([log, rough, mean[list(SMOOTH)]]).astype(np.float32)


def _sum3(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum over 3x3 pixels of (..., h, w), nothing beyond the edge."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)])
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return np.asarray(rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:], np.float32)
