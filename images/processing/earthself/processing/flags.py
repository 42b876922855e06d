"""Flag bits of a signature: what of a pixel was seen, and what became of its class (docs/architecture.md, "A signature")."""

from __future__ import annotations

NODATA, CLOUD, SHADOW, SNOW = 1, 2, 4, 8
NOT_CLEAR = NODATA | CLOUD | SHADOW | SNOW
"""A pixel with none of these flags is observed."""
NOVEL, NO_CLASS, WATER = 16, 32, 64
"""Unlike the training, no class that is sure enough, water by the rule."""
