"""Flag bits of a signature: what of a pixel was seen, and what became of its class (docs/architecture.md, "A signature")."""

from __future__ import annotations

from typing import Any

NODATA, CLOUD, SHADOW, SNOW = 1, 2, 4, 8
NOT_CLEAR = NODATA | CLOUD | SHADOW | SNOW
"""A pixel with none of these flags is observed."""
NOVEL, NO_CLASS, WATER = 16, 32, 64
"""Unlike the training, no class that is sure enough, water by the rule."""
MEANINGS = {
    NODATA: ("nodata", "no data of the product"),
    CLOUD: ("cloud", "cloud"),
    SHADOW: ("shadow", "shadow of a cloud"),
    SNOW: ("snow", "snow or ice"),
    NOVEL: ("novel", "unlike what the model was trained on"),
    NO_CLASS: ("no_class", "no class that is sure enough"),
    WATER: ("water", "water by a rule on the spectrum"),
}
"""What each bit says: a name, and in words."""


def bitfields() -> list[dict[str, Any]]:
    """The bits as STAC's `classification:bitfields`."""
    return [
        {
            "name": name,
            "description": text,
            "offset": bit.bit_length() - 1,
            "length": 1,
            "classes": [{"value": 0, "name": f"not_{name}"}, {"value": 1, "name": name, "title": text}],
        }
        for bit, (name, text) in MEANINGS.items()
    ]
