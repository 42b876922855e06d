"""Flag bits of a signature that say what of a pixel was seen (docs/architecture.md, "A signature")."""

from __future__ import annotations

NODATA, CLOUD, SHADOW, SNOW = 1, 2, 4, 8
NOT_CLEAR = NODATA | CLOUD | SHADOW | SNOW
"""A pixel with none of these flags is observed."""
