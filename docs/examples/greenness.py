"""A step in Python: the share of green pixels (NDVI above a limit) of each item, added to the item's properties."""

import sys
from typing import Annotated

import rasterio
from earthself.processing import BadInput, StepContext, StepResult, step_main


def greenness(ctx: StepContext, *, above: Annotated[float, "NDVI above which a pixel is green"] = 0.4) -> StepResult:
    """Add the property `share_green` (0 to 1, of the pixels with data) to each item with the assets B04 and B08."""
    items = ctx.items()
    for number, item in enumerate(items):
        ctx.progress(number / len(items), f"reading {item.id}")
        if not {"B04", "B08"} <= set(item.assets) or "earthself:offset" not in item.properties:
            raise BadInput(f"item {item.id} lacks B04, B08 or earthself:offset; the input of greenness is what the step fetch leaves")
        offset = item.properties["earthself:offset"]
        with rasterio.open(item.assets["B04"].href) as red, rasterio.open(item.assets["B08"].href) as nir:
            green = seen = 0
            for _, window in red.block_windows(1):
                r, n = red.read(1, window=window).astype("float32"), nir.read(1, window=window).astype("float32")
                data = (r > 0) & (n > 0)  # 0 is no data before anything is added
                seen += data.sum()
                green += (data & (n - r > above * (n + r + 2 * offset))).sum()
        item.properties["share_green"] = round(float(green / seen), 4) if seen else None
    ctx.write(items)
    return StepResult(message=f"looked at {len(items)} items", metrics={"items": len(items)})


if __name__ == "__main__":
    sys.exit(step_main(greenness))
