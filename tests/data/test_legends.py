"""Legends: codes, names and colours of CORINE Land Cover, and how the levels hang together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from earthself.data import legends
from earthself.data.errors import BadInput
from earthself.data.sentinel2 import BANDS, SCL


def test_the_levels_have_the_official_number_of_classes() -> None:
    assert [len(legends.legend(f"clc:{level}").entries) for level in (1, 2, 3)] == [5, 15, 44]


def test_every_class_has_its_ancestors_and_every_ancestor_a_class() -> None:
    fine = {entry.code for entry in legends.legend("clc:3").entries}
    for level in (1, 2):
        assert {legends.at_level(code, level) for code in fine} == {entry.code for entry in legends.legend(f"clc:{level}").entries}
    assert legends.at_level(311, 3) == 311
    assert legends.at_level(0, 2) == 0


def test_names_and_colours_are_the_official_ones() -> None:
    clc = legends.legend("clc:3")
    assert clc.name(311) == "Broad-leaved forest"
    assert clc.color(211) == "#ffffa8"
    assert clc.colors()[512] == (128, 242, 230)
    assert len({entry.name for entry in clc.entries}) == 44
    assert legends.legend("clc:1").name(2) == "Agricultural areas"


def test_the_order_is_that_of_the_grid_codes_of_the_published_rasters(shared: Path) -> None:
    """CLC rasters number the classes 1 to 44; only their order leads back to the codes."""
    with rasterio.open(next((shared / "corine").glob("*.tif"))) as raster:
        values = np.unique(raster.read(1))
    codes = [entry.code for entry in legends.legend("clc:3").entries]
    present = {codes[value - 1] for value in values if 1 <= value <= 44}
    assert {112, 311, 523} <= present  # Guadeloupe has towns, rain forest and the sea
    assert not {335, 412} & present  # and neither glaciers nor peat bogs


def test_a_code_matches_its_ancestors_only() -> None:
    assert legends.matches(311, 31)
    assert legends.matches(311, 3)
    assert legends.matches(311, 311)
    assert not legends.matches(31, 311)
    assert not legends.matches(311, 21)
    assert legends.matches(0, 0)
    assert not legends.matches(311, 0)
    assert not legends.matches(0, 3)


def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(BadInput, match="legend 'clc:4' is not known"):
        legends.legend("clc:4")
    with pytest.raises(BadInput, match="code 31 is not in legend clc:3"):
        legends.legend("clc:3").name(31)
    with pytest.raises(BadInput, match="no ancestor at level 3"):
        legends.at_level(31, 3)
    for wrong in (6, 53, 999, -1):
        with pytest.raises(BadInput, match="no CORINE Land Cover code"):
            legends.at_level(wrong, 1)


def test_bands_ascend_in_wavelength_and_have_native_resolutions() -> None:
    waves = [band.wavelength for band in BANDS.values()]
    assert waves == sorted(waves)
    assert {r: sum(b.resolution == r for b in BANDS.values()) for r in (10, 20, 60)} == {10: 4, 20: 6, 60: 3}
    assert list(SCL) == list(range(12))
