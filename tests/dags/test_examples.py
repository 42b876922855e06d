"""The example that the README shows as a creator's first DAG, run on the shipped sample."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from airflow_sandbox import ROOT

from tests.benchmark.kept import keep


@pytest.mark.timeout(300)
def test_the_first_dag_of_a_creator_runs(load, sample, tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_HOME", str(tmp_path))
    monkeypatch.setenv("EODAG_CFG_DIR", str(tmp_path / "eodag"))
    monkeypatch.delenv("EARTHSELF_WORKSPACE", raising=False)
    monkeypatch.delenv("EARTHSELF_DATABASE_URL", raising=False)
    dag = load(ROOT / "docs/examples/ndvi_over_area.py")
    run = dag.test()
    assert str(run.state) == "success"
    work = tmp_path / "workspace/runs/ndvi_over_area" / run.run_id / "work"
    (raster,) = work.glob("ndvi/**/*.tif")
    with rasterio.open(raster) as dataset:
        ndvi = dataset.read(1)
        assert dataset.crs.to_epsg() == 32633
    assert np.isfinite(ndvi).mean() > 0.6, "the product is a group of patches in the shape of an L"
    assert 0.4 < np.nanmedian(ndvi) < 1, "the fields of June are green"
    (item,) = work.glob("greenness/*/*.json")
    share = json.loads(item.read_text())["properties"]["share_green"]
    assert share == pytest.approx(float((ndvi[np.isfinite(ndvi)] > 0.4).mean()), abs=0.02)


@pytest.mark.timeout(300)
def test_a_chain_runs_where_the_engine_says(load, sample, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("EARTHSELF_HOME", str(tmp_path))
    monkeypatch.setenv("EODAG_CFG_DIR", str(tmp_path / "eodag"))
    for name in ("EARTHSELF_WORKSPACE", "EARTHSELF_DATABASE_URL", "EARTHSELF_RUNTIME"):
        monkeypatch.delenv(name, raising=False)
    extra = {"earthself": {"provider": "north", "region": "n2"}}
    monkeypatch.setenv("AIRFLOW_CONN_NORTHERN", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_CLOUDS", '["northern"]')
    keep()
    run = load(ROOT / "docs/examples/ndvi_where_it_suits.py").test()
    assert str(run.state) == "success"
    folder = tmp_path / "workspace/runs/ndvi_where_it_suits" / run.run_id
    assert json.loads((folder / "suggestions/where/answer.json").read_text())["choices"][0]["region"] == "n1"
    assert (folder / "suggestions/where/report.html").is_file()
    assert list((folder / "work").glob("ndvi/**/*.tif"))
    assert capfd.readouterr().out.count("cloud='northern' (the step runs on this machine)") == 2
