"""Single sign-on as the chart sets it up: Airflow's real web server, an OpenID Connect provider on loopback, people and their rights."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from earthself.client import LoginRefused, connect
from earthself.local.ports import free_ports

from tests.deploy.rendered import named, values

CLIENT = "earthself"
PEOPLE = {"ada": ["eo-admins", "others"], "ben": ["eo-users"], "eve": []}
"""Who there is, and in which groups."""


class Provider:
    """Signs on whoever `now` names, as a provider does with a person who is at its page already."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self.now = ""
        self._key = rsa.generate_private_key(65537, 2048)
        self._codes: dict[str, tuple[str, str]] = {}
        provider = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._page(self)

            def do_POST(self) -> None:
                provider._token(self)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _page(self, request: BaseHTTPRequestHandler) -> None:
        at = urlsplit(request.path)
        if at.path == "/.well-known/openid-configuration":
            return _json(request, self._configuration())
        if at.path == "/keys":
            return _json(request, {"keys": [jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True) | {"kid": "1"}]})
        asked = {name: found[0] for name, found in parse_qs(at.query).items()}
        assert (at.path, asked["client_id"], asked["response_type"]) == ("/authorize", CLIENT, "code")
        assert "openid" in asked["scope"].split()
        code = secrets.token_hex(8)
        self._codes[code] = (self.now, asked["nonce"])
        request.send_response(302)
        request.send_header("Location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
        request.end_headers()
        return None

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        asked = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        basic = httpx.BasicAuth(CLIENT, self.secret)._auth_header
        if request.headers["Authorization"] != basic or (asked["code"][0] not in self._codes):
            return _json(request, {"error": "invalid_client"}, 401)
        name, nonce = self._codes.pop(asked["code"][0])
        said = {
            "iss": self.issuer, "aud": CLIENT, "sub": f"id-{name}", "nonce": nonce, "iat": int(time.time()), "exp": int(time.time()) + 300,
            "preferred_username": name, "email": f"{name}@example.org", "groups": PEOPLE[name],
        }  # fmt: skip
        signed = jwt.encode(said, self._key, "RS256", {"kid": "1"})
        return _json(request, {"access_token": secrets.token_hex(8), "token_type": "Bearer", "expires_in": 300, "id_token": signed})

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }


def _json(request: BaseHTTPRequestHandler, body: dict[str, Any], status: int = 200) -> None:
    content = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


class Airflow(NamedTuple):
    """The web server's address, and the environment that its commands need."""

    url: str
    env: dict[str, str]

    def command(self, *words: str) -> None:
        subprocess.run([sys.executable, "-m", "airflow", *words], env=self.env, check=True, capture_output=True)


@pytest.fixture(scope="module")
def airflow(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """The web server with the chart's own settings, but for the places of a machine that is no pod."""
    home = tmp_path_factory.mktemp("sign-on")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    config = named("oidc", "ConfigMap", "-airflow-files")["data"]["webserver_config.py"]
    issuer = values("oidc")["auth"]["oidc"]["issuer"]  # the chart takes encrypted ones only
    assert issuer in config
    (home / "webserver_config.py").write_text(config.replace(issuer, provider.issuer))
    given = named("oidc", "ConfigMap", "-airflow")["data"]
    settings = {name: text for name, text in given.items() if name.startswith("AIRFLOW__")}
    env = os.environ | settings | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__FAB__CONFIG_FILE": str(home / "webserver_config.py"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__FAB__CACHE_TTL": "0",  # Airflow keeps a person's rights for half a minute
        "OIDC_CLIENT_SECRET": provider.secret,
    }  # fmt: skip
    made = Airflow(url, env)
    made.command("db", "migrate")
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "airflow", "api-server"], env=env, stdout=log, stderr=log)
    try:
        _wait(url, server, home / "server.log")
        yield made
    finally:
        server.terminate()
        server.wait(30)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 100
    while server.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(f"{url}/api/v2/version").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def signed_on(airflow: Airflow, provider: Provider, name: str) -> httpx.Client:
    """Sign on as a browser does that follows where it is sent."""
    provider.now = name
    with httpx.Client(base_url=airflow.url, follow_redirects=True, timeout=60) as browser:
        came = browser.get("/auth/login/oidc")
        token = next((cookie.value for cookie in browser.cookies.jar if cookie.name == "_token"), None)
    assert token, f"{came.status_code} at {came.url}: {came.text[:2000]}"
    return httpx.Client(base_url=airflow.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


@pytest.mark.timeout(300)
def test_groups_of_the_provider_are_rights_in_airflow(airflow: Airflow, provider: Provider) -> None:
    connection = {"connection_id": "mine", "conn_type": "http"}
    with signed_on(airflow, provider, "ada") as admin:
        assert admin.post("/api/v2/connections", json=connection).status_code == 201
    with signed_on(airflow, provider, "ben") as user:
        assert user.get("/api/v2/dags").status_code == 200
        assert user.get("/api/v2/connections").status_code == 403
    with signed_on(airflow, provider, "eve") as viewer:
        assert viewer.get("/api/v2/dags").status_code == 200
        assert viewer.post("/api/v2/connections", json=connection | {"connection_id": "other"}).status_code == 403
    PEOPLE["ada"].remove("eo-admins")
    with signed_on(airflow, provider, "ada") as no_more:
        assert no_more.post("/api/v2/connections", json=connection | {"connection_id": "late"}).status_code == 403, "as the groups say now"


@pytest.mark.timeout(300)
def test_nobody_comes_in_without_the_provider(airflow: Airflow) -> None:
    with httpx.Client(base_url=airflow.url, timeout=60) as stranger:
        assert stranger.get("/api/v2/dags").status_code == 401
        assert stranger.post("/auth/token", json={"username": "admin", "password": "admin"}).status_code in (401, 404)
        bad = stranger.get("/auth/oauth-authorized/oidc", params={"code": "made-up", "state": "made-up"})
        assert "_token" not in bad.cookies
        assert stranger.get("/api/v2/dags").status_code == 401


@pytest.mark.timeout(300)
def test_a_program_has_an_account_of_its_own(airflow: Airflow) -> None:
    password = secrets.token_hex(16)
    who = {"role": "User", "username": "robot", "email": "robot@example.org", "firstname": "r", "lastname": "r", "password": password}
    airflow.command("users", "create", *(word for name, value in who.items() for word in (f"--{name}", value)))
    assert connect(airflow.url, "robot", password).unfinished() == []
    with pytest.raises(LoginRefused):
        connect(airflow.url, "robot", "guessed").unfinished()


def test_the_secret_is_not_in_the_file() -> None:
    assert 'os.environ["OIDC_CLIENT_SECRET"]' in named("oidc", "ConfigMap", "-airflow-files")["data"]["webserver_config.py"]
