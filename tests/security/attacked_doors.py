"""The two doors of an agent, as an attack finds them at a gateway that runs: for bearer tokens, and for signatures.

Every attack shows two requests: one that is let in, and what the attacker made of it. A door says how the second was
refused: what the attacker was told, and the reason that is on record for operators. Nothing here decides what is right.
"""

import base64
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx2
from cryptography.hazmat.primitives import serialization

from identity_gateway.protocol.request import Request
from tests.agents import Agent
from tests.callers import AUDIENCE, guarded_by, post
from tests.conformance.control_plane import Answer, send, sign
from tests.fakes.issuer import DISCOVERY, FakeIssuer, SigningKey
from tests.gateways import RunningGateway, register

ERROR = re.compile(r'error="([^"]*)"')
_LOG_SECONDS = 5.0
_LOG_TAIL = 1 << 17
_PLACES = count()


def reason_of(gateway: RunningGateway, request_id: str) -> str:
    """Return the reason for which a request was refused, as the gateway logged it. It may be written after the answer."""
    deadline = time.monotonic() + _LOG_SECONDS
    while time.monotonic() < deadline:
        with gateway.log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
            for line in log.read().splitlines():
                if request_id.encode() in line and b'"event": "request"' in line:
                    return str(json.loads(line)["reason"])
        time.sleep(0.01)
    raise AssertionError(f"no request {request_id} is in the log")


def fresh_url(issuer: FakeIssuer) -> str:
    """Return a discovery URL of the issuer that the gateway has never seen.

    The port of an issuer that is gone may be the next one's, and the gateway remembers keys by the URL.
    """
    return f"{issuer.issuer}/{os.getpid()}-{next(_PLACES)}{DISCOVERY}"


# --- Bearer tokens ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BearerDoor:
    """The door of an agent that takes tokens of one issuer."""

    gateway: RunningGateway
    agent: Agent
    issuer: FakeIssuer
    arn: str

    @classmethod
    def of(cls, gateway: RunningGateway, agent: Agent, issuer: FakeIssuer, **rules: Any) -> "BearerDoor":
        return cls(gateway, agent, issuer, register(gateway, agent.url, **guarded_by(fresh_url(issuer), **rules)))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return good claims, some of them changed; a change to None removes the claim."""
        now = int(time.time())
        good = {"iss": self.issuer.issuer, "sub": "ada", "aud": AUDIENCE, "iat": now, "exp": now + 600} | changes
        return {name: value for name, value in good.items() if value is not None}

    def shown(self, token: str) -> httpx2.Response:
        return post(self.gateway, self.arn, token)

    def refusal(self, good: str, bad: str) -> str:
        """Show a token that is let in, then the attack; return the first word of the reason on record.

        The attacker is told that the token is invalid and nothing more, and the agent is not called.
        """
        answer = self.shown(good)
        assert answer.status_code == 200, reason_of(self.gateway, answer.headers["x-amzn-requestid"])
        called = len(self.agent.received)
        answer = self.shown(bad)
        told = answer.status_code, answer.headers["x-amzn-errortype"], ERROR.findall(answer.headers["www-authenticate"])
        assert told == (401, "UnauthorizedException", ["invalid_token"])
        assert answer.json() == {"message": "The bearer token is missing or not valid."}
        assert len(self.agent.received) == called
        return reason_of(self.gateway, answer.headers["x-amzn-requestid"]).partition(":")[0]


def public_renderings(key: SigningKey) -> dict[str, bytes]:
    """Return the ways in which the public key of an RSA key has been taken for a shared secret."""
    public, form, encoding = key.private.public_key(), serialization.PublicFormat, serialization.Encoding
    pem = public.public_bytes(encoding.PEM, form.SubjectPublicKeyInfo)
    return {
        "PEM": pem,
        "PEM without final newline": pem.rstrip(),
        "PEM with CRLF": pem.replace(b"\n", b"\r\n"),
        "PEM body": b"".join(pem.splitlines()[1:-1]),
        "PKCS 1": public.public_bytes(encoding.PEM, form.PKCS1),
        "DER": public.public_bytes(encoding.DER, form.SubjectPublicKeyInfo),
        "SSH": public.public_bytes(encoding.OpenSSH, form.OpenSSH),
        "JWK": json.dumps(key.jwk()).encode(),
        "JWK Set": json.dumps({"keys": [key.jwk()]}).encode(),
        "modulus text": key.jwk()["n"].encode(),
        "modulus bytes": base64.urlsafe_b64decode(key.jwk()["n"] + "=="),
        "empty": b"",
    }


# --- Signatures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignedDoor:
    """The door of an agent that takes signed requests."""

    gateway: RunningGateway
    agent: Agent
    path: str

    @classmethod
    def of(cls, gateway: RunningGateway, agent: Agent) -> "SignedDoor":
        url = gateway.invocation_url(register(gateway, agent.url))
        return cls(gateway, agent, url.removeprefix(gateway.url))

    @property
    def key_id(self) -> str:
        return self.gateway.root_key[0]

    def signed(self, body: bytes = b"", headers: Mapping[str, str] | None = None, **changes: Any) -> Request:
        """Return a call as botocore signs it now, with the root key."""
        path = changes.pop("path", self.path)
        return sign(self.gateway, changes.pop("method", "POST"), path, body, headers=dict(headers or {}), **changes)

    def shown(self, request: Request, body: bytes = b"") -> Answer:
        return send(self.gateway, request, body)

    def refusal(
        self, good: Request, bad: Request, body: bytes = b"", *, bad_body: bytes | None = None
    ) -> tuple[int, str | None]:
        """Show a request that is let in, then the attack; return the status and the code that the attacker is told.

        The agent is called by the first one alone.
        """
        assert self.shown(good, body).status == 200
        called = len(self.agent.received)
        answer = self.shown(bad, body if bad_body is None else bad_body)
        assert len(self.agent.received) == called
        return answer.error
