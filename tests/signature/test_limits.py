"""What a caller may cost: too much of anything is refused with the value and the limit, and the server serves the others on."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import h2.config
import h2.connection
import h2.events
import numpy as np
import pytest
import shapely
from earthself.signature import geobuf
from earthself.signature.client import BadSignature, Connection, SignatureClient, Unavailable
from earthself.signature.errors import TooBusy
from earthself.signature.limits import USUAL, Admission, Limits
from earthself.signature.rpc import Rpc
from earthself.signature.server import ServerSettings
from earthself.signature.testing import GRID, feature, layers, running_server
from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as own
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1
from earthself.signature.wire.snapearth.api.v2 import database_pb2 as v2
from processes import forget_peak, peak_memory, wait_for

RASTERS = layers(np.full((50, 60), 311, "uint16"))
V1, V2, OWN = (
    "snapearth.api.v1.DatabaseProductService",
    "snapearth.api.v2.DatabaseProductService",
    "earthself.signature.v1.SignatureService",
)


def star(corners):
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    far = np.where(np.arange(corners) % 2, 5, 10)
    return shapely.Polygon(np.column_stack([10 + far * np.cos(turn), 45 + far * np.sin(turn)]))


def scribble(corners):
    """A line to and fro over 33 by 33 degrees."""
    return [(n * 3571 % 10009 / 300, n * 7919 % 10007 / 300) for n in range(corners)]


def strips(number):
    across = [shapely.box(0, i * 0.05, 80, i * 0.05 + 0.02) for i in range(number)]
    return [*across, *(shapely.transform(strip, lambda xy: xy[:, ::-1]) for strip in across)]


AREAS = {
    "long text": (" " * 2_000_000 + "POINT(1 2)", r"wkt of 2000010 characters; send at most 1200000"),
    "corners": (star(30_000).wkt, r"wkt with 30001 corners; send at most 20000"),
    "parts": (shapely.MultiPolygon([shapely.box(i % 90, i / 90, i % 90 + 0.5, i / 90 + 0.005) for i in range(1100)]).wkt, "2201 brackets"),
    "nested": ("GEOMETRYCOLLECTION(" * 9 + "POINT(1 2)" + ")" * 9, "more than 8 levels of brackets"),
    "nested in thousands": ("GEOMETRYCOLLECTION(" * 50_000 + "POINT(1 2)" + ")" * 50_000, "wkt with 50001 brackets"),
    "crossing itself": (shapely.MultiLineString([scribble(2000)]).wkt, r"cross each other about \d+ times; at most 50000"),
    "crossing itself beyond 180": (
        shapely.transform(shapely.LineString(scribble(2000)), lambda xy: xy + np.array([160, 0])).wkt,
        r"cross each other about \d+ times; at most 50000",
    ),
    "crossing each other": (shapely.GeometryCollection(strips(240)).wkt, r"cross each other about \d+ times; at most 50000"),
}


@pytest.mark.parametrize(("wkt", "said"), AREAS.values(), ids=AREAS)
@pytest.mark.parametrize("method", ["v1.ListSegmentation", "v1.ListProductIds", "v2.ListSegmentation", "v2.ListProductIds"])
def test_a_costly_area_is_refused(call, client, method, wkt, said):
    with pytest.raises(BadSignature, match=said):
        call(method, wkt=wkt)
    assert client.health()


@pytest.mark.parametrize(
    "wkt",
    [
        star(19_000).wkt,
        shapely.MultiPolygon([shapely.box(i % 22, i // 22, i % 22 + 1, i // 22 + 1) for i in range(440)]).wkt,
        "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(1 2,3 4),GEOMETRYCOLLECTION(MULTIPOINT(1 2,3 4),POLYGON((0 0,1 0,1 1,0 0))))",
        shapely.GeometryCollection(strips(50)).wkt,
    ],
    ids=["detailed", "many neighbours", "collection in a collection", "some crossings"],
)
def test_an_area_within_the_limits_is_answered(call, wkt):
    assert call("v1.ListProductIds", wkt=wkt) == []


def test_ids_and_categories_are_counted(call):
    with pytest.raises(BadSignature, match="10001 product_ids in one question; ask for at most 10000"):
        call("v1.ListSegmentation", product_ids=[f"P{n}" for n in range(10_001)])
    assert call("v1.ListSegmentation", product_ids=[f"P{n}" for n in range(10_000)]) == []
    for version, codes in (("v1", ["311"] * 1001), ("v2", [311] * 1001)):
        with pytest.raises(BadSignature, match="1001 categories"):
            call(f"{version}.ListProductIds", categories=codes)


def raw(target, service, method, content, metadata=()):
    """Send bytes as they are; gives the status and the details."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 24), ("grpc.absolute_max_metadata_size", 1 << 24)]
    with grpc.insecure_channel(target, options=options) as channel:
        try:
            list(channel.stream_stream(f"/{service}/{method}")(iter(content), timeout=60, metadata=metadata))
        except grpc.RpcError as error:
            return error.code(), error.details()
    return grpc.StatusCode.OK, ""


SIZES = [
    (V1, "ListProductIds", 5 << 20, "a message of 5242880 bytes to ListProductIds; it takes at most 4194304"),
    (V2, "CreateProduct", 65 << 20, "a message of 68157440 bytes to CreateProduct; it takes at most 67108864"),
    (OWN, "Create", 17 << 20, "a message of 17825792 bytes to Create; it takes at most 16777216"),
    (OWN, "Get", 5 << 20, "it takes at most 4194304"),
]


@pytest.mark.parametrize(("service", "method", "size", "said"), SIZES, ids=lambda value: value if isinstance(value, str) else "")
def test_each_method_takes_messages_of_its_own_size(server, service, method, size, said):
    code, text = raw(server.target, service, method, [bytes(size)])
    assert (code, said in text) == (grpc.StatusCode.INVALID_ARGUMENT, True), text


def test_the_largest_message_is_a_setting(tmp_path):
    with running_server(tmp_path / "home", "--max-message", str(2 << 20)) as running:
        code, text = raw(running.target, V1, "CreateProduct", [bytes(3 << 20)])
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "3145728 vs. 2097152" in text
        before = forget_peak(running.process.pid)
        with grpc.insecure_channel(running.target, options=[("grpc.max_send_message_length", -1)]) as channel:
            zeros = channel.unary_unary(f"/{V1}/CreateProduct")
            with pytest.raises(grpc.RpcError, match="Decompressed message larger than max"):
                zeros(bytes(500 << 20), compression=grpc.Compression.Gzip, timeout=60)
        assert peak_memory(running.process.pid) - before < 100 << 20
        with SignatureClient(running.target, timeout=20) as client:
            client._rpc._sleep = lambda _seconds: pytest.fail("tried again")
            with pytest.raises(BadSignature, match=r"3145728 vs\. 2097152"):
                client._rpc.unary(V1, "CreateProduct", v1.CreateProductRequest(segmentation=bytes((3 << 20) - 5)))


NOISE = np.random.default_rng(1).bytes(2000)


@pytest.mark.parametrize(
    ("service", "method", "content", "said"),
    [
        (V1, "ListProductIds", [b"\xff" * 50], "the bytes sent are no snapearth.api.v1.ListProductIdsRequest"),
        (V1, "CreateProduct", [NOISE], "the bytes sent are no snapearth.api.v1.CreateProductRequest"),
        (OWN, "Create", [NOISE], "the bytes sent are no earthself.signature.v1.CreateRequest"),
        (V2, "ListSegmentation", [], "a call of ListSegmentation without its ListSegmentationRequest"),
        (V1, "CreateProduct", [], "a call of CreateProduct without its CreateProductRequest"),
        (OWN, "Create", [], "Create without a feature"),
        (V2, "CreateProduct", [v2.CreateProductRequest().SerializeToString() + b"\x0a\xf0\xff\xff\xff\x07"], "the bytes sent are no"),
    ],
)
def test_noise_is_refused(server, service, method, content, said):
    code, text = raw(server.target, service, method, content)
    assert (code, said in text) == (grpc.StatusCode.INVALID_ARGUMENT, True), text


def bomb(kind):
    """Make a geobuf that is small on the wire and large in memory."""
    made = geobuf.Data(keys=["a"])
    feature = made.feature
    feature.geometry.type = 0
    feature.geometry.coords.extend([0, 0])
    if kind == "rings":
        made.feature_collection.features.add().geometry.CopyFrom(geobuf.Data.Geometry(type=4, lengths=[0] * 8_000_000))
    elif kind == "points":
        feature.geometry.coords.extend([0] * 200_000)
    elif kind == "geometries":
        feature.geometry.CopyFrom(geobuf.Data.Geometry(type=6, geometries=[geobuf.Data.Geometry(type=1)] * 110_000))
    elif kind == "properties":
        feature.properties.extend([0] * 200_000)
    else:
        feature.values.add(json_value="[" + "[]," * 100_000 + "[]]")
        feature.properties.extend([0, 0])
    return made


@pytest.mark.parametrize("kind", ["rings", "points", "geometries", "properties", "JSON"])
def test_a_geobuf_that_unfolds_is_refused_and_costs_no_memory(server, call, kind):
    given = {"product": bomb(kind)} if kind == "rings" else {"data": bomb(kind), **RASTERS}
    before = forget_peak(server.process.pid)
    with pytest.raises(BadSignature, match=r"at most \d+"):
        call("v2.CreateProduct" if kind == "rings" else "v1.CreateProduct", **given)
    assert peak_memory(server.process.pid) - before < 200 << 20


def test_a_flood_of_metadata_is_refused(server, client):
    flood = [(f"x-{number}", "y" * 200) for number in range(2000)]
    code, text = raw(server.target, V1, "ListProductIds", [b""], flood)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "metadata size exceeds" in text
    assert client.health()


def test_places_are_counted_by_address_in_total_and_for_writers():
    async def calls():
        admission = Admission(Limits(calls=5, calls_of_one=3, writes=2, queue=0.05))

        async def refused(address, said, *, writing=False):
            with pytest.raises(TooBusy, match=said):
                async with admission.admitted(address, writing=writing):
                    pass

        async with AsyncExitStack() as running:
            for _ in range(2):
                await running.enter_async_context(admission.admitted("a", writing=True))
            await refused("b", r"2 products at a time are stored, and no turn came within 0\.05 s", writing=True)
            await running.enter_async_context(admission.admitted("a", writing=False))
            await refused("a", "3 calls from a run already, of at most 3; try again")
            for _ in range(2):
                await running.enter_async_context(admission.admitted("b", writing=False))
            await refused("c", "5 calls run already")
        async with admission.admitted("a", writing=True), admission.admitted("a", writing=True):
            pass
        assert admission._calls == {}

    asyncio.run(calls())
    assert USUAL.writes < ServerSettings(Path()).threads


def test_writers_take_turns_and_all_are_served(server):
    grid = replace(GRID, width=400, height=400)
    rasters = layers(np.random.default_rng(5).choice(np.array([111, 211, 311], "uint16"), (400, 400)), grid=grid)
    with SignatureClient(server.target, timeout=60) as client, ThreadPoolExecutor(24) as pool:
        client._rpc._sleep = lambda _seconds: pytest.fail("was refused")
        assert set(pool.map(lambda number: client.create(feature(f"turn{number}", grid), rasters), range(24))) == {"created"}


def test_a_window_has_a_size_and_a_layer_is_asked_for_once(server, client):
    client.create(feature("window"), RASTERS)
    ask = client._rpc.stream
    with pytest.raises(BadSignature, match=r"a window of 5000x5000 pixels; at most 16777216 at a time"):
        list(ask(OWN, "Get", own.GetRequest(product_id="window", layers=["segmentation"], window={"width": 5000, "height": 5000})))
    once, often = (list(ask(OWN, "Get", own.GetRequest(product_id="window", layers=["segmentation"] * n))) for n in (1, 1000))
    assert once == often


@contextmanager
def busy(target, number):
    """Hold every place of a server of so many with calls that send nothing; gives what it then says, and the function that ends them."""
    with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        ended = threading.Event()

        def nothing():
            ended.wait(60)
            yield from ()

        calls = []
        try:
            for _ in range(1000):
                if said := refusal(target):
                    break
                calls = [call for call in calls if not call.done()]  # one that came while the question below was asked is refused
                calls += [channel.stream_stream(f"/{V1}/ListProductIds")(nothing(), timeout=60) for _ in range(number - len(calls))]
            assert said, "never busy"
            yield *said, ended.set
        finally:
            ended.set()
            for call in calls:
                call.cancel()


def refusal(target):
    """What a call is refused with: code, words and trailers; nothing where there is a place for it."""
    with grpc.insecure_channel(target) as channel:
        try:
            list(channel.unary_stream(f"/{V1}/ListProductIds")(b"", timeout=20))
        except grpc.RpcError as error:
            return error.code(), error.details(), dict(error.trailing_metadata())
    return ()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server of few places."""
    with running_server(tmp_path_factory.mktemp("small") / "home", "--max-calls-of-one", "8") as running:
        yield running


def test_a_busy_server_says_so_and_our_client_comes_back(small):
    with busy(small.target, 8) as (code, text, trailers, end):
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "8 calls from 127.0.0.1 run already, of at most 8; try again" in text
        assert trailers["grpc-retry-pushback-ms"] == "500"
        pauses = []

        def sleep(seconds):
            pauses.append(seconds)
            if len(pauses) == 2:
                end()
            if len(pauses) > 2:
                threading.Event().wait(0.05)

        with SignatureClient(small.target, timeout=20) as client:
            client._rpc._sleep = sleep
            assert list(client.find()) == []
        assert len(pauses) >= 2
        assert min(pauses) >= 0.5 * 0.75


def test_a_server_that_stays_busy_is_told_as_one_to_try_again(small):
    with busy(small.target, 8):
        pauses = []
        rpc = Rpc(Connection(small.target, timeout=20), sleep=pauses.append)
        with pytest.raises(Unavailable, match="RESOURCE_EXHAUSTED: 8 calls from") as told:
            list(rpc.stream(OWN, "Find", own.FindRequest()))
        rpc.close()
        assert (told.value.retry, told.value.exit_code, len(pauses)) == (True, 75, 7)


def test_health_is_answered_while_all_places_are_taken(small):
    with busy(small.target, 8), SignatureClient(small.target, timeout=20) as client:
        assert client.health()


def test_more_calls_than_one_connection_may_have_are_all_answered(tmp_path):
    """gRPC holds them back, or refuses them before they begin, and our client asks again."""
    with (
        running_server(tmp_path / "home") as running,
        SignatureClient(running.target, timeout=60) as client,
        ThreadPoolExecutor(300) as pool,
    ):
        assert list(pool.map(lambda _: list(client.find()), range(300))) == [[]] * 300


def test_sockets_that_say_nothing_or_nonsense_hold_nobody(server, client):
    host, port = server.target.split(":")
    said = (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00",
        b"\xff" * 5000,
    )
    with ExitStack() as sockets:
        for number in range(100):
            one = sockets.enter_context(socket.create_connection((host, int(port))))
            one.sendall(said[number % len(said)])
        assert client.health()
        assert client.create(feature("beside"), RASTERS) in ("created", "known")


def test_a_thousand_silent_connections_keep_nobody_out(tmp_path):
    """Though the shell that starts the server allows it few open files."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (before, most))
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
        try:
            running = stack.enter_context(running_server(tmp_path / "home"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        host, port = running.target.split(":")
        for _ in range(1000):
            stack.enter_context(socket.create_connection((host, int(port))))
        with SignatureClient(running.target, timeout=20) as client:
            assert client.create(feature("P"), RASTERS) == "created"


IMPATIENT = """
import asyncio, json, logging, sys
from pathlib import Path
from earthself.signature import server
from earthself.signature.limits import Limits
logging.basicConfig(level=logging.INFO, filename=sys.argv[1] + ".log")
settings = server.ServerSettings(Path(sys.argv[1]), port=0, limits=Limits(**json.loads(sys.argv[2])))
asyncio.run(server.serve(settings, lambda port: print(port, flush=True)))
"""


@contextmanager
def impatient(home, **limits):
    """A server whose limits of time are moments."""
    command = [sys.executable, "-c", IMPATIENT, str(home), json.dumps(limits)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()
            assert process.wait(30) == 0


@pytest.mark.parametrize(("service", "method"), [(V1, "ListProductIds"), (OWN, "Create")])
def test_who_begins_a_call_and_sends_nothing_is_hung_up_on(tmp_path, service, method):
    with impatient(tmp_path / "home", silence=0.3, slowest=1e12) as target, grpc.insecure_channel(target) as channel:
        never = threading.Event()
        call = channel.stream_stream(f"/{service}/{method}")(iter(never.wait, True), timeout=60)
        with pytest.raises(grpc.RpcError) as hung_up:
            next(call)
        never.set()
        assert hung_up.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "no message came for 0.3 s" in hung_up.value.details()
        assert list((tmp_path / "home" / "staging").iterdir()) == []


def test_a_reader_that_takes_nothing_is_hung_up_on_and_can_ask_for_the_rest(tmp_path):
    big = replace(GRID, width=2000, height=2000)
    noise = layers(np.random.default_rng(5).choice(np.array([111, 211, 311, 312, 512], "uint16"), (2000, 2000)), grid=big)
    with impatient(tmp_path / "home", patience=0.3) as target, SignatureClient(target, timeout=30) as client:
        for number in range(12):
            client.create(feature(f"P{number}", big, creation_date=f"2017-01-{1 + number % 28:02}T00:00:00Z"), noise)
        with grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)]) as channel:
            answers = channel.unary_stream(f"/{V1}/ListSegmentation")(b"", timeout=60)
            next(answers)
            wait_for(lambda: "the reader took no message" in (tmp_path / "home.log").read_text())
            with pytest.raises(grpc.RpcError) as hung_up:
                list(answers)
            assert hung_up.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert "the reader took no message for 0.3 s" in hung_up.value.details()
        seen = set()
        for one in client.segmentations():
            seen.add(one.feature["id"])
            if len(seen) == 2:
                before = (tmp_path / "home.log").read_text().count("took no message")
                wait_for(lambda before=before: (tmp_path / "home.log").read_text().count("took no message") > before)
        assert len(seen) == 12


def test_a_product_whose_caller_has_gone_keeps_its_turn_until_it_is_stored(tmp_path):
    """A thread cannot be ended: callers that give up and come again would take all threads, those of readers, too."""
    large = replace(GRID, width=4000, height=4000)
    codes = np.random.default_rng(5).choice(np.array([111, 211, 311, 312, 512], "uint16"), (4000, 4000))
    data = geobuf.encode(feature("P", large))
    asked = v1.CreateProductRequest(data=data, **layers(codes, grid=large)).SerializeToString()
    options = [("grpc.max_send_message_length", -1)]
    with impatient(tmp_path / "home", writes=1, queue=0.1) as target, grpc.insecure_channel(target, options=options) as channel:
        create = channel.unary_unary(f"/{V1}/CreateProduct")
        first = create.future(asked, timeout=120)
        wait_for(lambda: list((tmp_path / "home" / "staging").glob("*/product")))
        first.cancel()
        with pytest.raises(grpc.RpcError, match=r"no turn came within 0\.1 s"):
            create(asked, timeout=120)
        with SignatureClient(target, timeout=60) as client:
            wait_for(lambda: list(client.find()), seconds=120)
            assert client.create(feature("P", large), layers(codes, grid=large)) == "known"


class Http2:
    """A connection of which each frame is ours to send."""

    def __init__(self, target):
        host, _, port = target.partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.frames = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.frames.initiate_connection()

    def send(self):
        self.socket.sendall(self.frames.data_to_send())

    def events(self):
        """What came, at least one byte of it."""
        events = self.frames.receive_data(self.socket.recv(65536))
        self.send()
        return events


def test_a_large_message_may_take_longer_than_a_pause_between_two(tmp_path):
    with impatient(tmp_path / "home", silence=0.3) as target:
        http, sent = Http2(target), bytes(100_000)
        said = {":method": "POST", ":scheme": "http", ":authority": target, ":path": f"/{V1}/CreateProduct", "te": "trailers"}
        stream = http.frames.get_next_available_stream_id()
        http.frames.send_headers(stream, list({**said, "content-type": "application/grpc"}.items()))
        http.frames.send_data(stream, b"\0" + len(sent).to_bytes(4, "big"))
        for start in range(0, len(sent), 10_000):
            http.send()
            threading.Event().wait(0.08)
            while http.frames.local_flow_control_window(stream) < 10_000:
                http.events()
            http.frames.send_data(stream, sent[start : start + 10_000], end_stream=start == 90_000)
        http.send()
        trailers = {}
        while b"grpc-status" not in trailers:
            for event in http.events():
                trailers |= dict(getattr(event, "headers", None) or ())
        assert trailers[b"grpc-status"] == b"3", trailers
        assert b"the bytes sent are no" in trailers[b"grpc-message"]
        http.socket.close()


@pytest.mark.parametrize(("apart", "kept"), [(0.3, True), (0.0, False)], ids=["now and then", "without a pause"])
def test_a_connection_is_kept_open_by_pings_but_not_by_a_flood_of_them(tmp_path, apart, kept):
    """As clients in Go and Java keep a quiet one open; 5 at the least interval, where gRPC hangs up at the third that is too early."""
    with impatient(tmp_path / "home", pings=0.2) as target:
        http, answered, refused = Http2(target), 0, False
        for number in range(5):
            http.frames.ping(number.to_bytes(8, "big"))
            http.send()
            while not refused and answered <= number:
                events = http.events()
                answered += sum(isinstance(event, h2.events.PingAckReceived) for event in events)
                refused = any(isinstance(event, h2.events.ConnectionTerminated) for event in events)
            if refused:
                break
            threading.Event().wait(apart)
        assert (answered == 5 and not refused) == kept
        http.socket.close()
