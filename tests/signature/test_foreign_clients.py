"""Clients that generated their stubs from the public interface work unchanged, with grpcio and with grpclib, at both service paths."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import earthself.signature
import grpc
import numpy as np
import pytest
from earthself.signature import geobuf
from earthself.signature.testing import feature, layers
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from shapely.geometry import box, mapping

PROTO = Path(earthself.signature.__path__[0]) / "proto"
CODES = np.full((50, 60), 311, "uint16")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Stubs of both libraries, generated from the public files (and those of the older paths) with the ordinary tools."""
    folder = tmp_path_factory.mktemp("stubs")
    public = [path for path in PROTO.rglob("*.proto") if "earthself" not in path.relative_to(PROTO).parts]
    plugin = Path(sys.executable).with_name("protoc-gen-grpclib_python")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([*command, f"--plugin=protoc-gen-grpclib={plugin}", f"--grpclib_out={folder}", *map(str, public)], check=True)
    return folder


@pytest.mark.parametrize("services", ["database", "older_database"])
@pytest.mark.parametrize("library", ["grpcio", "grpclib"])
def test_a_session_of_an_existing_client(server, stubs, library, services):
    name = f"S2A_{library}_{services}"
    given = stubs / name
    given.mkdir()
    said = feature(name)
    square = {"type": "Feature", "geometry": mapping(box(16, 47, 16.01, 47.01)), "properties": {"category": 512}}
    collection = {"type": "FeatureCollection", "id": f"{name}_v2", "properties": said["properties"], "features": [square]}
    (given / "feature.geobuf").write_bytes(geobuf.encode(said).SerializeToString())
    (given / "collection.geobuf").write_bytes(geobuf.encode(collection).SerializeToString())
    for layer, content in layers(CODES).items():
        (given / f"{layer}.tif").write_bytes(content)
    script = Path(__file__).with_name("foreign_client.py")
    command = [sys.executable, str(script), library, server.target, str(stubs), services, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    created, again, maskless, ids, bare, period, crossed, created_v2, features, polygons = json.loads(done.stdout)
    assert created == again == created_v2 == [{}]
    assert maskless == ["INVALID_ARGUMENT", "cloud_mask is missing; send a GeoTIFF (1 for cloud and 0 for the rest)"]
    assert name in [one["product_id"] for one in ids]
    assert [one["product_id"] for one in bare] == [one["product_id"] for one in period] == [name]
    assert bare[0]["segmentation"] > 300
    assert bare[0]["cloud_cover"] == 12.5
    assert bare[0]["browse_url"] == said["properties"]["browse_url"]
    assert crossed[0] == "INVALID_ARGUMENT"
    assert "crosses itself" in crossed[1]
    assert len(features) >= 1
    assert polygons[0]["segmentation"] > 100


TABLES = {
    "snapearth.api.v1.ListProductIdsRequest": "wkt start_date end_date categories*",
    "snapearth.api.v1.ProductId": "wkt product_id publication_date creation_date",
    "snapearth.api.v1.CreateProductRequest": "data segmentation cloud_mask",
    "snapearth.api.v1.CreateProductResponse": "",
    "snapearth.api.v1.ListSegmentationRequest": "wkt start_date end_date product_ids* categories* n_results",
    "snapearth.api.v1.SegmentationResponse": "wkt segmentation cloud_mask product_id quicklook product_type publication_date creation_date "
    "cloud_cover browse_url download_url",
    "snapearth.api.v1.SearchSegmentationRequest": "query n_results descriptor_set",
    "snapearth.api.v2.ListProductIdsRequest": "wkt start_date end_date categories*",
    "snapearth.api.v2.CreateProductRequest": "product",
    "snapearth.api.v2.CreateProductResponse": "",
    "snapearth.api.v2.ListSegmentationRequest": "wkt start_date end_date product_ids* categories* n_results",
    "snapearth.api.v2.SegmentationResponse": "segmentation",
}
SERVICES = [
    "snapearth.api.v1.DatabaseProductService",
    "snapearth.api.v1.database.DatabaseProductService",
    "snapearth.api.v2.DatabaseProductService",
    "snapearth.api.v2.database.DatabaseProductService",
    "earthself.signature.v1.SignatureService",
]


@pytest.fixture
def reflected(server):
    """Ask the server what it has, as grpcurl does; gives a function from a request to the answer."""
    with grpc.insecure_channel(server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        yield lambda **asked: next(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**asked)]), timeout=20))


def test_reflection_lists_every_service_and_describes_it(reflected):
    listed = {service.name for service in reflected(list_services="").list_services_response.service}
    assert {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} == listed
    for name in listed:
        files = reflected(file_containing_symbol=name).file_descriptor_response.file_descriptor_proto
        assert any(name == f"{f.package}.{s.name}" for f in map(FileDescriptorProto.FromString, files) for s in f.service)


def test_reflection_shows_the_published_numbers(reflected):
    for message, fields in TABLES.items():
        (content,) = reflected(file_containing_symbol=message).file_descriptor_response.file_descriptor_proto[:1]
        file = FileDescriptorProto.FromString(content)
        (described,) = (m for m in file.message_type if f"{file.package}.{m.name}" == message)
        repeated = FileDescriptorProto.DESCRIPTOR.fields_by_name["dependency"].LABEL_REPEATED
        found = {f.number: f.name + ("*" if f.label == repeated else "") for f in described.field}
        assert found == dict(enumerate(fields.split(), 1)), message
    (content,) = reflected(file_containing_symbol="geobufproto.Data.Feature").file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(content).package == "geobufproto"


def test_health_of_the_server_and_of_each_service(server):
    with grpc.insecure_channel(server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICES):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            stub.Check(health_pb2.HealthCheckRequest(service="another"), timeout=20)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
