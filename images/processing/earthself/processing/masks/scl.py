"""The scene classification (SCL) that comes with an L2A product, as flag bits.

Masked are 0 no data and 1 saturated or defective (as nodata), 3 cloud shadow, 8 and 9 cloud, 10 thin cirrus; on demand
2 dark area (as shadow) and 11 snow. Clouds and shadows grow at SCL's own resolution, read with a margin, so that a cloud
beyond a window's edge reaches into it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from earthself.data.flags import CLOUD, NODATA, SHADOW, SNOW
from earthself.processing.masks import MaskOptions
from earthself.processing.masks.dilate import dilated

if TYPE_CHECKING:
    from earthself.processing.scene import Scene
    from numpy.typing import NDArray
    from rasterio.windows import Window

_BITS = {0: NODATA, 1: NODATA, 3: SHADOW, 8: CLOUD, 9: CLOUD, 10: CLOUD}


class SclMask:
    """Flag bits from a scene's SCL."""

    version = ""

    def __init__(self, scene: Scene, options: MaskOptions) -> None:
        self._scene = scene
        self._pixel = scene.ratio("SCL")
        self._radius = options.dilate / (self._pixel * scene.grid.resolution)
        bits = _BITS | ({2: SHADOW} if options.dark else {}) | ({11: SNOW} if options.snow else {})
        self._table = np.array([bits.get(code, 0) for code in range(256)], np.uint8)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Flag bits for `window` of the signature's grid, (rows, columns)."""
        place, pixel, margin = self._scene.place, self._pixel, math.ceil(self._radius)
        column, row = place.column + int(window.col_off), place.row + int(window.row_off)
        width, height = int(window.width), int(window.height)
        # Whole SCL pixels, so that growing happens on the pixels that were classified.
        c0, r0 = column // pixel - margin, row // pixel - margin
        c1, r1 = -(-(column + width) // pixel) + margin, -(-(row + height) // pixel) + margin
        classes = self._scene.read_product("SCL", c0 * pixel, r0 * pixel, (c1 - c0) * pixel, (r1 - r0) * pixel)[::pixel, ::pixel]
        flags = self._table[classes.astype(np.uint8, copy=False)]
        for bit in (CLOUD, SHADOW):
            flags[dilated((flags & bit) != 0, self._radius)] |= bit
        fine = flags.repeat(pixel, 0).repeat(pixel, 1)
        dc, dr = column - c0 * pixel, row - r0 * pixel
        out: NDArray[np.uint8] = fine[dr : dr + height, dc : dc + width]
        return out
