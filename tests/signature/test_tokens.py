"""Tokens: who has one may write, who has none is told so; the list keeps no token, and a running server follows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import numpy as np
import pytest
from certificates import authority, pair
from earthself.signature import geobuf
from earthself.signature.access import Access, TokenFile
from earthself.signature.cli import app
from earthself.signature.client import AccessRefused, Connection, SignatureClient
from earthself.signature.errors import BadSetting, NotAuthenticated, NotPermitted
from earthself.signature.server import OWN_PATH, V1_PATHS, V2_PATHS
from earthself.signature.testing import feature, layers, running_server
from earthself.signature.wire import POOL
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from processes import peak_memory
from typer.testing import CliRunner

RASTERS = layers(np.full((50, 60), 311, "uint16"))
V1 = "/snapearth.api.v1.DatabaseProductService/"


@pytest.fixture
def listed(tmp_path):
    return TokenFile(tmp_path / "tokens.json")


def command(*arguments, code=0):
    result = CliRunner().invoke(app, ["token", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def connected(server, token=None, **options):
    return SignatureClient(Connection(server.target, token=token, timeout=20, **options))


def metadata(token):
    return (("authorization", f"Bearer {token}"),)


def secret(token):
    _, _, text = token.split("_", 2)  # it may itself hold this character
    return text


def test_a_token_is_shown_once_and_kept_nowhere(tmp_path):
    path = tmp_path / "keys" / "tokens.json"
    token = command("add", "ingest", "--right", "write", "--expires", "2099-01-01", "--tokens", path).stdout.strip()
    other = json.loads(command("add", "map", "--tokens", path, "--json").stdout)["token"]
    assert path.stat().st_mode & 0o777 == 0o600
    for text in (path.read_text(), command("list", "--tokens", path).output, command("list", "--tokens", path, "--json").output):
        for made in (token, other):
            assert made not in text
            assert secret(made) not in text
    first, second = (json.loads(line) for line in command("list", "--tokens", path, "--json").stdout.splitlines())
    assert first == {"name": "ingest", "right": "write", "expires": "2099-01-01T00:00:00Z", "expired": False}
    assert second == {"name": "map", "right": "read", "expires": None, "expired": False}
    command("remove", "map", "--tokens", path)
    assert "map" not in command("list", "--tokens", path).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add", "ingest"], 65, "ingest has a token already"),
        (["add", "a b"], 65, "other characters"),
        (["add", "x\nname"], 65, "other characters"),
        (["add", "x", "--right", "all"], 65, "no right 'all'; give read or write"),
        (["add", "x", "--expires", "tomorrow"], 65, "expires: 'tomorrow'"),
        (["remove", "nobody"], 69, "no token of 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said(listed, arguments, code, said):
    listed.add("ingest", "write")
    before = listed.path.read_bytes()
    assert said in command(*arguments, "--tokens", listed.path, code=code).output
    assert listed.path.read_bytes() == before


def test_many_at_once_lose_no_token(listed):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: TokenFile(listed.path).add(f"n{number}", "read"), range(40)))
    assert {token.name for token in listed.tokens()} == {f"n{number}" for number in range(40)}


BAD_FILES = {
    "half-written": (lambda text: text[: len(text) // 2], "is no list of tokens"),
    "empty": (lambda _: "", "is no list of tokens"),
    "a list": (lambda _: "[]", "is no list of tokens"),
    "deep": (lambda _: "[" * 200_000, "is no list of tokens"),
    "another field": (lambda text: text.replace('"salt"', '"pepper"'), "is no list of tokens"),
    "short digest": (lambda text: re.sub(r'"digest": "..', '"digest": "', text), "is no list of tokens"),
    "another right": (lambda text: text.replace('"write"', '"admin"'), "no right 'admin'"),
    "bad end": (lambda text: text.replace("null", '"soon"'), "is no list of tokens"),
}


@pytest.mark.parametrize(("change", "said"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_server_does_not_start_on_a_bad_list(listed, change, said):
    listed.add("x", "write")
    listed.path.write_text(change(listed.path.read_text()))
    with pytest.raises(BadSetting, match=said):
        Access(listed)


def test_a_list_that_others_can_read_is_refused(listed):
    listed.add("x", "write")
    listed.path.chmod(0o640)
    with pytest.raises(BadSetting, match=r"has mode 640, .*; chmod 600"):
        Access(listed)


def test_a_list_that_breaks_later_leaves_those_that_are_known_and_one_that_is_gone_leaves_none(listed, caplog):
    token = listed.add("x", "write")
    access = Access(listed)
    good = listed.path.read_text()
    listed.path.write_text(good[:40])
    assert access.check(metadata(token), "write") == "x"
    assert "the tokens known so far go on" in caplog.text
    listed.path.unlink()
    with pytest.raises(NotAuthenticated, match="not known here"):
        access.check(metadata(token), "write")
    listed.path.write_text(good)
    listed.path.chmod(0o644)
    with pytest.raises(NotAuthenticated):
        access.check(metadata(token), "write")
    listed.path.chmod(0o600)
    assert access.check(metadata(token), "write") == "x"
    assert token not in caplog.text


def test_the_end_of_a_token_is_the_instant_that_was_given(listed):
    token = listed.add("x", "read", "2030-01-01T12:00:00+02:00")
    clock = iter([datetime(2030, 1, 1, 9, 59, 59, tzinfo=UTC), datetime(2030, 1, 1, 10, tzinfo=UTC)])
    access = Access(listed, now=lambda: next(clock))
    assert access.check(metadata(token), "read") == "x"
    with pytest.raises(NotAuthenticated, match="expired at 2030-01-01T10:00:00Z"):
        access.check(metadata(token), "read")


def test_wrong_tokens_are_not_told_apart(listed):
    token = listed.add("x", "write")
    access = Access(listed)
    kind, key, secret = token.split("_", 2)
    wrong = [
        f"{kind}_{key}_{secret[:-1]}{'a' if secret[-1] != 'a' else 'b'}",
        f"{kind}_{'0' * 16}_{secret}",
        f"{kind}_{'0' * 16}_{'A' * 43}",
    ]
    said = set()
    for one in wrong:
        with pytest.raises(NotAuthenticated) as refused:
            access.check(metadata(one), "read")
        said.add(str(refused.value))
    assert len(said) == 1
    for one in ("", " ", "x" * 8000, token[:-1], token + "a", token.upper(), f"{token}\n{token}"):
        with pytest.raises(NotAuthenticated, match="not one of EarthSignature's") as refused:
            access.check(metadata(one), "read")
        assert token not in str(refused.value)
    with pytest.raises(NotAuthenticated):
        access.check((("authorization", f"Basic {token}"),), "read")
    assert access.check(metadata(f" {token} "), "read") == "x"


def test_reading_is_open_or_by_token(listed):
    reader, writer = listed.add("r", "read"), listed.add("w", "write")
    open_to_readers, closed = Access(listed), Access(listed, read="token")
    assert open_to_readers.check((), "read") is None
    for access in (open_to_readers, closed):
        assert access.check(metadata(reader), "read") == "r"
        assert access.check(metadata(writer), "read") == access.check(metadata(writer), "write") == "w"
        with pytest.raises(NotAuthenticated, match="a token is needed to write here"):
            access.check((), "write")
        with pytest.raises(NotPermitted, match="the token of r is for reading"):
            access.check(metadata(reader), "write")
    with pytest.raises(NotAuthenticated, match="a token is needed to read here"):
        closed.check((), "read")
    with pytest.raises(BadSetting, match="reading by token needs a list"):
        Access(None, read="token")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server beyond loopback, with TLS and tokens for reading and writing; gives it, its authority and its tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    signer = authority()
    certificate, key = pair(folder, signer)
    known = TokenFile(folder / "tokens.json")
    tokens = {right: known.add(f"the {right}r".replace(" ", "-"), right) for right in ("read", "write")}
    tokens["old"] = known.add("old", "write", "2020-01-01")
    options = ("--host", "0.0.0.0", "--tls-cert", str(certificate), "--tls-key", str(key), "--tokens", str(known.path), "--read", "token")  # noqa: S104
    with running_server(folder / "home", *options) as running:
        running.target = running.target.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        yield running, str(signer.write(folder / "ca.crt")), tokens, known


def test_a_server_with_tokens_takes_and_gives_by_right(guarded):
    server, ca, tokens, _ = guarded
    with connected(server, tokens["write"], tls_ca=ca) as writer:
        assert writer.create(feature("G"), RASTERS) == "created"
        writer._rpc.unary(
            "snapearth.api.v1.DatabaseProductService",
            "CreateProduct",
            v1.CreateProductRequest(data=geobuf.encode(feature("G1")), **RASTERS),
        )
    with connected(server, tokens["read"], tls_ca=ca) as reader:
        assert {found["id"] for found in reader.find()} == {"G", "G1"}
        assert (reader.segmentation("G").to_numpy() == 311).all()
        with pytest.raises(AccessRefused, match=r"PERMISSION_DENIED: the token of the-readr is for reading"):
            reader.create(feature("H"), RASTERS)
    for token, said in ((None, "UNAUTHENTICATED: a token is needed"), (tokens["old"], "expired at 2020"), ("ess_wrong", "not one of")):
        with connected(server, token, tls_ca=ca) as stranger, pytest.raises(AccessRefused, match=said):
            list(stranger.find())
    log = server.log.read_text()
    assert "G by the-writer: created" in log
    assert "G1 by the-writer: created" in log
    assert not any(secret(token) in log for token in tokens.values())


def test_every_method_that_is_not_known_to_read_needs_the_right_to_write(guarded):
    server, ca, tokens, _ = guarded
    with open(ca, "rb") as file:  # noqa: PTH123
        credentials = grpc.ssl_channel_credentials(file.read())
    refused = set()
    with grpc.secure_channel(server.target, credentials) as channel:
        for service in (*V1_PATHS, *V2_PATHS, OWN_PATH):
            for method in POOL.FindServiceByName(service).methods:
                try:
                    list(channel.stream_stream(f"/{service}/{method.name}")(iter([b""]), timeout=30, metadata=metadata(tokens["read"])))
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.PERMISSION_DENIED:
                        refused.add(method.name)
    everything = {method.name for service in (*V1_PATHS, *V2_PATHS, OWN_PATH) for method in POOL.FindServiceByName(service).methods}
    assert everything - refused == {"ListSegmentation", "ListProductIds", "Find", "Get"}
    assert {"CreateProduct", "Create"} <= refused


def test_health_and_reflection_need_no_token(guarded):
    server, ca, *_ = guarded
    with open(ca, "rb") as file:  # noqa: PTH123 - a string
        credentials = grpc.ssl_channel_credentials(file.read())
    with grpc.secure_channel(server.target, credentials) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20).status == 1
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        assert next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=20))


def test_a_token_counts_from_the_next_call_on_until_it_is_removed(guarded):
    server, ca, _, known = guarded
    token = known.add("guest", "read")
    with connected(server, token, tls_ca=ca) as guest:
        assert list(guest.find(limit=1))
        known.remove("guest")
        with pytest.raises(AccessRefused, match="not known here, or was removed"):
            list(guest.find(limit=1))


def test_a_refused_upload_is_not_received(guarded):
    """Refused by its metadata: of 200 MB a server holds little more than what was on its way."""
    server, ca, tokens, _ = guarded
    with open(ca, "rb") as file:  # noqa: PTH123
        credentials = grpc.ssl_channel_credentials(file.read())
    before = peak_memory(server.process.pid)
    with grpc.secure_channel(server.target, credentials, options=[("grpc.max_send_message_length", 1 << 30)]) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(V1 + "CreateProduct")(os.urandom(200 << 20), timeout=30, metadata=metadata(tokens["read"]))
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert peak_memory(server.process.pid) - before < 50 << 20


def test_without_tokens_this_machine_writes_and_others_read(tmp_path):
    with running_server(tmp_path / "home") as running, connected(running, "anything") as client:
        assert client.create(feature("L"), RASTERS) == "created"
    with running_server(tmp_path / "home", "--host", "0.0.0.0", "--insecure") as running:  # noqa: S104
        running.target = running.target.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        with connected(running) as client:
            assert [found["id"] for found in client.find()] == ["L"]
            with pytest.raises(AccessRefused, match="start it with --tokens FILE"):
                client.create(feature("M"), RASTERS)
        assert "nobody may store products" in running.log.read_text()


def test_reflection_can_be_left_out(tmp_path):
    with running_server(tmp_path / "home", "--no-reflection") as running, grpc.insecure_channel(running.target) as channel:
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        with pytest.raises(grpc.RpcError) as refused:
            next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=20))
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20).status == 1


def test_a_missing_list_stops_the_start(tmp_path):
    tried = [
        sys.executable,
        "-m",
        "earthself.signature",
        "serve",
        "--port",
        "0",
        "--home",
        str(tmp_path / "h"),
        "--tokens",
        str(tmp_path / "t"),
    ]
    done = subprocess.run(tried, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (65, "")
    assert "earthsignature token add NAME" in done.stderr
