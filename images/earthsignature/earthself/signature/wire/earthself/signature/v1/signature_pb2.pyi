# ruff: noqa: A002, E501, F401, I001, ICN001, RUF023, RUF100, UP007, UP045
# fmt: off
# mypy: ignore-errors
import datetime

from earthself.signature.wire import geobuf_pb2 as _geobuf_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LayerChunk(_message.Message):
    __slots__ = ("layer", "content")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    layer: str
    content: bytes
    def __init__(self, layer: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class CreateRequest(_message.Message):
    __slots__ = ("feature", "chunk")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    feature: _geobuf_pb2.Data
    chunk: LayerChunk
    def __init__(self, feature: _Optional[_Union[_geobuf_pb2.Data, _Mapping]] = ..., chunk: _Optional[_Union[LayerChunk, _Mapping]] = ...) -> None: ...

class CreateResponse(_message.Message):
    __slots__ = ("outcome",)
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[CreateResponse.Outcome]
        CREATED: _ClassVar[CreateResponse.Outcome]
        KNOWN: _ClassVar[CreateResponse.Outcome]
    OUTCOME_UNSPECIFIED: CreateResponse.Outcome
    CREATED: CreateResponse.Outcome
    KNOWN: CreateResponse.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: CreateResponse.Outcome
    def __init__(self, outcome: _Optional[_Union[CreateResponse.Outcome, str]] = ...) -> None: ...

class FindRequest(_message.Message):
    __slots__ = ("wkt", "start_date", "end_date", "product_ids", "categories", "limit", "least_share", "segmented", "current")
    WKT_FIELD_NUMBER: _ClassVar[int]
    START_DATE_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    LEAST_SHARE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTED_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    wkt: str
    start_date: _timestamp_pb2.Timestamp
    end_date: _timestamp_pb2.Timestamp
    product_ids: _containers.RepeatedScalarFieldContainer[str]
    categories: _containers.RepeatedScalarFieldContainer[int]
    limit: int
    least_share: float
    segmented: bool
    current: bool
    def __init__(self, wkt: _Optional[str] = ..., start_date: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_date: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., product_ids: _Optional[_Iterable[str]] = ..., categories: _Optional[_Iterable[int]] = ..., limit: _Optional[int] = ..., least_share: _Optional[float] = ..., segmented: _Optional[bool] = ..., current: _Optional[bool] = ...) -> None: ...

class FindResponse(_message.Message):
    __slots__ = ("feature", "layers", "classes", "superseded_by")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    feature: _geobuf_pb2.Data
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    classes: _containers.RepeatedCompositeFieldContainer[ClassShare]
    superseded_by: str
    def __init__(self, feature: _Optional[_Union[_geobuf_pb2.Data, _Mapping]] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., classes: _Optional[_Iterable[_Union[ClassShare, _Mapping]]] = ..., superseded_by: _Optional[str] = ...) -> None: ...

class ClassShare(_message.Message):
    __slots__ = ("code", "pixels", "share", "hectares")
    CODE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    HECTARES_FIELD_NUMBER: _ClassVar[int]
    code: int
    pixels: int
    share: float
    hectares: float
    def __init__(self, code: _Optional[int] = ..., pixels: _Optional[int] = ..., share: _Optional[float] = ..., hectares: _Optional[float] = ...) -> None: ...

class SupersedeRequest(_message.Message):
    __slots__ = ("product_id", "superseded_by")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    superseded_by: str
    def __init__(self, product_id: _Optional[str] = ..., superseded_by: _Optional[str] = ...) -> None: ...

class SupersedeResponse(_message.Message):
    __slots__ = ("changed",)
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    changed: bool
    def __init__(self, changed: _Optional[bool] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("product_id",)
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    def __init__(self, product_id: _Optional[str] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "crs", "transform", "width", "height", "data_type", "sha256", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CRS_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    crs: str
    transform: _containers.RepeatedScalarFieldContainer[float]
    width: int
    height: int
    data_type: str
    sha256: str
    size: int
    def __init__(self, name: _Optional[str] = ..., crs: _Optional[str] = ..., transform: _Optional[_Iterable[float]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., data_type: _Optional[str] = ..., sha256: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("column", "row", "width", "height")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    column: int
    row: int
    width: int
    height: int
    def __init__(self, column: _Optional[int] = ..., row: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("product_id", "layers", "window")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    window: Window
    def __init__(self, product_id: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., window: _Optional[_Union[Window, _Mapping]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("description", "chunk")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    description: Description
    chunk: LayerChunk
    def __init__(self, description: _Optional[_Union[Description, _Mapping]] = ..., chunk: _Optional[_Union[LayerChunk, _Mapping]] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("feature", "layers", "classes", "superseded_by")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    feature: _geobuf_pb2.Data
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    classes: _containers.RepeatedCompositeFieldContainer[ClassShare]
    superseded_by: str
    def __init__(self, feature: _Optional[_Union[_geobuf_pb2.Data, _Mapping]] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., classes: _Optional[_Iterable[_Union[ClassShare, _Mapping]]] = ..., superseded_by: _Optional[str] = ...) -> None: ...
