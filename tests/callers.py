"""Callers that boto3 is not: plain HTTP with a bearer token, and the issuer that signs whatever a test wants to show.

`jwt_issuer` is a `FakeIssuer` in a thread, because the gateway that asks it for keys is another process. It keeps its
keys; a test that rotates them runs its own (`running_issuer`).
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.gateways import RunningGateway

AUDIENCE = "agents"


@contextmanager
def running_issuer(*keys: SigningKey) -> Iterator[FakeIssuer]:
    """Run a FakeIssuer in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    issuer = FakeIssuer(*keys)
    asyncio.run_coroutine_threadsafe(issuer.__aenter__(), loop).result(10)
    try:
        yield issuer
    finally:
        asyncio.run_coroutine_threadsafe(issuer.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="session")
def jwt_issuer() -> Iterator[FakeIssuer]:
    """An issuer whose keys stay the same."""
    with running_issuer() as issuer:
        yield issuer


def guarded_by(discovery_url: str, **rules: Any) -> dict[str, Any]:
    """Return what makes a runtime ask for a JWT: by default one for AUDIENCE."""
    authorizer = {"discoveryUrl": discovery_url, **(rules or {"allowedAudience": [AUDIENCE]})}
    return {"authorizerConfiguration": {"customJWTAuthorizer": authorizer}}


def token_of(issuer: FakeIssuer, *, key: SigningKey | None = None, **changes: Any) -> str:
    """Return a good token for AUDIENCE, with some claims changed; a change to None removes the claim."""
    claims = {
        "iss": issuer.issuer,
        "sub": "ada",
        "aud": AUDIENCE,
        "client_id": "caller",
        "scope": "agents.invoke",
        "iat": int(time.time()),
        "exp": int(time.time()) + 600,
    }
    kept = {name: value for name, value in (claims | changes).items() if value is not None}
    return (key or issuer.keys[0]).token(kept)


def post(
    gateway: RunningGateway,
    arn: str,
    token: str | None,
    body: bytes = b"{}",
    *,
    query: str = "qualifier=DEFAULT",
    headers: Sequence[tuple[str, str]] = (),
) -> httpx2.Response:
    """Invoke an agent runtime with a bearer token, or with nothing."""
    shown = [("authorization", f"Bearer {token}")] if token is not None else []
    with httpx2.Client(trust_env=False, timeout=30, verify=False) as http:  # nothing here speaks TLS
        return http.post(gateway.invocation_url(arn, query), content=body, headers=[*shown, *headers])
