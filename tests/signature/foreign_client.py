"""Run by test_foreign_clients: an existing client, with stubs that it generated itself. Arguments: library, address, folder, service path.

Prints one JSON document of what it saw. It imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp


def stamp(text):
    made = Timestamp()
    made.FromJsonString(text)
    return made


def requests(modules, data, collection, rasters, name):
    """The calls of a session, in order: version, method, message."""
    v1, v2 = modules
    return [
        ("v1", "CreateProduct", v1.CreateProductRequest(data=data, **rasters)),
        ("v1", "CreateProduct", v1.CreateProductRequest(data=data, **rasters)),
        ("v1", "CreateProduct", v1.CreateProductRequest(data=data, segmentation=rasters["segmentation"])),
        ("v1", "ListProductIds", v1.ListProductIdsRequest(wkt="POLYGON((15 48,15.1 48,15.1 49,15 49,15 48))", categories=["31"])),
        ("v1", "ListSegmentation", v1.ListSegmentationRequest(product_ids=name, n_results=5)),
        (
            "v1",
            "ListSegmentation",
            v1.ListSegmentationRequest(
                product_ids=[name], start_date=stamp("2017-06-13T00:00:00Z"), end_date=stamp("2017-06-14T00:00:00Z")
            ),
        ),
        ("v1", "ListSegmentation", v1.ListSegmentationRequest(wkt="POLYGON((0 0,1 1,1 0,0 1,0 0))")),
        ("v2", "CreateProduct", v2.CreateProductRequest(product=collection)),
        ("v2", "ListProductIds", v2.ListProductIdsRequest(categories=[311])),
        ("v2", "ListSegmentation", v2.ListSegmentationRequest(product_ids=[name])),
    ]


def plain(answer):
    """An answer in JSON: texts and numbers as they are, bytes and messages by their size."""
    out = {}
    for field, value in answer.ListFields():
        out[field.name] = value if isinstance(value, (str, int, float)) else len(value) if isinstance(value, bytes) else value.ByteSize()
    return out


def with_grpcio(address, folder, services):
    import grpc

    seen = []
    limit = [("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30)]
    with grpc.insecure_channel(address, options=limit) as channel:
        for version, method, message in folder:
            module = importlib.import_module(f"snapearth.api.{version}.{services}_pb2_grpc")
            stub = module.DatabaseProductServiceStub(channel)
            try:
                answer = getattr(stub, method)(message, timeout=20)
                seen.append([plain(one) for one in answer] if method.startswith("List") else [plain(answer)])
            except grpc.RpcError as error:
                seen.append([error.code().name, error.details()])
    return seen


async def with_grpclib(address, folder, services):
    from grpclib.client import Channel
    from grpclib.exceptions import GRPCError

    seen = []
    host, port = address.rsplit(":", 1)
    async with Channel(host, int(port)) as channel:
        for version, method, message in folder:
            module = importlib.import_module(f"snapearth.api.{version}.{services}_grpc")
            stub = module.DatabaseProductServiceStub(channel)
            try:
                answer = await getattr(stub, method)(message, timeout=20)
                seen.append([plain(one) for one in answer] if method.startswith("List") else [plain(answer)])
            except GRPCError as error:
                seen.append([error.status.name, error.message])
    return seen


def main():
    library, address, folder, services, name = sys.argv[1:]
    sys.path.insert(0, folder)
    v1 = importlib.import_module("snapearth.api.v1.database_pb2")
    v2 = importlib.import_module("snapearth.api.v2.database_pb2")
    geobuf = importlib.import_module("geobuf_pb2")
    given = Path(folder) / name
    data = geobuf.Data.FromString((given / "feature.geobuf").read_bytes())
    collection = geobuf.Data.FromString((given / "collection.geobuf").read_bytes())
    rasters = {layer: (given / f"{layer}.tif").read_bytes() for layer in ("segmentation", "cloud_mask")}
    calls = requests((v1, v2), data, collection, rasters, name)
    seen = with_grpcio(address, calls, services) if library == "grpcio" else asyncio.run(with_grpclib(address, calls, services))
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
