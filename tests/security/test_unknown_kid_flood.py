"""Threat: tokens with invented key ids make the gateway flood an issuer, fill its memory, or forget the good keys."""

import asyncio
from ipaddress import ip_network

import pytest

from identity_gateway.egress import Egress
from identity_gateway.keysets import KeySets
from tests.fakes.issuer import JWKS, FakeIssuer, SigningKey, Vice
from tests.fakes.shared import SharedDictionary

EGRESS = Egress((ip_network("127.0.0.0/8"),))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_thousand_invented_key_ids_cost_one_fetch() -> None:
    async with FakeIssuer() as issuer:
        keysets = KeySets(EGRESS, clock=Clock())
        await keysets.get(issuer.discovery_url)
        for number in range(10):
            flood = (keysets.refresh_for(issuer.discovery_url, f"{number}-{each}") for each in range(100))
            await asyncio.gather(*flood)
    assert issuer.requests[JWKS] == 1 + 1


async def test_one_invented_key_id_costs_one_fetch_in_two_minutes() -> None:
    clock = Clock()
    async with FakeIssuer() as issuer:
        keysets = KeySets(EGRESS, clock=clock)
        await keysets.get(issuer.discovery_url)
        for _ in range(119):
            await keysets.refresh_for(issuer.discovery_url, "invented")
            clock.now += 1
    assert issuer.requests[JWKS] == 1 + 1


async def test_a_flood_costs_one_fetch_per_cool_down_while_the_issuer_is_down() -> None:
    clock = Clock()
    async with FakeIssuer() as issuer:
        keysets = KeySets(EGRESS, clock=clock)
        await keysets.get(issuer.discovery_url)
        issuer.vices = {JWKS: Vice.ERROR}
        for second in range(60):
            await keysets.refresh_for(issuer.discovery_url, f"invented-{second}")
            clock.now += 1
    assert issuer.requests[JWKS] == 1 + 2


async def test_a_flood_after_a_failure_waits_for_the_cool_down() -> None:
    clock = Clock()
    async with FakeIssuer() as issuer:
        keysets = KeySets(EGRESS, clock=clock)
        await keysets.get(issuer.discovery_url)
        issuer.vices = {JWKS: Vice.ERROR}
        clock.now += 3600
        await keysets.get(issuer.discovery_url)
        await keysets.refresh_for(issuer.discovery_url, "invented")
    assert issuer.requests[JWKS] == 1 + 1


@pytest.mark.parametrize("vice", [Vice.DOWN, Vice.ERROR, Vice.GARBAGE, Vice.EMPTY_SET, Vice.PRIVATE_KEY])
async def test_a_flood_does_not_make_the_gateway_forget_good_keys(vice: Vice) -> None:
    async with FakeIssuer() as issuer:
        keysets = KeySets(EGRESS, clock=Clock())
        good = await keysets.get(issuer.discovery_url)
        issuer.vices = {JWKS: vice}
        await keysets.refresh_for(issuer.discovery_url, "invented")
        assert keysets.peek(issuer.discovery_url) is good


async def test_a_flood_does_not_fill_the_memory() -> None:
    clock = Clock()
    async with FakeIssuer() as issuer:
        keysets = KeySets(EGRESS, clock=clock, cooldown=0.0)
        await keysets.get(issuer.discovery_url)
        entry = keysets._entry(issuer.discovery_url)
        for number in range(300):
            await keysets.refresh_for(issuer.discovery_url, f"invented-{number}")
        assert len(entry.unknown) == 256


async def test_a_key_id_of_a_megabyte_is_not_kept_and_not_asked_for() -> None:
    async with FakeIssuer() as issuer:
        keysets = KeySets(EGRESS, clock=Clock())
        await keysets.get(issuer.discovery_url)
        await keysets.refresh_for(issuer.discovery_url, "k" * 1_000_000)
    assert issuer.requests[JWKS] == 1


async def test_a_flood_at_one_issuer_does_not_delay_the_rotation_of_another() -> None:
    async with FakeIssuer() as flooded, FakeIssuer() as other:
        keysets = KeySets(EGRESS, clock=Clock())
        await keysets.refresh_for(flooded.discovery_url, "invented")
        await keysets.get(other.discovery_url)
        key = other.rotate()
        assert key.kid in (await keysets.refresh_for(other.discovery_url, str(key.kid))).keys


async def test_a_flood_at_one_replica_does_not_keep_another_from_new_keys() -> None:
    clock = Clock()
    shared = SharedDictionary(clock)
    async with FakeIssuer() as issuer:
        flooded, other = (KeySets(EGRESS, clock=clock, shared=shared) for _ in range(2))  # type: ignore[arg-type]
        await other.get(issuer.discovery_url)
        await flooded.get(issuer.discovery_url)
        key = issuer.rotate(SigningKey.make(kid="new"))
        await flooded.refresh_for(issuer.discovery_url, "invented")
        await flooded.aclose()
        assert key.kid in (await other.refresh_for(issuer.discovery_url, "new")).keys
        await other.aclose()
