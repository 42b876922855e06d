"""Clouds and shadows: which way of finding them a product allows, and what that way says about each pixel.

A mask gives flag bits (2 cloud, 4 shadow, 8 snow, 1 for what the scene classification calls no data or defective) for a
window of a scene. It is asked window by window and must give a pixel the same bits whatever the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from earthself.processing.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from earthself.processing.scene import Place, Scene
    from numpy.typing import NDArray
    from rasterio.windows import Window

Method = Literal["auto", "scl", "csmask", "none"]

FARTHEST = 300.0
"""Metres that clouds and shadows can be widened by at most; what is read around a window reaches as far."""
VERSION = "pre1"
"""Version of all that happens to pixels before a model sees them: offset, resampling, masks."""


@dataclass(frozen=True)
class MaskOptions:
    """How to mask; the defaults are those of `sign`."""

    method: Method = "auto"
    """`auto`: the scene classification where the product has one, else `csmask`."""
    dilate: float = 60.0
    """Metres by which clouds and shadows grow, 0 to 300 (Euclidean, between pixel centres)."""
    dark: bool = False
    """Whether SCL class 2 (dark area, topographic shadow) counts as shadow."""
    snow: bool = False
    """Whether SCL class 11 (snow or ice) is masked as snow."""

    def __post_init__(self) -> None:
        if not 0 <= self.dilate <= FARTHEST:
            raise BadInput(f"--dilate {self.dilate:g} is outside 0 to {FARTHEST:g} metres")

    def resolved(self, has: Callable[[str], bool]) -> MaskOptions:
        """Decide `auto` for a product, of which `has` says what it has; raises `BadInput` where `scl` was asked for and there is none."""
        method = self.method
        if method == "auto":
            method = "scl" if has("SCL") else "csmask"
        if self.method == "scl" and not has("SCL"):
            raise BadInput("the product has no scene classification (asset SCL); use --mask auto or csmask")
        return MaskOptions(method, self.dilate, self.dark, self.snow)

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that the (resolved) mask reads of every product; `needed` may name more of them for one."""
        from earthself.processing.masks import csmask

        return {"scl": ("SCL",), "csmask": csmask.FOUR}.get(self.method, ())

    def check_installed(self) -> None:
        """Raise `NotInstalled` where a mask was asked for by name that this installation lacks."""
        if self.method == "csmask":
            from earthself.processing.masks import csmask

            csmask.models_folder()

    @property
    def preprocessing(self) -> str:
        """Version string of radiometry and mask, such as `pre1:scl:60`: signatures with the same one are interchangeable."""
        if self.method == "none":
            return f"{VERSION}:none"
        extra = "+dark" * self.dark + "+snow" * self.snow if self.method == "scl" else ""
        return f"{VERSION}:{self.method}:{self.dilate:g}{extra}"


class Mask(Protocol):
    """One way of masking one scene."""

    version: str
    """Version of a model that it used, or empty."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Flag bits for `window` of the signature's grid, (rows, columns)."""


@dataclass(frozen=True)
class Needed:
    """What a mask reads of a product beside the model's bands."""

    bands: tuple[str, ...]
    """Names of assets."""
    window: tuple[int, int, int, int]
    """First column, first row, width, height in 10 m pixels of the product, inside it."""


def needed(options: MaskOptions, has: Callable[[str], bool], place: Place) -> Needed:
    """Say what the (resolved) mask needs of a product, so that it is read once."""
    if options.method == "scl":
        margin = round(FARTHEST / place.product.resolution)
        return Needed(("SCL",), place.grown(margin))
    if options.method == "csmask":
        from earthself.processing.masks import csmask

        return Needed(csmask.bands_of(has, place.product), csmask.window_for(place))
    return Needed((), place.grown(0))


def open_mask(options: MaskOptions, scene: Scene, scratch: Path, threads: int = 1) -> Mask:
    """Make the mask that (resolved) options name; a csmask looks at all of the scene here, once."""
    if options.method == "scl":
        from earthself.processing.masks.scl import SclMask

        return SclMask(scene, options)
    if options.method == "csmask":
        from earthself.processing.masks.csmask import CsMask

        return CsMask(scene, options, scratch, threads)
    return _NoMask()


class _NoMask:
    """Nothing is masked, because the user asked for that."""

    version = ""

    def read(self, window: Window) -> NDArray[np.uint8]:
        import numpy as np

        return np.zeros((int(window.height), int(window.width)), np.uint8)
