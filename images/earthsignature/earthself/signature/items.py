"""From the files that a person or a step has (a STAC item, or a GeoJSON feature and TIFFs) to what `SignatureClient.create` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from earthself.signature.errors import BadSignature

LAYERS = ("segmentation", "cloud_mask", "confidence", "flags")
"""Names of layers, and of the assets that hold them."""
_PRODUCT_TYPES = {"S2_MSI_L2A": "S2MSI2A", "S2_MSI_L2A_COG": "S2MSI2A", "S2_MSI_L1C": "S2MSI1C"}
_OF_A_RUN = ("earthself:found_as", "earthself:reused")  # how one run came by a signature says nothing about it


@dataclass(frozen=True)
class SignatureFiles:
    """A signature on disk."""

    feature: dict[str, Any]
    """GeoJSON Feature with the properties of the interface."""
    paths: dict[str, Path] = field(default_factory=dict)
    """Layer to the path of its GeoTIFF."""

    def layers(self) -> dict[str, bytes]:
        """Read all files; raises `BadSignature` for one that is missing."""
        try:
            return {name: path.read_bytes() for name, path in self.paths.items()}
        except OSError as error:
            raise BadSignature(f"{error.filename} cannot be read ({error.strerror}); give the path of a GeoTIFF") from error


def read_signature(path: Path, layers: Mapping[str, Path] | None = None) -> SignatureFiles:
    """Read a STAC item or a GeoJSON Feature, with layers beside or instead of the item's assets; raises `BadSignature`."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise BadSignature(f"{path} cannot be read ({error.strerror}); give a STAC item or a GeoJSON feature") from error
    except ValueError as error:
        raise BadSignature(f"{path} is no JSON ({error}); give a STAC item or a GeoJSON feature") from error
    if not isinstance(document, dict) or document.get("type") != "Feature":
        raise BadSignature(f"{path} is no GeoJSON Feature; give a STAC item or a GeoJSON feature")
    is_item = "stac_version" in document
    found = signature_of_item(document, path.parent) if is_item else SignatureFiles(document)
    return SignatureFiles(found.feature, {**found.paths, **(layers or {})})


def signature_of_item(item: Mapping[str, Any], base: Path) -> SignatureFiles:
    """Make a signature's feature and file paths of its STAC item (as a dict); relative hrefs start at `base`.

    Raises `BadSignature` for an asset that is no local file.
    """
    assets = item.get("assets") or {}
    paths = {name: _local(str(assets[name].get("href")), base, name) for name in LAYERS if name in assets}
    return SignatureFiles(feature_of_item(item), paths)


def feature_of_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Make a signature's feature of its STAC item (as a dict), whatever its assets.

    The properties of the interface come from the item's standard ones; every `earthself:*` property of the signature goes along.
    The same item always gives the same feature.
    """
    given = item.get("properties") or {}
    assets = item.get("assets") or {}
    acquired = given.get("datetime") or given.get("start_datetime")
    collection = given.get("earthself:collection")
    properties: dict[str, Any] = {
        "creation_date": acquired,
        "publication_date": given.get("published") or given.get("s2:generation_time") or acquired,
        "product_type": given.get("product:type") or _PRODUCT_TYPES.get(str(collection)) or collection or "unknown",
        "cloud_cover": _cloud_cover(given),
        "quicklook": _href(assets, "thumbnail") or _href(assets, "quicklook"),
        "browse_url": _link(item, "self"),
        "download_url": _href(assets, "download"),
        "model": given.get("earthself:model"),
        "legend": given.get("earthself:legend"),
        "processing_baseline": given.get("earthself:baseline"),
    }
    properties |= {key: value for key, value in given.items() if key.startswith("earthself:") and key not in _OF_A_RUN}
    return {
        "type": "Feature",
        "id": item.get("id"),
        "geometry": item.get("geometry"),
        "properties": {key: value for key, value in properties.items() if value is not None},
    }


def _cloud_cover(properties: Mapping[str, Any]) -> float | None:
    """Give what the provider says, else what the mask left out; it is never guessed."""
    cover, clear = properties.get("eo:cloud_cover"), properties.get("earthself:clear_fraction")
    if cover is None and clear is not None:
        return round(100 * (1 - float(clear)), 4)
    return cover


def _href(assets: Mapping[str, Any], key: str) -> str:
    asset = assets.get(key)
    href = str(asset.get("href") or "") if asset else ""
    return href if href and urlsplit(href).scheme in ("http", "https", "s3") else ""


def _link(item: Mapping[str, Any], relation: str) -> str:
    for link in item.get("links") or ():
        if link.get("rel") == relation and urlsplit(href := str(link.get("href") or "")).scheme in ("http", "https"):
            return href
    return ""


def _local(href: str, base: Path, name: str) -> Path:
    parts = urlsplit(href)
    if parts.scheme not in ("", "file"):
        raise BadSignature(f"asset {name} is at {href}; download it first and name the local file")
    return base / (unquote(parts.path) if parts.scheme else href)
