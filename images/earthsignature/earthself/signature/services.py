"""What each gRPC method does, as plain functions of messages: no channel, no threads, no status codes (those are in `server`).

The older service paths take the same messages, so the same functions answer them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import shapely
from earthself.signature import filters, geobuf, rasters, vectors
from earthself.signature.access import CALLER
from earthself.signature.errors import BadSignature, NotFound, SignatureError, StoreBroken, TooMuch
from earthself.signature.limits import USUAL, Limits
from earthself.signature.making import V1_LAYERS
from earthself.signature.product import Product, from_feature, from_parts
from earthself.signature.rows import Stored
from earthself.signature.store import Outcome, Store
from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as own
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1
from earthself.signature.wire.snapearth.api.v2 import database_pb2 as v2

_LOG = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
_SHOWN = 3
CHUNK = 1 << 20
"""Bytes of a raster in one message of our own service."""
MOST_BYTES = 1 << 30
"""Of all rasters of one product, the same as one message of v1 can hold."""


class V1:
    """`snapearth.api.v1.DatabaseProductService`: whole rasters."""

    def __init__(self, store: Store, limits: Limits = USUAL) -> None:
        self._store, self._limits = store, limits

    def ListSegmentation(self, request: v1.ListSegmentationRequest) -> Iterator[v1.SegmentationResponse]:  # noqa: N802 - the method's name on the wire
        """Products with their rasters, newest first."""
        return _all_whole(self._store.find(_query(request, self._limits, _n_results(request), segmented=True)), self._segmentation)

    def _segmentation(self, stored: Stored) -> v1.SegmentationResponse:
        product, properties = stored.product, stored.product.properties
        return v1.SegmentationResponse(
            wkt=_wkt(stored),
            **{layer: self._store.path(stored, layer).read_bytes() for layer in V1_LAYERS},
            product_id=product.product_id,
            quicklook=properties["quicklook"],
            product_type=product.product_type,
            publication_date=product.publication_date,
            creation_date=product.creation_date,
            cloud_cover=product.cloud_cover,
            browse_url=properties["browse_url"],
            download_url=properties["download_url"],
        )

    def ListProductIds(self, request: v1.ListProductIdsRequest) -> Iterator[v1.ProductId]:  # noqa: N802
        """All products that match, without rasters."""
        for stored in self._store.find(_query(request, self._limits), details=False):
            product = stored.product
            yield v1.ProductId(
                wkt=_wkt(stored),
                product_id=product.product_id,
                publication_date=product.publication_date,
                creation_date=product.creation_date,
            )

    def CreateProduct(self, request: v1.CreateProductRequest) -> v1.CreateProductResponse:  # noqa: N802
        """Store a product."""
        product = from_feature(geobuf.decode(request.data, geobuf.MOST_OF_FEATURE))
        with self._store.upload() as upload:
            for layer in V1_LAYERS:
                upload.path(layer).write_bytes(getattr(request, layer))
            _log(product, self._store.create(product, upload, V1_LAYERS))
        return v1.CreateProductResponse()


class V2:
    """`snapearth.api.v2.DatabaseProductService`: polygons."""

    def __init__(self, store: Store, limits: Limits = USUAL, sieve_ha: float = 0.5) -> None:
        self._store, self._limits, self._sieve_ha = store, limits, sieve_ha

    def ListSegmentation(self, request: v2.ListSegmentationRequest) -> Iterator[v2.SegmentationResponse]:  # noqa: N802
        """One FeatureCollection per product, newest first."""
        return _all_whole(self._store.find(_query(request, self._limits, _n_results(request), segmented=True)), self._segmentation)

    def _segmentation(self, stored: Stored) -> v2.SegmentationResponse:
        return v2.SegmentationResponse(segmentation=geobuf.Data.FromString(self._store.polygons(stored, self._sieve_ha)))

    def ListProductIds(self, request: v2.ListProductIdsRequest) -> Iterator[v2.SegmentationResponse]:  # noqa: N802
        """One Feature per product, all that match."""
        for stored in self._store.find(_query(request, self._limits), details=False):
            yield v2.SegmentationResponse(segmentation=geobuf.encode(stored.product.feature()))

    def CreateProduct(self, request: v2.CreateProductRequest) -> v2.CreateProductResponse:  # noqa: N802
        """Store a product whose classes are polygons."""
        collection = geobuf.decode(request.product)
        if collection["type"] != "FeatureCollection":
            raise BadSignature(
                f"the product is a GeoJSON {collection['type']}; send a FeatureCollection of polygons with the property category"
            )
        product_id, footprint, properties = vectors.metadata_of(collection)
        classes = vectors.classes_of(collection["features"], product_id)
        product = from_parts(product_id, footprint or vectors.footprint_of(classes), properties)
        with self._store.upload() as upload:
            _log(product, self._store.create_from_classes(product, classes, upload))
        return v2.CreateProductResponse()


class Own:
    """`earthself.signature.v1.SignatureService`: all layers, in chunks and windows."""

    def __init__(self, store: Store, limits: Limits = USUAL) -> None:
        self._store, self._limits = store, limits

    def Create(self) -> Creation:  # noqa: N802
        """Begin to receive a signature."""
        return Creation(self._store)

    def Find(self, request: own.FindRequest) -> Iterator[own.FindResponse]:  # noqa: N802
        """All products that match, without rasters."""
        limit = request.limit if request.HasField("limit") else None
        for stored in self._store.find(_query(request, self._limits, limit)):
            yield own.FindResponse(**_described(stored))

    def Get(self, request: own.GetRequest) -> Iterator[own.GetResponse]:  # noqa: N802
        """Give the description, then the layers asked for."""
        stored = self._store.get(request.product_id)
        described = own.Description(**_described(stored))
        paths = [(layer, self._store.path(stored, layer)) for layer in dict.fromkeys(request.layers)]
        yield own.GetResponse(description=described)
        wanted = request.window
        for layer, path in paths:
            if not request.HasField("window"):
                with path.open("rb") as file:
                    while content := file.read(CHUNK):
                        yield _chunk(layer, content)
                continue
            self._limits.check_window(wanted.width, wanted.height)
            window = rasters.PixelWindow(wanted.column, wanted.row, wanted.width, wanted.height)
            whole = rasters.read_window(path, layer, window)
            for start in range(0, len(whole), CHUNK):
                yield _chunk(layer, whole[start : start + CHUNK])

    def Supersede(self, request: own.SupersedeRequest) -> own.SupersedeResponse:  # noqa: N802
        """Note which product is the newer one."""
        changed = self._store.supersede(request.product_id, request.superseded_by)
        if changed:
            _LOG.info("%s supersedes %s, says %s", request.superseded_by, request.product_id, CALLER.get())
        return own.SupersedeResponse(changed=changed)

    def Delete(self, request: own.DeleteRequest) -> own.DeleteResponse:  # noqa: N802
        """Remove a product."""
        self._store.delete(request.product_id)
        _LOG.info("product %s was deleted by %s", request.product_id, CALLER.get())
        return own.DeleteResponse()


class Creation:
    """One signature on its way in; call `add` for every message, then `finish`, and `discard` in any case."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._upload = store.upload()
        self._feature: geobuf.Data | None = None
        self._layers: set[str] = set()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, message: own.CreateRequest) -> None:
        """Take the feature, or the next bytes of a layer."""
        part = message.WhichOneof("part")
        if part == "feature":
            if self._feature is not None:
                raise BadSignature("a second feature in one Create; send one feature, then its layers")
            self._feature = message.feature
        elif part == "chunk":
            self._bytes += len(message.chunk.content)
            if self._bytes > MOST_BYTES:
                raise BadSignature(f"more than {MOST_BYTES} bytes in one Create; send compressed GeoTIFFs of one tile at most")
            with self._lock, self._upload.path(message.chunk.layer).open("ab") as file:
                file.write(message.chunk.content)
            self._layers.add(message.chunk.layer)

    def finish(self) -> own.CreateResponse:
        """Store it."""
        if self._feature is None:
            raise BadSignature("Create without a feature; send the feature first, then its layers")
        product = from_feature(geobuf.decode(self._feature, geobuf.MOST_OF_FEATURE))
        with self._lock:
            outcome = self._store.create(product, self._upload, self._layers, all_layers=True)
        _log(product, outcome)
        created, known = own.CreateResponse.CREATED, own.CreateResponse.KNOWN
        return own.CreateResponse(outcome=created if outcome == "created" else known)

    def discard(self) -> None:
        """Forget what was not stored."""
        with self._lock:
            self._upload.discard()


def _all_whole(found: Iterable[Stored], answer: Callable[[Stored], _Answer]) -> Iterator[_Answer]:
    """Answer for every product; one that has no answer is told after all others, so that it does not hide them."""
    left_out: list[SignatureError] = []
    for stored in found:
        try:
            yield answer(stored)  # without a name: while the reader takes its time, nothing else holds the message
        except NotFound:
            continue  # deleted since it was found
        except (StoreBroken, TooMuch) as error:
            left_out.append(error)
    if left_out:
        kind = StoreBroken if any(isinstance(error, StoreBroken) for error in left_out) else TooMuch
        raise kind(f"{len(left_out)} products are left out of this answer: {'; '.join(map(str, left_out[:_SHOWN]))}")


def _query(request: Any, limits: Limits, limit: int | None = None, *, segmented: bool = False) -> filters.Query:  # noqa: ANN401
    """Read the filters of a list request of any service; they share the names of their fields."""
    limits.check_area(request.wkt)
    fields = request.DESCRIPTOR.fields_by_name
    ours = "least_share" in fields
    return filters.query(
        wkt=request.wkt,
        start=request.start_date if request.HasField("start_date") else None,
        end=request.end_date if request.HasField("end_date") else None,
        product_ids=request.product_ids if "product_ids" in fields else (),
        categories=request.categories,
        limit=limit,
        least_share=request.least_share if ours else 0.0,
        segmented=segmented or (ours and request.segmented),
        current=ours and request.current,
    )


def _n_results(request: v1.ListSegmentationRequest | v2.ListSegmentationRequest) -> int:
    return min(request.n_results, filters.MOST_PRODUCTS) if request.HasField("n_results") else filters.MOST_PRODUCTS


def _log(product: Product, outcome: Outcome) -> None:
    _LOG.info("%s by %s: %s", product.product_id, CALLER.get(), outcome)


def _wkt(stored: Stored) -> str:
    return str(shapely.to_wkt(stored.product.footprint, rounding_precision=-1))


def _described(stored: Stored) -> dict[str, Any]:
    """What `Find` and `Get` say of a product alike."""
    return {
        "feature": geobuf.encode(stored.product.feature()),
        "layers": _layers(stored),
        "classes": [own.ClassShare(**code._asdict()) for code in stored.codes],
        "superseded_by": stored.superseded_by or "",
    }


def _layers(stored: Stored) -> list[own.Layer]:
    return [
        own.Layer(
            name=layer.name,
            crs=layer.grid.crs,
            transform=layer.grid.transform,
            width=layer.grid.width,
            height=layer.grid.height,
            data_type=layer.data_type,
            sha256=layer.sha256,
            size=layer.size,
        )
        for layer in stored.layers
    ]


def _chunk(layer: str, content: bytes) -> own.GetResponse:
    return own.GetResponse(chunk=own.LayerChunk(layer=layer, content=content))
