from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
import airflow_sandbox


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    return airflow_sandbox.migrate()
