"""Key sets: fetched once, kept while fresh, renewed early, and never lost to a bad answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest

from identity_gateway.egress import Egress
from identity_gateway.errors import InvalidToken, Unavailable
from identity_gateway.keysets import KeySets, discovery_url_of
from tests.fakes.issuer import DISCOVERY, JWKS, FakeIssuer, SigningKey, Vice
from tests.fakes.shared import SharedDictionary

IMPATIENT = 0.1  # seconds, of those who ask what never answers
HOUR = 3600.0
DAY = 24 * HOUR
BAD_ANSWERS = [
    Vice.DOWN, Vice.ERROR, Vice.REDIRECT, Vice.GARBAGE, Vice.EMPTY_SET, Vice.DEEP, Vice.PRIVATE_KEY, Vice.ENDLESS,
]  # fmt: skip
SLOW_ANSWERS = [Vice.SLOW_DRIP, Vice.HANG]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """One issuer, a clock, and the key sets of one replica."""

    def __init__(self, issuer: FakeIssuer) -> None:
        self.issuer = issuer
        self.clock = Clock()
        self.url = issuer.discovery_url
        self.egress = Egress((ip_network("127.0.0.0/8"),), total=5.0, max_bytes=200_000)
        self.replicas: list[KeySets] = []
        self.keysets = self.replica()

    def replica(self, **options: Any) -> KeySets:
        keysets = KeySets(self.egress, clock=self.clock, **options)
        self.replicas.append(keysets)
        return keysets

    def make_issuer_fail(self, vice: Vice, *paths: str) -> None:
        self.issuer.vices |= dict.fromkeys(paths, vice)
        if vice in SLOW_ANSWERS:
            self.egress._total = IMPATIENT

    async def settle(self) -> None:
        """Wait until no background task is left."""
        while tasks := [task for keysets in self.replicas for task in keysets._tasks]:
            await asyncio.wait(tasks)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeIssuer() as issuer, contextlib.AsyncExitStack() as stack:
        built = World(issuer)
        yield built
        stack.push_async_callback(built.egress.aclose)
        for keysets in built.replicas:
            stack.push_async_callback(keysets.aclose)


# --- Bad answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vice", [*BAD_ANSWERS, *SLOW_ANSWERS])
async def test_an_issuer_that_fails_at_the_first_look_is_unavailable(world: World, vice: Vice) -> None:
    world.make_issuer_fail(vice, DISCOVERY, JWKS)
    with pytest.raises(Unavailable) as failure:
        await world.keysets.get(world.url)
    assert failure.value.reason.startswith("no usable key set of 127.0.0.1: ")


@pytest.mark.parametrize("vice", BAD_ANSWERS)
async def test_a_key_set_that_is_bad_at_the_first_look_is_unavailable(world: World, vice: Vice) -> None:
    world.issuer.vices = {JWKS: vice}
    with pytest.raises(Unavailable):
        await world.keysets.get(world.url)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": None},
        {"issuer": ""},
        {"issuer": ["https://a.example"]},
        {"jwks_uri": None},
        {"jwks_uri": 7},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://169.254.169.254/keys"},
        {"jwks_uri": "/keys"},
    ],
)
async def test_a_document_that_does_not_lead_to_keys_is_unavailable(world: World, changes: dict[str, Any]) -> None:
    world.issuer.document_changes = changes
    with pytest.raises(Unavailable):
        await world.keysets.get(world.url)


async def test_an_issuer_that_failed_is_left_alone_until_the_cool_down_ends(world: World) -> None:
    world.issuer.fail(Vice.ERROR)
    for _ in range(20):
        with pytest.raises(Unavailable):
            await world.keysets.get(world.url)
    assert world.issuer.requests.total() == 1


async def test_an_issuer_that_failed_is_asked_again_after_the_cool_down(world: World) -> None:
    world.issuer.fail(Vice.ERROR)
    with pytest.raises(Unavailable):
        await world.keysets.get(world.url)
    world.issuer.recover()
    world.clock.now += 30
    assert (await world.keysets.get(world.url)).issuer == world.issuer.issuer


@pytest.mark.parametrize("vice", [*BAD_ANSWERS, *SLOW_ANSWERS])
async def test_a_good_set_outlives_a_bad_answer(world: World, vice: Vice) -> None:
    good = await world.keysets.get(world.url)
    world.make_issuer_fail(vice, JWKS)
    world.clock.now += HOUR
    assert await world.keysets.get(world.url) is good


async def test_a_good_set_is_given_without_waiting_while_the_issuer_hangs(world: World) -> None:
    good = await world.keysets.get(world.url)
    world.issuer.fail(Vice.ERROR)
    world.clock.now += HOUR
    await world.keysets.get(world.url)
    world.issuer.fail(Vice.HANG)
    world.clock.now += 30
    assert await world.keysets.get(world.url) is good
    assert world.keysets._tasks, "the issuer was given up before the answer"


async def test_a_good_set_does_not_outlive_its_issuer_for_ever(world: World) -> None:
    await world.keysets.get(world.url)
    world.issuer.fail(Vice.DOWN)
    world.clock.now += HOUR + DAY
    with pytest.raises(Unavailable):
        await world.keysets.get(world.url)


async def test_an_issuer_comes_back_after_its_set_was_given_up(world: World) -> None:
    await world.keysets.get(world.url)
    world.clock.now += 3 * DAY
    assert await world.keysets.get(world.url)


# --- Fresh and stale --------------------------------------------------------------------------------------------------


async def test_many_callers_at_once_make_one_fetch(world: World) -> None:
    found = await asyncio.gather(*(world.keysets.get(world.url) for _ in range(50)))
    assert world.issuer.requests == {DISCOVERY: 1, JWKS: 1}
    assert len({id(keys) for keys in found}) == 1


async def test_a_caller_that_gives_up_does_not_take_the_others_along(world: World) -> None:
    world.issuer.gates[DISCOVERY] = asyncio.Event()
    impatient = asyncio.create_task(world.keysets.get(world.url))
    patient = asyncio.create_task(world.keysets.get(world.url))
    await world.issuer.heard(DISCOVERY)
    impatient.cancel()
    world.issuer.gates[DISCOVERY].set()
    assert (await patient).issuer == world.issuer.issuer


def test_nothing_is_fresh_before_it_was_fetched() -> None:
    assert KeySets(Egress(), clock=Clock()).peek("https://keys.example/") is None


async def test_a_fresh_set_is_seen_without_waiting(world: World) -> None:
    found = await world.keysets.get(world.url)
    assert world.keysets.peek(world.url) is found


async def test_a_set_that_aged_is_not_seen(world: World) -> None:
    await world.keysets.get(world.url)
    world.clock.now += HOUR
    assert world.keysets.peek(world.url) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 3600),
        ("max-age=600", 600),
        ("public, max-age=1200, must-revalidate", 1200),
        ('Max-Age="900"', 900),
        ("max-age=5", 300),
        ("max-age=0", 300),
        ("no-store", 300),
        ("max-age=7200, no-cache", 300),
        ("max-age=99999999", DAY),
        ("max-age=-1", 3600),
        ("x-max-age=900", 3600),
        ("max-age=٩٠٠", 3600),
    ],
)
async def test_a_set_is_fresh_as_long_as_the_issuer_says_within_bounds(
    world: World, header: str | None, seconds: float
) -> None:
    world.issuer.jwks_headers = {"cache-control": header} if header else {}
    await world.keysets.get(world.url)
    world.clock.now += seconds - 1
    assert world.keysets.peek(world.url) is not None
    world.clock.now += 1
    assert world.keysets.peek(world.url) is None
    await world.settle()


async def test_a_set_is_renewed_in_the_background_before_it_ages(world: World) -> None:
    old = await world.keysets.get(world.url)
    key = world.issuer.rotate()
    world.clock.now += HOUR * 0.95
    assert world.keysets.peek(world.url) is old
    await world.settle()
    renewed = world.keysets.peek(world.url)
    assert renewed is not None
    assert key.kid in renewed.keys


async def test_a_set_is_not_renewed_long_before_it_ages(world: World) -> None:
    await world.keysets.get(world.url)
    world.clock.now += HOUR * 0.5
    world.keysets.peek(world.url)
    await world.settle()
    assert world.issuer.requests[JWKS] == 1


async def test_a_background_renewal_that_fails_waits_for_the_cool_down(world: World) -> None:
    await world.keysets.get(world.url)
    world.issuer.fail(Vice.ERROR)
    world.clock.now += HOUR * 0.95
    for _ in range(5):
        world.keysets.peek(world.url)
        await world.settle()
    assert world.issuer.requests[DISCOVERY] == 2


async def test_a_removed_key_stops_working_when_the_set_ages(world: World) -> None:
    world.issuer.rotate(SigningKey.make(kid="old"), SigningKey.make(kid="new"))
    await world.keysets.get(world.url)
    world.issuer.rotate(world.issuer.keys[1])
    world.clock.now += HOUR
    assert "old" not in (await world.keysets.get(world.url)).keys


async def test_a_purged_set_is_fetched_anew(world: World) -> None:
    await world.keysets.get(world.url)
    key = world.issuer.rotate()
    world.keysets.purge(world.url)
    assert key.kid in (await world.keysets.get(world.url)).keys


# --- Generations ------------------------------------------------------------------------------------------------------


async def test_the_same_keys_again_are_the_same_generation(world: World) -> None:
    one, two = SigningKey.make(kid="1"), SigningKey.make(kid="2")
    world.issuer.rotate(one, two)
    before = await world.keysets.get(world.url)
    world.issuer.rotate(two, one)
    world.clock.now += HOUR
    assert await world.keysets.get(world.url) is before


async def test_other_keys_are_another_generation(world: World) -> None:
    before = await world.keysets.get(world.url)
    world.issuer.rotate()
    world.clock.now += HOUR
    assert (await world.keysets.get(world.url)).generation > before.generation


async def test_another_issuer_is_another_generation(world: World) -> None:
    before = await world.keysets.get(world.url)
    world.issuer.document_changes = {"issuer": "https://other.example"}
    world.clock.now += HOUR
    after = await world.keysets.get(world.url)
    assert (after.issuer, after.generation > before.generation) == ("https://other.example", True)


async def test_a_generation_is_not_used_again_after_a_purge(world: World) -> None:
    before = await world.keysets.get(world.url)
    world.issuer.rotate()
    world.keysets.purge(world.url)
    assert (await world.keysets.get(world.url)).generation > before.generation


async def test_the_issuer_that_was_not_used_for_longest_goes(world: World) -> None:
    keysets = world.replica(max_issuers=2)
    for query in ("?1", "?2", "?1", "?3"):
        await keysets.get(world.url + query)
    assert [keysets.peek(world.url + query) is not None for query in ("?1", "?2", "?3")] == [True, False, True]


async def test_issuers_that_fail_do_not_crowd_out_one_that_answers(world: World) -> None:
    keysets = world.replica(max_issuers=2)
    world.issuer.vices = {f"/{number}": Vice.ERROR for number in range(5)}
    await keysets.get(world.url)
    for path in world.issuer.vices:
        with pytest.raises(Unavailable):
            await keysets.get(world.issuer.issuer + path)
    assert keysets.peek(world.url) is not None


async def test_the_issuer_that_failed_first_is_forgotten_first(world: World) -> None:
    keysets = world.replica(max_issuers=2)
    world.issuer.vices = {f"/{number}": Vice.ERROR for number in range(3)}
    for path in ("/0", "/1", "/2", "/1", "/0"):
        with pytest.raises(Unavailable):
            await keysets.get(world.issuer.issuer + path)
    assert [world.issuer.requests[path] for path in world.issuer.vices] == [2, 1, 1]


async def test_issuers_that_are_being_asked_do_not_crowd_out_one_that_answered(world: World) -> None:
    keysets = world.replica(max_issuers=2)
    await keysets.get(world.url)
    world.make_issuer_fail(Vice.HANG, *(f"/{number}" for number in range(5)))
    asked = (keysets.get(world.issuer.issuer + path) for path in world.issuer.vices)
    await asyncio.gather(*asked, return_exceptions=True)
    assert keysets.peek(world.url) is not None


# --- Issuers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("issuer", ["https://login.example.com/t", "https://login.example.com/t/"])
def test_a_final_slash_is_left_out_of_the_discovery_url(issuer: str) -> None:
    assert discovery_url_of(issuer) == "https://login.example.com/t/.well-known/openid-configuration"


async def test_an_issuer_is_found_by_its_name(world: World) -> None:
    assert (await world.keysets.for_issuer(world.issuer.issuer)).issuer == world.issuer.issuer


@pytest.mark.parametrize("named", ["https://other.example", "{issuer}/", "{ISSUER}"])
async def test_a_document_of_another_issuer_is_refused(world: World, named: str) -> None:
    own = world.issuer.issuer
    world.issuer.document_changes = {"issuer": named.format(issuer=own, ISSUER=own.upper())}
    with pytest.raises(InvalidToken) as refusal:
        await world.keysets.for_issuer(own)
    assert refusal.value.reason.startswith("wrong_issuer")


async def test_an_administrator_may_name_a_document_of_another_issuer(world: World) -> None:
    world.issuer.document_changes = {"issuer": "https://sts.example/tenant/"}
    assert (await world.keysets.get(world.url)).issuer == "https://sts.example/tenant/"


# --- Unknown key ids --------------------------------------------------------------------------------------------------


async def test_a_new_key_is_found_when_a_token_names_it(world: World) -> None:
    await world.keysets.get(world.url)
    key = world.issuer.rotate()
    assert key.kid in (await world.keysets.refresh_for(world.url, str(key.kid))).keys


async def test_tokens_that_name_a_new_key_at_once_all_get_it_with_one_fetch(world: World) -> None:
    await world.keysets.get(world.url)
    key = world.issuer.rotate()
    found = await asyncio.gather(*(world.keysets.refresh_for(world.url, str(key.kid)) for _ in range(50)))
    assert all(key.kid in keys.keys for keys in found)
    assert world.issuer.requests[JWKS] == 2


async def test_a_key_that_is_known_by_now_needs_no_fetch(world: World) -> None:
    await world.keysets.get(world.url)
    await world.keysets.refresh_for(world.url, "key-1")
    assert world.issuer.requests[JWKS] == 1


async def test_a_second_rotation_is_found_after_the_cool_down(world: World) -> None:
    await world.keysets.refresh_for(world.url, "nobody")
    key = world.issuer.rotate()
    await world.keysets.refresh_for(world.url, str(key.kid))
    world.clock.now += 30
    assert key.kid in (await world.keysets.refresh_for(world.url, str(key.kid))).keys


async def test_a_key_that_is_published_late_is_found_after_a_while(world: World) -> None:
    await world.keysets.refresh_for(world.url, "late")
    world.issuer.rotate(SigningKey.make(kid="late"))
    world.clock.now += 120
    assert "late" in (await world.keysets.refresh_for(world.url, "late")).keys


async def test_a_look_for_a_key_during_another_fetch_still_finds_it(world: World) -> None:
    await world.keysets.get(world.url)
    world.issuer.gates[JWKS] = asyncio.Event()
    world.clock.now += HOUR * 0.95
    world.keysets.peek(world.url)
    await world.issuer.heard(JWKS, times=2)
    looking = asyncio.create_task(world.keysets.refresh_for(world.url, "key-2"))
    await asyncio.sleep(0)
    world.issuer.rotate(SigningKey.make(kid="key-2"))
    world.issuer.gates[JWKS].set()
    assert "key-2" in (await looking).keys


async def test_a_key_is_looked_for_again_after_a_look_that_failed(world: World) -> None:
    await world.keysets.get(world.url)
    world.issuer.fail(Vice.ERROR)
    await world.keysets.refresh_for(world.url, "key-2")
    world.issuer.recover()
    world.issuer.rotate(SigningKey.make(kid="key-2"))
    world.clock.now += 30
    assert "key-2" in (await world.keysets.refresh_for(world.url, "key-2")).keys


async def test_an_unknown_key_at_an_unknown_issuer_that_fails_is_unavailable(world: World) -> None:
    world.issuer.fail(Vice.DOWN)
    with pytest.raises(Unavailable):
        await world.keysets.refresh_for(world.url, "key-9")


# --- Several replicas -------------------------------------------------------------------------------------------------


async def test_replicas_that_share_state_look_for_a_key_once(world: World) -> None:
    shared = SharedDictionary(world.clock)
    replicas = [world.replica(shared=shared) for _ in range(3)]
    for keysets in replicas:
        await keysets.get(world.url)
    for keysets in replicas:
        await keysets.refresh_for(world.url, "nobody")
        await world.settle()
    assert world.issuer.requests[JWKS] == 3 + 1


async def test_a_key_that_one_replica_found_is_found_by_the_others_too(world: World) -> None:
    shared = SharedDictionary(world.clock)
    one, other = world.replica(shared=shared), world.replica(shared=shared)
    await one.get(world.url)
    await other.get(world.url)
    key = world.issuer.rotate()
    await one.refresh_for(world.url, str(key.kid))
    await world.settle()
    assert key.kid in (await other.refresh_for(world.url, str(key.kid))).keys


async def test_a_shared_store_that_is_down_leaves_each_replica_its_own_cool_down(world: World) -> None:
    shared = SharedDictionary(world.clock)
    shared.is_down = True
    replicas = [world.replica(shared=shared) for _ in range(2)]
    for keysets in replicas:
        for number in range(5):
            await keysets.refresh_for(world.url, f"nobody-{number}")
            await world.settle()
    assert world.issuer.requests[JWKS] == 2 * 2


# --- The end ----------------------------------------------------------------------------------------------------------


async def test_closing_ends_a_fetch_that_hangs(world: World) -> None:
    world.issuer.fail(Vice.HANG)
    waiting = asyncio.create_task(world.keysets.get(world.url))
    await world.issuer.heard(DISCOVERY)
    await world.keysets.aclose()
    with pytest.raises(Unavailable):
        await waiting


async def test_nothing_is_fetched_after_closing(world: World) -> None:
    await world.keysets.aclose()
    with pytest.raises(Unavailable):
        await world.keysets.get(world.url)
    assert world.issuer.requests.total() == 0
