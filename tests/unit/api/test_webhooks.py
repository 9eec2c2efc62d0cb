"""The door of webhooks: what arrives is handed on byte by byte, what is too much is not, and faults say nothing."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from identity_gateway.api.public import OPEN_DOORS
from identity_gateway.api.webhooks import opens, webhooks
from identity_gateway.credential_providers import WEBHOOKS
from identity_gateway.errors import Conflict, GatewayError, Unavailable
from identity_gateway.signals import Delivery, NotJson, SignatureRefused

PATH = "/identities/webhooks/0b6c1f5e"


class Receiver:
    """Stands where `Signals` does: keeps what it is handed, and answers or fails as it was told."""

    def __init__(self) -> None:
        self.received: list[Delivery] = []
        self.fault: Exception | None = None

    async def receive(self, delivery: Delivery) -> dict[str, Any]:
        self.received.append(delivery)
        if self.fault is not None:
            raise self.fault
        return {"challenge": "x"}


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def vendor(receiver: Receiver) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(webhooks(receiver))  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway.example") as client:
        yield client


async def test_a_body_that_says_it_is_too_large_is_not_read(vendor: httpx2.AsyncClient, receiver: Receiver):
    answer = await vendor.post(PATH, content=b"x" * ((1 << 20) + 1))
    assert (answer.status_code, receiver.received) == (413, [])


async def test_a_body_that_grows_too_large_is_not_read_to_its_end(vendor: httpx2.AsyncClient, receiver: Receiver):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b"x" * 65536

    answer = await vendor.post(PATH, content=endless())
    assert (answer.status_code, receiver.received) == (413, [])


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (SignatureRefused(reason="precise"), 401),
        (NotJson("Send this webhook as application/json."), 415),
        (Unavailable(reason="precise"), 503),
        (Conflict("Try again."), 409),
        (GatewayError("An internal error occurred.", reason="precise"), 500),
        (RuntimeError("precise"), 500),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_a_fault_is_its_status_and_one_public_sentence(
    vendor: httpx2.AsyncClient, receiver: Receiver, fault: Exception, status: int
):
    receiver.fault = fault
    answer = await vendor.post(PATH, content=b"{}")
    assert (answer.status_code, set(answer.json())) == (status, {"message"})
    assert "precise" not in answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_is_taken(vendor: httpx2.AsyncClient, receiver: Receiver, method: str):
    answer = await vendor.request(method, PATH)
    assert (answer.status_code, receiver.received) == (405, [])


@pytest.mark.parametrize("path", [PATH + "/more", "/identities/webhooks/", PATH + "/"])
async def test_no_other_path_is_served(vendor: httpx2.AsyncClient, receiver: Receiver, path: str):
    assert (await vendor.post(path, content=b"{}")).status_code == 404
    assert receiver.received == []


async def test_a_delivery_is_handed_on_as_it_arrived(vendor: httpx2.AsyncClient, receiver: Receiver):
    body = b'{ "a":\r\n1}\x00\xff'
    await vendor.post(PATH, content=body, headers={"X-Slack-Signature": "v0=1"})
    (delivery,) = receiver.received
    assert (delivery.provider_id, delivery.body, delivery.headers["x-slack-signature"]) == ("0b6c1f5e", body, "v0=1")


async def test_every_answer_carries_the_request_id_of_its_record(vendor: httpx2.AsyncClient, receiver: Receiver):
    answer = await vendor.post(PATH, content=b"{}")
    assert answer.headers["x-amzn-requestid"] == receiver.received[0].request_id != ""


async def test_the_answer_of_the_story_is_the_answer(vendor: httpx2.AsyncClient):
    answer = await vendor.post(PATH, content=b"{}")
    assert (answer.status_code, answer.json()) == (200, {"challenge": "x"})


def test_the_urls_that_administrators_are_told_lead_to_the_declared_door():
    assert WEBHOOKS + "{provider_id}" in OPEN_DOORS
    assert opens(PATH.encode())
    assert not opens(b"/identities/oauth2/authorize")
