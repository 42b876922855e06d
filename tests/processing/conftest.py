"""Tools of the processing tests: an empty input folder, and a registry with a model whose every answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "data"))

from products import Products, brightest_model


@pytest.fixture
def products(tmp_path):
    return Products(tmp_path / "found")


@pytest.fixture
def brightest(tmp_path, monkeypatch):
    """The registry holds the model `brightest`, and no other that a test does not add."""
    monkeypatch.setenv("EARTHSELF_MODELS", str(brightest_model(tmp_path / "models")))
