"""Two gateways on PostgreSQL and Valkey, a vendor that forgives nothing, and kill -9 at any moment.

Tokens are refreshed every second by a descriptor of the operator's own. A refresh that lost its process is left alone
for two minutes; the test makes such rows older instead of waiting. A grant may be lost only where the vendor had
rotated and the process that asked was killed before it could write the answer down. `FIRE_SECONDS`: how long.
"""

import base64
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.estates import Estate, answer_of
from tests.fakes.stamping import Family, StampingVendor, Use
from tests.gateways import running_gateway
from tests.parts import Postgres, Valkey

SECONDS = float(os.environ.get("FIRE_SECONDS", "25"))
AGENTS = 8
USERS = tuple(f"user-{number}" for number in range(5))
SLOWEST = 0.4
SETTLED = 6.0
"""Seconds after which a refresh has lost its process: no call here takes a tenth of it."""
WRITING = 1.0
"""Seconds after the vendor's answer in which it may not be written yet."""
DESCRIPTOR = Path(__file__).parents[2] / "providers" / "outbound" / "custom.toml"


def provider_of(user: str) -> str:
    return f"provider-of-{user}"


@dataclass
class Fire:
    """What happens, and what is known of it afterwards."""

    estates: tuple[Estate, Estate]
    vendor: StampingVendor
    postgres: Postgres
    database: str
    rng: random.Random
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    newest: dict[str, Family] = field(default_factory=dict)
    kills: list[float] = field(default_factory=list)
    lost: list[Family] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    consents: set[str] = field(default_factory=set)
    said: Counter[str] = field(default_factory=Counter)
    crossed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def consent(self, user: str) -> None:
        """Have a user consent, through whichever gateway can do it."""
        for estate in self.estates * 20:
            try:
                self.asked[user] = estate.consent(user, resourceCredentialProviderName=provider_of(user))
                token = estate.ask(self.asked[user])["accessToken"]
            except Exception:  # a gateway that is being killed
                time.sleep(0.1)
                continue
            self.newest[user] = self.vendor.family(token)
            return
        raise AssertionError("nobody takes a consent")

    def work(self, number: int) -> None:
        """Ask for tokens until it is over, as one agent does."""
        rng = random.Random(number)
        while not self.over.is_set():
            user, estate = rng.choice(USERS), rng.choice(self.estates)
            if user not in self.consents:  # a user can be asked too often
                self.said[self.ask(estate, user)] += 1
            time.sleep(rng.uniform(0, 0.02))

    def ask(self, estate: Estate, user: str) -> str:
        answers: list[dict[str, Any]] = []
        said = answer_of(lambda: answers.append(estate.ask(self.asked[user])) or answers[0])
        if said == "200 accessToken":
            self.given[user] = answers[0]["accessToken"]
            if self.vendor.stamps[self.given[user]].person != user:
                self.crossed.append(user)
        if said == "200 authorizationUrl":
            self.consents.add(user)
        return said

    def tend(self) -> None:
        """Make refreshes without a process older, and let users consent again whose grant was lost."""
        now = time.time()
        columns = ("intent_at", "updated_at", "retry_at", "obtained_at", "expires_at")
        changes = ", ".join(f"{column} = {column} - 150000000" for column in columns)
        lost_its_process = f"intent_digest IS NOT NULL AND updated_at < {(now - SETTLED) * 1e6:.0f}"
        self.postgres.run(f"UPDATE grant_ SET {changes} WHERE {lost_its_process}", self.database)
        for user in sorted(self.consents):
            self.lost.append(self.newest[user])
            self.consent(user)
            self.consents.discard(user)

    def strike(self) -> None:
        """Kill one gateway at a random moment, and start it again."""
        time.sleep(self.rng.uniform(0.2, 2.0))
        gateway = self.rng.choice(self.estates).gateway
        self.kills.append(time.monotonic())
        gateway.kill()
        gateway.start(wait=False)
        self.tend()
        gateway.wait_ready()

    # --- Afterwards ---

    def uses_of(self, family: Family) -> list[Use]:
        return sorted((use for use in self.vendor.uses if use.serial == family.stamp.serial), key=lambda use: use.began)

    def killed_between(self, first: float, last: float) -> bool:
        return any(first <= kill <= last for kill in self.kills)

    def reused(self) -> list[tuple[Use, Use]]:
        """Return the uses of refresh tokens that were spent already, though nobody was killed in between."""
        found = []
        for family in self.vendor.families.values():
            uses = self.uses_of(family)
            for spent in (use for use in uses if use.rotated):
                again = [use for use in uses if use.token == spent.token and use is not spent]
                found += [(spent, use) for use in again if not self.killed_between(spent.began, use.began)]
        return found

    def needlessly_lost(self) -> list[int]:
        """Return the lost families whose last rotation was not cut off by a kill."""
        found = []
        for family in self.lost:
            rotated = [use for use in self.uses_of(family) if use.rotated]
            if not rotated or not self.killed_between(rotated[-1].began, rotated[-1].ended + WRITING):
                found.append(family.stamp.serial)
        return found


@pytest.fixture
def fire(postgres_server: Postgres, valkey_server: Valkey, tmp_path: Path) -> Iterator[Fire]:
    restless = DESCRIPTOR.read_text().replace("[refresh.policy]\n", "[refresh.policy]\nkeepalive = 1\n")
    (tmp_path / "custom.toml").write_text(restless)
    url, rng = postgres_server.create_database(), random.Random(7)
    settings = {
        "database_url": url,
        "redis_url": valkey_server.url,
        "master_key": base64.b64encode(bytes(range(32))).decode(),
        "providers_dir": str(tmp_path),
        "log_level": "warning",
    }
    with ExitStack() as stack:
        vendor = stack.enter_context(StampingVendor(lifetime=2.0, pause=lambda: rng.uniform(0, SLOWEST)))
        gateways = [stack.enter_context(running_gateway(**settings)) for _ in range(2)]
        estates = Estate(gateways[0], vendor), Estate(gateways[1], vendor)
        estates[0].prepare()
        for user in USERS:  # one each: many that die at one provider are taken for its fault, and held
            provider = provider_of(user)
            estates[0].control.create_oauth2_credential_provider(name=provider, **vendor.configuration(provider))
        database = url.partition("@/")[2].partition("?")[0]
        yield Fire(estates, vendor, postgres_server, database, rng)


@pytest.mark.timeout(180)
def test_a_grant_is_lost_only_where_a_kill_took_the_vendors_answer_along(fire: Fire):
    for user in USERS:
        fire.consent(user)
    ends = time.monotonic() + SECONDS
    with ThreadPoolExecutor(AGENTS) as threads:
        agents = [threads.submit(fire.work, number) for number in range(AGENTS)]
        try:
            while time.monotonic() < ends:
                fire.strike()
        finally:
            fire.over.set()
        for agent in agents:
            agent.result()
    usable = {user: settled(fire, user) for user in USERS}
    print_counts(fire)
    assert (fire.reused(), fire.needlessly_lost(), fire.crossed) == ([], [], [])
    assert usable == dict.fromkeys(USERS, True)
    assert sum(family.rotations for family in fire.vendor.families.values()) > SECONDS


def settled(fire: Fire, user: str) -> bool:
    """Ask until what is vended is what the vendor gave last; a grant that proves lost is one that is counted."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        fire.tend()
        for estate in fire.estates:
            if fire.ask(estate, user) == "200 accessToken":
                family = fire.vendor.family(fire.given[user])
                if family.access == fire.given[user] and not family.revoked:
                    return True
        time.sleep(0.3)
    return False


def print_counts(fire: Fire) -> None:
    rotations = sum(family.rotations for family in fire.vendor.families.values())
    calls = len(fire.vendor.uses)
    print(f"\n{len(fire.kills)} kills in {SECONDS:.0f} s, {AGENTS} agents, {len(USERS)} grants")
    print(
        f"{rotations} rotations, {calls} calls to the vendor: {calls / max(1, rotations):.3f} calls for each rotation"
    )
    names = ", ".join(f"{family.stamp.person} (consent {family.stamp.serial})" for family in fire.lost)
    print(f"grants lost with the vendor's answer: {len(fire.lost)} ({names or 'none'})")
    print("agents heard: " + ", ".join(f"{count} x {said}" for said, count in fire.said.most_common()))
