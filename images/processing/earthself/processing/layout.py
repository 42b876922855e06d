"""Where the maps of a picture go: one map, or, where an area lies in parts far from each other, a panel for each at one common scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST = 6
"""Panels at most; an area in more parts is drawn as one map."""
_APART = 0.5
"""Panels are used where they cover less than this share of the whole map."""
_MARGIN = 0.03
"""Of the longer side of a panel, around the area."""

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top in units of the CRS."""


@dataclass(frozen=True)
class Panel:
    """A part of the map in the picture."""

    bounds: Bounds
    """What it shows."""
    left: float
    """Inches from the left of the map's part of the picture."""
    top: float
    """Inches from its top."""
    width: float
    height: float


@dataclass(frozen=True)
class Plan:
    """All panels, at one scale."""

    panels: tuple[Panel, ...]
    width: float
    """Inches that the panels take."""
    height: float
    scale: float
    """Inches for one unit of the CRS."""


def regions(shape: Any) -> list[Bounds]:  # noqa: ANN401 (a shapely geometry)
    """Give the bounds of what is to be shown, with a margin: of the whole area, or of each group of its parts, from west to east."""
    import shapely

    whole = _grown(shape.bounds)
    groups = [part.bounds for part in shapely.get_parts(shape)]
    if len(groups) > 500:
        return [whole]
    near = 0.08 * max(whole[2] - whole[0], whole[3] - whole[1])
    joined = True
    while joined and len(groups) > 1:
        joined = False
        for one in groups:
            other = next((each for each in groups if each is not one and _near(one, each, near)), None)
            if other is not None:
                groups = [each for each in groups if each is not one and each is not other] + [_union(one, other)]
                joined = True
                break
    covered = sum((east - west) * (north - south) for west, south, east, north in groups)
    if not 1 < len(groups) <= MOST or covered > _APART * (whole[2] - whole[0]) * (whole[3] - whole[1]):
        return [whole]
    return [_grown(group) for group in sorted(groups)]


def plan(bounds: Sequence[Bounds], width: float, height: float, gap: float) -> Plan:
    """Fit all regions into `width` by `height` inches at the largest common scale, in rows, with `gap` inches between them."""
    return max((_rows(bounds, number, width, height, gap) for number in range(1, len(bounds) + 1)), key=lambda each: each.scale)


def _rows(bounds: Sequence[Bounds], number: int, width: float, height: float, gap: float) -> Plan:
    per_row = math.ceil(len(bounds) / number)
    rows = [bounds[start : start + per_row] for start in range(0, len(bounds), per_row)]
    widths = [sum(right - left for left, _, right, _ in row) for row in rows]
    heights = [max(top - bottom for _, bottom, _, top in row) for row in rows]
    across = min((width - gap * (len(row) - 1)) / total for row, total in zip(rows, widths, strict=True))
    down = (height - gap * (len(rows) - 1)) / sum(heights)
    scale = min(across, down)
    panels, top = [], 0.0
    for row, tall in zip(rows, heights, strict=True):
        left = 0.0
        for one in row:
            panels.append(Panel(one, left, top, (one[2] - one[0]) * scale, (one[3] - one[1]) * scale))
            left += panels[-1].width + gap
        top += tall * scale + gap
    return Plan(tuple(panels), max(panel.left + panel.width for panel in panels), top - gap, scale)


def _grown(bounds: Bounds) -> Bounds:
    margin = _MARGIN * max(bounds[2] - bounds[0], bounds[3] - bounds[1])
    return bounds[0] - margin, bounds[1] - margin, bounds[2] + margin, bounds[3] + margin


def _union(one: Bounds, other: Bounds) -> Bounds:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _near(one: Bounds, other: Bounds, distance: float) -> bool:
    return one[0] - distance < other[2] and other[0] - distance < one[2] and one[1] - distance < other[3] and other[1] - distance < one[3]
