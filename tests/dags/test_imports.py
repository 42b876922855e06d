"""Parse time is sacred: what DAG files may import, and what must not come along."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for folder in ("dags", "docs/examples")
    for path in (ROOT / folder).rglob("*.py")
    if "airflow.sdk" in path.read_text(encoding="utf-8")
)
ALLOWED = ("__future__", "airflow.sdk", "earthself.operators", "earthself.hooks", "earthself.triggers")
HEAVY = (
    "rasterio",
    "eodag",
    "grpc",
    "kubernetes",
    "kubernetes_asyncio",
    "aiohttp",
    "xarray",
    "dask",
    "numpy",
    "pandas",
    "shapely",
    "pystac",
    "earthself.processing",
    "earthself.signature",
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_dag_file_imports_airflow_and_our_operators_only(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside_functions = {
        inner for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in inside_functions or not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in names:
            ours = any(name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED)
            assert ours or name.partition(".")[0] in sys.stdlib_module_names, f"{path.name} imports {name} at module level"


def test_there_are_dag_files_to_look_at():
    assert {"land_cover_map.py"} <= {path.name for path in FILES}


def test_importing_every_dag_and_all_operators_brings_nothing_heavy(airflow_home):
    code = f"""
import importlib.util, pkgutil, sys
import earthself.hooks.eodag, earthself.hooks.earthsignature, earthself.operators
for number, path in enumerate({[str(path) for path in FILES]!r}):
    spec = importlib.util.spec_from_file_location(f"dag_{{number}}", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(*sorted(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
