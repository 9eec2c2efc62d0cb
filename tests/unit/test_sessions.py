"""Sessions: whose they are, how long they live, and which version and address they keep."""

from dataclasses import replace

import pytest

from identity_gateway.errors import AccessDenied, Unavailable
from identity_gateway.runtimes import Route, RuntimeConfiguration
from identity_gateway.runtimes.routing import Name
from identity_gateway.sessions import Session, Sessions
from identity_gateway.upstream import Origin
from tests.fakes.clock import Clock
from tests.fakes.ephemeral_in_memory import InMemoryEphemeral, Shelf

ID = "runtime:" + "s" * 36
CONFIGURATION = RuntimeConfiguration(
    origins=(Origin("http", "agent.test", 80),), base=b"", target=b"/invocations", protocol="HTTP",
    authorizer=None, allowlist=frozenset(), idle=100.0, longest=1000.0,
)  # fmt: skip
ROUTE = Route(Name("hello-AbCdEf1234", "DEFAULT"), "arn", "endpoint-arn", 3, "hello-AbCdEf1234", CONFIGURATION)
LIVE = replace(ROUTE, name=Name("hello-AbCdEf1234", "live"), version=7)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def store(shelf: Shelf, clock: Clock) -> InMemoryEphemeral:
    return InMemoryEphemeral(shelf, clock=clock)


@pytest.fixture
def sessions(store: InMemoryEphemeral, clock: Clock) -> Sessions:
    return Sessions(store, "0" * 12, clock=clock, binding=True)


async def begun(sessions: Sessions, route: Route = ROUTE, holder: str = "user:ada") -> Session:
    return await sessions.open(route, ID, holder, "http://agent.test")


async def test_a_session_of_somebody_else_is_refused(sessions: Sessions):
    await begun(sessions)
    with pytest.raises(AccessDenied) as caught:
        await sessions.find(ROUTE, ID, "user:eve")
    assert "ada" not in caught.value.message + caught.value.reason


async def test_of_two_users_who_begin_one_session_at_once_one_is_refused(sessions: Sessions):
    await begun(sessions)
    with pytest.raises(AccessDenied):
        await begun(sessions, holder="user:eve")


async def test_a_session_that_is_not_bound_is_anybodys(store: InMemoryEphemeral, clock: Clock):
    unbound = Sessions(store, "0" * 12, clock=clock, binding=False)
    await begun(unbound)
    assert await unbound.find(ROUTE, ID, "user:eve") is not None


async def test_one_id_at_two_runtimes_is_two_sessions(sessions: Sessions):
    await begun(sessions)
    assert await sessions.find(replace(ROUTE, name=Name("other-AbCdEf1234", "DEFAULT")), ID, "user:eve") is None


async def test_a_session_of_somebody_else_is_refused_at_every_endpoint_of_the_runtime(sessions: Sessions):
    await begun(sessions)
    with pytest.raises(AccessDenied):
        await sessions.find(LIVE, ID, "user:eve")


async def test_a_session_keeps_its_version_at_its_own_endpoint_alone(sessions: Sessions):
    await begun(sessions)
    found = [await sessions.find(route, ID, "user:ada") for route in (LIVE, replace(ROUTE, version=9))]
    assert [(each.endpoint, each.version) for each in found if each] == [("live", 7), ("DEFAULT", 3)]


async def test_who_may_see_every_session_of_an_endpoint_sees_none_of_another_endpoint(sessions: Sessions):
    await begun(sessions)
    assert (await sessions.find(LIVE, ID, None), (await sessions.find(ROUTE, ID, None)) is None) == (None, False)


async def test_a_session_of_another_account_is_not_there(store: InMemoryEphemeral, sessions: Sessions, clock: Clock):
    await begun(sessions)
    assert await Sessions(store, "1" * 12, clock=clock, binding=True).find(ROUTE, ID, "user:ada") is None


async def test_a_session_ends_when_it_was_idle_too_long(sessions: Sessions, clock: Clock):
    await begun(sessions)
    clock.now += 100
    assert await sessions.find(ROUTE, ID, "user:ada") is None


async def test_a_session_that_is_used_stays(sessions: Sessions, clock: Clock):
    session = await begun(sessions)
    for _ in range(5):
        clock.now += 90
        session = await sessions.find(ROUTE, ID, "user:ada") or session
        await sessions.keep(ROUTE, session, address=session.address)
    assert await sessions.find(ROUTE, ID, "user:ada") is not None


async def test_a_session_ends_at_its_longest_however_busy_it_is(sessions: Sessions, clock: Clock):
    session = await begun(sessions)
    for _ in range(20):
        clock.now += 50
        found = await sessions.find(ROUTE, ID, "user:ada")
        if found is None:
            break
        await sessions.keep(ROUTE, found, address=found.address)
    assert clock.now - session.opened_at == 1000


async def test_a_session_that_is_over_can_begin_anew_for_anybody(sessions: Sessions, clock: Clock):
    await begun(sessions)
    clock.now += 100
    await begun(sessions, holder="user:eve")
    assert await sessions.find(ROUTE, ID, "user:eve") is not None


async def test_a_session_keeps_the_version_that_it_began_with(sessions: Sessions):
    await begun(sessions)
    found = await sessions.find(replace(ROUTE, version=4), ID, "user:ada")
    assert found is not None
    assert found.version == 3


async def test_a_session_moves_to_the_address_that_took_its_call(sessions: Sessions):
    session = await begun(sessions)
    await sessions.keep(ROUTE, session, address="http://other.test")
    found = await sessions.find(ROUTE, ID, "user:ada")
    assert found is not None
    assert (found.address, found.version, found.opened_at) == ("http://other.test", 3, session.opened_at)


async def test_a_session_is_not_written_at_every_call(sessions: Sessions, store: InMemoryEphemeral, clock: Clock):
    session = await begun(sessions)
    clock.now += 9
    await sessions.keep(ROUTE, session, address=session.address)
    clock.now += 91.5
    assert await sessions.find(ROUTE, ID, "user:ada") is None


async def test_a_session_lives_as_long_as_its_call_that_lasts_longer_than_its_idle_time(
    sessions: Sessions, clock: Clock
):
    session = await begun(sessions)
    await sessions.keep(ROUTE, session, address=session.address, lasting=500)
    clock.now += 499
    with pytest.raises(AccessDenied):
        await sessions.find(ROUTE, ID, "user:eve")


async def test_a_short_call_does_not_shorten_the_life_that_a_long_one_gave(sessions: Sessions, clock: Clock):
    session = await begun(sessions)
    await sessions.keep(ROUTE, session, address=session.address, lasting=500)
    found = await sessions.find(ROUTE, ID, "user:ada")
    assert found is not None
    await sessions.keep(ROUTE, found, address="http://other.test")
    clock.now += 499
    assert await sessions.find(ROUTE, ID, "user:ada") is not None


async def test_no_call_keeps_a_session_beyond_its_longest(sessions: Sessions, clock: Clock):
    session = await begun(sessions)
    await sessions.keep(ROUTE, session, address=session.address, lasting=5000)
    clock.now += 1000
    assert await sessions.find(ROUTE, ID, "user:ada") is None


async def test_of_two_who_stop_a_session_one_has_stopped_it(sessions: Sessions):
    session = await begun(sessions)
    assert [await sessions.stop(ROUTE, session) for _ in range(2)] == [True, False]


async def test_the_store_does_not_see_who_holds_a_session_nor_its_id(sessions: Sessions, shelf: Shelf):
    await begun(sessions, holder="user:ada@example.test")
    kept = str(shelf.entries)
    assert "session:" in kept
    assert "ada@example.test" not in kept
    assert "s" * 36 not in kept


async def test_without_the_store_nobody_is_let_into_a_session(shelf: Shelf, clock: Clock):
    async def down(_step: str) -> None:
        raise Unavailable(reason="connection refused")

    with pytest.raises(Unavailable):
        await Sessions(InMemoryEphemeral(shelf, down, clock=clock), "0" * 12, clock=clock, binding=True).find(
            ROUTE, ID, "user:ada"
        )
