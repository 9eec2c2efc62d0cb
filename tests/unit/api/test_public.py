"""The open doors: alive, ready, and metrics for who holds their token."""

import pytest
from prometheus_client import CollectorRegistry, Counter

from identity_gateway import __version__
from identity_gateway.api import pages, sts, webhooks
from identity_gateway.api.public import OPEN_DOORS, Lifecycle, public
from identity_gateway.errors import Unavailable
from identity_gateway.model import Secret
from identity_gateway.protocol.request import Request
from tests.fakes.asgi import Connection, ask

TOKEN = "metrics-token"
ELSEWHERE = {**pages.DOORS, **webhooks.DOORS, **sts.DOORS}
"""Doors that are declared here, and served by applications of their own."""


async def up() -> None:
    """A part that answers."""


async def down() -> None:
    raise Unavailable(reason="connection refused by db.internal:5432")


async def get(
    path: str,
    *authorizations: bytes,
    lifecycle: Lifecycle | None = None,
    token: Secret | None = None,
    method: str = "GET",
) -> Connection:
    registry = CollectorRegistry()
    Counter("served", "Just a number.", registry=registry).inc()
    app = public(lifecycle or Lifecycle({"records": up}), metrics_token=token, registry=registry)
    headers = ((b"host", b"gateway.test"), *((b"authorization", value) for value in authorizations))
    return await ask(app, Request(method, path.encode(), b"", headers))


# --- Not ready ---


async def test_a_gateway_that_drains_is_not_ready():
    answer = await get("/readyz", lifecycle=Lifecycle({"records": up}, draining=True))
    assert (answer.status, answer.json) == (503, {"status": "not ready", "faults": ["draining"]})


async def test_a_gateway_whose_parts_are_down_is_not_ready_and_names_them_only():
    answer = await get("/readyz", lifecycle=Lifecycle({"records": down, "ephemeral": up, "keys": down}))
    assert (answer.status, answer.json["faults"]) == (503, ["records", "keys"])
    assert b"db.internal" not in answer.body


async def test_a_gateway_that_drains_is_still_alive():
    answer = await get("/healthz", lifecycle=Lifecycle({"records": down}, draining=True))
    assert (answer.status, answer.json) == (200, {"status": "alive"})


async def test_a_gateway_whose_parts_answer_is_ready():
    answer = await get("/readyz")
    assert (answer.status, answer.json) == (200, {"status": "ready", "faults": []})


# --- Metrics ---


async def test_metrics_without_a_token_in_the_settings_are_not_found():
    for authorizations in ((), (b"Bearer ",), (b"Bearer None",)):
        answer = await get("/metrics", *authorizations)
        assert answer.status == 404
        assert b"served" not in answer.body


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer metrics-toke",
        b"Bearer metrics-token ",
        b"Bearer  metrics-token",
        b"Basic metrics-token",
        b"metrics-token",
        b"Bearer metrics-token\xff",
    ],
)
async def test_metrics_without_their_token_are_refused(authorization: bytes | None):
    answer = await get("/metrics", *([authorization] if authorization is not None else []), token=Secret(TOKEN))
    assert (answer.status, answer.headers[b"www-authenticate"]) == (401, b"Bearer")
    assert b"served" not in answer.body


async def test_metrics_with_their_token_are_prometheus_text():
    answer = await get("/metrics", b"Bearer metrics-token", token=Secret(TOKEN))
    assert answer.status == 200
    assert answer.headers[b"content-type"].startswith(b"text/plain")
    assert b"served_total 1.0" in answer.body


# --- And nothing else ---


async def test_the_root_tells_name_and_version():
    assert (await get("/")).json == {"name": "identity-gateway", "version": __version__}


@pytest.mark.parametrize("path", OPEN_DOORS.keys() - ELSEWHERE.keys())
async def test_an_open_door_is_there_for_reading_only(path: str):
    assert (await get(path, b"Bearer metrics-token", token=Secret(TOKEN))).status == 200
    assert (await get(path, b"Bearer metrics-token", token=Secret(TOKEN), method="POST")).status == 405


@pytest.mark.parametrize("path", ELSEWHERE)
async def test_the_doors_of_pages_and_webhooks_are_declared_here_and_served_elsewhere(path: str):
    assert path in OPEN_DOORS
    assert (await get(path)).status == 404


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/healthz/", "/metrics/", "//", "/readyz/x"])
async def test_there_is_no_other_door(path: str):
    assert (await get(path)).status == 404
