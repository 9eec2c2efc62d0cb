"""No token crosses: whatever agents, users, providers and accounts do at once, each gets what was granted to it alone.

The vendor stamps every token with the client, the person who agreed and the request that asked; the driver keeps for
whom each request was. `CROSSING_STEPS` and `CROSSING_SEED` make it longer, or another one.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.errors import GatewayError
from identity_gateway.model import JwtUser, NamedUser, User
from tests.fakes.issuer import FakeIssuer
from tests.fakes.stamping import StampingVendor, returned_to
from tests.tenants import Answer, Browser, Clock, Tenant, open_tenants, session_of

STEPS = int(os.environ.get("CROSSING_STEPS", "420"))
SEED = int(os.environ.get("CROSSING_SEED", "1"))
WORKERS = 6
TIME_PASSES = 60
AGENTS = ("a", "a-1", "a.1")
PROVIDERS = ("p", "p-1", "a")
ASKED: tuple[dict[str, Any], ...] = (
    {"scopes": ["read"]},
    {"scopes": ["read", "write"]},
    {"scopes": ["write", "read", "read"]},
    {"scopes": ["read,write"]},
    {"scopes": ["read"], "customParameters": {"prompt": "consent"}},
    {"scopes": ["read"], "customParameters": {"prompt": "consent", "tenant": "t"}},
    {"scopes": ["read"], "customParameters": {"tenant": '["prompt","consent"]'}},
)


@pytest.fixture
def vendor() -> Iterator[StampingVendor]:
    with StampingVendor() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tenants(tmp_path: Path, clock: Clock, jwt_issuer: FakeIssuer) -> AsyncIterator[tuple[Tenant, Tenant]]:
    async with open_tenants(tmp_path, clock, jwt_issuer) as opened:
        yield opened


def users_of(issuer: str) -> list[User]:
    """Return people whose names are the same, or look like one another written down."""
    return [
        NamedUser("ada"),
        JwtUser(issuer, "ada"),
        NamedUser(f'["jwt","{issuer}","ada"]'),
        NamedUser('ada","bob'),
        NamedUser("ada/bob:a|b%2F"),
        JwtUser(issuer, '["id","ada"]'),
        NamedUser("Ada"),
    ]


@dataclass(frozen=True)
class Whose:
    """For whom something was asked. `agents` and `clients`: who bore the names then; two when they were changing."""

    account: str
    agent: str
    user: User
    provider: str
    asked: tuple[frozenset[str], frozenset[tuple[str, str]]]
    agents: frozenset[int]
    clients: frozenset[str]


@dataclass
class Crossing:
    """The driver: what it did, what was vended, and what must not have been."""

    tenants: tuple[Tenant, Tenant]
    vendor: StampingVendor
    people: list[User]
    clock: Clock
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    crossed: list[str] = field(default_factory=list)
    agents: dict[tuple[str, str], int] = field(default_factory=dict)
    clients: dict[tuple[str, str], str] = field(default_factory=dict)
    browsers: dict[User, Browser] = field(default_factory=dict)
    sessions: list[tuple[Tenant, str]] = field(default_factory=list)
    served: list["Asking"] = field(default_factory=list)

    async def prepare(self) -> None:
        self.browsers = {person: Browser() for person in self.people}
        for tenant in self.tenants:
            for agent in AGENTS:
                await self.new_agent(tenant, agent)
            for provider in PROVIDERS:
                await self.new_provider(tenant, provider)

    async def new_agent(self, tenant: Tenant, agent: str) -> None:
        self.agents[tenant.account, agent] = sum(self.agents.values()) + 1
        await tenant.create_agent(agent)

    async def new_provider(self, tenant: Tenant, provider: str) -> None:
        client = f"client-{tenant.account}-{provider}-{len(self.vendor.clients)}"
        self.clients[tenant.account, provider] = client
        await tenant.create_provider(provider, self.vendor.configuration(client))

    async def ask(self, mine: "Asking", **more: Any) -> tuple[Answer, Whose]:
        """Ask, and compare the stamp of whatever is vended with who asked."""
        before = self.whose(mine)
        answer = await mine.tenant.ask(mine.agent, mine.user, mine.provider, **mine.asked, **more)
        after = self.whose(mine)
        whose = replace(after, agents=before.agents | after.agents, clients=before.clients | after.clients)
        if answer.token:
            self.check(answer, whose)
        elif not more.get("sessionUri"):
            self.sessions.append((mine.tenant, answer.session))
        return answer, whose

    def whose(self, mine: "Asking") -> Whose:
        account = mine.tenant.account
        asked = (frozenset(mine.asked["scopes"]), frozenset(mine.asked.get("customParameters", {}).items()))
        known = frozenset({self.agents[account, mine.agent]}), frozenset({self.clients[account, mine.provider]})
        return Whose(account, mine.agent, mine.user, mine.provider, asked, *known)

    def check(self, answer: Answer, whose: Whose) -> None:
        self.done["tokens compared"] += 1
        stamp = self.vendor.stamps[answer.token]
        granted: Whose = stamp.about
        same = replace(granted, agents=whose.agents, clients=whose.clients) == whose
        fresh = granted.agents & whose.agents and stamp.client in whose.clients
        if not (same and fresh and stamp.person == whose.user):
            self.crossed.append(f"{whose} was given what {stamp} granted")

    async def open(self, mine: "Asking", browser: User, person: User) -> tuple[str, dict[str, str], str] | None:
        """Ask for a consent; let `browser` press Continue, and `person` agree. Returns the callback and the session."""
        answer, whose = await self.ask(mine, forceAuthentication=True)
        url = await self.browsers[browser].press(mine.tenant, answer.link)
        if url is None:
            return None
        return *self.vendor.agree(url, person, whose), answer.session

    async def land(self, mine: "Asking", browser: User, callback: str, parameters: dict[str, str], by: User) -> bool:
        """Come back to the callback in a browser and complete as somebody; say whether there was a way back."""
        location = await self.browsers[browser].come_back(mine.tenant, returned_to(callback, parameters))
        if location is None or "error=" in location:
            return False
        await mine.tenant.complete(session_of(location), by)
        self.done["consents completed"] += 1
        self.served.append(mine)
        return True


@dataclass(frozen=True)
class Asking:
    tenant: Tenant
    agent: str
    user: User
    provider: str
    asked: dict[str, Any]


def anybody(world: Crossing, rng: random.Random) -> Asking:
    """Return an agent and a user with a question: every third time one that was served before, a little changed."""
    tenant, asked = rng.choice(world.tenants), rng.choice(ASKED)
    if world.served and rng.random() < 0.4:
        change: dict[str, Any] = {"tenant": tenant, "asked": asked, "user": rng.choice(world.people)}
        name = rng.choice([*change, "", "", ""])
        return replace(rng.choice(world.served), **({name: change[name]} if name else {}))
    return Asking(tenant, rng.choice(AGENTS), rng.choice(world.people), rng.choice(PROVIDERS), asked)


def other(of: list[User], than: User, rng: random.Random) -> User:
    return rng.choice([each for each in of if each != than])


# --- What people and agents do ---


async def is_served(world: Crossing, rng: random.Random) -> None:
    """Ask; consent if asked to; ask again."""
    mine = anybody(world, rng)
    answer, whose = await world.ask(mine)
    if answer.token:
        return
    url = await world.browsers[mine.user].press(mine.tenant, answer.link)
    if url is not None and await world.land(mine, mine.user, *world.vendor.agree(url, mine.user, whose), mine.user):
        await world.ask(mine, sessionUri=answer.session)


async def is_asked_again(world: Crossing, rng: random.Random) -> None:
    mine = anybody(world, rng)
    opened = await world.open(mine, mine.user, mine.user)
    if opened is not None:
        await world.land(mine, mine.user, opened[0], opened[1], mine.user)
        await world.ask(mine)


async def asks(world: Crossing, rng: random.Random) -> None:
    """Ask for several things at once, one of them twice."""
    asked = [anybody(world, rng) for _ in range(3)]
    for answer in await asyncio.gather(*map(world.ask, [*asked, asked[0]]), return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


async def uses_a_refused_token(world: Crossing, rng: random.Random) -> None:
    mine = anybody(world, rng)
    digest = "0" * 64
    asked = {**mine.asked.get("customParameters", {}), "identity-gateway.rejected-token-sha256": digest}
    await mine.tenant.ask(mine.agent, mine.user, mine.provider, **{**mine.asked, "customParameters": asked})


async def is_revoked(world: Crossing, rng: random.Random) -> None:
    """Revoke a grant through its own account, and try it through the other one."""
    tenant, stranger = rng.sample(world.tenants, 2)
    listed = (await tenant.gateway.stories.grants.list_grants({"maxResults": 50}))["grants"]
    if listed:
        grant = rng.choice(listed)["grantId"]
        with pytest.raises(GatewayError):
            await stranger.gateway.stories.grants.revoke_grant({"grantId": grant})
        await tenant.gateway.stories.grants.revoke_grant({"grantId": grant})


async def is_made_anew(world: Crossing, rng: random.Random) -> None:
    """Delete an agent or a provider, and make its namesake."""
    mine = anybody(world, rng)
    stories = mine.tenant.gateway.stories
    if rng.random() < 0.5:
        await stories.workloads.delete_workload_identity({"name": mine.agent})
        await world.new_agent(mine.tenant, mine.agent)
    else:
        await stories.providers.delete_oauth2_credential_provider({"name": mine.provider})
        await world.new_provider(mine.tenant, mine.provider)


# --- What attackers do ---


async def finishes_anothers_consent(world: Crossing, rng: random.Random) -> None:
    """Somebody is given a link that was made for another user, and does everything with it; or a third one does."""
    mine = anybody(world, rng)
    victim, third = rng.sample([each for each in world.people if each != mine.user], 2)
    opened = await world.open(mine, victim, victim)
    if opened is not None:
        await world.land(mine, victim, opened[0], opened[1], rng.choice([victim, victim, third]))


async def sends_the_vendors_url(world: Crossing, rng: random.Random) -> None:
    """Press Continue, and let somebody else agree at the vendor and come back."""
    mine = anybody(world, rng)
    victim = other(world.people, mine.user, rng)
    opened = await world.open(mine, mine.user, victim)
    if opened is not None:
        assert not await world.land(mine, victim, opened[0], opened[1], victim)


async def injects_a_code(world: Crossing, rng: random.Random) -> None:
    """Bring somebody else's code with one's own state, or one's own code with somebody else's state."""
    mine, theirs = anybody(world, rng), anybody(world, rng)
    first = await world.open(mine, mine.user, mine.user)
    second = await world.open(theirs, theirs.user, theirs.user)
    if first and second:
        swapped = {**first[1], rng.choice(["code", "state"]): ""}
        swapped = {name: value or second[1][name] for name, value in swapped.items()}
        await world.land(mine, mine.user, first[0], swapped, mine.user)


async def mixes_providers_up(world: Crossing, rng: random.Random) -> None:
    """Bring the answer to one provider's request to the callback of another one, here or in the other account."""
    mine, theirs = anybody(world, rng), anybody(world, rng)
    first = await world.open(mine, mine.user, mine.user)
    second = await world.open(theirs, mine.user, mine.user)
    if first and second and (mine.tenant, first[0]) != (theirs.tenant, second[0]):
        assert not await world.land(theirs, mine.user, second[0], first[1], mine.user)


async def polls_anothers_session(world: Crossing, rng: random.Random) -> None:
    mine = anybody(world, rng)
    if world.sessions:
        _, session = rng.choice(world.sessions)
        await world.ask(mine, sessionUri=session)


async def completes_anothers_session(world: Crossing, rng: random.Random) -> None:
    if world.sessions:
        tenant, session = rng.choice(world.sessions)
        await tenant.complete(session, rng.choice(world.people))


ACTIONS: dict[Callable[..., Any], int] = {
    is_served: 40,
    is_asked_again: 8,
    asks: 24,
    uses_a_refused_token: 3,
    is_revoked: 4,
    is_made_anew: 2,
    finishes_anothers_consent: 6,
    sends_the_vendors_url: 4,
    injects_a_code: 6,
    mixes_providers_up: 6,
    polls_anothers_session: 3,
    completes_anothers_session: 3,
}


async def work(world: Crossing, rng: random.Random, steps: Iterator[int]) -> None:
    for step in steps:
        if step % TIME_PASSES == TIME_PASSES - 1:  # every access token expires; consents under way come too late
            world.clock.skipped += 3700
        (action,) = rng.choices(list(ACTIONS), list(ACTIONS.values()))
        world.done[action.__name__.replace("_", " ")] += 1
        try:
            await action(world, rng)
        except GatewayError as error:
            world.refused[f"{action.__name__.replace('_', ' ')}: {error.code}"] += 1


async def test_no_token_reaches_anybody_but_the_one_it_was_granted_to(
    tenants: tuple[Tenant, Tenant], vendor: StampingVendor, clock: Clock, jwt_issuer: FakeIssuer
):
    world = Crossing(tenants, vendor, users_of(jwt_issuer.issuer), clock)
    await world.prepare()
    steps = iter(range(STEPS))
    await asyncio.gather(*(work(world, random.Random(SEED * 1000 + number), steps) for number in range(WORKERS)))
    print_counts(world)
    assert "\n".join(world.crossed) == ""
    assert world.done["tokens compared"] > STEPS / 4
    assert sum(family.rotations for family in vendor.families.values()) > 0


def print_counts(world: Crossing) -> None:
    rotations = sum(family.rotations for family in world.vendor.families.values())
    print(f"\n{STEPS} steps, seed {SEED}: {rotations} refreshes, {len(world.vendor.families)} codes exchanged")
    for title, counts in (("done", world.done), ("refused", world.refused)):
        print(f"{title}: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
