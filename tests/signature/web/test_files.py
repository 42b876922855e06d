"""Rasters are served with ranges, so that GDAL reads the pixels it needs."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import rasterio


@pytest.fixture
def href(site):
    return site.get("/collections/earthsignature/items/forest").json()["assets"]["segmentation"]["href"]


def test_gdal_opens_it_over_http_with_its_georeference_and_codes(href):
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(f"/vsicurl/{href}") as dataset:
        assert dataset.crs.to_epsg() == 32633
        assert dataset.nodata == 0
        assert set(np.unique(dataset.read(1))) == {211, 311}


def test_ranges_and_their_headers(href):
    whole = httpx.get(href)
    size = len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    part = httpx.get(href, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.headers["content-range"], part.content) == (206, f"bytes 10-19/{size}", whole.content[10:20])
    last = httpx.get(href, headers={"Range": "bytes=-5"})
    assert (last.status_code, last.content) == (206, whole.content[-5:])
    assert httpx.get(href, headers={"Range": f"bytes={size + 1}-"}).status_code == 416
    changed = httpx.get(href, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    head = httpx.head(href)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")


def test_rasters_are_not_compressed_once_more_but_answers_are(site, href):
    for method in ("GET", "HEAD"):
        raster = httpx.request(method, href, headers={"Accept-Encoding": "gzip, br"})
        assert "content-encoding" not in raster.headers
    answer = site.get("/search", headers={"Accept-Encoding": "br"})
    assert answer.headers["content-encoding"] == "br"
    assert answer.json()["features"]


def test_the_published_files_of_a_result_and_no_others(site):
    from web_site import RESULT

    report = site.get(f"/results/{RESULT}/assets/report.html")
    assert report.headers["content-type"].startswith("text/html")
    assert site.get(f"/results/{RESULT}/assets/land_cover.tif", headers={"Range": "bytes=0-3"}).status_code == 206
