"""A server of the public interface alone, as others run one: v1 and v2 over a store, without health and without our own service."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from earthself.signature import services
from earthself.signature.server import V1_PATHS, V2_PATHS
from earthself.signature.wire import POOL
from google.protobuf.message_factory import GetMessageClass


@contextmanager
def public_server(store, first=services.V1, second=services.V2):
    """Serve a store on a free port; gives host:port. `first` and `second` make what answers v1 and v2."""
    server = grpc.server(ThreadPoolExecutor(4))
    for path, answer in [(path, first(store)) for path in V1_PATHS] + [(path, second(store)) for path in V2_PATHS]:
        handlers = {}
        for method in POOL.FindServiceByName(path).methods:
            kind = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
            request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
            function = getattr(answer, method.name)
            handlers[method.name] = kind(lambda r, _, f=function: f(r), request.FromString, response.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(path, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
