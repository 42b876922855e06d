"""A product's bands, wherever they lie: a local file is opened as it is, anything else through `earthself.data.sources`.

Local files need no provider, and so neither EODAG nor its second of imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from earthself.processing.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import pystac
    from affine import Affine
    from numpy.typing import NDArray
    from rasterio.windows import Window


class BandReader(Protocol):
    """One open band; the same names as the reader of `earthself.data.sources`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def crs(self) -> str:
        """What pyproj understands."""

    @property
    def transform(self) -> Affine:
        """Pixel to CRS coordinates."""

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of the file's blocks."""

    @property
    def bytes_read(self) -> int:
        """Bytes that came from the provider so far."""

    def read(self, window: Window) -> NDArray[np.generic]:
        """Read the pixels of a window that lies inside the band, (rows, columns)."""


class Bands:
    """Opens bands of products; the provider's client is made when the first remote band is asked for, and kept."""

    def __init__(self) -> None:
        self._sources: Any = None

    @contextmanager
    def open(self, item: pystac.Item, band: str) -> Iterator[BandReader]:
        """Open one band of a product; raises `BadInput` where the product has no such asset."""
        asset = item.assets.get(band)
        if asset is None:
            raise BadInput(f"product {item.id} has no asset {band}; it has {', '.join(sorted(item.assets)) or 'none'}")
        path = local_path(asset.href)
        if path is not None:
            with _open_local(path, item.id, band) as reader:
                yield reader
            return
        if self._sources is None:
            from earthself.data.sources import SourceConfig, Sources

            self._sources = Sources(SourceConfig.from_env())
        with self._sources.open_band(item.to_dict(include_self_link=False, transform_hrefs=False), band) as reader:
            yield reader


def local_path(href: str) -> Path | None:
    """Return the path that an href means on this machine, or None where it leads elsewhere."""
    if href.startswith("file://"):
        return Path(href.removeprefix("file://"))
    return None if "://" in href or href.startswith("/vsi") else Path(href)


class _LocalBand:
    """A band in a local file."""

    def __init__(self, dataset: Any) -> None:  # noqa: ANN401 (a rasterio dataset, which has no types)
        self._dataset = dataset
        self.shape: tuple[int, int] = dataset.shape
        self.transform: Affine = dataset.transform
        self.block_shape: tuple[int, int] = dataset.block_shapes[0]
        self.bytes_read = 0

    @property
    def crs(self) -> str:
        code = self._dataset.crs.to_epsg()
        return f"EPSG:{code}" if code else str(self._dataset.crs.to_wkt())

    def read(self, window: Window) -> NDArray[np.generic]:
        pixels: NDArray[np.generic] = self._dataset.read(1, window=window)
        self.bytes_read += pixels.nbytes
        return pixels


@contextmanager
def _open_local(path: Path, product: str, band: str) -> Iterator[_LocalBand]:
    import rasterio

    try:
        dataset = rasterio.open(path)
    except rasterio.errors.RasterioIOError as error:
        raise BadInput(f"{band} of product {product} cannot be read: {error}") from error
    with dataset:
        if dataset.crs is None:
            raise BadInput(f"{band} of product {product} ({path}) has no coordinate reference system; write one before it is used")
        yield _LocalBand(dataset)
