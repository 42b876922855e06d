"""Let masked pixels grow by a distance: cloud edges are thin and shadows blur, and both are classified last."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def dilated(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Set every pixel whose centre is at most `radius` pixels (Euclidean) from the centre of a set one; (rows, columns).

    The disk is taken row by row: a run of the disk's width in each of its rows, which costs its height, not its area.
    """
    if radius < 1 or not mask.any():
        return mask
    from scipy.ndimage import maximum_filter1d

    out = np.zeros_like(mask)
    rows = mask.shape[0]
    source = mask.view(np.uint8)
    for offset in range(math.floor(radius) + 1):
        half = math.floor(math.sqrt(radius * radius - offset * offset) + 1e-9)
        run = maximum_filter1d(source, 2 * half + 1, axis=1, mode="constant", cval=0).view(np.bool_)
        if offset < rows:
            out[offset:] |= run[: rows - offset]
            out[: rows - offset] |= run[offset:]
    return out
