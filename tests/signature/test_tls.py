"""TLS: a server proves its name, takes new certificates without a restart, and says what is wrong with bad ones before it listens."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pytest
from certificates import authority, pair
from earthself.signature.cli import app
from earthself.signature.client import AccessRefused, Connection, SignatureClient, Unavailable
from earthself.signature.errors import BadSetting
from earthself.signature.testing import feature, layers, running_server
from earthself.signature.tls import on_this_machine
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typer.testing import CliRunner

RASTERS = layers(np.full((50, 60), 311, "uint16"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def signer():
    return authority()


@pytest.fixture(scope="module")
def ca(folder, signer):
    return str(signer.write(folder / "ca.crt"))


@pytest.fixture(scope="module")
def secure(folder, signer):
    certificate, key = pair(folder, signer)
    with running_server(folder / "home", "--tls-cert", str(certificate), "--tls-key", str(key)) as running:
        yield running


def connected(server, **options):
    return SignatureClient(Connection(server.target, timeout=20, **options))


def test_a_client_that_knows_the_authority_reads_and_writes(secure, ca):
    with connected(secure, tls_ca=ca) as client:
        assert client.health()
        assert client.create(feature("S"), RASTERS) == "created"
        assert client.get("S").layers.keys() == RASTERS.keys()
        assert (client.segmentation("S").to_numpy() == 311).all()


def test_reflection_and_health_work_with_tls(secure, folder, ca):
    credentials = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
    with grpc.secure_channel(secure.target, credentials) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        listed = {one.name for one in next(stub.ServerReflectionInfo(asked, timeout=20)).list_services_response.service}
    assert "earthself.signature.v1.SignatureService" in listed


def test_the_commands_take_authorities_token_and_certificate_from_where_they_are_told(secure, ca, monkeypatch):
    def listed(*options, code=0):
        result = CliRunner().invoke(app, ["list", "--server", secure.target, "--json", *options])
        assert result.exit_code == code, result.output
        return result.output

    assert "trusts" in listed("--tls", code=65)
    assert listed("--tls-ca", ca) is not None
    assert "none.crt cannot be read" in listed("--tls-ca", "none.crt", code=65)
    monkeypatch.setenv("EARTHSELF_SIGNATURE_TLS_CA", ca)
    monkeypatch.setenv("EARTHSELF_SIGNATURE_TOKEN", "ess_travels_encrypted")
    assert "ess_" not in listed()
    monkeypatch.setenv("EARTHSELF_SIGNATURE_CLIENT_CERT", ca)
    assert "comes with its key" in listed(code=65)


def test_who_does_not_know_the_authority_is_told_so_at_once(secure):
    with connected(secure, tls=True) as client:
        client._rpc._sleep = lambda _seconds: pytest.fail("tried again")
        with pytest.raises(AccessRefused, match=r"not one that this machine trusts.*--tls-ca"):
            list(client.find())


def test_clear_text_and_tls_do_not_meet(secure, server, ca):
    with connected(secure) as client:
        client._rpc._sleep = lambda _seconds: None
        with pytest.raises(Unavailable, match="whether it wants TLS"):
            list(client.find())
    with connected(server, tls_ca=ca) as client, pytest.raises(AccessRefused, match="does not speak TLS"):
        list(client.find())


def test_a_certificate_of_another_name_is_refused(secure, ca):
    port = secure.target.split(":")[1]
    with (
        SignatureClient(Connection(f"ipv4:127.0.0.2:{port}", tls_ca=ca, timeout=20)) as client,
        pytest.raises((AccessRefused, Unavailable)),
    ):
        list(client.find())


def test_new_certificates_are_taken_without_a_restart(tmp_path):
    first, second = authority("first"), authority("second")
    certificate, key = pair(tmp_path, first)
    old, new = str(first.write(tmp_path / "old.crt")), str(second.write(tmp_path / "new.crt"))
    with running_server(tmp_path / "home", "--tls-cert", str(certificate), "--tls-key", str(key)) as running:
        with connected(running, tls_ca=old) as before:
            assert before.health()
            other_certificate, other_key = pair(tmp_path, second, "other")
            shutil.copyfile(other_certificate, certificate)
            with connected(running, tls_ca=old) as halfway:
                assert halfway.health(), "the new certificate with the old key is no pair: the old pair goes on"
            assert "is not the key of" in running.log.read_text()
            shutil.copyfile(other_key, key)
            with connected(running, tls_ca=new) as after:
                assert after.health()
            assert before.health(), "a connection that is there stays"
        with connected(running, tls_ca=old) as late, pytest.raises(AccessRefused, match="trusts"):
            list(late.find())
        certificate.unlink()
        with connected(running, tls_ca=new) as lasting:
            assert lasting.health()
    assert "taken anew: " in running.log.read_text()
    assert "PRIVATE KEY" not in running.log.read_text()


def test_clients_can_be_asked_for_a_certificate(tmp_path, signer, ca):
    certificate, key = pair(tmp_path, signer)
    theirs, their_key = pair(tmp_path, signer, "client", name="a client")
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", ca)
    with running_server(tmp_path / "home", *options) as running:
        with connected(running, tls_ca=ca, tls_cert=str(theirs), tls_key=str(their_key)) as client:
            assert list(client.find()) == []
        with connected(running, tls_ca=ca) as client:
            client._rpc._sleep = lambda _seconds: None
            with pytest.raises((AccessRefused, Unavailable)):
                list(client.find())
    with pytest.raises(BadSetting, match="comes with its key"):
        SignatureClient(Connection("127.0.0.1:1", tls_cert=str(theirs)))
    with pytest.raises(BadSetting, match="holds no certificate"):
        SignatureClient(Connection("127.0.0.1:1", tls_ca=str(their_key)))


def serve(home, *options):
    """Start a server that is not to start; gives its exit code and what it said."""
    command = [sys.executable, "-m", "earthself.signature", "serve", "--port", "0", "--home", str(home), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_bad_files_are_named_before_the_server_listens(tmp_path, signer):
    good, key = pair(tmp_path, signer)
    _, strange = pair(tmp_path, signer, "strange")
    locked, locked_key = pair(tmp_path, signer, "locked", password=b"x")
    old, old_key = pair(tmp_path, signer, "old", until=datetime.now(UTC) - timedelta(hours=1))
    noise = tmp_path / "noise.pem"
    noise.write_bytes(b"\x00-----BEGIN CERTIFICATE-----\nAAAA")
    for certificate, secret, said in (
        (tmp_path / "none.crt", key, "none.crt cannot be read (No such file or directory)"),
        (good, tmp_path, "cannot be read (Is a directory)"),
        (good, strange, "is not the key of"),
        (locked, locked_key, "is locked with a password"),
        (old, old_key, "expired at"),
        (noise, key, "holds no certificate in PEM"),
        (good, noise, "holds no private key in PEM"),
    ):
        code, text = serve(tmp_path / "home", "--tls-cert", certificate, "--tls-key", secret)
        assert (code, said in text) == (65, True), text
    code, text = serve(tmp_path / "home", "--tls-cert", good)
    assert (code, "give both, or none" in text) == (65, True)
    assert not (tmp_path / "home").exists()


def test_clear_text_beyond_this_machine_has_to_be_said(tmp_path):
    code, text = serve(tmp_path / "home", "--host", "0.0.0.0")  # noqa: S104 - refused
    assert code == 65
    assert "give --tls-cert and --tls-key, or say --insecure" in text


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("localhost:1", True),
        ("[::1]:50051", True),
        ("::1", True),
        ("unix:/run/x", True),
        ("0.0.0.0", False),  # noqa: S104
        ("[::]:1", False),
        ("::", False),
        ("127.0.0.1.example.org:443", False),
        ("localhost.example.org", False),
        ("db.example.org:50051", False),
        ("10.0.0.1:50051", False),
    ],
)
def test_only_addresses_of_this_machine_count_as_such(address, here):
    assert on_this_machine(address) is here


def test_who_connects_and_says_nothing_keeps_nobody_waiting(secure, ca):
    host, port = secure.target.split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(40)]
    try:
        silent[0].sendall(b"\x16\x03\x01\xff\xff" + b"\x00" * 100)
        with connected(secure, tls_ca=ca) as client:
            assert client.health()
            assert client.create(feature("T"), RASTERS) == "created"
    finally:
        for one in silent:
            one.close()


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost"])
def test_a_server_listens_on_the_address_and_the_port_that_it_was_given(tmp_path, host):
    with running_server(tmp_path / "home", "--host", host) as running, SignatureClient(running.target, timeout=20) as client:
        assert running.target.rpartition(":")[0] == (host if host == "localhost" else "[::1]")
        assert client.health()
