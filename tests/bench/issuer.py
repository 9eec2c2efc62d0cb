"""Tokens, and the public documents of who signed them. Tokens are made ahead of a sample: signing is no part of it."""

import base64
import json
import multiprocessing
import os
import time
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.bench import processes
from tests.fakes.issuer import SigningKey, b64

AUDIENCE = "agents"
SESSIONS = 64
LIFETIME = 3600
_PADDING = "measure " * 2  # brings a token to the size of what identity providers issue: about 770 bytes


@dataclass
class Issuer:
    """One RSA and one EC key, and the tokens made with them so far. `url` is where its documents are served."""

    url: str
    rsa: SigningKey = field(default_factory=lambda: SigningKey.make("RS256", "rsa-1"))
    ec: SigningKey = field(default_factory=lambda: SigningKey.make("ES256", "ec-1"))
    _made: dict[str, list[str]] = field(default_factory=dict)

    @property
    def documents(self) -> dict[str, str]:
        """What stands at which path below the URL."""
        about = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        }
        return {"/.well-known/openid-configuration": json.dumps(about), "/keys": self.jwks}

    @property
    def jwks(self) -> str:
        return json.dumps({"keys": [self.rsa.jwk(), self.ec.jwk()]})

    def tokens(self, algorithm: str, count: int) -> list[str]:
        """Return the first `count` tokens, all different; the same every time. Missing ones are made on all cores."""
        made = self._made.setdefault(algorithm, [])
        if missing := count - len(made):
            if missing < 200:
                made += _mint((self._pem(algorithm), algorithm, self.url, len(made), count))
            else:
                middle = len(made) + missing // 2
                parts = [(len(made), middle), (middle, count)]
                work = [(self._pem(algorithm), algorithm, self.url, *part) for part in parts]
                spawned = multiprocessing.get_context("spawn")  # this process has threads: a fork of it may hang
                with spawned.Pool(2, os.sched_setaffinity, (0, processes.CORES)) as pool:
                    made += [token for tokens in pool.map_async(_mint, work).get(120) for token in tokens]
        return made[:count]

    def _pem(self, algorithm: str) -> bytes:
        private = (self.rsa if algorithm == "RS256" else self.ec).private
        return bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _mint(work: tuple[bytes, str, str, int, int]) -> list[str]:
    key_pem, algorithm, issuer, first, end = work
    signer = SigningKey("rsa-1" if algorithm == "RS256" else "ec-1", algorithm, load_pem_private_key(key_pem, None))
    now, tokens = int(time.time()), []
    for number in range(first, end):
        claims = {
            "iss": issuer,
            "sub": f"user-{number % SESSIONS:08d}",
            "aud": AUDIENCE,
            "client_id": "bench-client",
            "scope": "openid profile agents/invoke",
            "iat": now,
            "nbf": now - 30,
            "exp": now + LIFETIME,
            "jti": f"{number:032d}",
            "padding": _PADDING,
        }
        tokens.append(signer.token(claims))
    return tokens


def corrupted(token: str) -> str:
    """Return the token with one bit of its signature changed."""
    data, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[10] ^= 1
    return f"{data}.{b64(bytes(raw))}"
