"""Find models by name: the shipped ones, and those of creators in the folders that `EARTHSELF_MODELS` lists.

A model is a folder `NAME/` with `card.json` and `model.onnx`. A creator's folder comes first in the search, except for the
names that the platform ships: a signature that says `baseline:…` must mean the same everywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from earthself.processing.models.card import ModelCard
from earthself.processing.models.errors import BadCard, BrokenModel, UnknownModel
from earthself.processing.models.model import Model

DEFAULT = "baseline"
"""The model used when none is named."""

CARD = "card.json"
NETWORK = "model.onnx"

_SHIPPED = Path(__file__).parent


def folders(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Registries in the order of search; those of `EARTHSELF_MODELS` (a path list) after the shipped one."""
    listed = (os.environ if environ is None else environ).get("EARTHSELF_MODELS", "")
    return [_SHIPPED, *(Path(p) for p in listed.split(os.pathsep) if p)]


def model_names(environ: Mapping[str, str] | None = None) -> list[str]:
    """Names of all models at hand, sorted."""
    return sorted({card.parent.name for folder in folders(environ) if folder.is_dir() for card in folder.glob(f"*/{CARD}")})


def load_card(name: str = DEFAULT, environ: Mapping[str, str] | None = None) -> ModelCard:
    """Read the card alone, without opening the network; raises `UnknownModel` or `BadCard`."""
    return _card(_find(name, environ), name)


def load_model(name: str = DEFAULT, *, threads: int = 1, environ: Mapping[str, str] | None = None) -> Model:
    """Open a model by name, its file checked against its card; `threads` is what inference may use.

    Raises `UnknownModel`, `BadCard`, `BrokenModel` (checksum, unreadable file) or `DoesNotFit` (inputs or outputs other than the card's).
    """
    folder = _find(name, environ)
    card = _card(folder, name)
    path = folder / NETWORK
    if not path.is_file():
        raise BrokenModel(f"{path} is not there; a model is a folder with {CARD} and {NETWORK}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != card.sha256:
        raise BrokenModel(
            f"{path} has SHA-256 {found[:16]}…, its card names {card.sha256[:16]}…; card and network belong to different versions"
        )
    return Model(card, path, threads)


def _find(name: str, environ: Mapping[str, str] | None) -> Path:
    # The name becomes part of a path: nothing but the card's own pattern passes.
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        for folder in folders(environ):
            if (folder / name / CARD).is_file():
                return folder / name
    known = ", ".join(model_names(environ)) or "none"
    raise UnknownModel(f"there is no model {name!r}; known: {known}. Add the folder that holds {name}/{CARD} to EARTHSELF_MODELS")


def _card(folder: Path, name: str) -> ModelCard:
    card = ModelCard.read(folder / CARD)
    if card.name != name:
        raise BadCard(f"{folder / CARD}: name is {card.name!r}, its folder is {name!r}; they must agree")
    return card
