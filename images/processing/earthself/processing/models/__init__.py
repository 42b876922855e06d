"""Land-cover models by name: an ONNX network, a card that says what it may claim, and the rules between the two."""

from __future__ import annotations

from earthself.processing.models.card import ModelCard, ModelClass, SnowRule, WaterLimits, WaterRule
from earthself.processing.models.errors import BadCard, BrokenModel, DoesNotFit, ModelError, UnknownModel
from earthself.processing.models.model import Model, Prediction
from earthself.processing.models.registry import DEFAULT, load_card, load_model, model_names

__all__ = [
    "DEFAULT",
    "BadCard",
    "BrokenModel",
    "DoesNotFit",
    "Model",
    "ModelCard",
    "ModelClass",
    "ModelError",
    "Prediction",
    "SnowRule",
    "UnknownModel",
    "WaterLimits",
    "WaterRule",
    "load_card",
    "load_model",
    "model_names",
]
