"""Run one model over pixels: shapes checked, memory bounded, the same answer whatever the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.data.flags import NODATA
from earthself.processing.models.decide import Decider
from earthself.processing.models.errors import BrokenModel, DoesNotFit

if TYPE_CHECKING:
    from earthself.processing.models.card import ModelCard
    from numpy.typing import NDArray

_SIDE = 128
"""Rows and columns of a tile, its margins included. Every run has this size, so that what a run needs stays in the processor's
cache and a pixel's arithmetic does not depend on how large a window happens to be."""


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
        self._tile = self._tile_shape()
        self._check_answers()
        self._decide = Decider(card)

    @property
    def id(self) -> str:
        """`name:version`."""
        return self.card.id

    def predict(self, reflectance: NDArray[np.float32], valid: NDArray[np.bool_]) -> Prediction:
        """Classify a window.

        `reflectance` is (bands, h, w), surface reflectance 0-1 in the card's order of bands, 20 m bands repeated to 10 m, NaN where
        there is none; `valid` is (h, w), False where a pixel is not to be named. A model with context sees what lies around a valid
        pixel, valid or not: give `card.context` pixels more on each side than are wanted, and windows will join without a seam.
        Raises `DoesNotFit` for any other shape.
        """
        self._check_given(reflectance, valid)
        pixels = np.asarray(reflectance, dtype=np.float32)
        finite = np.isfinite(pixels.sum(axis=0))
        wanted = valid & finite
        said = Prediction(np.zeros(valid.shape, np.uint16), np.zeros(valid.shape, np.uint8), np.zeros(valid.shape, np.uint8))
        said.flags[valid & ~finite] = NODATA
        if self.card.context:
            self._predict_tiles(pixels, finite, wanted, said)
        else:
            self._predict_pixels(pixels.reshape(len(pixels), -1), np.flatnonzero(wanted), said)
        return said

    def _predict_pixels(self, pixels: NDArray[np.float32], wanted: NDArray[np.intp], said: Prediction) -> None:
        codes, confidence, flags = said.codes.reshape(-1), said.confidence.reshape(-1), said.flags.reshape(-1)
        block = np.zeros((len(pixels), self._tile[0] * self._tile[1]), np.float32)
        every = wanted.size == pixels.shape[1]
        for start in range(0, wanted.size, block.shape[1]):
            where = wanted[start : start + block.shape[1]]
            n = where.size
            block[:, :n] = pixels[:, start : start + n] if every else pixels[:, where]
            probabilities, novelty = self._run(block)
            decided = self._decide(block[:, :n], probabilities[:, :n], None if novelty is None else novelty[:, :n])
            codes[where], confidence[where], flags[where] = decided

    def _predict_tiles(self, pixels: NDArray[np.float32], finite: NDArray[np.bool_], wanted: NDArray[np.bool_], said: Prediction) -> None:
        tile = np.zeros((len(pixels), *self._tile), np.float32)
        for rows, columns, inside in _tiles(wanted.shape, self._tile, self.card.context):
            named = wanted[rows.named, columns.named]
            if not named.any():
                continue
            tile[:] = 0
            around = (rows.seen, columns.seen)
            np.copyto(tile[:, rows.placed, columns.placed], pixels[:, *around], where=finite[around])
            probabilities, novelty = self._run(tile.reshape(len(pixels), -1))
            seen = tile[:, *inside].reshape(len(tile), -1)
            chances, distances = self._cut(probabilities, inside), None if novelty is None else self._cut(novelty, inside)
            codes, confidence, flags = self._decide(seen, chances, distances)
            np.copyto(said.codes[rows.named, columns.named], codes.reshape(named.shape), where=named)
            np.copyto(said.confidence[rows.named, columns.named], confidence.reshape(named.shape), where=named)
            np.copyto(said.flags[rows.named, columns.named], flags.reshape(named.shape), where=named)

    def _cut(self, values: NDArray[np.float32], inside: tuple[slice, slice]) -> NDArray[np.float32]:
        """Pixels inside a tile, (rows, n), of (rows, all pixels of the tile)."""
        return values.reshape(-1, *self._tile)[:, *inside].reshape(len(values), -1)

    def _run(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Probabilities (classes, n) and novelty (1 or classes, n) of one tile, (bands, n)."""
        count, classes = pixels.shape[1], len(self.card.classes)
        image = self.card.layout == "image"
        given = pixels.reshape(1, len(pixels), *self._tile) if image else np.ascontiguousarray(pixels.T)
        try:
            found = self._session.run(self._outputs, {self._input.name: given})
        except Exception as error:  # onnxruntime raises classes of its own that share no public base
            raise DoesNotFit(f"model {self.id} refused an input of shape {given.shape}: {str(error)[:300]}") from error
        first = np.asarray(found[0], dtype=np.float32)
        expected = (1, classes, *self._tile) if image else (count, classes)
        if first.shape != expected:
            raise DoesNotFit(
                f"model {self.id} answered with shape {first.shape}; its card has {classes} classes, so {expected} was expected"
            )
        probabilities = first.reshape(classes, count) if image else first.T
        if len(found) == 1:
            return probabilities, None
        second = np.asarray(found[1], dtype=np.float32)
        if second.size not in {count, count * classes}:
            raise DoesNotFit(f"model {self.id} gave {second.size} novelty values for {count} pixels and {classes} classes")
        novelty = second.reshape(-1, count) if image else second.reshape(count, -1).T
        return probabilities, novelty

    def _tile_shape(self) -> tuple[int, int]:
        """Rows and columns of a run: what the file fixes, else a side that is large beside the context."""
        context = self.card.context
        side = max(_SIDE, -(-8 * context // _SIDE) * _SIDE)
        fixed = [n if isinstance(n, int) else side for n in self._input.shape[2:]] if self.card.layout == "image" else [side, side]
        if min(fixed) <= 2 * context:
            raise DoesNotFit(
                f"model {self.id} wants tiles of {fixed[0]} x {fixed[1]} pixels, its card says context {context}: nothing is left inside"
            )
        return fixed[0], fixed[1]

    def _check_declared(self, path: Path) -> None:
        shape, bands = list(self._input.shape), len(self.card.bands)
        wanted = 2 if self.card.layout == "pixels" else 4
        if self._input.type != "tensor(float)":
            raise DoesNotFit(f"{path} wants {self._input.type}; reflectance is float32, export the model with a float input")
        if len(shape) != wanted or (isinstance(shape[1], int) and shape[1] != bands):
            kind = f"(pixels, {bands})" if wanted == 2 else f"(1, {bands}, height, width)"
            raise DoesNotFit(f"{path} wants input {shape}; its card says layout {self.card.layout!r} with {bands} bands, that is {kind}")

    def _check_answers(self) -> None:
        """Ask about one empty tile, since a file may leave open what it answers: no product need be read to find that none is signed."""
        self._run(np.zeros((len(self.card.bands), self._tile[0] * self._tile[1]), np.float32))

    def _check_given(self, reflectance: NDArray[Any], valid: NDArray[Any]) -> None:
        bands = self.card.bands
        if reflectance.ndim != 3 or len(reflectance) != len(bands):
            named = f"the {len(bands)} bands {', '.join(bands)}"
            raise DoesNotFit(f"model {self.id} needs (bands, h, w) with {named}; it was given {reflectance.shape}")
        if valid.shape != reflectance.shape[1:] or valid.dtype != np.bool_:
            raise DoesNotFit(f"the valid mask is {valid.dtype} {valid.shape}; bool {reflectance.shape[1:]} was expected")


@dataclass(frozen=True)
class _Span:
    """One tile along one axis."""

    named: slice
    """Pixels of the window that this tile decides."""
    seen: slice
    """Pixels of the window that it looks at."""
    placed: slice
    """Where those lie in the tile."""


def _tiles(shape: tuple[int, ...], tile: tuple[int, int], context: int) -> Iterator[tuple[_Span, _Span, tuple[slice, slice]]]:
    for row in _spans(shape[0], tile[0], context):
        for column in _spans(shape[1], tile[1], context):
            inside = tuple(slice(context, context + s.named.stop - s.named.start) for s in (row, column))
            yield row, column, (inside[0], inside[1])


def _spans(size: int, side: int, context: int) -> Iterator[_Span]:
    inner = side - 2 * context
    for start in range(0, size, inner):
        end = min(start + inner, size)
        first, last = max(0, start - context), min(size, end + context)
        yield _Span(slice(start, end), slice(first, last), slice(first - start + context, last - start + context))


def _open(path: Path, threads: int) -> Any:  # noqa: ANN401 (onnxruntime ships no types)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that share no public base
        raise BrokenModel(f"{path} cannot be loaded as an ONNX model: {str(error)[:300]}") from error
