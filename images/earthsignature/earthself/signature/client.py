"""The client of EarthSignature: typed, with deadlines, for our own server and for any other of the public interface.

Our own service carries all layers in chunks. A server without it is spoken to in v1 and v2: two layers, fewer properties.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

from earthself.data.dates import format_instant, parse_instant
from earthself.data.errors import BadInput
from earthself.signature import geobuf, lazy
from earthself.signature.errors import (
    AccessRefused,
    AlreadyExists,
    BadSignature,
    NotFound,
    SignatureError,
    StoreBroken,
    Unavailable,
    Unimplemented,
)
from earthself.signature.rpc import Connection, Rpc
from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as own
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1
from earthself.signature.wire.snapearth.api.v2 import database_pb2 as v2

if TYPE_CHECKING:
    import xarray

__all__ = [
    "AccessRefused",
    "AlreadyExists",
    "BadSignature",
    "Connection",
    "NotFound",
    "Signature",
    "SignatureClient",
    "SignatureError",
    "StoreBroken",
    "Unavailable",
]

_V1 = "snapearth.api.v1.DatabaseProductService"
_V2 = "snapearth.api.v2.DatabaseProductService"
_V1_LAYERS = ("segmentation", "cloud_mask")
_CHUNK = 1 << 20
_SLOWEST = 1_000_000  # bytes a second; an upload that is slower runs into its deadline
_PORTION = 200  # of the 500 products that one answer may have: what an interruption costs stays small
When = str | date | datetime


class Filters(TypedDict, total=False):
    """What `find` can be asked."""

    wkt: str | None
    start: When | None
    end: When | None
    product_ids: Iterable[str]
    categories: Iterable[int]
    limit: int | None
    least_share: float | None
    segmented: bool
    current: bool


@dataclass(frozen=True)
class Signature:
    """One product with the layers that were asked for."""

    feature: dict[str, Any]
    """GeoJSON Feature: id, footprint, properties."""
    layers: dict[str, bytes] = field(repr=False)
    """Name to the bytes of a GeoTIFF."""


class SignatureClient:
    """Talks to one server. Safe to share between threads; closes its channel when used as a context."""

    def __init__(self, target: str | Connection, tls: bool = False, token: str | None = None, timeout: float = 60) -> None:
        """Name the server as host:port, or give a `Connection` for all that can be set; nothing is sent yet.

        `timeout` is seconds for an answer or the next message of a stream.
        """
        self._connection = target if isinstance(target, Connection) else Connection(target, tls, token, timeout)
        self._rpc = Rpc(self._connection)
        self._public_only = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._rpc.close()

    def health(self) -> bool:
        """Tell whether the server answers and serves."""
        return self._rpc.healthy()

    def create(self, feature: Mapping[str, Any], layers: Mapping[str, bytes]) -> Literal["created", "known"]:
        """Store a product: a GeoJSON Feature, and GeoTIFFs `segmentation`, `cloud_mask` and, if there are, `confidence`, `flags`.

        "known" when the same content is there already. Raises `AlreadyExists` when the id has other content, `BadSignature` for
        what the server refuses. A server without our service gets the first two layers through v1, and its answer is "created".
        """
        encoded = geobuf.encode(feature)
        size = sum(len(content) for content in layers.values())
        try:
            answer = self._rpc.upload(lazy.SERVICE, "Create", lambda: _parts(encoded, layers), size / _SLOWEST)
        except Unimplemented:
            message = v1.CreateProductRequest(data=encoded, **{name: layers.get(name, b"") for name in _V1_LAYERS})
            self._rpc.unary(_V1, "CreateProduct", message)
            return "created"
        return "known" if answer.outcome == own.CreateResponse.KNOWN else "created"

    def find(
        self,
        *,
        wkt: str | None = None,
        start: When | None = None,
        end: When | None = None,
        product_ids: Iterable[str] = (),
        categories: Iterable[int] = (),
        limit: int | None = None,
        least_share: float | None = None,
        segmented: bool = False,
        current: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Give the Features (id, footprint, properties) of all products that match, newest acquisition first.

        `wkt` in longitude and latitude, acquisitions in `[start, end)`; ids and categories are any-of, and a category matches its
        descendants. `least_share` (0 to 1) is that of the categories together among the pixels that have a class; `segmented` leaves out
        products without a segmentation, `current` those that a newer one supersedes. A server without our service knows products with a
        segmentation only, and raises `Unimplemented` for `least_share` and `current`.
        Raises `BadSignature` at the first item for what the server refuses.
        """
        ids = [product_ids] if isinstance(product_ids, str) else list(product_ids)
        said: dict[str, Any] = {
            "wkt": wkt or None,
            "start_date": _instant(start),
            "end_date": _instant(end),
            "categories": list(categories),
        }
        said = {key: value for key, value in said.items() if value is not None}
        ours: dict[str, Any] = {"least_share": least_share, "segmented": segmented, "current": current}
        request = own.FindRequest(**said, product_ids=ids, limit=limit, **ours)
        try:
            for answer in self._rpc.stream(lazy.SERVICE, "Find", request):
                yield geobuf.decode(answer.feature)
        except Unimplemented:
            if least_share or current:
                raise
            self._public_only = True
            yield from self._find_v2(v2.ListProductIdsRequest(**said), set(ids), limit)

    def segmentations(self, **filters: Unpack[Filters]) -> Iterator[Signature]:
        """Give all products that match with their segmentation and cloud mask, newest acquisition first, however many there are.

        Filters as in `find`. First the ids of all are listed, then the rasters come in portions; one product at a time is held. So
        nothing comes twice, and nothing that was stored before the call is left out; what is stored meanwhile is not waited for, and
        products without a segmentation are passed over. A server that goes away in between is asked again for what is missing.
        Raises `StoreBroken` after all others when the server lost a product's rasters.
        """
        ids = list(dict.fromkeys(str(feature["id"]) for feature in self.find(**filters)))
        broken: StoreBroken | None = None
        for start in range(0, len(ids), _PORTION):
            portion = ids[start : start + _PORTION]
            features = {} if self._public_only else {feature["id"]: feature for feature in self.find(product_ids=portion)}
            try:
                for answer in self._whole(portion):
                    feature = features.get(answer.product_id) or _feature_v1(answer)
                    yield Signature(feature, {name: getattr(answer, name) for name in _V1_LAYERS})
            except StoreBroken as error:
                broken = broken or error
        if broken is not None:
            raise broken

    def supersede(self, product_id: str, newer: str) -> bool:
        """Note that a newer product of the same observation supersedes one; False when that was known. Raises `NotFound`."""
        request = own.SupersedeRequest(product_id=product_id, superseded_by=newer)
        return bool(self._rpc.unary(lazy.SERVICE, "Supersede", request).changed)

    def delete(self, product_id: str) -> None:
        """Remove a product with its rasters; raises `NotFound`, and `Unavailable` while a backup is made of the store."""
        self._rpc.unary(lazy.SERVICE, "Delete", own.DeleteRequest(product_id=product_id))

    def get(self, product_id: str, layers: Iterable[str] | None = None) -> Signature:
        """Fetch a product with the layers of those names (None: all that it has); raises `NotFound`."""
        try:
            if layers is None:
                layers = [layer.name for layer in self._describe(product_id).layers]
            return self._get(own.GetRequest(product_id=product_id, layers=layers))
        except Unimplemented:
            return self._get_v1(product_id, _V1_LAYERS if layers is None else tuple(layers))

    def segmentation(self, product_id: str) -> xarray.DataArray:
        """Open a segmentation as a lazy (y, x) array of uint16 codes in its own projection; 0 is no class.

        Coordinates are pixel centres in metres, the CRS is in `spatial_ref`; attributes `flag_values`, `flag_meanings` and
        `class_names` say what the codes mean. Blocks of 1024 pixels are fetched when computed; raises `NotFound`.
        """
        try:
            about = self._describe(product_id)
        except Unimplemented:
            whole = self._get_v1(product_id, ("segmentation",))
            return lazy.described(lazy.from_geotiff(whole.layers["segmentation"]), product_id, whole.feature["properties"])
        layer = next(layer for layer in about.layers if layer.name == "segmentation")
        array = lazy.windows_array(lazy.Window(self._connection, product_id, "segmentation"), layer)
        return lazy.described(array, product_id, geobuf.decode(about.feature)["properties"])

    def _whole(self, ids: Iterable[str]) -> Iterator[v1.SegmentationResponse]:
        """Give the v1 answers of at most 500 products, each once; goes on with the rest when the server goes away in between."""
        left = dict.fromkeys(ids)
        while left:
            before = len(left)
            request = v1.ListSegmentationRequest(product_ids=left, n_results=before)
            try:
                for answer in self._rpc.stream(_V1, "ListSegmentation", request):
                    if answer.product_id in left:
                        del left[answer.product_id]
                        yield answer
                return
            except Unavailable:
                if len(left) == before:
                    raise

    def _describe(self, product_id: str) -> own.Description:
        # To its end: a call that is left after its last message may reach the server as one that was given up.
        (answer,) = self._rpc.stream(lazy.SERVICE, "Get", own.GetRequest(product_id=product_id))
        return answer.description  # type: ignore[no-any-return]

    def _get(self, request: own.GetRequest) -> Signature:
        feature: dict[str, Any] = {}
        chunks: dict[str, list[bytes]] = {name: [] for name in request.layers}
        for answer in self._rpc.stream(lazy.SERVICE, "Get", request):
            if answer.HasField("description"):
                feature = geobuf.decode(answer.description.feature)
            else:
                chunks[answer.chunk.layer].append(answer.chunk.content)
        return Signature(feature, {name: b"".join(parts) for name, parts in chunks.items()})

    def _get_v1(self, product_id: str, layers: tuple[str, ...]) -> Signature:
        strange = [name for name in layers if name not in _V1_LAYERS]
        if strange:
            raise NotFound(
                f"{self._connection.target} speaks v1 only, which has no layer {', '.join(strange)}; it has {' and '.join(_V1_LAYERS)}"
            )
        request = v1.ListSegmentationRequest(product_ids=[product_id], n_results=1)
        found = list(self._rpc.stream(_V1, "ListSegmentation", request))
        if found:
            return Signature(_feature_v1(found[0]), {name: getattr(found[0], name) for name in layers})
        raise NotFound(f"product {product_id!r} is not stored at {self._connection.target}; look for it with find()")

    def _find_v2(self, request: v2.ListProductIdsRequest, ids: set[str], limit: int | None) -> Iterator[dict[str, Any]]:
        left = limit
        for answer in self._rpc.stream(_V2, "ListProductIds", request):
            feature = geobuf.decode(answer.segmentation)
            if ids and str(feature.get("id")) not in ids:
                continue
            if left == 0:
                return
            yield feature
            left = None if left is None else left - 1


def _parts(feature: geobuf.Data, layers: Mapping[str, bytes]) -> Iterator[own.CreateRequest]:
    yield own.CreateRequest(feature=feature)
    for name, content in layers.items():
        for start in range(0, max(len(content), 1), _CHUNK):
            yield own.CreateRequest(chunk=own.LayerChunk(layer=name, content=content[start : start + _CHUNK]))


def _feature_v1(answer: v1.SegmentationResponse) -> dict[str, Any]:
    from shapely import from_wkt
    from shapely.geometry import mapping

    texts = {key: getattr(answer, key) for key in ("product_type", "quicklook", "browse_url", "download_url")}
    dates = {key: format_instant(parse_instant(getattr(answer, key).ToJsonString())) for key in ("creation_date", "publication_date")}
    properties = {**texts, **dates, "cloud_cover": round(answer.cloud_cover, 4)}
    return {"type": "Feature", "id": answer.product_id, "geometry": mapping(from_wkt(answer.wkt)), "properties": properties}


def _instant(when: When | None) -> datetime | None:
    try:
        return None if when is None else parse_instant(when)
    except BadInput as error:
        raise BadSignature(str(error)) from error
