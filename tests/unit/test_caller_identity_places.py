"""Proofs of AWS callers: nobody who signs nothing makes the gateway ask AWS as often at once as they like."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from identity_gateway.caller_identity import CallerIdentity
from identity_gateway.egress import Egress
from identity_gateway.errors import InvalidToken, Throttled
from identity_gateway.model import Secret
from identity_gateway.protocol.caller_identity import BINDING_HEADER

PLACES = 8
SERVER = "https://gateway.test"


class SlowSts:
    """Counts who asks, and refuses them all once it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.answering = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked.release()
        await self.answering.wait()
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def slow_sts() -> AsyncIterator[tuple[SlowSts, CallerIdentity]]:
    slow = SlowSts()
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    egress = Egress([ip_network("127.0.0.0/8")])
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield (
            slow,
            CallerIdentity(egress, server_id=SERVER, clock=lambda: datetime.now(UTC).timestamp(), endpoint_url=url),
        )
    finally:
        slow.answering.set()
        server.close()
        await server.wait_closed()
        await egress.aclose()


@pytest.fixture(scope="module")
def proof() -> Secret:
    query = "Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest("GET", f"https://sts.us-east-1.amazonaws.com/?{query}", headers={BINDING_HEADER: SERVER})
    SigV4QueryAuth(Credentials("AKIAEXAMPLEEXAMPLE12", "x"), "sts", "us-east-1", expires=60).add_auth(request)
    return Secret(str(request.url))


async def test_more_than_eight_proofs_at_once_are_told_to_come_later(proof: Secret):
    async with slow_sts() as (slow, callers), asyncio.TaskGroup() as group:
        waiting = [group.create_task(refusal(callers, proof)) for _ in range(PLACES)]
        for _ in waiting:
            await slow.asked.acquire()
        with pytest.raises(Throttled):
            await callers.verify(proof)
        slow.answering.set()
    assert all(type(each.result()) is InvalidToken for each in waiting)


async def test_a_place_is_free_again_when_aws_has_answered(proof: Secret):
    async with slow_sts() as (slow, callers):
        slow.answering.set()
        answers = [type(await refusal(callers, proof)) for _ in range(PLACES + 1)]
    assert answers == [InvalidToken] * (PLACES + 1)


async def refusal(callers: CallerIdentity, proof: Secret) -> InvalidToken:
    with pytest.raises(InvalidToken) as caught:
        await callers.verify(proof)
    return caught.value
