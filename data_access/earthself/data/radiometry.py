"""From digital numbers to reflectance: which offset a Sentinel-2 product carries, and how sure that is.

Since processing baseline 04.00 (2022-01-25) ESA stores reflectance x 10000 + 1000, so that dark pixels may be negative; reprocessed
older scenes carry the offset too, mirrors have removed it from some of their files and not from others, and say so wrongly at times.
A mistake is 0.1 of reflectance, more than most surfaces have. So three witnesses are heard - what the product states, a dated table
of what providers do, the pixels over dark targets - and where two of them disagree nothing is computed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from earthself.data.errors import BadInput
from earthself.data.observation import baseline_of, baselines_of, observed_at
from earthself.data.offset_table import CHANGE, FIRST_WITH_OFFSET, OFFSET, PRIVATE, rule_of

if TYPE_CHECKING:
    import numpy as np

QUANTIFICATION = 10000
"""Digital numbers for a reflectance of 1."""
VALUES = (0, OFFSET)
"""The only offsets there are."""

_REFLECTANCE = re.compile(r"B\d[\dA]", re.ASCII)
_XML_OFFSET = re.compile(rb"<(?:\w+:)?(?:BOA|RADIO)_ADD_OFFSET(?:\s[^>]*)?>\s*([^<\s]*)\s*<", re.ASCII)
_XML_PRODUCT = re.compile(rb"<(?:\w+:)?(?:BOA_)?QUANTIFICATION_VALUE\b", re.ASCII)


class RadiometryDisagrees(BadInput):
    """Two witnesses of the offset say different things (exit 65); both values are in the message and in `values`."""

    def __init__(self, item_id: str, one: Candidate, other: Candidate) -> None:
        self.values = (one.value, other.value)
        super().__init__(
            f"the offset of {item_id} is {one.value} by {one.source} and {other.value} by {other.source}; "
            "leave the product out or take it from another provider, or state the offset yourself"
        )


@dataclass(frozen=True)
class Candidate:
    """What one witness says."""

    value: int
    """To be added to a digital number: 0 or -1000."""
    source: str
    """Who says it, fit for a sentence."""


@dataclass(frozen=True)
class Offset:
    """The offset of one product, decided."""

    value: int
    """To be added to a digital number that is not 0: 0 or -1000."""
    source: str
    """Who decided it."""
    candidates: tuple[Candidate, ...] = ()
    """All witnesses heard, those that were overruled included."""


@dataclass(frozen=True)
class PixelEvidence:
    """What the dark pixels of a product tell about its offset."""

    value: int | None
    """0 or -1000; None where the pixels do not tell."""
    band: str
    """Band with the darkest 1st percentile; empty where no dark target was found."""
    percentile: float
    """That 1st percentile, as a digital number."""
    pixels: int
    """How many pixels were looked at."""
    target: str
    """What they were: vegetation, water, anything."""

    @property
    def candidate(self) -> Candidate | None:
        """The evidence as a witness, or None where the pixels do not tell."""
        if self.value is None:
            return None
        return Candidate(
            self.value, f"its pixels (1st percentile {self.percentile:.0f} in {self.band} over {self.pixels} pixels of {self.target})"
        )


def resolve_offset(
    item: Mapping[str, Any], *, metadata: bytes | None = None, evidence: PixelEvidence | None = None, override: int | None = None
) -> Offset:
    """Decide what to add to the digital numbers of an item.

    Heard in this order: what the product states (a provider's "offset applied" flag, then its own `metadata` document, then the
    offsets of its assets), the table, the pixels (`evidence` of `look_at_pixels`). `override` is what a person states; it is used
    instead, and recorded. Raises `RadiometryDisagrees` where any two differ without a known reason, `BadInput` where none speaks or
    one says something that is no offset of Sentinel-2.
    """
    if override is not None and override not in VALUES:
        raise BadInput(f"offset {override} is none that Sentinel-2 products carry; state 0 or {OFFSET}")
    try:
        witnesses = list(_witnesses(item, metadata, evidence))
    except BadInput:
        if override is None:
            raise
        witnesses = []
    heard = tuple(candidate for candidate, _ in witnesses)
    if override is not None:
        return Offset(override, "what the request states", heard)
    counting = [candidate for candidate, counts in witnesses if counts]
    if not counting:
        raise BadInput(f"nothing tells whether {item.get('id')} carries the offset of baseline 04.00; state the offset yourself")
    for candidate in counting:
        if candidate.value not in VALUES:
            raise BadInput(
                f"the offset of {item.get('id')} is {candidate.value} by {candidate.source}, which is neither 0 nor {OFFSET}; "
                "leave the product out or take it from another provider, or state the offset yourself"
            )
        if candidate.value != counting[0].value:
            raise RadiometryDisagrees(str(item.get("id")), counting[0], candidate)
    return Offset(counting[0].value, counting[0].source, heard)


def look_at_pixels(dn: Mapping[str, np.ndarray[Any, Any]], scl: np.ndarray[Any, Any] | None = None) -> PixelEvidence:
    """Tell the offset from dark targets: dense vegetation, then water, whose visible and SWIR reflectance is known to be low.

    `dn` maps bands to digital numbers of one grid, at best B02, B03, B04, B08, B11, B12; `scl` is the scene classification on the
    same grid. Targets are found by differences of bands, which the offset does not change. Without `scl` clouds over vegetation look
    like an offset, so there only hardly mistakable pixels speak for one. Limits were found on 190 dates of two parcel cubes (Flanders,
    2017-2019) and 21 patches (Austria): clear vegetation has its darkest 1st percentile from 1 to 690 without the offset.
    """
    import numpy as np

    arrays = {band: np.asarray(array).astype(np.int32) for band, array in dn.items() if _REFLECTANCE.fullmatch(band)}
    looked = {band: arrays[band] for band in _LOOKED_AT if band in arrays}
    if not looked:
        return PixelEvidence(None, "", float("nan"), 0, "nothing")
    valid = np.logical_and.reduce([array > 0 for array in arrays.values()])
    for target, pixels, sure in _targets(arrays, valid, scl):
        count = int(np.count_nonzero(pixels))
        if count < _FEWEST:
            continue
        lows = {band: float(np.percentile(array[pixels], 1)) for band, array in looked.items()}
        band = min(lows, key=lambda name: lows[name])
        low = lows[band]
        if low < (_ANYTHING_DARK if target == "any kind" else _DARK):
            return PixelEvidence(0, band, low, count, target)
        if target != "any kind" and low >= _LIFTED and (sure or _looks_clear(looked, pixels, lows)):
            return PixelEvidence(OFFSET, band, low, count, target)
    return PixelEvidence(None, "", float("nan"), int(np.count_nonzero(valid)), "any kind")


def to_reflectance(dn: np.ndarray[Any, Any], offset: Offset | int, quantification: float = QUANTIFICATION) -> np.ndarray[Any, Any]:
    """Reflectance as float32, of any shape: NaN where the digital number is 0 (no data); negative values stay negative."""
    import numpy as np

    value = offset.value if isinstance(offset, Offset) else offset
    out = dn.astype(np.float32)
    out += np.float32(value)
    out /= np.float32(quantification)
    out[dn == 0] = np.nan
    return out


def offset_from_metadata(document: bytes) -> int | None:
    """The offset that a product's MTD_MSIL2A.xml (or L1C) states: 0 where it has none; None where it is no such document.

    Raises `BadInput` when bands have different offsets, or one that cannot be read.
    """
    try:
        values = {int(v) for v in _XML_OFFSET.findall(document)}
    except ValueError as error:
        raise BadInput(f"the product's metadata give an offset that is no whole number ({error}); leave it out") from None
    if len(values) > 1:
        raise BadInput(
            f"the product's metadata give different offsets for its bands ({sorted(values)}); this is not supported, leave it out"
        )
    if values:
        return values.pop()
    return 0 if _XML_PRODUCT.search(document) else None


def mixed_baselines(items: Iterable[Mapping[str, Any]]) -> str | None:
    """One sentence that says which processing baselines a set of items mixes, or None where it has only one."""
    counts = Counter(baseline_of(item) or "unknown" for item in items)
    if len(counts) < 2:
        return None
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    return f"products of different processing baselines are used together: {listed}; the offset is decided for each of them"


# Bands in which dense vegetation and water are dark; fewest pixels that make a 1st percentile.
_LOOKED_AT = ("B02", "B03", "B04", "B11", "B12")
_FEWEST = 200
# Digital numbers. Below _DARK a file cannot carry the offset (it would be below -0.02); from _LIFTED on it must, or it is cloud.
_DARK = 800
_LIFTED = 1000
_ANYTHING_DARK = 500
_VEGETATION, _WATER = 4, 6


def _targets(
    arrays: Mapping[str, np.ndarray[Any, Any]], valid: np.ndarray[Any, Any], scl: np.ndarray[Any, Any] | None
) -> Iterator[tuple[str, np.ndarray[Any, Any], bool]]:
    """Sets of pixels to look at, best first: name, mask, and whether clouds are excluded."""
    contrast = arrays["B08"] - arrays["B04"] if {"B08", "B04"} <= set(arrays) else None
    if scl is not None:
        if contrast is not None:
            yield "vegetation", valid & (scl == _VEGETATION) & (contrast > 2000), True
        yield "water", valid & (scl == _WATER), True
    elif contrast is not None:
        yield "vegetation", valid & (contrast > 3000), False
    yield "any kind", valid, False


def _looks_clear(looked: Mapping[str, np.ndarray[Any, Any]], pixels: np.ndarray[Any, Any], lows: Mapping[str, float]) -> bool:
    """Whether vegetation without a scene classification looks clear: evenly dark in blue and red, and not brighter than it can be."""
    import numpy as np

    if not {"B02", "B04"} <= set(looked) or min(lows.values()) > 1500:
        return False
    spread = max(float(np.median(looked[band][pixels])) - lows[band] for band in ("B02", "B04"))
    return spread < 250 and abs(lows["B02"] - lows["B04"]) < 250


def _witnesses(item: Mapping[str, Any], metadata: bytes | None, evidence: PixelEvidence | None) -> Iterator[tuple[Candidate, bool]]:
    """Everything that is said, most trusted first, and whether it counts: all that counts has to agree.

    Known reasons not to count: a mirror that says to have subtracted the offset changed its files, but neither the product's own
    document nor, at times, the offsets of the assets (Element84/earth-search issue 9); a row of the table that does not bind.
    """
    properties = item.get("properties") or {}
    flags = [(key, value) for key, value in properties.items() if key.endswith(":boa_offset_applied") and isinstance(value, bool)]
    changed = any(applied for _, applied in flags)
    for key, applied in flags:
        yield Candidate(0 if applied or not _could_carry(item) else OFFSET, f"the catalogue ({key} is {str(applied).lower()})"), True
    by_document = offset_from_metadata(metadata) if metadata is not None else None
    if by_document is not None:
        yield Candidate(by_document, "the product's metadata (BOA_ADD_OFFSET)"), not changed
    by_asset: dict[int, str] = {}
    for band, asset in (item.get("assets") or {}).items():
        if (value := _asset_offset(band, asset)) is not None:
            by_asset.setdefault(value, band)
    for value, band in by_asset.items():
        yield Candidate(value, f"the catalogue (raster:offset of asset {band})"), not changed
    stated = bool(flags or by_asset or by_document is not None)
    rule = rule_of(item)
    if rule is not None and rule.value is not None:
        yield Candidate(rule.value, f"the table of providers ({rule.source})"), rule.binding or not stated
    for baseline in sorted(baselines_of(item) - {PRIVATE}) if _straddles(item) else ():
        yield Candidate(OFFSET if baseline >= FIRST_WITH_OFFSET else 0, f"its processing baseline, which is stated as {baseline} too"), True
    if evidence is not None and evidence.candidate is not None:
        yield evidence.candidate, True


def _straddles(item: Mapping[str, Any]) -> bool:
    """Whether an item states baselines from before and after the change."""
    return len({baseline >= FIRST_WITH_OFFSET for baseline in baselines_of(item) - {PRIVATE}}) > 1


def _could_carry(item: Mapping[str, Any]) -> bool:
    """Whether there was an offset that a provider could leave unapplied."""
    baseline = baseline_of(item)
    if baseline is not None and baseline != PRIVATE:
        return baseline >= FIRST_WITH_OFFSET
    acquired = observed_at(item)
    return acquired is None or acquired >= CHANGE


def _asset_offset(band: str, asset: Mapping[str, Any]) -> int | None:
    """`raster:offset` of an asset in digital numbers, in STAC 1.1, 1.0 and EODAG's mixture of both; None where it states none."""
    if not _REFLECTANCE.fullmatch(band):
        return None
    first = next((b for b in (asset.get("bands") or []) if isinstance(b, Mapping)), {})
    old = next((b for b in (asset.get("raster:bands") or []) if isinstance(b, Mapping)), {})
    offset = _number(asset.get("raster:offset"), first.get("raster:offset"), old.get("offset"))
    scale = _number(asset.get("raster:scale"), first.get("raster:scale"), old.get("scale"))
    if offset is None:
        return None
    if scale is None or scale in (0, 1):
        scale = 1 / QUANTIFICATION if abs(offset) < 1 else 1
    return round(offset / scale)


def _number(*values: object) -> float | None:
    return next((float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)), None)
