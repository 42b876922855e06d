"""The versioned legends that every land-cover code of the platform refers to.

Codes are those of CORINE Land Cover at three levels of detail; names and level-3 colours are the official ones of the
Copernicus Land Monitoring Service (CLC nomenclature, https://land.copernicus.eu/content/corine-land-cover-nomenclature-guidelines).
The service publishes no colours for levels 1 and 2: there each class takes one of its best-known descendant or a plain hue.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from earthself.data.errors import BadInput


@dataclass(frozen=True)
class LegendEntry:
    """One class of a legend."""

    code: int
    """CORINE code: one digit at level 1, two at level 2, three at level 3."""
    name: str
    """English name."""
    color: str
    """Colour as `#rrggbb`."""

    def classification(self) -> dict[str, Any]:
        """The class as an entry of STAC's `classification:classes`."""
        return {
            "value": self.code,
            "name": re.sub(r"[^0-9A-Za-z]+", "_", self.name).strip("_").lower(),
            "title": self.name,
            "description": f"CORINE Land Cover {self.code}",
            "color_hint": self.color.lstrip("#").upper(),
        }


@dataclass(frozen=True)
class Legend:
    """All classes of one level, in the order of their codes. Code 0 (no class) belongs to no legend."""

    id: str
    """`clc:<level>`, the version that rasters and documents carry."""
    level: int
    """1, 2 or 3: the number of digits of a code."""
    entries: tuple[LegendEntry, ...]
    """The classes, by ascending code."""
    _by_code: dict[int, LegendEntry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_code", {entry.code: entry for entry in self.entries})

    def __contains__(self, code: object) -> bool:
        return code in self._by_code

    def name(self, code: int) -> str:
        """The class's name; raises `BadInput` for a code that the legend lacks."""
        return self._entry(code).name

    def color(self, code: int) -> str:
        """The class's colour as `#rrggbb`; raises `BadInput` for a code that the legend lacks."""
        return self._entry(code).color

    def colors(self) -> dict[int, tuple[int, int, int]]:
        """Colour of each code as red, green, blue (0-255), fit for a raster's colour table."""
        return {e.code: (int(e.color[1:3], 16), int(e.color[3:5], 16), int(e.color[5:7], 16)) for e in self.entries}

    def classification(self) -> list[dict[str, Any]]:
        """The classes as STAC's `classification:classes`, with 0 as the class of what has none."""
        none = {
            "value": 0,
            "name": "none",
            "title": "No class",
            "description": "unobserved, or observed without a class that the model can emit",
            "nodata": True,
        }
        return [none, *(entry.classification() for entry in self.entries)]

    def _entry(self, code: int) -> LegendEntry:
        try:
            return self._by_code[code]
        except KeyError:
            raise BadInput(f"code {code} is not in legend {self.id}; its codes are {', '.join(map(str, self._by_code))}") from None


_LEVEL_1 = """
1 e6004d Artificial surfaces
2 ffffa8 Agricultural areas
3 4dff00 Forest and semi-natural areas
4 a6a6ff Wetlands
5 00ccf2 Water bodies
"""

_LEVEL_2 = """
11 ff0000 Urban fabric
12 cc4df2 Industrial, commercial and transport units
13 a64d00 Mine, dump and construction sites
14 ffa6ff Artificial, non-agricultural vegetated areas
21 ffffa8 Arable land
22 e68000 Permanent crops
23 e6e64d Pastures
24 ffe6a6 Heterogeneous agricultural areas
31 00a600 Forests
32 a6f200 Scrub and/or herbaceous vegetation associations
33 ccffcc Open spaces with little or no vegetation
41 a6a6ff Inland wetlands
42 ccccff Maritime wetlands
51 00ccf2 Inland waters
52 e6f2ff Marine waters
"""

_LEVEL_3 = """
111 e6004d Continuous urban fabric
112 ff0000 Discontinuous urban fabric
121 cc4df2 Industrial or commercial units
122 cc0000 Road and rail networks and associated land
123 e6cccc Port areas
124 e6cce6 Airports
131 a600cc Mineral extraction sites
132 a64d00 Dump sites
133 ff4dff Construction sites
141 ffa6ff Green urban areas
142 ffe6ff Sport and leisure facilities
211 ffffa8 Non-irrigated arable land
212 ffff00 Permanently irrigated land
213 e6e600 Rice fields
221 e68000 Vineyards
222 f2a64d Fruit trees and berry plantations
223 e6a600 Olive groves
231 e6e64d Pastures
241 ffe6a6 Annual crops associated with permanent crops
242 ffe64d Complex cultivation patterns
243 e6cc4d Land principally occupied by agriculture, with significant areas of natural vegetation
244 f2cca6 Agro-forestry areas
311 80ff00 Broad-leaved forest
312 00a600 Coniferous forest
313 4dff00 Mixed forest
321 ccf24d Natural grasslands
322 a6ff80 Moors and heathland
323 a6e64d Sclerophyllous vegetation
324 a6f200 Transitional woodland-shrub
331 e6e6e6 Beaches, dunes, sands
332 cccccc Bare rocks
333 ccffcc Sparsely vegetated areas
334 000000 Burnt areas
335 a6e6cc Glaciers and perpetual snow
411 a6a6ff Inland marshes
412 4d4dff Peat bogs
421 ccccff Salt marshes
422 e6e6ff Salines
423 a6a6e6 Intertidal flats
511 00ccf2 Water courses
512 80f2e6 Water bodies
521 00ffa6 Coastal lagoons
522 a6ffe6 Estuaries
523 e6f2ff Sea and ocean
"""

_TABLES = {"clc:1": _LEVEL_1, "clc:2": _LEVEL_2, "clc:3": _LEVEL_3}


@cache
def legend(legend_id: str) -> Legend:
    """The legend of that id (`clc:1`, `clc:2`, `clc:3`); raises `BadInput` for any other."""
    if legend_id not in _TABLES:
        raise BadInput(f"legend {legend_id!r} is not known; known are {', '.join(_TABLES)}")
    rows = (line.split(" ", 2) for line in _TABLES[legend_id].strip().splitlines())
    return Legend(legend_id, int(legend_id[-1]), tuple(LegendEntry(int(code), name, f"#{color}") for code, color, name in rows))


def at_level(code: int, level: int) -> int:
    """The ancestor of a code at a coarser (or its own) level; 0 stays 0. A coarse code cannot be refined: `BadInput`."""
    if code == 0:
        return 0
    own = _level(code)
    if not 1 <= level <= own:
        raise BadInput(f"code {code} is of level {own} and has no ancestor at level {level}; ask for a level from 1 to {own}")
    return int(code // 10 ** (own - level))


def matches(code: int, wanted: int) -> bool:
    """Whether a code is the wanted one or a descendant of it (311 matches 31 and 3; 31 does not match 311; 0 matches only 0)."""
    if code == 0 or wanted == 0:
        return code == wanted
    level = _level(wanted)
    return _level(code) >= level and at_level(code, level) == wanted


def _level(code: int) -> int:
    for name in _TABLES:
        if code in legend(name):
            return legend(name).level
    raise BadInput(f"{code} is no CORINE Land Cover code; codes go from 1 to 5, 11 to 52 and 111 to 523")
