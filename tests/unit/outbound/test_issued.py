"""Tokens that belong to no consent: minted once for all who ask, kept until shortly before they end, sealed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.errors import Unavailable
from identity_gateway.model import Secret
from identity_gateway.outbound import IssuedTokens
from identity_gateway.outbound.issued import FORCED_EVERY, Issued
from identity_gateway.protocol.oauth2 import Answered, Credential, Refused
from identity_gateway.sealing import Sealer
from tests.fakes.clock import Clock

ACCOUNT = "000000000000"
KEY = ("machine", "agent-1", '["files.read"]')
BUSY = Refused("transient", "slow_down", status=429)


def fingerprint(token: str) -> str:
    return sha256(token.encode()).hexdigest()


@dataclass
class Vendor:
    """Mints tokens with numbers, when its door is open. `answer` replaces them."""

    lifetime: float | None = 3600.0
    answer: Refused | Exception | None = None
    door: asyncio.Event = field(default_factory=asyncio.Event)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    def __post_init__(self) -> None:
        self.door.set()

    async def mint(self) -> Answered | Refused:
        self.asked += 1
        self.called.set()
        number = self.asked
        await self.door.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        credential = Credential(
            "default", Secret(f"token-{number}"), None, self.lifetime, None, ("read",), "Bearer", ""
        )
        return Answered((credential,))


class Watched:
    """An ephemeral store whose verbs can be made to fail, and whose values can be looked at."""

    def __init__(self, store: LocalEphemeral) -> None:
        self._store = store
        self.failing: set[str] = set()
        self.put_values: dict[str, bytes] = {}

    def __getattr__(self, verb: str) -> Callable[..., object]:
        async def called(*given: object, **more: object) -> object:
            if verb in self.failing:
                raise Unavailable(reason=f"{verb} failed")
            if verb == "put":
                self.put_values[str(given[0])] = given[1]
            return await getattr(self._store, verb)(*given, **more)

        return called


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[Watched]:
    opened = LocalEphemeral(None, clock=clock)
    yield Watched(opened)
    await opened.close()


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


def tokens(store: Ephemeral, clock: Clock, *, account: str = ACCOUNT, key: bytes = b"m" * 32) -> IssuedTokens:
    """Return what one process holds; several may share the store. It gives way instead of sleeping."""

    async def give_way(seconds: float) -> None:
        clock.now += seconds
        await asyncio.sleep(0)

    return IssuedTokens(store, Sealer([key], "issued-tokens"), account, clock=clock, sleep=give_way)


@pytest.fixture
def here(store: Watched, clock: Clock) -> IssuedTokens:
    return tokens(store, clock)


async def ask(issued: IssuedTokens, vendor: Vendor, **options: str | None) -> str:
    """Return the token, or the code of the refusal."""
    answered = await issued.get("provider-1", KEY, vendor.mint, **options)
    return answered.token.reveal() if isinstance(answered, Issued) else answered.code


# --- Refused and failed ---


async def test_what_the_vendor_refuses_is_told_and_not_kept(here: IssuedTokens, vendor: Vendor):
    vendor.answer = BUSY
    assert await here.get("provider-1", KEY, vendor.mint) == BUSY
    vendor.answer = None
    assert await ask(here, vendor) == "token-2"


@pytest.mark.parametrize("verb", ["get", "acquire", "put"])
async def test_without_the_store_nothing_is_handed_out(here: IssuedTokens, store: Watched, vendor: Vendor, verb: str):
    store.failing = {verb}
    with pytest.raises(Unavailable):
        await ask(here, vendor)


async def test_a_store_that_is_down_is_noticed_before_the_vendor_is_asked(
    here: IssuedTokens, store: Watched, vendor: Vendor
):
    store.failing = {"acquire"}
    with pytest.raises(Unavailable):
        await ask(here, vendor)
    assert vendor.asked == 0


async def test_a_lease_that_cannot_be_given_back_takes_no_token_away(
    here: IssuedTokens, store: Watched, vendor: Vendor
):
    store.failing = {"release"}
    assert await ask(here, vendor) == "token-1"


async def test_a_mint_that_fails_gives_its_lease_back(store: Watched, clock: Clock, vendor: Vendor):
    vendor.answer = ValueError("out of order")
    with pytest.raises(ValueError, match="out of order"):
        await ask(tokens(store, clock), vendor)
    vendor.answer, before = None, clock.now
    assert await ask(tokens(store, clock), vendor) == "token-2"
    assert clock.now == before, "the second process waited for the lease"


async def test_a_process_that_holds_the_lease_and_never_ends_is_not_waited_for_for_ever(
    store: Watched, clock: Clock, vendor: Vendor
):
    stuck, other = Vendor(), tokens(store, clock)
    stuck.door.clear()
    flight = asyncio.create_task(ask(tokens(store, clock), stuck))
    await stuck.called.wait()
    assert await ask(other, vendor) == "busy"
    stuck.door.set()
    assert await flight == "token-1"


# --- One mint for all ---


async def test_callers_of_one_process_share_a_mint(here: IssuedTokens, vendor: Vendor):
    assert await asyncio.gather(*(ask(here, vendor) for _ in range(5))) == ["token-1"] * 5


async def test_processes_on_one_store_share_a_mint(store: Watched, clock: Clock, vendor: Vendor):
    processes = [tokens(store, clock) for _ in range(3)]
    assert await asyncio.gather(*(ask(each, vendor) for each in processes)) == ["token-1"] * 3
    assert vendor.asked == 1


async def test_a_caller_who_goes_away_leaves_the_mint_to_the_others(here: IssuedTokens, vendor: Vendor):
    vendor.door.clear()
    first, second = (asyncio.create_task(ask(here, vendor)) for _ in range(2))
    await vendor.called.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    vendor.door.set()
    assert (await second, vendor.asked) == ("token-1", 1)


@pytest.mark.parametrize("other", [(*KEY, ""), KEY[:2], ("machineagent-1", *KEY[2:]), KEY[::-1]])
async def test_what_was_asked_otherwise_gets_a_token_of_its_own(
    here: IssuedTokens, vendor: Vendor, other: tuple[str, ...]
):
    await ask(here, vendor)
    answered = await here.get("provider-1", other, vendor.mint)
    assert isinstance(answered, Issued)
    assert answered.token.reveal() == "token-2"


async def test_another_account_gets_a_token_of_its_own(store: Watched, clock: Clock, vendor: Vendor):
    await ask(tokens(store, clock), vendor)
    assert await ask(tokens(store, clock, account="111111111111"), vendor) == "token-2"


# --- Until shortly before the end ---


@pytest.mark.parametrize(
    ("lifetime", "kept"), [(3600.0, 3420.0), (900.0, 840.0), (60.0, 30.0), (None, 240.0), (10 * 86400.0, 41040.0)]
)
async def test_a_token_is_kept_until_shortly_before_its_end(
    here: IssuedTokens, vendor: Vendor, clock: Clock, lifetime: float | None, kept: float
):
    vendor.lifetime = lifetime
    await ask(here, vendor)
    clock.now += kept - 1
    before = await ask(here, vendor)
    clock.now += 2
    assert (before, await ask(here, vendor)) == ("token-1", "token-2")


async def test_a_token_that_is_dead_when_it_comes_is_not_kept(here: IssuedTokens, vendor: Vendor):
    vendor.lifetime = 0.0
    assert [await ask(here, vendor) for _ in range(2)] == ["token-1", "token-2"]


async def test_a_token_tells_its_end_and_its_scopes_when_it_comes_and_later(
    here: IssuedTokens, vendor: Vendor, clock: Clock
):
    minted, kept = [await here.get("provider-1", KEY, vendor.mint) for _ in range(2)]
    assert isinstance(minted, Issued)
    assert isinstance(kept, Issued)
    assert (minted.scopes, minted.expires_at) == (kept.scopes, kept.expires_at) == (("read",), clock.now + 3600)


# --- Seen refused by the vendor ---


async def test_a_rejected_token_is_replaced(here: IssuedTokens, vendor: Vendor, clock: Clock):
    await ask(here, vendor)
    clock.now += FORCED_EVERY
    assert await ask(here, vendor, rejected=fingerprint("token-1")) == "token-2"


async def test_a_rejected_token_that_was_replaced_already_costs_no_mint(
    here: IssuedTokens, vendor: Vendor, clock: Clock
):
    await ask(here, vendor)
    clock.now += FORCED_EVERY
    for _ in range(3):
        assert await ask(here, vendor, rejected=fingerprint("token-1")) == "token-2"
    assert vendor.asked == 2


async def test_a_token_that_is_seconds_old_is_not_replaced_on_a_callers_word(
    here: IssuedTokens, vendor: Vendor, clock: Clock
):
    await ask(here, vendor)
    clock.now += 10
    answered = await here.get("provider-1", KEY, vendor.mint, rejected=fingerprint("token-1"))
    assert isinstance(answered, Refused)
    assert (answered.outcome, answered.code, answered.retry_after) == ("transient", "just_issued", FORCED_EVERY - 10)
    assert await ask(here, vendor) == "token-1"


async def test_a_vendor_that_gives_the_same_token_again_is_believed(here: IssuedTokens, clock: Clock):
    async def same() -> Answered | Refused:
        return Answered((Credential("default", Secret("same"), None, 3600.0, None, None, "Bearer", ""),))

    await here.get("provider-1", KEY, same)
    clock.now += FORCED_EVERY
    answered = await here.get("provider-1", KEY, same, rejected=fingerprint("same"))
    assert isinstance(answered, Issued)


# --- Forgotten ---


async def test_a_provider_whose_tokens_are_flushed_gets_new_ones(here: IssuedTokens, vendor: Vendor, clock: Clock):
    await ask(here, vendor)
    await here.flush("provider-1")
    clock.now += 1
    assert [await ask(here, vendor) for _ in range(2)] == ["token-2", "token-2"]


async def test_a_flush_is_heard_by_every_process_and_spares_other_providers(
    store: Watched, clock: Clock, vendor: Vendor
):
    await ask(tokens(store, clock), vendor)
    await tokens(store, clock).flush("provider-2")
    untouched = await ask(tokens(store, clock), vendor)
    await tokens(store, clock).flush("provider-1")
    assert (untouched, await ask(tokens(store, clock), vendor)) == ("token-1", "token-2")


async def test_a_token_that_two_providers_share_stays_shared_after_a_flush_of_one(
    here: IssuedTokens, vendor: Vendor, clock: Clock
):
    await ask(here, vendor)
    await here.flush("provider-1")
    clock.now += 1
    anew = await ask(here, vendor)
    shared = await here.get("provider-2", KEY, vendor.mint)
    assert isinstance(shared, Issued)
    assert (anew, shared.token.reveal()) == ("token-2", "token-2")


async def test_a_mint_that_began_before_a_flush_does_not_outlive_it(here: IssuedTokens, vendor: Vendor):
    vendor.door.clear()
    early = asyncio.create_task(ask(here, vendor))
    await vendor.called.wait()
    await here.flush("provider-1")
    vendor.door.set()
    assert (await early, await ask(here, vendor)) == ("token-1", "token-2")


# --- Sealed ---


async def test_the_store_holds_neither_the_token_nor_what_was_asked(here: IssuedTokens, store: Watched, vendor: Vendor):
    await ask(here, vendor)
    ((name, value),) = store.put_values.items()
    assert b"token-1" not in value
    assert "agent-1" not in name
    assert "files.read" not in name


async def test_a_token_does_not_open_in_another_place(here: IssuedTokens, store: Watched, vendor: Vendor):
    await ask(here, vendor)
    other = ("machine", "agent-2")
    await here.get("provider-1", other, vendor.mint)
    first, second = store.put_values
    await store.put(second, store.put_values[first], ttl=60)
    answered = await here.get("provider-1", other, vendor.mint)
    assert isinstance(answered, Issued)
    assert answered.token.reveal() == "token-3"


async def test_a_token_under_another_master_key_is_minted_anew(store: Watched, clock: Clock, vendor: Vendor):
    await ask(tokens(store, clock), vendor)
    assert await ask(tokens(store, clock, key=b"n" * 32), vendor) == "token-2"
