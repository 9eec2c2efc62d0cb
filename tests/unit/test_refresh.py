"""A grant that is asked for is handed out alive, its refresh token is sent once, and only the vendor can kill it."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from identity_gateway.errors import Unavailable
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.model import Grant, GrantState, NamedUser, Secret
from identity_gateway.protocol.descriptor import RefreshPolicy, parse
from identity_gateway.protocol.oauth2 import Answered, Client, Credential, Refused, Requested
from identity_gateway.refresh import (
    AdminNeeded,
    ConsentNeeded,
    Fresh,
    Misconfigured,
    Refreshing,
    RetryLater,
    Usable,
)
from identity_gateway.refresh.breaker import MIN_DEATHS
from identity_gateway.refresh.decision import (
    FORCED_EVERY,
    LEASE_SECONDS,
    Step,
    back_off,
    decide,
    margin,
    untouched_until,
)
from identity_gateway.vault import Holder, Vault
from tests.fakes.clock import Clock
from tests.fakes.envelope import LocalEnvelope
from tests.fakes.ephemeral_in_memory import InMemoryEphemeral, Shelf
from tests.fakes.records_in_memory import InMemoryRecords, Memory

ACCOUNT = "000000000000"
LIFE = 3600.0
FINGERPRINTS = Fingerprints([b"f" * 32])
NO_ANSWER = Refused("ambiguous", "no_answer")
DEAD = Refused("dead_grant", "invalid_grant", "Token expired or revoked", status=400)
BUSY = Refused("transient", "slow_down", status=429)


def client(how: str = "refresh_token", **policy: Any) -> Client:
    document: dict[str, Any] = {
        "schema": 1,
        "id": "vendor",
        "name": "Vendor",
        "verified": date(2026, 1, 1),
        "sources": ["https://vendor.example/"],
        "hosts": ["vendor.example"],
        "agentcore": {"vendor": "CustomOauth2"},
        "token": {"url": "https://vendor.example/token"},
        "refresh": {"how": how, "policy": policy},
    }
    if how == "access_token":
        document["refresh"]["params"] = {"grant_type": "exchange", "token": "{access_token}"}
    return Client(parse(document, file="vendor"), "client", Secret("secret"))


def credential(name: str, **changes: Any) -> Credential:
    made = Credential("default", Secret(f"A{name}"), Secret(f"R{name}"), LIFE, None, None, "Bearer", "U1")
    return replace(made, **changes)


def answer(name: str, **changes: Any) -> Answered:
    return Answered((credential(name, **changes),), "T1")


class Server:
    """A vendor that answers what it was told to, in that order, and remembers what it was sent."""

    def __init__(self) -> None:
        self.answers: list[Answered | Refused | Exception | Callable[[], Any]] = []
        self.sent: list[str] = []
        self.variables: list[dict[str, str]] = []

    async def refresh(
        self,
        client: Client,
        *,
        part: str,
        refresh_token: Secret | None,
        access_token: Secret | None,
        scopes: tuple[str, ...],
    ) -> Answered | Refused:
        used = refresh_token or access_token
        assert used is not None
        self.sent.append(used.reveal())
        self.variables.append(dict(client.variables))
        found = self.answers.pop(0)
        if callable(found):
            found = await found()
        if isinstance(found, Exception):
            raise found
        return found


class Bench:
    """A vault with one grant (A1, R1), stores that can be down, and any number of replicas."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.down: set[str] = set()
        self.shelf = Shelf()
        self.server = Server()
        self.records = InMemoryRecords(Memory(), self.step)
        self.ephemeral = InMemoryEphemeral(self.shelf, self.step, clock=clock)
        self.vault = Vault(self.records, LocalEnvelope(), FINGERPRINTS, ACCOUNT, clock=clock)
        self.refreshing = self.replica("one")

    def replica(self, owner: str) -> Refreshing:
        return Refreshing(
            self.vault, self.ephemeral, self.server, clock=self.clock, sleep=self.sleep, jitter=lambda: 0.0, owner=owner
        )

    async def step(self, name: str) -> None:
        await asyncio.sleep(0)
        area = name.partition(".")[0]
        if area in self.down or ("writes" in self.down and name == "records.commit"):
            raise Unavailable(reason=f"{area} is down")

    async def sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        await asyncio.sleep(0)

    async def consent(self, number: int = 1, *, recipient: str = "", **changes: Any) -> Grant:
        holder = Holder(
            "agent", datetime(2026, 1, 1, tzinfo=UTC), NamedUser(f"user{number}"), "chat", "p1", Requested()
        )
        answered = Answered((credential(str(number), **changes),), "T1", variables={"host": "eu"})
        return (await self.vault.store_consent(holder, answered, began=self.clock.now, recipient=recipient))[0]

    async def row(self, grant: Grant) -> Grant:
        found = await self.vault.get(grant.id)
        assert found is not None
        return found

    async def ask(self, grant: Grant, client: Client, **options: Any) -> Fresh:
        return await self.refreshing.fresh(await self.row(grant), client, **options)


@pytest.fixture
def bench(clock: Clock) -> Bench:
    return Bench(clock)


@pytest.fixture
async def grant(bench: Bench) -> Grant:
    return await bench.consent()


def token(found: Fresh) -> str:
    assert isinstance(found, Usable), found
    return found.tokens.access.reveal()


# --- Decisions ---


def a_grant(**changes: Any) -> Grant:
    time = datetime.fromtimestamp(0, UTC)
    made = Grant(
        account=ACCOUNT,
        id="g",
        lookup="l",
        workload="w",
        user="u",
        provider="p",
        provider_id="p1",
        part="default",
        scopes=(),
        granted_scopes=(),
        request={},
        state=GrantState.ACTIVE,
        reason="",
        vendor_account="",
        vendor_subject="",
        label="",
        generation=1,
        expires_at=datetime.fromtimestamp(LIFE, UTC),
        refresh_expires_at=None,
        sealed=b"x",
        refresh_digest="d",
        intent_owner=None,
        intent_at=None,
        intent_digest=None,
        failures=0,
        retry_at=None,
        obtained_at=time,
        created_at=time,
        updated_at=time,
    )
    return replace(made, **{name: _time(name, value) for name, value in changes.items()})


def _time(name: str, value: Any) -> Any:
    return datetime.fromtimestamp(value, UTC) if name.endswith("_at") and value is not None else value


def sent(at: float, owner: str | None = "other") -> dict[str, Any]:
    return {"intent_owner": owner, "intent_at": at, "intent_digest": "d", "updated_at": at}


def step(grant: Grant, now: float, *, refreshable: bool = True, forced: bool = False, **policy: Any) -> Step:
    return decide(
        grant, RefreshPolicy(**policy), refreshable=refreshable, forced=forced, owner="me", now=now, jitter=1.0
    ).step


@pytest.mark.parametrize(
    ("changes", "now", "options", "expected"),
    [
        # nothing has been sent
        ({}, LIFE - 301, {}, Step.USE),
        ({}, LIFE - 300, {}, Step.CALL),
        ({}, LIFE - 300, {"refreshable": False}, Step.USE),
        ({}, LIFE, {"refreshable": False}, Step.OVER),
        ({"expires_at": None}, 1e9, {}, Step.USE),
        ({"expires_at": None}, 1e9, {"refreshable": False}, Step.USE),
        ({}, 100, {"keepalive": 99}, Step.CALL),
        ({}, 100, {"forced": True}, Step.CALL),
        ({}, FORCED_EVERY - 1, {"forced": True}, Step.LATER),
        ({}, 100, {"forced": True, "refreshable": False}, Step.OVER),
        ({"retry_at": LIFE}, LIFE - 10, {}, Step.USE),
        ({"retry_at": LIFE + 9}, LIFE, {}, Step.LATER),
        ({"state": GrantState.NEEDS_ADMIN}, 100, {}, Step.CALL),
        # somebody else is at it
        (sent(LIFE - 300), LIFE - 299, {}, Step.USE),
        (sent(LIFE - 300), LIFE - 299, {"forced": True}, Step.WAIT),
        (sent(LIFE - 300), LIFE - 299, {"kills_old_access": True}, Step.WAIT),
        (sent(LIFE), LIFE + LEASE_SECONDS - 1, {}, Step.WAIT),
        # somebody else was at it, and the answer never came
        (sent(LIFE), LIFE + LEASE_SECONDS, {}, Step.CALL),
        (sent(LIFE - 300), LIFE - 200, {}, Step.USE),
        (sent(LIFE - 300), LIFE - 200, {"kills_old_access": True}, Step.CALL),
        (sent(LIFE - 300), LIFE - 200, {"forced": True}, Step.CALL),
        (sent(LIFE - 300), LIFE - 200, {"single_use": False}, Step.CALL),
        (sent(LIFE - 300), LIFE - 200, {"leeway": 600}, Step.CALL),
        (sent(LIFE), LIFE + 21, {"leeway": 600}, Step.CALL),
        (sent(LIFE), LIFE + 119, {"reuse_revokes_family": True}, Step.LATER),
        (sent(LIFE), LIFE + 120, {"reuse_revokes_family": True}, Step.CALL),
        (sent(LIFE), LIFE + 50, {"reuse_revokes_family": True, "leeway": 60}, Step.CALL),
        (sent(LIFE), LIFE + 55, {"reuse_revokes_family": True, "leeway": 60}, Step.LATER),
        # this very process was at it before
        (sent(LIFE, "me"), LIFE + 1, {}, Step.CALL),
        (sent(LIFE, None), LIFE + 1, {}, Step.CALL),
    ],
)
def test_the_next_step_follows_from_the_row_and_the_policy(
    changes: dict[str, Any], now: float, options: dict[str, Any], expected: Step
):
    assert step(a_grant(**changes), now, **options) is expected


@pytest.mark.parametrize(
    ("lifetime", "policy", "expected"),
    [
        (3600.0, {}, 300.0),
        (600.0, {}, 60.0),
        (43200.0, {"margin": 1800}, 1800.0),
        (7200.0, {"margin": 7200}, 720.0),
        (28800.0, {"margin": 1800, "kills_old_access": True}, 120.0),
        (0.0, {}, 0.0),
    ],
)
def test_a_token_is_renewed_in_the_last_tenth_of_its_life(lifetime: float, policy: dict[str, Any], expected: float):
    assert margin(lifetime, RefreshPolicy(**policy)) == expected


@pytest.mark.parametrize(
    ("failures", "jitter", "expected"), [(0, 1.0, 5.0), (3, 0.0, 5.0), (3, 1.0, 40.0), (99, 1.0, 900.0)]
)
def test_the_pause_grows_from_seconds_to_a_quarter_of_an_hour(failures: int, jitter: float, expected: float):
    assert back_off(failures, jitter) == expected


@pytest.mark.parametrize(
    "changes",
    [{"state": GrantState.NEEDS_ADMIN}, {"state": GrantState.NEEDS_CONSENT}, {"state": GrantState.REVOKED}, sent(0)],
    ids=str,
)
def test_a_grant_of_which_more_is_to_be_known_is_not_left_untouched_for_any_time(changes: dict[str, Any]):
    assert untouched_until(a_grant(**changes), RefreshPolicy()) == -math.inf


@pytest.mark.parametrize("policy", [{}, {"keepalive": 99}, {"margin": 0}, {"kills_old_access": True}], ids=str)
@pytest.mark.parametrize("expires_at", [LIFE, 20, 0, None])
@pytest.mark.parametrize("refreshable", [True, False])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_a_grant_is_untouched_as_long_as_nothing_but_using_it_is_decided(
    policy: dict[str, Any], expires_at: int | None, refreshable: bool, jitter: float
):
    grant, rules = a_grant(expires_at=expires_at), RefreshPolicy(**policy)
    until = min(untouched_until(grant, rules), 10.0 * LIFE)
    moments = [until - 0.001, until / 2, until / 10, 0.0]
    steps = [
        decide(grant, rules, refreshable=refreshable, forced=False, owner="me", now=now, jitter=jitter)
        for now in moments
        if now >= 0
    ]
    assert {(each.step, each.trusted) for each in steps} == {(Step.USE, True)}


def test_a_token_that_was_dead_when_it_came_is_not_refreshed_at_every_call():
    assert step(a_grant(expires_at=-9.0), 5.0) is Step.USE


# --- Refused ---


async def test_a_refused_refresh_token_needs_consent_and_loses_no_row(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [DEAD]
    found = await bench.ask(grant, client())
    row = await bench.row(grant)
    assert found == ConsentNeeded("revoked", "Token expired or revoked")
    assert (row.state, row.reason, row.sealed != b"") == (GrantState.NEEDS_CONSENT, "revoked", True)


async def test_a_dead_grant_is_not_asked_about_again(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [DEAD]
    await bench.ask(grant, client())
    assert (await bench.ask(grant, client()), len(bench.server.sent)) == (ConsentNeeded("revoked"), 1)


async def test_a_refresh_token_past_its_own_end_has_expired(bench: Bench):
    grant = await bench.consent(refresh_lifetime=LIFE)
    bench.clock.now += LIFE
    bench.server.answers = [DEAD]
    assert await bench.ask(grant, client()) == ConsentNeeded("expired", "Token expired or revoked")


async def test_a_refusal_that_nobody_knows_is_not_the_death_of_a_grant(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [Refused("restart", "teapot", status=418)]
    found = await bench.ask(grant, client())
    assert (type(found), (await bench.row(grant)).state) == (RetryLater, GrantState.ACTIVE)


async def test_a_vendor_that_is_busy_is_left_alone_for_as_long_as_it_says(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [replace(BUSY, retry_after=77.0), answer("2")]
    first = await bench.ask(grant, client())
    bench.clock.now += 76
    second = await bench.ask(grant, client())
    bench.clock.now += 2
    assert (first, type(second)) == (RetryLater(77.0, replace(BUSY, retry_after=77.0)), RetryLater)
    assert token(await bench.ask(grant, client())) == "A2"


async def test_the_old_token_is_served_while_the_vendor_is_busy_and_it_lives(bench: Bench, grant: Grant):
    bench.clock.now += LIFE - 200
    bench.server.answers = [BUSY]
    assert token(await bench.ask(grant, client())) == "A1"


async def test_a_wrong_client_is_the_operators_business_and_leaves_grants_alone(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [Refused("operator_config", "invalid_client", status=401)]
    found = await bench.ask(grant, client())
    other = await bench.ask(await bench.consent(2, lifetime=1.0), client())
    bench.clock.now += 40
    assert isinstance(found, Misconfigured)
    assert isinstance(other, Usable)
    assert ((await bench.row(grant)).state, len(bench.server.sent)) == (GrantState.ACTIVE, 1)


async def test_a_wrong_client_is_not_sent_again_for_another_grant_at_once(bench: Bench, grant: Grant):
    other = await bench.consent(2)
    bench.clock.now += LIFE
    bench.server.answers = [Refused("operator_config", "invalid_client", status=401)]
    await bench.ask(grant, client())
    found = await bench.ask(other, client())
    assert (found, len(bench.server.sent)) == (Misconfigured(Refused("operator_config", "invalid_client")), 1)


async def test_a_block_by_an_administrator_is_told_and_tried_again_later(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [Refused("admin_block", "app_disabled", "Ask your administrator"), answer("2")]
    first, second = await bench.ask(grant, client()), await bench.ask(grant, client())
    bench.clock.now += 901
    assert (first, second) == (AdminNeeded("Ask your administrator"), AdminNeeded("app_disabled"))
    assert token(await bench.ask(grant, client())) == "A2"


async def test_a_step_up_asks_for_consent_and_keeps_the_grant(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [Refused("step_up", "interaction_required", "More is needed", needed=("admin",))]
    first, second = await bench.ask(grant, client()), await bench.ask(grant, client())
    assert first == ConsentNeeded("scope", "More is needed", ("admin",))
    assert isinstance(second, ConsentNeeded)
    assert ((await bench.row(grant)).state, len(bench.server.sent)) == (GrantState.ACTIVE, 1)


async def test_a_grant_that_cannot_be_refreshed_expires(bench: Bench):
    grant = await bench.consent(refresh=None)
    bench.clock.now += LIFE
    found = await bench.ask(grant, client())
    assert (found, (await bench.row(grant)).reason) == (ConsentNeeded("expired"), "expired")


async def test_a_vendor_without_refresh_is_not_asked(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    assert (await bench.ask(grant, client("never")), bench.server.sent) == (ConsentNeeded("expired"), [])


async def test_a_revoked_grant_gives_nothing(bench: Bench, grant: Grant):
    await bench.vault.shred(grant, "user")
    assert await bench.ask(grant, client()) == ConsentNeeded("revoked")


@pytest.mark.parametrize(
    "wrong",
    [
        answer("2", part="user"),
        answer("2", access=Secret("")),
        answer("2", subject="U2"),
        Answered((credential("2"),), "T2"),
        Answered(()),
    ],
    ids=["of another part", "empty", "of another user", "of another account", "without a credential"],
)
async def test_an_answer_that_is_not_of_this_grant_is_never_stored(bench: Bench, grant: Grant, wrong: Answered):
    bench.clock.now += LIFE
    bench.server.answers = [wrong]
    found = await bench.ask(grant, client())
    row = await bench.row(grant)
    assert (type(found), row.generation, row.intent_digest is not None) == (RetryLater, 1, True)


# --- The answer never came ---


async def test_an_unanswered_refresh_is_not_repeated_while_the_old_token_lives(bench: Bench, grant: Grant):
    bench.clock.now += LIFE - 200
    bench.server.answers = [NO_ANSWER]
    served = [token(await bench.ask(grant, client()))]
    bench.clock.now += 100
    served.append(token(await bench.ask(grant, client())))
    assert (served, bench.server.sent) == (["A1", "A1"], ["R1"])


async def test_an_unanswered_refresh_is_tried_once_more_when_the_old_token_has_ended(bench: Bench, grant: Grant):
    bench.clock.now += LIFE - 200
    bench.server.answers = [NO_ANSWER, answer("2")]
    await bench.ask(grant, client())
    bench.clock.now += 200
    assert (token(await bench.ask(grant, client())), bench.server.sent) == ("A2", ["R1", "R1"])


@pytest.mark.parametrize("unsure", [NO_ANSWER, Refused("transient", "server_error", status=500)])
async def test_a_rotation_that_was_lost_on_the_way_says_so(bench: Bench, grant: Grant, unsure: Refused):
    bench.clock.now += LIFE
    bench.server.answers = [unsure, DEAD]
    await bench.ask(grant, client())
    bench.clock.now += 60
    found = await bench.ask(grant, client())
    assert found == ConsentNeeded("lost_rotation", "Token expired or revoked")


async def test_a_busy_vendor_does_not_settle_what_was_unanswered(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [NO_ANSWER, BUSY, DEAD]
    for _ in range(3):
        found = await bench.ask(grant, client())
        bench.clock.now += 60
    assert found == ConsentNeeded("lost_rotation", "Token expired or revoked")


async def test_the_old_token_is_not_served_where_a_refresh_may_have_killed_it(bench: Bench, grant: Grant):
    bench.clock.now += LIFE - 60
    bench.server.answers = [NO_ANSWER]
    assert isinstance(await bench.ask(grant, client(kills_old_access=True)), RetryLater)


async def test_a_vendor_with_leeway_is_asked_again_within_it(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [NO_ANSWER, BUSY, NO_ANSWER, answer("2")]
    began = bench.clock.now
    assert token(await bench.ask(grant, client(leeway=60))) == "A2"
    assert (bench.server.sent, bench.clock.now - began < 54) == (["R1"] * 4, True)


async def test_a_family_is_not_put_at_risk_while_somebody_may_hold_the_answer(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [NO_ANSWER, answer("2")]
    policy = client(reuse_revokes_family=True)
    await bench.ask(grant, policy)
    bench.clock.now += 100
    found = await bench.ask(grant, policy)
    bench.clock.now += 21
    assert (type(found), bench.server.sent) == (RetryLater, ["R1"])
    assert token(await bench.ask(grant, policy)) == "A2"


async def test_a_defect_in_the_call_leaves_the_grant_alive(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [Unavailable(reason="the key does not sign"), answer("2")]
    with pytest.raises(Unavailable):
        await bench.ask(grant, client())
    bench.clock.now += 60
    assert token(await bench.ask(grant, client())) == "A2"


# --- Races ---


async def test_callers_of_one_process_share_one_call(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.server.answers = [answer("2")]
    found = await asyncio.gather(*(bench.ask(grant, client()) for _ in range(20)))
    assert ({token(each) for each in found}, bench.server.sent) == ({"A2"}, ["R1"])


@pytest.mark.parametrize("down", [set(), {"ephemeral"}])
async def test_replicas_share_one_call(bench: Bench, grant: Grant, down: set[str]):
    bench.clock.now += LIFE
    bench.down = down
    bench.server.answers = [answer("2")]
    replicas = [bench.replica(f"replica {number}") for number in range(4)]
    row = await bench.row(grant)
    found = await asyncio.gather(*(replica.fresh(row, client()) for replica in replicas for _ in range(5)))
    assert ({token(each) for each in found}, bench.server.sent) == ({"A2"}, ["R1"])


async def test_the_old_token_is_served_while_a_refresh_is_under_way(bench: Bench, grant: Grant):
    bench.clock.now += LIFE - 200
    called, go = asyncio.Event(), asyncio.Event()

    async def slowly() -> Answered:
        called.set()
        await go.wait()
        return answer("2")

    bench.server.answers = [slowly]
    first = asyncio.create_task(bench.ask(grant, client()))
    await called.wait()
    served = await bench.ask(grant, client()), await bench.replica("two").fresh(await bench.row(grant), client())
    go.set()
    assert ([token(each) for each in served], token(await first)) == (["A1", "A1"], "A2")


async def test_a_caller_who_goes_away_does_not_cut_the_refresh_off(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    called, go = asyncio.Event(), asyncio.Event()

    async def slowly() -> Answered:
        called.set()
        await go.wait()
        return answer("2")

    bench.server.answers = [slowly]
    first = asyncio.create_task(bench.ask(grant, client()))
    await called.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go.set()
    await bench.refreshing.aclose()
    assert (await bench.row(grant)).generation == 2


async def test_a_consent_in_the_middle_of_a_refresh_wins(bench: Bench, grant: Grant):
    bench.clock.now += LIFE

    async def consent_meanwhile() -> Answered:
        await bench.consent(1, access=Secret("newer"))
        return answer("2")

    bench.server.answers = [consent_meanwhile]
    found = await bench.ask(grant, client())
    assert (token(found), (await bench.row(grant)).generation) == ("newer", 2)


async def test_a_refusal_after_a_consent_in_the_middle_kills_nothing(bench: Bench, grant: Grant):
    bench.clock.now += LIFE

    async def consent_meanwhile() -> Refused:
        await bench.consent(1, access=Secret("newer"))
        return DEAD

    bench.server.answers = [consent_meanwhile]
    assert token(await bench.ask(grant, client())) == "newer"


async def test_a_loser_of_a_race_is_given_what_the_winner_stored(bench: Bench, grant: Grant):
    bench.clock.now += LIFE

    async def lose() -> Refused:
        await bench.vault.store_rotation(await bench.row(grant), credential("2"), began=bench.clock.now)
        return DEAD

    bench.server.answers = [lose]
    assert (token(await bench.ask(grant, client())), (await bench.row(grant)).state) == ("A2", GrantState.ACTIVE)


# --- What the caller saw rejected ---


@pytest.mark.parametrize("hint", ["A1", FINGERPRINTS.of(Secret("A1"))], ids=["token", "fingerprint"])
async def test_a_rejected_token_is_refreshed_before_its_end(bench: Bench, grant: Grant, hint: str):
    bench.clock.now += 100
    bench.server.answers = [answer("2")]
    assert token(await bench.ask(grant, client(), rejected=hint)) == "A2"


async def test_a_caller_who_saw_an_older_token_rejected_is_given_the_stored_one(bench: Bench, grant: Grant):
    bench.clock.now += 100
    assert (token(await bench.ask(grant, client(), rejected="A0")), bench.server.sent) == ("A1", [])


async def test_a_rejected_token_is_not_refreshed_again_at_once(bench: Bench, grant: Grant):
    bench.clock.now += 100
    bench.server.answers = [answer("2")]
    await bench.ask(grant, client(), rejected="A1")
    found = await bench.ask(grant, client(), rejected="A2")
    assert (type(found), bench.server.sent) == (RetryLater, ["R1"])


async def test_many_callers_who_saw_a_token_rejected_share_one_call(bench: Bench, grant: Grant):
    bench.clock.now += 100
    bench.server.answers = [answer("2")]
    found = await asyncio.gather(*(bench.ask(grant, client(), rejected="A1") for _ in range(9)))
    assert ({token(each) for each in found}, bench.server.sent) == ({"A2"}, ["R1"])


async def test_a_vendor_that_gives_the_rejected_token_again_is_not_believed(bench: Bench, grant: Grant):
    bench.clock.now += 100
    bench.server.answers = [answer("1")]
    assert isinstance(await bench.ask(grant, client(), rejected="A1"), RetryLater)


async def test_a_rejected_token_without_a_refresh_token_needs_consent_but_keeps_its_state(bench: Bench):
    grant = await bench.consent(refresh=None, lifetime=None)
    bench.clock.now += 100
    found = await bench.ask(grant, client(), rejected="A1")
    assert isinstance(found, ConsentNeeded)
    assert (await bench.row(grant)).state == GrantState.ACTIVE


# --- Stores that fail ---


async def test_an_answer_survives_a_database_that_is_down(bench: Bench, grant: Grant):
    bench.clock.now += LIFE

    async def lose_the_database() -> Answered:
        bench.down = {"writes"}
        return answer("2")

    bench.server.answers = [lose_the_database]
    served = token(await bench.ask(grant, client())), token(await bench.ask(grant, client()))
    bench.down = set()
    await bench.refreshing.aclose()
    assert (served, (await bench.row(grant)).generation, bench.server.sent) == (("A2", "A2"), 2, ["R1"])


async def test_another_process_stores_what_a_dead_one_spilled(bench: Bench, grant: Grant):
    bench.clock.now += LIFE

    async def lose_the_database() -> Answered:
        bench.down = {"writes"}
        return answer("2")

    bench.server.answers = [lose_the_database]
    await bench.ask(grant, client())
    await bench.refreshing.aclose(0.0)
    bench.down = set()
    found = await bench.replica("two").fresh(await bench.row(grant), client())
    assert (token(found), (await bench.row(grant)).generation, bench.server.sent) == ("A2", 2, ["R1"])


async def test_what_is_spilled_is_sealed_and_goes_when_it_is_stored(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    seen = []

    async def lose_the_database() -> Answered:
        bench.down = {"writes"}
        return answer("2")

    bench.server.answers = [lose_the_database]
    await bench.ask(grant, client())
    seen += [value for key, (value, _) in bench.shelf.entries.items() if key.startswith("rotation:")]
    bench.down = set()
    await bench.refreshing.aclose()
    left = [key for key in bench.shelf.entries if key.startswith("rotation:")]
    assert (len(seen), any(b"A2" in value for value in seen), left) == (1, False, [])


async def test_an_answer_survives_both_stores_being_down(bench: Bench, grant: Grant):
    bench.clock.now += LIFE

    async def lose_everything() -> Answered:
        bench.down = {"writes", "ephemeral"}
        return answer("2")

    bench.server.answers = [lose_everything]
    served = token(await bench.ask(grant, client()))
    bench.down = set()
    await bench.refreshing.aclose()
    assert (served, (await bench.row(grant)).generation) == ("A2", 2)


async def test_nothing_is_sent_that_could_not_be_written_down_before(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.down = {"writes"}
    with pytest.raises(Unavailable):
        await bench.ask(grant, client())
    assert bench.server.sent == []


async def test_a_database_that_is_down_does_not_take_a_living_token_away(bench: Bench, grant: Grant):
    row = await bench.row(grant)
    bench.clock.now += LIFE - 200
    bench.down = {"records"}
    assert token(await bench.refreshing.fresh(row, client())) == "A1"


async def test_an_intent_that_took_long_to_write_is_written_again(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    slow = [30.0]

    async def step(name: str) -> None:
        if name == "records.committed" and slow:
            bench.clock.now += slow.pop()

    bench.records._step = step
    bench.server.answers = [answer("2")]
    await bench.ask(grant, client())
    assert (bench.server.sent, (await bench.row(grant)).revision) == (["R1"], 4)


# --- The breaker ---


async def test_a_vendor_that_calls_everything_dead_kills_a_few_and_no_more(bench: Bench):
    grants = [await bench.consent(number) for number in range(8)]
    bench.clock.now += LIFE
    bench.server.answers = [DEAD] * 8
    found = [await bench.ask(each, client()) for each in grants]
    dead = sum(isinstance(each, ConsentNeeded) for each in found)
    states = [(await bench.row(each)).state for each in grants]
    assert (dead, states.count(GrantState.ACTIVE)) == (MIN_DEATHS, 8 - MIN_DEATHS)


async def test_a_vendor_that_comes_back_refreshes_what_was_held(bench: Bench):
    grants = [await bench.consent(number) for number in range(6)]
    bench.clock.now += LIFE
    bench.server.answers = [DEAD] * 6
    for each in grants:
        await bench.ask(each, client())
    bench.clock.now += 60
    bench.server.answers = [answer("new")]
    assert token(await bench.ask(grants[-1], client())) == "Anew"


async def test_a_death_that_cannot_be_counted_is_not_believed(bench: Bench, grant: Grant):
    bench.clock.now += LIFE
    bench.down = {"ephemeral"}
    bench.server.answers = [DEAD]
    found = await bench.ask(grant, client())
    assert isinstance(found, RetryLater)
    assert (found.refused.outcome, (await bench.row(grant)).state) == ("transient", GrantState.ACTIVE)


# --- Another server ---


@pytest.mark.parametrize("late", [0.0, LIFE])
async def test_what_one_server_gave_is_neither_handed_out_for_another_nor_sent_to_it(bench: Bench, late: float):
    grant = await bench.consent(recipient="one")
    bench.clock.now += late
    found = await bench.ask(grant, replace(client(), recipient="another"))
    assert (found, bench.server.sent) == (ConsentNeeded("provider_changed"), [])


async def test_a_rotation_that_was_spilled_is_not_landed_for_another_server(bench: Bench):
    grant = await bench.consent(recipient="one")
    await bench.vault.change_state(grant, GrantState.NEEDS_CONSENT, "lost_rotation")
    found = await bench.ask(grant, replace(client(), recipient="another"))
    assert found == ConsentNeeded("provider_changed")


@pytest.mark.parametrize("reason", ["superseded", "provider_changed"])
async def test_a_token_that_only_memory_holds_is_not_handed_out_once_the_grant_is_over(
    bench: Bench, grant: Grant, reason: str
):
    bench.clock.now += LIFE
    bench.server.answers = [_down_from_here(bench)]
    assert token(await bench.ask(grant, client())) == "A2"
    over = replace(await bench.row(grant), state=GrantState.NEEDS_CONSENT, reason=reason)
    assert await bench.refreshing.fresh(over, client()) == ConsentNeeded(reason)
    await bench.refreshing.aclose(0)


def _down_from_here(bench: Bench) -> Callable[[], Any]:
    async def answered() -> Answered:
        bench.down = {"writes", "ephemeral"}
        return answer("2")

    return answered


async def test_what_a_server_gave_is_refreshed_there(bench: Bench):
    grant = await bench.consent(recipient="one")
    bench.clock.now += LIFE
    bench.server.answers = [answer("2")]
    assert token(await bench.ask(grant, replace(client(), recipient="one"))) == "A2"


# --- Handed out ---


async def test_a_living_token_is_handed_out_without_a_call(bench: Bench, grant: Grant):
    assert (token(await bench.ask(grant, client())), bench.server.sent) == ("A1", [])


async def test_a_grant_without_an_end_is_handed_out_as_it_is(bench: Bench):
    grant = await bench.consent(refresh=None, lifetime=None)
    bench.clock.now += 10 * 365 * 86400
    assert token(await bench.ask(grant, client())) == "A1"


async def test_a_token_near_its_end_is_renewed(bench: Bench, grant: Grant):
    bench.clock.now += LIFE - 100
    bench.server.answers = [answer("2")]
    found = await bench.ask(grant, client())
    assert (token(found), bench.server.sent, bench.server.variables) == ("A2", ["R1"], [{"host": "eu"}])


async def test_a_living_access_token_is_exchanged_where_there_is_no_refresh_token(bench: Bench):
    grant = await bench.consent(refresh=None)
    bench.clock.now += LIFE - 100
    bench.server.answers = [answer("2", refresh=None)]
    assert (token(await bench.ask(grant, client("access_token"))), bench.server.sent) == ("A2", ["A1"])


async def test_a_dead_access_token_is_not_exchanged(bench: Bench):
    grant = await bench.consent(refresh=None)
    bench.clock.now += LIFE
    assert (await bench.ask(grant, client("access_token")), bench.server.sent) == (ConsentNeeded("expired"), [])
