"""Write a model's card: sentences and numbers that follow from the truth and the scores, none by hand for one data set."""

from __future__ import annotations

import hashlib
import json
import math
from calendar import month_name
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from earthself.data.legends import legend
from earthself.processing.training.calibrate import INSIDE, PRICE
from earthself.processing.training.features import BANDS, CONTEXT
from earthself.processing.training.fit import Recipe
from earthself.processing.training.truth import FIELD, KINDS, Truth

MIN_PROBABILITY = {1: 0.96, 2: 0.6, 3: 0.85}
"""Below these a class is not said. Built-up land is rare and field edges resemble it: it must be nearly sure. Forest is set so
that fields of a left-out site are called forest on less than a tenth of any clear date."""
WATER_RULE = {
    "code": 5,
    "confidence": 95,
    "sure": {"mndwi_min": 0.2, "ndwi_min": 0.0, "nir_max": 0.12, "swir_max": 0.06},
    "perhaps": {"mndwi_min": -0.05, "ndwi_min": -0.2, "nir_max": 0.18, "swir_max": 0.1},
}
"""Open water is dark in the infrared and brighter in the green."""
SNOW_RULE = {"ndsi_min": 0.4, "nir_min": 0.11}
"""The limits that MODIS uses: no labelled pixel is snow, so no network can be trusted with it."""

_WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
_LEGEND = "clc:1"
_WORTH_SAYING = 0.1
"""Share of the pixels of a date above which a mistake is named among the limits."""


@dataclass(frozen=True)
class Subject:
    """What a card is about."""

    name: str
    """Name in the registry."""
    version: str
    """Version of the model."""
    recipe: Recipe
    """How it was trained."""
    onnx: bytes
    """The network's file."""


@dataclass(frozen=True)
class Calibration:
    """What left-out sites say about a network's probabilities."""

    curves: Mapping[int, list[list[float]] | None]
    """Knots of the confidence by code; None where no left-out site confirmed the code."""
    doubts: Mapping[int, float]
    """By kind: the probability above which a pixel is not called a field."""


def card(truth: Truth, subject: Subject, calibration: Calibration) -> dict[str, Any]:
    """Make a card without scores."""
    return {
        "card": 1,
        "name": subject.name,
        "version": subject.version,
        "title": "Land cover at CORINE level 1 from one Sentinel-2 L2A product",
        "description": _WORDS["description"],
        "licence": "Apache-2.0",
        "input": {"bands": list(BANDS), "layout": "image", "context": CONTEXT, "quantity": "surface reflectance", "resolution": 10},
        "output": {
            "legend": _LEGEND,
            "validated_level": 1,
            "classes": [_class(truth, number, calibration) for number in range(len(KINDS))],
            "novelty": {
                "threshold": 1.0,
                "method": _WORDS["novelty"],
                "calibration": f"{INSIDE:.0%} of a kind's pixels on left-out sites lie within",
            },
            "confidence": {"method": _WORDS["confidence"]},
            "doubt": {"method": _WORDS["doubt"], "calibration": _WORDS["price"].format(price=f"{PRICE:.0%}")},
            "snow": SNOW_RULE | {"evidence": _WORDS["snow"]},
            "water": WATER_RULE | {"evidence": _WORDS["water"]},
        },
        "training": {
            "sources": [_WORDS["sources"][name] for name in _sources(truth, np.ones(len(truth), np.bool_))],
            "sites": {site: _pixels(truth, number) for number, site in enumerate(truth.sites)},
            "bounds": bounds(truth),
            "recipe": asdict(subject.recipe),
        },
        "scores": {},
        "limits": [],
        "file": {"sha256": hashlib.sha256(subject.onnx).hexdigest(), "bytes": len(subject.onnx)},
    }


def bounds(truth: Truth) -> dict[str, list[float]]:
    """West, south, east, north of each site in degrees, rounded outwards to 4 digits (11 m): what meets a site meets its bounds."""

    def rounded(edge: float, outwards: Callable[[float], int]) -> float:
        return outwards(round(edge * 10_000, 6)) / 10_000

    ways = (math.floor, math.floor, math.ceil, math.ceil)
    return {site: [rounded(*edge) for edge in zip(edges, ways, strict=True)] for site, edges in zip(truth.sites, truth.bounds, strict=True)}


def limits(truth: Truth, made: Mapping[str, Any]) -> list[str]:
    """Say where a model with this truth and these scores stops, one sentence each."""
    names = legend(_LEGEND)
    said = [f"Trained on {len(truth.sites)} sites: {', '.join(truth.sites)}. Under other climates a map is an experiment."]
    for entry in made["output"]["classes"]:
        months = entry.get("months", [])
        if entry["code"] and len(months) < 12:
            spelled = ", ".join(month_name[m] for m in months)
            what = f"{names.name(entry['code'])} (code {entry['code']})"
            said.append(f"{what} was seen in {spelled} only; in other months it may be called something else.")
    for kind, shares in made["scores"]["unseen_kind"].items():
        share, code = max((share, int(name.removeprefix("called "))) for name, share in shares.items() if name.startswith("called"))
        if share > 0.1:
            called = f"{share:.0%} of it is called {names.name(code)}"
            said.append(f"What the training lacks is seldom known as unknown: without {kind} in the training, {called}.")
    said += _missed(made["scores"]["parcels"])
    for code, figures in made["scores"]["left_out_site"]["classes"].items():
        if figures["recall"]["value"] < 0.5:
            said.append(f"{names.name(int(code))} (code {code}): on left-out sites {figures['recall']['value']:.0%} is found.")
    emitted = {entry["code"] for entry in made["output"]["classes"]} | {WATER_RULE["code"]}
    said += [f"{e.name} (code {e.code}) is never said." for e in names.entries if e.code not in emitted]
    return said + list(_WORDS["limits"])


def _missed(parcels: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Say what the parcel sites show of built-up land called fields, and of fields called forest, where another network is asked."""
    return [
        f"{site}, {left_out} left out of the training: {figures[name]['mean']:.1%} of the {what} in the mean of its clear dates, "
        f"{figures[name]['worst']:.0%} on {figures[name]['worst_date']}."
        for name, what in (
            ("built_up_called_fields", "built-up land is called fields"),
            ("fields_called_forest", "fields are called forest"),
        )
        for way, left_out in (("left_out_site", "the site"), ("left_out_site_and_season", "the site and its season"))
        for site, figures in parcels.get(way, {}).items()
        if name in figures and figures[name]["worst"] > _WORTH_SAYING
    ]


def _class(truth: Truth, number: int, calibration: Calibration) -> dict[str, Any]:
    kind = KINDS[number]
    rows = truth.seen & (truth.kind == number)
    entry: dict[str, Any] = {"code": kind.code, "name": kind.name}
    if kind.code:
        curve = calibration.curves[kind.code]
        # Without a left-out site that confirms it a class is learnt, to be told apart, but not said.
        entry |= {"min_probability": MIN_PROBABILITY[kind.code], "confidence": curve} if curve else {"code": 0}
    if entry["code"]:
        entry["months"] = sorted({date.fromordinal(int(d)).month for d in np.unique(truth.day[rows & truth.clear])})
    if number == FIELD and entry["code"] and calibration.doubts:
        entry["max_doubt"] = {KINDS[other].name: limit for other, limit in calibration.doubts.items()}
    if rows.any():
        days = len(np.unique(truth.day[rows] * np.int64(len(truth.sites)) + truth.site[rows]))
        sites = len(np.unique(truth.site[rows]))
        entry["evidence"] = (
            f"{rows.sum():,} pixels, {sites} site{'s' * (sites > 1)}, {days} date{'s' * (days > 1)}; {', '.join(_sources(truth, rows))}"
        )
    return entry


def _sources(truth: Truth, rows: Any) -> list[str]:  # noqa: ANN401 (a mask)
    return [name for number, name in enumerate(truth.sources) if (truth.source[rows] == number).any()]


def _pixels(truth: Truth, site: int) -> dict[str, int]:
    counts = np.bincount(truth.kind[truth.site == site], minlength=len(KINDS))
    return {kind.name: int(n) for kind, n in zip(KINDS, counts, strict=True) if n}
