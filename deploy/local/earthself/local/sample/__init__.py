"""The sample: 21 real Sentinel-2 patches as products, and the small provider that serves them.

`make_sample` regenerates `data/` from a public package; `provider` is a STAC API that EODAG searches like any other.
"""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).with_name("data")
"""Folder with one STAC item and one folder of rasters per product."""

COLLECTION = "sentinel-2-l2a"
