"""The model card: what a model reads, what it may say, how well it was seen to do so, and where it stops.

A card is JSON beside the ONNX file (`card.schema.json` is its schema, docs/models.md its manual). Everything that turns
the network's numbers into codes, confidence and flags stands in the card, so that reading it explains every pixel.
"""

from __future__ import annotations

import json
import math
from calendar import month_name
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from earthself.data.legends import legend
from earthself.data.sentinel2 import BANDS
from earthself.processing.models.errors import BadCard

RULE_BANDS = ("B03", "B08", "B11")
"""Bands that a rule for water or snow needs among the model's own."""


@dataclass(frozen=True)
class ModelClass:
    """One output of the network, in the order of the network's outputs."""

    code: int
    """Legend code; several classes may share one, their probabilities add up. 0: the model knows the kind, the legend entry is withheld."""
    name: str
    """For people."""
    min_probability: float
    """Below this probability (0-1) a pixel gets no class."""
    confidence: tuple[tuple[float, float], ...]
    """Knots (probability 0-1, confidence 0-100) of a piecewise linear curve."""
    months: tuple[int, ...]
    """Months (1-12) in which the class was learnt; empty where the card does not say."""
    max_doubt: tuple[tuple[str, float], ...]
    """Names of other classes, and the probability of each (0-1) above which a pixel does not get this one."""


@dataclass(frozen=True)
class WaterLimits:
    """Limits that must all hold; reflectances 0-1, indices -1 to 1."""

    mndwi_min: float
    """Least (B03 - B11) / (B03 + B11)."""
    ndwi_min: float
    """Least (B03 - B08) / (B03 + B08)."""
    nir_max: float
    """Greatest reflectance in B08."""
    swir_max: float
    """Greatest reflectance in B11."""


@dataclass(frozen=True)
class WaterRule:
    """Water is recognised by its spectrum, not learnt: a pixel inside `sure` is water, one inside `perhaps` only gets no class."""

    code: int
    """Legend code of water."""
    confidence: int
    """0-100, given to every pixel that the rule calls water."""
    sure: WaterLimits
    """Inside: `code`, flag 64."""
    perhaps: WaterLimits
    """Inside these but not `sure`: code 0, flag 32."""


@dataclass(frozen=True)
class SnowRule:
    """Snow is recognised by its spectrum and gets no class; reflectances 0-1, indices -1 to 1."""

    ndsi_min: float
    """Least (B03 - B11) / (B03 + B11)."""
    nir_min: float
    """Least reflectance in B08; water is darker."""


@dataclass(frozen=True)
class ModelCard:
    """What is known about one model; `document` holds the whole card as it was read."""

    name: str
    """Name in the registry, which is the folder's name."""
    version: str
    """Version of weights and card."""
    title: str
    """One line for people."""
    bands: tuple[str, ...]
    """Sentinel-2 bands, in the order of the network's input."""
    layout: Literal["pixels", "image"]
    """`pixels`: (pixels, bands) in, (pixels, classes) out; `image`: (1, bands, h, w) in, (1, classes, h, w) out."""
    context: int
    """Pixels around a pixel that change its result; 0 means that each pixel stands alone."""
    legend: str
    """`clc:1`, `clc:2` or `clc:3`."""
    validated_level: int
    """CORINE level of the codes, the one at which the scores hold."""
    classes: tuple[ModelClass, ...]
    """In the order of the network's outputs."""
    softmax: bool
    """The network gives logits; probabilities are made from them here."""
    min_margin: float
    """Least lead (0-1) of the best over the second-best code."""
    novelty_threshold: float | None
    """Above it a pixel is outside the training; None where the network has no output `novelty`."""
    water: WaterRule | None
    """None where the model knows water itself, or not at all."""
    snow: SnowRule | None
    """None where the model knows snow itself, or not at all."""
    limits: tuple[str, ...]
    """What it was not tested on or is known to do badly, one sentence each."""
    sha256: str
    """Checksum of the ONNX file."""
    document: Mapping[str, Any]
    """The card as JSON."""

    @property
    def id(self) -> str:
        """`name:version`, as signatures carry it."""
        return f"{self.name}:{self.version}"

    @property
    def codes(self) -> tuple[int, ...]:
        """Codes that the model can emit, ascending, without 0."""
        found = {c.code for c in self.classes} | ({self.water.code} if self.water else set())
        return tuple(sorted(found - {0}))

    def cautions(self, month: int) -> tuple[str, ...]:
        """What a reader of a map of this month (1-12) must know: classes that were learnt in other months only."""
        learnt: dict[int, set[int]] = {}
        for entry in self.classes:
            if entry.code and entry.months:
                learnt.setdefault(entry.code, set()).update(entry.months)
        names = legend(self.legend)
        return tuple(
            f"model {self.id} knows {names.name(code)} (code {code}) from {_spelled(months)} only; "
            f"in {month_name[month]} such land may be called something else"
            for code, months in sorted(learnt.items())
            if month not in months
        )

    @classmethod
    def read(cls, path: Path) -> ModelCard:
        """Read and check a card; raises `BadCard` with the place of the mistake."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadCard(f"{path} cannot be read as JSON: {error}; docs/models.md shows a card") from error
        return cls.from_json(document, str(path))

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: str = "card") -> ModelCard:
        """Make a card from its JSON; raises `BadCard` with the place of the mistake. `where` names the card in messages."""
        _check_schema(document, where)
        given, said = document["input"], document["output"]
        card = cls(
            name=document["name"],
            version=document["version"],
            title=document["title"],
            bands=tuple(given["bands"]),
            layout=given["layout"],
            context=given.get("context", 0),
            legend=said["legend"],
            validated_level=said["validated_level"],
            classes=tuple(_class(c) for c in said["classes"]),
            softmax=said.get("activation") == "softmax",
            min_margin=said.get("min_margin", 0.0),
            novelty_threshold=said["novelty"]["threshold"] if "novelty" in said else None,
            water=_water(said.get("water")),
            snow=SnowRule(said["snow"]["ndsi_min"], said["snow"]["nir_min"]) if "snow" in said else None,
            limits=tuple(document["limits"]),
            sha256=document["file"]["sha256"],
            document=document,
        )
        _check_meaning(card, where)
        return card


def _class(value: Mapping[str, Any]) -> ModelClass:
    knots = tuple((float(p), float(c)) for p, c in value.get("confidence", ((0, 0), (1, 100))))
    doubt = tuple((name, float(limit)) for name, limit in value.get("max_doubt", {}).items())
    return ModelClass(value["code"], value["name"], value.get("min_probability", 0.0), knots, tuple(value.get("months", ())), doubt)


def _water(value: Mapping[str, Any] | None) -> WaterRule | None:
    if value is None:
        return None
    return WaterRule(value["code"], value["confidence"], WaterLimits(**value["sure"]), WaterLimits(**value["perhaps"]))


def _spelled(months: set[int]) -> str:
    return ", ".join(month_name[m] for m in sorted(months))


@cache
def _validator() -> Any:  # noqa: ANN401 - jsonschema ships no types
    from jsonschema import Draft202012Validator

    schema = resources.files("earthself.processing.models").joinpath("card.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(schema))


def _check_schema(document: object, where: str) -> None:
    errors = sorted(_validator().iter_errors(document), key=lambda e: (list(map(str, e.absolute_path)), e.message))
    if errors:
        first = errors[0]
        place = "/".join(map(str, first.absolute_path)) or "the card"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise BadCard(f"{where}: {place}: {first.message[:200]}{more}; docs/models.md explains every field")
    for place, value in _not_finite(document):
        raise BadCard(f"{where}: {place}: {value} is not a number that anything can be compared with; write a finite one")


def _not_finite(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    """Places and values of NaN and infinities, which Python's JSON reads, no standard allows, and a schema's limits let pass."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from _not_finite(one, f"{place}/{name}".lstrip("/"))


def _check_meaning(card: ModelCard, where: str) -> None:
    entries = legend(card.legend)
    if entries.level != card.validated_level:
        raise BadCard(
            f"{where}: legend {card.legend} is of level {entries.level}, validated_level is {card.validated_level}; they must agree"
        )
    known = [e.code for e in entries.entries]
    unknown = [code for code in card.codes if code not in known]
    if unknown:
        raise BadCard(
            f"{where}: codes {unknown} are not in legend {card.legend} ({known[0]} to {known[-1]}); use 0 for a kind without an entry"
        )
    if not card.codes:
        raise BadCard(f"{where}: no class has a code of legend {card.legend}; a model must be able to say something")
    strange = [band for band in card.bands if band not in BANDS]
    if strange:
        raise BadCard(f"{where}: input/bands: {', '.join(strange)} are not among Sentinel-2's bands {', '.join(BANDS)}")
    missing = [band for band in RULE_BANDS if band not in card.bands]
    for name, rule in (("water", card.water), ("snow", card.snow)):
        if rule and missing:
            raise BadCard(f"{where}: the {name} rule needs {', '.join(missing)} among the model's bands {', '.join(card.bands)}")
    for number, entry in enumerate(card.classes):
        steps = [p for p, _ in entry.confidence]
        if steps != sorted(set(steps)) or steps[-1] > 1:
            raise BadCard(f"{where}: output/classes/{number}/confidence: probabilities must rise within 0 to 1, found {steps}")
        names = [c.name for c in card.classes if c is not entry]
        for name, _ in entry.max_doubt:
            if names.count(name) != 1:
                raise BadCard(f"{where}: output/classes/{number}/max_doubt: {name!r} must be the name of one other class, found {names}")
    _check_bounds(card, where)
    if card.layout == "pixels" and card.context:
        raise BadCard(f"{where}: layout 'pixels' sees single pixels, yet context is {card.context}; use layout 'image'")


def _check_bounds(card: ModelCard, where: str) -> None:
    for site, (west, south, east, north) in card.document["training"].get("bounds", {}).items():
        if south >= north or west == east:
            raise BadCard(f"{where}: training/bounds/{site}: {[west, south, east, north]} has no extent; give [west, south, east, north]")
