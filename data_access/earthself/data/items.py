"""Items of every catalogue brought into one form: Sentinel-2 assets keyed by band, and the `earthself:*` properties."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from earthself.data.errors import BadInput
from earthself.data.observation import Observation, baseline_of
from earthself.data.sentinel2 import BANDS, SCL_RESOLUTION

PRODUCT = "product"
"""Asset key of the whole product as one archive, where a provider serves that."""
METADATA = "product_metadata"
"""Asset key of the product's own metadata document (MTD_MSIL2A.xml)."""
ORDER_LINK = "earthself:order_link"
"""Property of an offline item: where its provider takes the order to stage it."""
ONLY_PROVIDER = "earthself:only_provider"
"""Property of an item that was asked for from one provider by name: no other one is asked for it."""

# What catalogues call the bands: STAC common names (old and new), Earth Search's names, band names of the data space.
_ALIASES = {
    **{band.common_name: band.name for band in BANDS.values()},
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "rededge4": "B8A",
    "nir8a": "B8A",
    "swir1": "B11",
    "swir2": "B12",
    "scl": "SCL",
}
_BAND = re.compile(r"(?:B(?P<number>0?[1-9]|1[0-2]|8A)|(?P<scl>SCL))(?:_(?P<resolution>[126]0)m)?", re.IGNORECASE | re.ASCII)
_SUFFIX = re.compile(r"[-_.](?:jp2|tiff?|cog)", re.IGNORECASE | re.ASCII)
_FILE = re.compile(r"(?:.*[_/])?(?P<band>(?:B0[1-9]|B1[0-2]|B8A|SCL)(?:_[126]0m)?)\.(?:tiff?|jp2)", re.IGNORECASE | re.ASCII)
_MTD = re.compile(r"(?:.*/)?MTD_MSIL(?:1C|2A)\.xml", re.IGNORECASE | re.ASCII)
_ARCHIVES = ("application/zip", "application/x-zip-compressed", "application/x-zip")
_ARCHIVE_KEYS = (PRODUCT, "downloadlink", "safe", "safe_archive", "archive")
_SCHEMES = ("http", "https", "s3")


def band_of(key: str, asset: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """Which Sentinel-2 band an asset is, with the resolution (m) that its name states; None where it is no single band."""
    roles = asset.get("roles") or []
    if {"thumbnail", "overview", "visual", "metadata"} & set(roles):
        return None
    names = [entry.get("name") for entry in (asset.get("bands") or asset.get("eo:bands") or []) if isinstance(entry, Mapping)]
    path = urlsplit(str(asset.get("href", ""))).path
    by_file = _FILE.fullmatch(path)
    for name in (key, names[0] if len(names) == 1 else None, by_file["band"] if by_file else None):
        if name and (found := _named(_SUFFIX.sub("", str(name)))):
            return found
    return None


def normalised(item: dict[str, Any], provider: str, collection: str, *, open_access: bool) -> dict[str, Any]:
    """The item in the project's form: the same id, geometry and properties, assets keyed B01 ... SCL, `earthself:*` filled in.

    Assets that are no band keep their key; hrefs that lead to other places than http(s) or s3 are dropped.
    Raises `BadInput` when a Sentinel-2 item does not say which observation it is.
    """
    properties = dict(item["properties"])
    made = {**item, "properties": properties, "assets": _assets(item)}
    try:
        properties["earthself:observation"] = Observation.from_item(item).key
    except BadInput:
        if collection.startswith("S2_"):
            raise
        properties["earthself:observation"] = str(item["id"])
    properties["earthself:baseline"] = baseline_of(item)
    properties["earthself:provider"] = provider
    properties["earthself:collection"] = collection
    properties["earthself:access"] = "open" if open_access else "login"
    if "proj:code" not in properties and isinstance(properties.get("proj:epsg"), int):
        properties["proj:code"] = f"EPSG:{properties['proj:epsg']}"
    return made


def is_archive(key: str, asset: Mapping[str, Any]) -> bool:
    """Whether an asset is the whole product in one file."""
    path = urlsplit(str(asset.get("href", ""))).path.lower()
    kind = str(asset.get("type", "")).partition(";")[0].strip().lower()
    return (
        kind in _ARCHIVES or path.endswith((".zip", ".safe.zip")) or (key.lower() in _ARCHIVE_KEYS and not path.endswith((".tif", ".jp2")))
    )


def _named(name: str) -> tuple[str, int | None] | None:
    found = _BAND.fullmatch(name)
    if found:
        resolution = int(found["resolution"]) if found["resolution"] else None
        number = found["number"]
        return ("SCL" if found["scl"] else f"B{number.upper().zfill(2)}"), resolution
    alias = _ALIASES.get(name.lower())
    return (alias, None) if alias else None


def _assets(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {}
    rest: dict[str, Any] = {}
    for key, original in item.get("assets", {}).items():
        asset = _reachable(original)
        if asset is None:
            continue
        path = urlsplit(asset["href"]).path
        if is_archive(key, asset):
            rest[PRODUCT] = asset
        elif _MTD.fullmatch(path):
            rest[METADATA] = asset
        elif band := band_of(key, asset):
            rank = _preference(band, asset)
            if band[0] not in found or rank < found[band[0]][0]:
                found[band[0]] = (rank, asset)
        else:
            rest[key] = asset
    bands = {name: found[name][1] for name in (*BANDS, "SCL") if name in found}
    return {**bands, **{key: asset for key, asset in rest.items() if key not in bands}}


def _preference(band: tuple[str, int | None], asset: Mapping[str, Any]) -> tuple[int, int, int]:
    """Lower is better: native resolution, then GeoTIFF before JPEG 2000, then http before s3."""
    native = SCL_RESOLUTION if band[0] == "SCL" else BANDS[band[0]].resolution
    parts = urlsplit(asset["href"])
    return abs((band[1] or native) - native), int(parts.path.lower().endswith(".jp2")), int(parts.scheme == "s3")


def _reachable(asset: Mapping[str, Any]) -> dict[str, Any] | None:
    """The asset with an address that we may follow, preferring an http alternate to s3; None when it has none."""
    alternates = asset.get("alternate")
    hrefs = [
        asset.get("href"),
        *(a.get("href") for a in (alternates.values() if isinstance(alternates, Mapping) else ()) if isinstance(a, Mapping)),
    ]
    usable = [h for h in hrefs if isinstance(h, str) and urlsplit(h).scheme in _SCHEMES]
    if not usable:
        return None
    return {**asset, "href": min(usable, key=lambda h: urlsplit(h).scheme == "s3")}
