"""Callers that boto3 is not: plain HTTP with a bearer token, and the issuer that signs whatever a test wants to show;
`workload_token`, tokens that the gateway would not make any more; and `walk`, a person at the consent pages whose browser
knows neither scripts nor pictures.

`jwt_issuer` is a `FakeIssuer` in a thread, because the gateway that asks it for keys is another process. It keeps its
keys; a test that rotates them runs its own (`running_issuer`).
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest

from identity_gateway.model import NamedUser, WorkloadAccess
from identity_gateway.sealing import Sealer
from identity_gateway.workload import SEALING_PERIOD, WorkloadTokens
from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.gateways import ACCOUNT, RunningGateway

AUDIENCE = "agents"
_STEPS = 20


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


def workload_token(
    workload: str,
    gateway: RunningGateway | None,
    *,
    account: str = ACCOUNT,
    user: str | None = "ada",
    age: float = 0.0,
    actors: tuple[str, ...] = (),
    hosted: bool = False,
) -> str:
    """Return a workload access token of a gateway's making, or of one with another master key, so many seconds old."""
    tokens = _workload_tokens(gateway, account, age)
    named = NamedUser(user) if user is not None else None
    return tokens.mint(workload, named, actors=actors, hosted=hosted).reveal()


def opened(token: str, gateway: RunningGateway) -> WorkloadAccess:
    """Return what a workload access token of a gateway stands for, as only that gateway can read it."""
    return _workload_tokens(gateway, ACCOUNT, 0.0).open(token)


def _workload_tokens(gateway: RunningGateway | None, account: str, age: float) -> WorkloadTokens:
    master = (gateway.data_dir / "master.key").read_bytes() if gateway is not None else secrets.token_bytes(32)
    sealer = Sealer([master], "workload-access-token", period_seconds=SEALING_PERIOD)
    return WorkloadTokens(sealer, account, clock=lambda: time.time() - age)


class _Shown(HTMLParser):
    """What one can do on a page: its form, and its links by their text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self._link: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action", "")
        elif tag == "input" and given.get("type") == "hidden":
            self.fields[given["name"]] = given.get("value", "")
        elif tag == "input":
            self.fields[given["name"]] = ""
        elif tag == "a":
            self._link = given.get("href")

    def handle_data(self, data: str) -> None:
        if self._link is not None:
            self.links[data.strip("[ ]\n")] = self._link
            self._link = None


def walk(link: str, *, until: str, person: str = "ada", refuse: bool = False) -> list[str]:
    """Open a link, press every button, sign in as `person`, and go on until the URL begins with `until`.

    Returns every URL on the way; the last one is not opened. Who refuses follows «Cancel» where the vendor offers it, and
    the way back that the gateway's page shows then.
    """
    visited = [link]
    with httpx2.Client(trust_env=False, timeout=30) as browser:
        response = browser.get(link)
        for _ in range(_STEPS):
            page = _Shown(response.text)
            ways = [href for href in page.links.values() if href.startswith(until)]
            cancel = page.links.get("Cancel") if refuse else None
            if response.is_redirect:
                target, form = response.headers["location"], None
            elif ways or cancel:
                target, form = cancel or ways[0], None
            elif page.action is not None:
                filled = {name: value or person for name, value in page.fields.items()}
                target, form = page.action, filled
            else:
                break
            visited.append(urljoin(str(response.url), target))
            if visited[-1].startswith(until):
                return visited
            if form is None:
                response = browser.get(visited[-1])
            else:
                origin = f"{response.url.scheme}://{response.url.netloc.decode()}"
                response = browser.post(visited[-1], data=form, headers={"origin": origin})
    raise AssertionError(f"the walk ended at {visited[-1]} with {response.status_code}:\n{response.text[-2000:]}")
