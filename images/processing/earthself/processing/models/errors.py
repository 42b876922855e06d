"""What can be wrong with a model: it is not there, its card or file is broken, or it does not fit the pixels."""

from __future__ import annotations

from earthself.processing.errors import BadInput


class ModelError(BadInput):
    """A model cannot be used as it is (exit 65, never retried)."""


class UnknownModel(ModelError):
    """No registry holds a model of that name; the message lists those that there are."""


class BadCard(ModelError):
    """A model's card breaks the schema or contradicts itself; the message names the place."""


class BrokenModel(ModelError):
    """The ONNX file is missing, is another one than the card describes, or cannot be loaded."""


class DoesNotFit(ModelError):
    """Pixels and model disagree: a band is missing or a shape is not the one that the card names."""
