"""Metadata of authorization servers, from a server on loopback that misbehaves when told to."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest

from identity_gateway.egress import Egress
from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.server_metadata import FRESH_FOR, USABLE_FOR, Metadata, ServerMetadata, read
from tests.fakes.clock import Clock
from tests.fakes.issuer import DISCOVERY, FakeIssuer, Vice

URL = "https://id.example/.well-known/oauth-authorization-server"
COOLDOWN = 10
IMPATIENT = 0.1  # seconds, of those who ask what never answers


def document(issuer: str = "https://id.example", **changes: Any) -> dict[str, Any]:
    whole = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


@pytest.fixture
async def server() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer() as running:
        running.document_changes = document(running.issuer)
        yield running


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    made = Egress([ip_network("127.0.0.0/8")])
    yield made
    await made.aclose()


@pytest.fixture
async def metadata(egress: Egress, clock: Clock) -> AsyncIterator[ServerMetadata]:
    made = ServerMetadata(egress, clock=clock)
    yield made
    await made.aclose()


# --- Documents that cannot be used ---


@pytest.mark.parametrize("member", ["issuer", "authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize(
    "value",
    [None, "", 7, ["https://id.example"], "id.example", "ftp://id.example/x", "https://u:p@id.example/", "https://a b/",
     "https://id.example/#part", "http://id.example/plain", "https://169.254.169.254/token", "javascript:alert(1)"],
)  # fmt: skip
def test_a_document_without_a_usable_endpoint_is_refused_with_the_members_name(member: str, value: object):
    with pytest.raises(ValueError, match=member):
        read(document(**{member: value}), URL)


@pytest.mark.parametrize("found", [[], "text", None, 7, {}])
def test_a_document_that_is_no_metadata_is_refused(found: object):
    with pytest.raises(ValueError, match="issuer"):
        read(found, URL)


@pytest.mark.parametrize("vice", [Vice.GARBAGE, Vice.DEEP, Vice.REDIRECT])
async def test_a_document_that_cannot_be_read_is_the_administrators_to_mend(
    server: FakeIssuer, metadata: ServerMetadata, vice: Vice
):
    server.fail(vice)
    with pytest.raises(ValidationFailed) as caught:
        await metadata.get(server.discovery_url)
    assert server.issuer not in caught.value.message


@pytest.mark.parametrize("vice", [Vice.DOWN, Vice.ERROR, Vice.ENDLESS, Vice.COMPRESSED])
async def test_a_server_that_does_not_answer_is_unavailable(server: FakeIssuer, metadata: ServerMetadata, vice: Vice):
    server.fail(vice)
    with pytest.raises(Unavailable):
        await metadata.get(server.discovery_url)


@pytest.mark.parametrize("vice", [Vice.HANG, Vice.SLOW_DRIP])
async def test_a_server_that_takes_too_long_is_unavailable(
    server: FakeIssuer, metadata: ServerMetadata, egress: Egress, vice: Vice
):
    server.fail(vice)
    egress._total = IMPATIENT
    with pytest.raises(Unavailable):
        await metadata.get(server.discovery_url)


async def test_an_address_that_is_not_allowed_is_not_asked(server: FakeIssuer, clock: Clock):
    egress = Egress()
    with pytest.raises(ValidationFailed) as caught:
        await ServerMetadata(egress, clock=clock).get(server.discovery_url)
    await egress.aclose()
    assert ("may not be fetched" in caught.value.message, server.requests.total()) == (True, 0)


async def test_a_server_that_failed_is_left_alone_for_a_moment(server: FakeIssuer, metadata: ServerMetadata):
    server.fail(Vice.ERROR)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await metadata.get(server.discovery_url)
    assert server.requests[DISCOVERY] == 1


async def test_a_server_that_failed_is_asked_again_later(server: FakeIssuer, metadata: ServerMetadata, clock: Clock):
    server.fail(Vice.ERROR)
    with pytest.raises(Unavailable):
        await metadata.get(server.discovery_url)
    server.recover()
    clock.now += COOLDOWN
    assert (await metadata.get(server.discovery_url)).issuer == server.issuer


async def test_a_document_is_not_used_for_longer_than_an_hour(
    server: FakeIssuer, metadata: ServerMetadata, clock: Clock
):
    await metadata.get(server.discovery_url)
    server.fail(Vice.DOWN)
    clock.now += USABLE_FOR
    with pytest.raises(Unavailable):
        await metadata.get(server.discovery_url)


# --- Documents that can ---


def test_a_document_says_everything_that_a_client_needs():
    more = {
        "revocation_endpoint": "https://id.example/revoke",
        "introspection_endpoint": "https://id.example/introspect",
        "userinfo_endpoint": "https://api.example/me",
        "authorization_response_iss_parameter_supported": True,
    }
    assert read(document(**more), URL) == Metadata(
        issuer="https://id.example",
        authorization_endpoint="https://id.example/authorize",
        token_endpoint="https://id.example/token",
        revocation_endpoint="https://id.example/revoke",
        introspection_endpoint="https://id.example/introspect",
        userinfo_endpoint="https://api.example/me",
        iss_parameter_supported=True,
    )


@pytest.mark.parametrize("value", [None, "true", 1, "yes"])
def test_only_true_says_that_iss_is_always_sent(value: object):
    assert not read(document(authorization_response_iss_parameter_supported=value), URL).iss_parameter_supported


@pytest.mark.parametrize("url", ["http://id.example/revoke", "nonsense", 7])
def test_an_optional_endpoint_that_cannot_be_used_is_as_good_as_none(url: object):
    assert read(document(revocation_endpoint=url), URL).revocation_endpoint is None


def test_an_issuer_on_another_host_than_its_document_is_taken_at_its_word():
    assert read(document("https://sts.example"), URL).issuer == "https://sts.example"


async def test_a_fresh_document_is_not_fetched_again(server: FakeIssuer, metadata: ServerMetadata, clock: Clock):
    await metadata.get(server.discovery_url)
    clock.now += FRESH_FOR - 1
    await metadata.get(server.discovery_url)
    assert server.requests[DISCOVERY] == 1


async def test_a_changed_document_counts_after_five_minutes(server: FakeIssuer, metadata: ServerMetadata, clock: Clock):
    await metadata.get(server.discovery_url)
    server.document_changes["token_endpoint"] = f"{server.issuer}/moved"
    clock.now += 300
    assert (await metadata.get(server.discovery_url)).token_endpoint == f"{server.issuer}/moved"


@pytest.mark.parametrize("vice", [Vice.DOWN, Vice.ERROR, Vice.GARBAGE, Vice.REDIRECT])
async def test_an_old_document_is_used_while_the_server_fails(
    server: FakeIssuer, metadata: ServerMetadata, clock: Clock, vice: Vice
):
    before = await metadata.get(server.discovery_url)
    server.fail(vice)
    clock.now += USABLE_FOR - 1
    assert await metadata.get(server.discovery_url) == before


async def test_many_callers_at_once_make_one_fetch(server: FakeIssuer, metadata: ServerMetadata):
    await asyncio.gather(*(metadata.get(server.discovery_url) for _ in range(20)))
    assert server.requests[DISCOVERY] == 1


async def test_a_caller_that_gives_up_takes_the_document_from_nobody(server: FakeIssuer, metadata: ServerMetadata):
    server.gates[DISCOVERY] = asyncio.Event()
    impatient, patient = (asyncio.create_task(metadata.get(server.discovery_url)) for _ in range(2))
    await server.heard(DISCOVERY)
    impatient.cancel()
    server.gates[DISCOVERY].set()
    assert (await patient).issuer == server.issuer
