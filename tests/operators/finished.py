"""The folder of a run as its tasks leave it before it is published, small but real in every document that publishing reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import signed
from earthself.data.workspace import RunFolder, Workspace
from earthself.operators import catalogs

AREA = signed.footprint()
REQUEST = {
    "area": AREA,
    "start": "2017-06-01",
    "end": "2017-07-01",
    "collection": "S2_MSI_L2A",
    "provider": None,
    "max_cloud_cover": 60,
    "mask": "auto",
    "model": "baseline",
    "max_products": 200,
    "title": "Fields & <forests>",
}
CARD = {"limits": ["Not for lawyers."], "scores": {"transfer": {"macro_f1": 0.61, "interval": [0.5, 0.7]}}, "file": {"sha256": "cd" * 32}}
ROWS = """\
code,name,hectares,share
2,Agricultural areas,20.0,0.5
3,Forest and semi-natural areas,12.0,0.3
0,"Observed, no class",4.0,0.1
-1,Unobserved,4.0,0.1
"""


def run(
    workspace: Path, run_id: str = "manual__1", *, products: int = 3, failures: list[dict[str, Any]] | None = None, found: bool = True
) -> RunFolder:
    """Lay out a run with `products` found; those in `failures` were lost, the first of the others was reused."""
    folder = Workspace(workspace).run("a_dag", run_id)
    things = [signed.product(f"P{n}") for n in range(products)] if found else []
    _json(folder.request, REQUEST)
    _json(folder.work / "model.json", {"model": "baseline:1", "card": CARD})
    _json(folder.work / "estimate.json", {"work": {"products": 2, "megapixels": 0.004, "area_megapixels": 0.0041}})
    catalogs.write_catalog(folder.found.parent, "found", things, AREA)
    _json(folder.superseded, [signed.product("OLD")] if found else [])
    _json(
        folder.found.parent / "search.json",
        {"provider": "test", "warnings": ["1 older copies of observations are not used; the newer ones are"]},
    )
    if found:
        _signed(folder, things, failures or [])
        _made(folder)
    return folder


def _signed(folder: RunFolder, things: list[dict[str, Any]], failures: list[dict[str, Any]]) -> None:
    lost = {failure["id"] for failure in failures}
    items = [signed.signature(folder.output("signed") / "0000", thing) for thing in things if thing["id"] not in lost]
    items[0]["properties"] |= {"earthself:reused": True, "earthself:found_as": items[0]["id"]}
    catalogs.write_catalog(folder.output("signed") / "0000", "signed", items)
    catalogs.link_catalog(
        folder.signatures.parent, "signatures", catalogs.item_paths(folder.output("signed") / "0000" / catalogs.CATALOG), AREA
    )
    _json(folder.signatures.parent / "failures.json", failures)
    account = {
        "step": "sign",
        "seconds": 4.0,
        "cpu_seconds": 5.0,
        "document": {"metrics": {"seconds_reading": 1.5, "bytes_read": 1000, "pixels": 8192}, "warnings": []},
    }
    _json(folder.step("sign", 0) / "run.json", account)


def _made(folder: RunFolder) -> None:
    mosaic = folder.output("mosaic")
    mosaic.mkdir(parents=True)
    signed._write(mosaic / "land_cover.tif", "uint16", 3, 0, {})
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": "land_cover",
        "geometry": AREA,
        "bbox": signed.product("x")["bbox"],
        "links": [],
        "assets": {"land_cover": {"href": "../land_cover.tif", "type": "image/tiff", "roles": ["data"]}},
        "properties": {
            "datetime": "2017-06-13T10:10:31Z",
            "earthself:legend": "clc:1",
            "earthself:validated_level": 1,
            "earthself:models": ["baseline:1"],
            "earthself:masks": ["scl"],
            "earthself:warnings": ["the signatures come from 2 models"],
        },
    }
    catalogs.write_catalog(mosaic, "mosaic", [item], AREA)
    for name, content in (("statistics.csv", ROWS.encode()), ("statistics.parquet", b"PAR1")):
        path = folder.output("statistics") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    folder.output("quicklook").mkdir()
    (folder.output("quicklook") / "quicklook.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
