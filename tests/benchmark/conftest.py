"""Programs that measure, and databases."""

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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A new, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'samples.db'}"
    return request.getfixturevalue("cluster").new_database().replace("postgresql://", "postgresql+psycopg://")
