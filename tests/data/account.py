"""An account at the loopback provider as real ones are kept: one session, tokens that end, so many requests a second, and bans.

account = Account(rate=50)
account.serve(provider)
sources(account.settings(provider), credentials=CREDENTIALS)
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from typing import Any

from provider import Answer, File, Provider

_NUMBERS = itertools.count()
CREDENTIALS = {"hostile": {"username": "me@example.org", "password": "secret-word"}}


class Account:
    """What a provider does to one account."""

    def __init__(self, *, rate: float | None = None, life: float = 3600.0, sessions: int = 1) -> None:
        """Tokens live `life` seconds; more than `sessions` logins are a ban; requests above `rate` a second (and one second's worth at
        once) are refused with 429.
        """
        self.rate, self.life, self.sessions = rate, life, sessions
        self.clock = time.monotonic
        self.number = next(_NUMBERS)
        self.logins = 0
        self.refreshes = 0
        self.refused: list[int] = []
        """Statuses other than success, in their order."""
        self.served: list[str] = []
        """Paths that were let through, in their order."""
        self.faults: list[Answer | None] = []
        """What befalls the next logins."""
        self._valid: dict[str, float] = {}
        self._refresh = ""
        self._left, self._at = rate or 0.0, self.clock()
        self._lock = threading.Lock()

    def serve(self, provider: Provider) -> None:
        """Guard all files of a provider."""
        provider.forms["/login"] = self.log_in
        provider.guard = self.guard

    def settings(self, provider: Provider) -> str:
        """EODAG's YAML of the login; no two accounts have the same, so that no test finds a session of another."""
        return (
            f"  # {self.number}\n  auth:\n    type: TokenAuth\n"
            f"    auth_uri: {provider.url}/login\n    refresh_uri: {provider.url}/login\n"
            "    token_type: json\n    token_key: access_token\n"
            "    refresh_token_key: refresh_token\n    token_expiration_key: expires_in\n"
            "    headers:\n      Authorization: 'Bearer {token}'\n    retrieve_headers: {}\n    req_data: {grant_type: password}\n"
        )

    def log_in(self, form: dict[str, str]) -> tuple[int, Any]:
        """Answer a login or a refresh."""
        with self._lock:
            if fault := self.faults.pop(0) if self.faults else None:
                self.refused.append(fault.status)
                return fault.status, {"error": "busy"}
            if form.get("grant_type") == "refresh_token":
                if form["refresh_token"] != self._refresh:
                    return 400, {"error": "invalid_grant"}
                self.refreshes += 1
            elif form.get("password") != "secret-word":
                return 401, {"error": "unauthorized"}
            else:
                self.logins += 1
            token = self.token(f"t{self.logins}.{self.refreshes}")
            self._refresh = f"r{self.logins}.{self.refreshes}"
            self._valid = {token: self.clock() + self.life}
            ends = {"expires_in": self.life, "refresh_expires_in": 10 * self.life}
            return 200, {"access_token": token, "refresh_token": self._refresh, **ends}

    def token(self, name: str) -> str:
        """A token of that name."""
        return name

    def expire(self) -> None:
        """End the token that is out."""
        with self._lock:
            self._valid = {}

    def guard(self, path: str, headers: dict[str, str]) -> Answer | None:
        """Refuse what such an account is refused."""
        with self._lock:
            refusal = self._refusal(headers)
            if refusal:
                self.refused.append(refusal.status)
            else:
                self.served.append(path)
            return refusal

    def _refusal(self, headers: dict[str, str]) -> Answer | None:
        now = self.clock()
        if self.rate is not None:
            self._left, self._at = min(self.rate, self._left + (now - self._at) * self.rate), now
            if self._left < 1:
                return Answer(429)
            self._left -= 1
        if self.logins > self.sessions:
            return Answer(403)
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        return None if self._valid.get(token, 0.0) > now else Answer(401)


class Keycloak(Account):
    """The same with OpenID Connect, as the Copernicus Data Space has it: tokens are signed and say themselves when they end."""

    def serve(self, provider: Provider) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa
        from jwt.algorithms import RSAAlgorithm

        super().serve(provider)
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key())) | {"kid": "1", "use": "sig", "alg": "RS256"}
        known = {
            "jwks_uri": f"{provider.url}/keys",
            "token_endpoint": f"{provider.url}/login",
            "authorization_endpoint": f"{provider.url}/login",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        for path, document in (("/oidc", known), ("/keys", {"keys": [public]})):
            provider.files[path] = File(json.dumps(document).encode(), headers={"Content-Type": "application/json"}, ranges=False)
        provider.guard = lambda path, headers: None if path in ("/oidc", "/keys") else self.guard(path, headers)

    def settings(self, provider: Provider) -> str:
        return (
            f"  # {self.number}\n  auth:\n    type: KeycloakOIDCPasswordAuth\n    oidc_config_url: {provider.url}/oidc\n"
            "    client_id: public\n    client_secret: null\n    token_provision: header\n    allowed_audiences: [earth]\n"
        )

    def token(self, name: str) -> str:
        import jwt

        now = time.time()
        return jwt.encode({"jti": name, "aud": "earth", "iat": now, "exp": now + self.life}, self.key, "RS256", headers={"kid": "1"})
