"""Run one model over pixels: shapes checked, memory bounded, the same answer whatever the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.processing.models.decide import NODATA, Decider
from earthself.processing.models.errors import BrokenModel, DoesNotFit

if TYPE_CHECKING:
    from earthself.processing.models.card import ModelCard
    from numpy.typing import NDArray

_BLOCK = 16384
"""Pixels a run of the network: what they need stays in the processor's cache. Each run has this size, so that a pixel's
arithmetic does not depend on how many neighbours a window happens to hold."""


@dataclass(frozen=True)
class Prediction:
    """What a model says about a window, each (h, w) on the grid of the input."""

    codes: NDArray[np.uint16]
    """Legend codes, 0 where the model has no class to give or the pixel is not valid."""
    confidence: NDArray[np.uint8]
    """0-100, 0 where there is no class."""
    flags: NDArray[np.uint8]
    """Bits of docs/architecture.md: 1 a valid pixel without a finite reflectance, 16 novel, 32 no class, 64 water by rule."""


class Model:
    """A card with its network. Not for use by several threads at once; a process of its own each is what steps are."""

    def __init__(self, card: ModelCard, path: Path, threads: int = 1) -> None:
        self.card = card
        self._session = _open(path, threads)
        self._input = self._session.get_inputs()[0]
        names = [o.name for o in self._session.get_outputs()]
        if "probabilities" not in names and len(names) > 1:
            raise DoesNotFit(f"{path} has outputs {names}; name the one with a value per class 'probabilities'")
        self._outputs = ["probabilities" if "probabilities" in names else names[0]]
        if card.novelty_threshold is not None:
            if "novelty" not in names:
                raise DoesNotFit(f"the card of {card.id} has a novelty threshold, but {path} has no output 'novelty', only {names}")
            self._outputs.append("novelty")
        self._check_declared(path)
        self._decide = Decider(card)

    @property
    def id(self) -> str:
        """`name:version`."""
        return self.card.id

    def predict(self, reflectance: NDArray[np.float32], valid: NDArray[np.bool_]) -> Prediction:
        """Classify a window.

        `reflectance` is (bands, h, w), surface reflectance 0-1 in the card's order of bands, 20 m bands repeated to 10 m;
        `valid` is (h, w), False where a pixel is not to be looked at. Raises `DoesNotFit` for any other shape.
        """
        self._check_given(reflectance, valid)
        shape = valid.shape
        codes, confidence, flags = np.zeros(valid.size, np.uint16), np.zeros(valid.size, np.uint8), np.zeros(valid.size, np.uint8)
        pixels = np.asarray(reflectance, dtype=np.float32).reshape(len(self.card.bands), -1)
        wanted = np.flatnonzero(valid)
        finite = np.isfinite(pixels.sum(axis=0))
        if not finite.all():
            flags[wanted[~finite[wanted]]] = NODATA
            wanted = wanted[finite[wanted]]
        runs = self._run_blocks(pixels, wanted) if self.card.context == 0 else self._run_whole(pixels, wanted, shape)
        for where, seen, probabilities, novelty in runs:
            codes[where], confidence[where], flags[where] = self._decide(seen, probabilities, novelty)
        return Prediction(codes.reshape(shape), confidence.reshape(shape), flags.reshape(shape))

    def raw(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the network alone on single pixels (bands, n); returns probabilities (classes, n) and novelty (n) or None."""
        found = [(p, n) for _, _, p, n in self._run_blocks(pixels, np.arange(pixels.shape[1]))]
        if not found:
            return np.zeros((len(self.card.classes), 0), np.float32), None
        novelty = [n for _, n in found if n is not None]
        return np.concatenate([p for p, _ in found], axis=1), np.concatenate(novelty) if novelty else None

    def _run_blocks(self, pixels: NDArray[np.float32], wanted: NDArray[np.intp]) -> Iterator[_Run]:
        block = np.zeros((len(pixels), _BLOCK), np.float32)
        contiguous = wanted.size == pixels.shape[1]
        for start in range(0, wanted.size, _BLOCK):
            where = wanted[start : start + _BLOCK]
            n = where.size
            block[:, :n] = pixels[:, start : start + n] if contiguous else pixels[:, where]
            block[:, n:] = 0.1
            given = block.T if self.card.layout == "pixels" else block[None, :, None, :]
            probabilities, novelty = self._run(given, _BLOCK)
            yield where, block[:, :n], probabilities[:, :n], None if novelty is None else novelty[:n]

    def _run_whole(self, pixels: NDArray[np.float32], wanted: NDArray[np.intp], shape: tuple[int, ...]) -> Iterator[_Run]:
        given = np.where(np.isfinite(pixels), pixels, 0).reshape(1, len(pixels), *shape)
        probabilities, novelty = self._run(given, pixels.shape[1])
        yield wanted, pixels[:, wanted], probabilities[:, wanted], None if novelty is None else novelty[wanted]

    def _run(self, given: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        try:
            found = self._session.run(self._outputs, {self._input.name: np.ascontiguousarray(given, dtype=np.float32)})
        except Exception as error:  # onnxruntime raises classes of its own that share no public base
            raise DoesNotFit(f"model {self.id} refused an input of shape {given.shape}: {str(error)[:300]}") from error
        first = np.asarray(found[0], dtype=np.float32)
        classes = len(self.card.classes)
        expected = (count, classes) if self.card.layout == "pixels" else (1, classes, *given.shape[2:])
        if first.shape != expected:
            raise DoesNotFit(
                f"model {self.id} answered with shape {first.shape}; its card has {classes} classes, so {expected} was expected"
            )
        probabilities = first.T if self.card.layout == "pixels" else first.reshape(classes, -1)
        novelty = np.asarray(found[1], dtype=np.float32).reshape(-1) if len(found) > 1 else None
        if novelty is not None and novelty.size != count:
            raise DoesNotFit(f"model {self.id} gave {novelty.size} novelty values for {count} pixels")
        return probabilities, novelty

    def _check_declared(self, path: Path) -> None:
        shape, bands = list(self._input.shape), len(self.card.bands)
        wanted, axis = (2, 1) if self.card.layout == "pixels" else (4, 1)
        if self._input.type != "tensor(float)":
            raise DoesNotFit(f"{path} wants {self._input.type}; reflectance is float32, export the model with a float input")
        if len(shape) != wanted or (isinstance(shape[axis], int) and shape[axis] != bands):
            kind = f"(pixels, {bands})" if wanted == 2 else f"(1, {bands}, height, width)"
            raise DoesNotFit(f"{path} wants input {shape}; its card says layout {self.card.layout!r} with {bands} bands, that is {kind}")

    def _check_given(self, reflectance: NDArray[Any], valid: NDArray[Any]) -> None:
        bands = self.card.bands
        if reflectance.ndim != 3 or len(reflectance) != len(bands):
            raise DoesNotFit(
                f"model {self.id} needs (bands, h, w) with the {len(bands)} bands {', '.join(bands)}; it was given {reflectance.shape}"
            )
        if valid.shape != reflectance.shape[1:] or valid.dtype != np.bool_:
            raise DoesNotFit(f"the valid mask is {valid.dtype} {valid.shape}; bool {reflectance.shape[1:]} was expected")


_Run = tuple["NDArray[np.intp]", "NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.float32] | None"]


def _open(path: Path, threads: int) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that share no public base
        raise BrokenModel(f"{path} cannot be loaded as an ONNX model: {str(error)[:300]}") from error
