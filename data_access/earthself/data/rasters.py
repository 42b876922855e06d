"""Rasters in an object storage, read in place by rasterio, also when keys expire while it reads.

GDAL signs with the keys that it was given when a file was opened, and its errors do not say what is wrong: boto3's do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from earthself.data.errors import NotThere, TryAgain
from earthself.data.storage import Storage

_R = TypeVar("_R")


def read_raster(url: str, work: Callable[[Any], _R], storage: Storage | None = None) -> _R:
    """Open the raster of a URL (or path) and do the work with rasterio's dataset; once more from its beginning where new keys help.

    Raises `NotThere`, `CredentialsRefused`, `TryAgain`; what the work itself raises passes, unless it comes from rasterio.
    """
    import rasterio
    from rasterio.errors import RasterioError, RasterioIOError

    storage = storage or Storage()
    profile = storage.profile(url)
    for last in (False, True):
        keys = profile.resolve()
        try:
            with profile.rasterio_env(), rasterio.open(storage.gdal_path(url)) as dataset:
                return work(dataset)
        except (RasterioIOError, RasterioError) as error:
            if not storage.exists(url):
                raise NotThere(f"{url} does not exist; mend its name, or run the task that writes it") from None
            if last or profile.resolve() == keys:
                raise TryAgain(f"{url} cannot be read as a raster ({error}); try again later, or check that it is one") from error
    raise AssertionError("the second attempt returns or raises")
