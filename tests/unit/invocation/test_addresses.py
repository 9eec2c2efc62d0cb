"""The addresses of an agent: the same one for a session, and never one that is known to be down while another is up."""

import pytest

from identity_gateway.invocation import Addresses
from identity_gateway.upstream import Origin
from tests.fakes.clock import Clock

THREE = tuple(Origin("http", f"agent-{number}.test", 80) for number in range(3))
SESSIONS = [f"session-{number}" for number in range(300)]


@pytest.fixture
def addresses(clock: Clock) -> Addresses:
    return Addresses(clock=clock)


def test_sessions_spread_over_the_addresses(addresses: Addresses):
    firsts = [addresses.in_order(THREE, session)[0] for session in SESSIONS]
    assert all(70 <= firsts.count(origin) <= 130 for origin in THREE)


def test_a_session_goes_to_the_same_address_in_every_process(clock: Clock):
    orders = [Addresses(clock=clock).in_order(THREE, "session") for _ in range(3)]
    assert orders[0] == orders[1] == orders[2]


def test_when_an_address_comes_only_its_own_sessions_move(addresses: Addresses):
    before = {session: addresses.in_order(THREE[:2], session)[0] for session in SESSIONS}
    after = {session: addresses.in_order(THREE, session)[0] for session in SESSIONS}
    moved = {after[session] for session in SESSIONS if before[session] != after[session]}
    assert moved == {THREE[2]}


def test_a_session_stays_where_it_has_been(addresses: Addresses):
    assert all(addresses.in_order(THREE, session, first=str(THREE[1]))[0] == THREE[1] for session in SESSIONS)


def test_an_address_that_is_down_comes_last(addresses: Addresses):
    addresses.failed(THREE[1])
    assert all(addresses.in_order(THREE, session, first=str(THREE[1]))[-1] == THREE[1] for session in SESSIONS)


def test_an_address_is_passed_by_for_longer_each_time(addresses: Addresses, clock: Clock):
    lasted = []
    for _ in range(6):
        addresses.failed(THREE[0])
        began = clock.now
        while addresses.in_order(THREE, "x", first=str(THREE[0]))[0] != THREE[0]:
            clock.now += 1
        lasted.append(clock.now - began)
    assert lasted == [5, 10, 20, 40, 60, 60]


def test_of_many_calls_that_fail_at_an_address_at_once_one_counts(addresses: Addresses, clock: Clock):
    for _ in range(6):
        addresses.failed(THREE[0])
    clock.now += 5
    assert addresses.in_order(THREE, "x", first=str(THREE[0]))[0] == THREE[0]


def test_an_address_that_answers_is_up_again(addresses: Addresses):
    addresses.failed(THREE[0])
    addresses.answered(THREE[0])
    assert addresses.in_order(THREE, "x", first=str(THREE[0]))[0] == THREE[0]


def test_the_only_address_is_tried_although_it_is_down(addresses: Addresses):
    addresses.failed(THREE[0])
    assert addresses.in_order(THREE[:1], "x") == [THREE[0]]


def test_failures_of_many_addresses_do_not_fill_the_memory(addresses: Addresses):
    for port in range(1, 6000):
        addresses.failed(Origin("http", "agent.test", port))
    assert len(addresses._down) == 4096
