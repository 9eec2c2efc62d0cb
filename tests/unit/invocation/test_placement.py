"""Where calls go, and that nobody takes over a session while a call of its user is under way."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from identity_gateway.errors import AccessDenied
from identity_gateway.invocation import Addresses, Call, Placement
from identity_gateway.invocation.doors import Door
from identity_gateway.invocation.proof import Proven
from identity_gateway.model import JwtUser, Realm
from identity_gateway.protocol.request import Request
from identity_gateway.runtimes import Route, Routes, RuntimeConfiguration
from identity_gateway.runtimes.routing import Name
from identity_gateway.sessions import Sessions
from identity_gateway.upstream import Origin
from tests.fakes.clock import Clock
from tests.fakes.ephemeral_in_memory import InMemoryEphemeral, Shelf
from tests.fakes.records_in_memory import InMemoryRecords, Memory

REALM = Realm("0" * 12, "us-east-1")
SESSION, MCP_SESSION = "s" * 36, "m" * 36
LONGEST_CALL, LONGEST_STREAM = 900.0, 3600.0


def route(protocol: str = "HTTP") -> Route:
    configuration = RuntimeConfiguration(
        origins=(Origin("http", "agent.test", 80),), base=b"", target=b"/", protocol=protocol,
        authorizer=None, allowlist=frozenset(), idle=60.0, longest=28_800.0,
    )  # fmt: skip
    name = Name("hello-AbCdEf1234", "DEFAULT")
    return Route(name, "arn", "endpoint-arn", 1, name.runtime_id, configuration)


async def nothing() -> AsyncIterator[bytes]:
    for piece in ():
        yield piece


def call(door: Door = Door.INVOKE, **asked: str) -> Call:
    return Call(Request("POST", b"/", b"", ()), dict(asked), nothing(), "request", "127.0.0.1", door=door)


def by(person: str) -> Proven:
    user: Any = JwtUser("https://issuer.test", person)
    return Proven(person, None, user, None, (), nothing(), 0)


@pytest.fixture
def placement(clock: Clock) -> Placement:
    sessions = Sessions(InMemoryEphemeral(Shelf(), clock=clock), REALM.account, clock=clock, binding=True)
    return Placement(
        Routes(InMemoryRecords(Memory()), REALM),
        sessions,
        Addresses(clock=clock),
        longest_call=LONGEST_CALL,
        longest_stream=LONGEST_STREAM,
    )


@pytest.mark.parametrize("pause", [0.0, 3.0, 20.0, 50.0])
@pytest.mark.parametrize(("door", "lasts"), [(Door.INVOKE, LONGEST_CALL), (Door.STREAM, LONGEST_STREAM)])
async def test_a_session_is_not_taken_over_while_a_call_of_its_user_lasts(
    placement: Placement, clock: Clock, door: Door, lasts: float, pause: float
):
    for _ in range(3):
        await placement.enter(call(door, runtimeSessionId=SESSION), route(), by("ada"))
        clock.now += pause
    await placement.enter(call(door, runtimeSessionId=SESSION), route(), by("ada"))
    clock.now += lasts - 1
    with pytest.raises(AccessDenied):
        await placement.enter(call(runtimeSessionId=SESSION), route(), by("eve"))


@pytest.mark.parametrize("names", [{"runtimeSessionId": SESSION}, {"mcpSessionId": MCP_SESSION}])
async def test_both_names_of_a_session_at_an_mcp_server_stay_its_users_while_a_call_lasts(
    placement: Placement, clock: Clock, names: dict[str, str]
):
    both = call(runtimeSessionId=SESSION, mcpSessionId=MCP_SESSION)
    await placement.enter(both, route("MCP"), by("ada"))
    clock.now += LONGEST_CALL - 1
    with pytest.raises(AccessDenied):
        await placement.enter(call(**names), route("MCP"), by("eve"))


async def test_an_mcp_session_of_ones_own_does_not_open_the_session_of_somebody_else(placement: Placement):
    await placement.enter(call(runtimeSessionId=SESSION), route("MCP"), by("ada"))
    with pytest.raises(AccessDenied):
        await placement.enter(call(runtimeSessionId=SESSION, mcpSessionId=MCP_SESSION), route("MCP"), by("eve"))


async def test_a_card_is_asked_for_in_no_session_of_somebody_else_and_begins_none(placement: Placement):
    card = call(Door.CARD, runtimeSessionId=SESSION)
    assert (await placement.enter(card, route("A2A"), by("eve"))).session is None
    await placement.enter(call(runtimeSessionId=SESSION), route("A2A"), by("ada"))
    with pytest.raises(AccessDenied):
        await placement.enter(card, route("A2A"), by("eve"))


async def test_a_call_without_names_at_an_mcp_server_begins_no_session(placement: Placement):
    assert (await placement.enter(call(), route("MCP"), by("ada"))).session is None
