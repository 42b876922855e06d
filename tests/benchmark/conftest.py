"""Programs that measure."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture
def tool():
    """Skip where a program is not there."""

    def need(*names: str) -> None:
        for name in names:
            if shutil.which(name) is None:
                pytest.skip(f"no {name}; get it with: apt-get install {name}")

    return need
