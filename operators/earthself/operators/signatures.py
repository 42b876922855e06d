"""Signatures that EarthSignature knows: which of them may stand for a product of this run, and their STAC items in the run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.identity import Identity

if TYPE_CHECKING:
    from earthself.signature.client import SignatureClient
    from shapely.geometry.base import BaseGeometry

FOUND_AS = "earthself:found_as"
"""Id of the product of this request that a reused signature stands for; it may be another copy of the same observation."""
REUSED = "earthself:reused"
"""Marks a signature that this run did not make; the manifest says so too."""
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_ROLES = {"segmentation": ["data"], "confidence": ["metadata"], "flags": ["metadata", "cloud"], "cloud_mask": ["metadata", "cloud"]}
_HAIR = 2e-6
"""Degrees (0.2 m) that rounding of coordinates may move a footprint."""
_EDGE = 5e-3
"""Degrees within which a provider's straight footprint and the edge of the pixel grid may differ along a tile (300 m at 60 N)."""


def to_item(feature: Mapping[str, Any], layers: Mapping[str, Path], found_as: str) -> dict[str, Any]:
    """Describe a feature whose layers lie in files beside the item's own file as a STAC item."""
    import shapely.geometry

    have = feature["properties"]
    properties = {name: value for name, value in have.items() if name.startswith("earthself:")}
    properties |= {"datetime": have["creation_date"], "eo:cloud_cover": have["cloud_cover"], FOUND_AS: found_as, REUSED: True}
    assets = {
        name: {"href": f"./{path.name}", "type": _COG, "roles": _ROLES.get(name, ["metadata"]), "title": name.replace("_", " ")}
        for name, path in layers.items()
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v2.0.0/schema.json"],
        "id": feature["id"],
        "geometry": feature["geometry"],
        "bbox": list(shapely.geometry.shape(feature["geometry"]).bounds),
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def made_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two signatures (GeoJSON Features) come from the same model, legend, preprocessing and baseline."""
    return _making(one) == _making(other)


def id_beside(feature: Mapping[str, Any]) -> str:
    """Give the id that a signature is stored under where its own is taken by one that was made in another way; always the same one."""
    return f"{feature['id']}_M{hashlib.sha256('|'.join(_making(feature)).encode()).hexdigest()[:8]}"


def _making(feature: Mapping[str, Any]) -> list[str]:
    have = feature["properties"]
    return [str(have.get(f"earthself:{name}") or "") for name in ("model", "legend", "preprocessing", "baseline")]


def reusable(
    features: Iterable[Mapping[str, Any]], products: Iterable[Mapping[str, Any]], area: BaseGeometry | None, identity: Identity, mask: str
) -> dict[str, Mapping[str, Any]]:
    """Choose for each product (by id) the feature that can stand for it; products without one are left out.

    Observation, model, legend and preprocessing are the same, the signature's baseline is not older than the product's, and its
    footprint covers what the area needs of the product.
    """
    by_observation: dict[str, list[Mapping[str, Any]]] = {}
    for feature in features:
        have = feature["properties"]
        if have.get("earthself:model") == identity.model and have.get("earthself:legend") == identity.legend:
            by_observation.setdefault(str(have.get("earthself:observation")), []).append(feature)
    chosen = {}
    for product in products:
        wanted = product["properties"]
        version = identity.preprocessing_of(product, mask)
        candidates = [
            feature
            for feature in by_observation.get(str(wanted.get("earthself:observation")), ())
            if feature["properties"].get("earthself:preprocessing") == version
            and baseline_number(feature["properties"].get("earthself:baseline")) >= baseline_number(wanted.get("earthself:baseline"))
            and _covers(feature, product, area)
        ]
        if candidates:
            chosen[str(product["id"])] = max(
                candidates, key=lambda feature: (baseline_number(feature["properties"].get("earthself:baseline")), str(feature["id"]))
            )
    return chosen


def replaced(
    features: Iterable[Mapping[str, Any]], newer: Iterable[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Pair each stored signature (feature) of an older baseline with the newer one of its observation that shows all its ground."""
    import shapely.geometry

    pairs = []
    olds = list(features)
    for new in newer:
        ground = shapely.buffer(shapely.make_valid(shapely.geometry.shape(new["geometry"])), _EDGE)
        for old in olds:
            one, other = old["properties"], new["properties"]
            same = one.get("earthself:observation") == other.get("earthself:observation") and one.get("earthself:legend") == other.get(
                "earthself:legend"
            )
            older = baseline_number(one.get("earthself:baseline")) < baseline_number(other.get("earthself:baseline"))
            if same and older and ground.covers(shapely.make_valid(shapely.geometry.shape(old["geometry"]))):
                pairs.append((old, new))
    return pairs


def supersede(client: SignatureClient, pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """Mark the older of each pair as superseded by the newer in EarthSignature; returns warnings."""
    from earthself.signature.errors import SignatureError

    said = []
    for old, new in pairs:
        try:
            client.supersede(str(old["id"]), str(new["id"]))
        except SignatureError as error:
            said.append(f"{old['id']} could not be marked as superseded by {new['id']}: {error}")
    return said


def baseline_number(baseline: object) -> int:
    """Order baselines in time: `N0510` is 510; `N9999` was processed elsewhere and yields to all, as does an unknown one."""
    digits = re.sub(r"\D", "", str(baseline or ""))
    return int(digits) % 9999 if digits else 0


def _covers(feature: Mapping[str, Any], product: Mapping[str, Any], area: BaseGeometry | None) -> bool:
    """Whether a signature reaches wherever the area meets the product.

    Along the tile's own edge the two footprints come from different sources and may differ; inside it they may not.
    """
    import shapely
    import shapely.geometry

    footprint = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
    whole = shapely.make_valid(shapely.geometry.shape(product["geometry"]))
    needed = whole if area is None else shapely.intersection(whole, area)
    missing = shapely.difference(needed, shapely.buffer(footprint, _HAIR))
    return bool(missing.is_empty or shapely.buffer(shapely.boundary(whole), _EDGE).covers(missing))
