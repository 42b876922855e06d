"""How many calls and connections there may be, and how long each may be silent: the others are served on, whatever one of them does."""

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
from earthself.signature import geobuf
from earthself.signature.client import Connection, SignatureClient, Unavailable
from earthself.signature.errors import TooBusy
from earthself.signature.limits import USUAL, Admission, Limits
from earthself.signature.rpc import Rpc
from earthself.signature.server import ServerSettings
from earthself.signature.testing import GRID, feature, layers, running_server
from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as own
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1
from processes import wait_for

RASTERS = layers(np.full((50, 60), 311, "uint16"))
V1, V2, OWN = (
    "snapearth.api.v1.DatabaseProductService",
    "snapearth.api.v2.DatabaseProductService",
    "earthself.signature.v1.SignatureService",
)


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
