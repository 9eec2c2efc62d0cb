"""The vault finds a grant for its holder alone, and keeps the newest of what users and vendors gave."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from identity_gateway.errors import NotFound, Unavailable
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.model import Grant, GrantState, JwtUser, NamedUser, Secret
from identity_gateway.protocol.oauth2 import Answered, Credential, Requested
from identity_gateway.records import Stale
from identity_gateway.records.sql import SqlRecords
from identity_gateway.vault import SUPERSEDED, Holder, Tokens, Vault, lookup_of
from tests.fakes.clock import Clock
from tests.fakes.envelope import LocalEnvelope

ACCOUNT, OTHER_ACCOUNT = "000000000000", "111111111111"
BORN = datetime(2026, 1, 1, tzinfo=UTC)
REQUESTED = Requested(("write", "read"), {"team": "T1"}, ("https://a.test/",), ("audience",))
HOLDER = Holder("agent", BORN, JwtUser("https://issuer.test", "alice"), "chat", "provider-1", REQUESTED)
FINGERPRINTS = Fingerprints([b"f" * 32])


@pytest.fixture
def envelope() -> LocalEnvelope:
    return LocalEnvelope()


@pytest.fixture
def vault(records: SqlRecords, envelope: LocalEnvelope, clock: Clock) -> Vault:
    return Vault(records, envelope, FINGERPRINTS, ACCOUNT, clock=clock)


def credential(name: str = "1", **changes: Any) -> Credential:
    refresh = Secret(f"R{name}")
    made = Credential("default", Secret(f"A{name}"), refresh, 3600.0, None, None, "Bearer", "U1")
    return replace(made, **changes)


def answered(*credentials: Credential, **changes: Any) -> Answered:
    made = Answered(credentials or (credential(),), "T1", "", "Team", {"host": "eu"}, {"hook": Secret("H1")})
    return replace(made, **changes)


async def consented(vault: Vault, clock: Clock, *credentials: Credential, holder: Holder = HOLDER) -> Grant:
    return (await vault.store_consent(holder, answered(*credentials), began=clock.now))[0]


async def change_row(records: SqlRecords, grant: Grant) -> None:
    async with records.write() as transaction:
        await transaction.update(grant)


# --- Whose ---

OTHERS: dict[str, Callable[[Holder], Holder]] = {
    "another agent": lambda holder: replace(holder, workload="agent2"),
    "an agent of the same name, made later": lambda holder: replace(holder, since=BORN + timedelta(microseconds=1)),
    "another user": lambda holder: replace(holder, user=JwtUser("https://issuer.test", "bob")),
    "a namesake of another issuer": lambda holder: replace(holder, user=JwtUser("https://other.test", "alice")),
    "a user that was only named": lambda holder: replace(holder, user=NamedUser("alice")),
    "a provider of the same name, made later": lambda holder: replace(holder, provider_id="provider-2"),
    "other scopes": lambda holder: replace(holder, requested=replace(REQUESTED, scopes=("read",))),
    "no scopes": lambda holder: replace(holder, requested=replace(REQUESTED, scopes=())),
    "another parameter": lambda holder: replace(holder, requested=replace(REQUESTED, parameters={"team": "T2"})),
    "one parameter more": lambda holder: replace(
        holder, requested=replace(REQUESTED, parameters={"team": "T1", "x": ""})
    ),
    "a resource as audience": lambda holder: replace(
        holder, requested=replace(REQUESTED, resources=(), audiences=("https://a.test/", "audience"))
    ),
    "a border shifted by a character": lambda holder: replace(holder, workload="agen", provider="tchat"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
async def test_nobody_else_finds_the_grant(vault: Vault, clock: Clock, other: Callable[[Holder], Holder]):
    await consented(vault, clock)
    assert await vault.find(other(HOLDER), "default") is None


async def test_another_part_of_the_consent_is_another_grant(vault: Vault, clock: Clock):
    await consented(vault, clock)
    assert await vault.find(HOLDER, "user") is None


async def test_another_account_does_not_find_the_grant(vault: Vault, records: SqlRecords, clock: Clock):
    await consented(vault, clock)
    other = Vault(records, LocalEnvelope(), FINGERPRINTS, OTHER_ACCOUNT, clock=clock)
    assert await other.find(HOLDER, "default") is None


@pytest.mark.parametrize(
    "change", [{"user": '["id","mallory"]'}, {"workload": "x"}, {"provider_id": "x"}, {"scopes": ()}, {"request": {}}]
)
async def test_a_row_whose_columns_were_changed_gives_no_token(
    vault: Vault, records: SqlRecords, clock: Clock, change: dict[str, Any]
):
    await change_row(records, replace(await consented(vault, clock), **change))
    with pytest.raises(Unavailable):
        await vault.find(HOLDER, "default")


async def test_tokens_moved_into_another_row_do_not_open(vault: Vault, clock: Clock):
    mine = await consented(vault, clock)
    theirs = await consented(vault, clock, credential("2"), holder=replace(HOLDER, user=NamedUser("bob")))
    with pytest.raises(Unavailable):
        await vault.open(replace(mine, sealed=theirs.sealed))


async def test_tokens_of_an_older_generation_do_not_open(vault: Vault, clock: Clock):
    first = await consented(vault, clock)
    second = await consented(vault, clock, credential("2"))
    with pytest.raises(Unavailable):
        await vault.open(replace(second, sealed=first.sealed))


async def test_a_key_service_that_is_down_is_not_a_lost_grant(vault: Vault, envelope: LocalEnvelope, clock: Clock):
    grant = await consented(vault, clock)
    envelope.is_down = True
    with pytest.raises(Unavailable):
        await vault.open(grant)


async def test_the_holder_finds_and_opens_what_was_granted(vault: Vault, clock: Clock):
    await consented(vault, clock)
    same = replace(HOLDER, requested=replace(REQUESTED, scopes=("read", "write", "read")))
    grant = await vault.find(same, "default")
    assert grant is not None
    tokens = await vault.open(grant)
    assert (tokens.access.reveal(), tokens.refresh and tokens.refresh.reveal()) == ("A1", "R1")
    assert (tokens.variables, tokens.secrets["hook"].reveal()) == ({"host": "eu"}, "H1")


async def test_a_grant_shows_no_token(vault: Vault, clock: Clock):
    grant = await consented(vault, clock)
    shown = repr(grant) + repr(await vault.open(grant))
    assert not any(secret in shown for secret in ("A1", "R1", "H1"))


def test_a_lookup_does_not_depend_on_the_order_in_which_things_were_asked():
    other = Requested(("read", "write"), {"team": "T1"}, ("https://a.test/",), ("audience",))
    assert lookup_of(ACCOUNT, HOLDER, "default") == lookup_of(ACCOUNT, replace(HOLDER, requested=other), "default")


# --- Lists ---


async def test_a_list_holds_what_was_asked_for_in_pages(vault: Vault, clock: Clock):
    for user in ("bob", "carol", "dave"):
        await consented(vault, clock, holder=replace(HOLDER, user=NamedUser(user)))
    first = await vault.list(provider_id="provider-1", state=GrantState.ACTIVE, limit=2)
    second = await vault.list(provider_id="provider-1", state=GrantState.ACTIVE, after=first[-1].id, limit=2)
    assert (len(first), len(second), len({grant.id for grant in first + second})) == (2, 1, 3)
    assert [grant.user for grant in await vault.list(user=NamedUser("bob"), limit=9)] == ['["id","bob"]']


async def test_a_signal_that_names_nobody_is_not_answered(vault: Vault):
    with pytest.raises(ValueError):
        await vault.of_vendor_account("provider-1", None)


@pytest.mark.parametrize(
    ("account", "subject", "part", "found"),
    [
        ("T1", None, None, 1),
        ("T1", "U1", "default", 1),
        (None, "U1", None, 1),
        ("T1", "U2", None, 0),
        ("", "U1", None, 0),
    ],
)
async def test_grants_are_found_by_the_account_at_the_vendor(
    vault: Vault, clock: Clock, account: str | None, subject: str | None, part: str | None, found: int
):
    await consented(vault, clock)
    assert len(await vault.of_vendor_account("provider-1", account, subject, part)) == found


# --- Consents ---


async def test_an_answer_without_a_credential_is_refused(vault: Vault, clock: Clock):
    with pytest.raises(ValueError):
        await vault.store_consent(HOLDER, Answered(()), began=clock.now)


async def test_a_consent_counts_its_lifetimes_from_the_beginning_of_the_call(vault: Vault, clock: Clock):
    began = clock.now
    clock.now += 9
    (grant,) = await vault.store_consent(HOLDER, answered(), began=began, refresh_lifetime=100.0)
    assert grant.expires_at == datetime.fromtimestamp(began + 3600, UTC)
    assert grant.refresh_expires_at == datetime.fromtimestamp(began + 100, UTC)


async def test_a_new_consent_takes_the_place_of_the_old_one(vault: Vault, clock: Clock):
    first = await consented(vault, clock)
    second = await consented(vault, clock, credential("2"))
    assert (second.id, second.generation, second.created_at) == (first.id, 2, first.created_at)
    assert (await vault.open(second)).access.reveal() == "A2"


async def test_a_new_consent_brings_a_revoked_grant_back(vault: Vault, clock: Clock):
    await vault.shred(await consented(vault, clock), "user")
    grant = await consented(vault, clock, credential("2"))
    assert (grant.state, grant.reason, (await vault.open(grant)).access.reveal()) == (GrantState.ACTIVE, "", "A2")


async def test_a_part_that_the_new_answer_lacks_is_superseded(vault: Vault, clock: Clock):
    await vault.store_consent(HOLDER, answered(credential(), credential("u", part="user")), began=clock.now)
    await consented(vault, clock, credential("2"))
    left = await vault.find(HOLDER, "user")
    assert left is not None
    assert (left.state, left.reason, left.sealed != b"") == (GrantState.NEEDS_CONSENT, SUPERSEDED, True)


async def test_a_grant_of_the_same_vendor_user_is_superseded_where_the_vendor_ends_it(vault: Vault, clock: Clock):
    other, stranger = replace(HOLDER, workload="other"), replace(HOLDER, workload="stranger")
    await consented(vault, clock, holder=other)
    await consented(vault, clock, credential(subject="U2"), holder=stranger)
    await vault.store_consent(HOLDER, answered(), began=clock.now, supersedes=True)
    found = [await vault.find(holder, "default") for holder in (other, stranger, HOLDER)]
    assert [grant and grant.state for grant in found] == [
        GrantState.NEEDS_CONSENT,
        GrantState.ACTIVE,
        GrantState.ACTIVE,
    ]


async def test_nothing_is_superseded_when_the_vendor_does_not_say_who_consented(vault: Vault, clock: Clock):
    other = replace(HOLDER, workload="other")
    await consented(vault, clock, credential(subject=""), holder=other)
    await vault.store_consent(HOLDER, answered(credential(subject="")), began=clock.now, supersedes=True)
    found = await vault.find(other, "default")
    assert found is not None
    assert found.state == GrantState.ACTIVE


async def test_of_two_consents_that_end_in_the_wrong_order_the_later_one_stays(vault: Vault, clock: Clock):
    began = clock.now
    clock.now += 2
    await consented(vault, clock, credential("later"))
    (kept,) = await vault.store_consent(HOLDER, answered(credential("earlier")), began=began)
    assert (await vault.open(kept)).access.reveal() == "Alater"


async def test_a_clock_that_went_wrong_does_not_shut_users_out(vault: Vault, clock: Clock):
    await vault.store_consent(HOLDER, answered(), began=clock.now + 3600)
    grant = await consented(vault, clock, credential("2"))
    assert (await vault.open(grant)).access.reveal() == "A2"


async def test_consents_that_race_are_all_stored_one_after_the_other(vault: Vault, clock: Clock):
    await asyncio.gather(*(consented(vault, clock, credential(str(number))) for number in range(6)))
    grant = await vault.find(HOLDER, "default")
    assert grant is not None
    assert (grant.generation, len(await vault.list(limit=9))) == (6, 1)


# --- Rotations ---


async def test_an_intent_is_written_by_one_of_many(vault: Vault, clock: Clock):
    grant = await consented(vault, clock)
    tried = [vault.begin_rotation(grant, owner=str(number), refresh_token=Secret("R1")) for number in range(5)]
    ended = await asyncio.gather(*tried, return_exceptions=True)
    assert [type(each) for each in ended].count(Stale) == 4


async def test_a_rotation_that_a_consent_overtook_is_stale(vault: Vault, clock: Clock):
    begun = await vault.begin_rotation(await consented(vault, clock), owner="me", refresh_token=Secret("R1"))
    await consented(vault, clock, credential("2"))
    with pytest.raises(Stale):
        await vault.store_rotation(begun, credential("3"), began=clock.now)
    current = await vault.get(begun.id)
    assert current is not None
    assert (await vault.open(current)).access.reveal() == "A2"


async def test_a_rotation_of_a_grant_that_was_revoked_is_stale(vault: Vault, clock: Clock):
    begun = await vault.begin_rotation(await consented(vault, clock), owner="me", refresh_token=Secret("R1"))
    await vault.shred(begun, "user")
    with pytest.raises(Stale):
        await vault.store_rotation(begun, credential("3"), began=clock.now)


async def test_a_rotation_of_a_grant_that_was_superseded_is_stale(vault: Vault, clock: Clock):
    other = replace(HOLDER, workload="other")
    begun = await vault.begin_rotation(
        await consented(vault, clock, holder=other), owner="me", refresh_token=Secret("R1")
    )
    await vault.store_consent(HOLDER, answered(), began=clock.now, supersedes=True)
    with pytest.raises(Stale):
        await vault.store_rotation(begun, credential("3"), began=clock.now)


async def test_a_rotation_that_another_one_overtook_is_stale(vault: Vault, clock: Clock):
    grant = await consented(vault, clock)
    await vault.store_rotation(grant, credential("2"), began=clock.now)
    with pytest.raises(Stale):
        await vault.store_rotation(grant, credential("3"), began=clock.now)


async def test_a_rotation_lands_though_another_refresh_despaired(vault: Vault, clock: Clock):
    begun = await vault.begin_rotation(await consented(vault, clock), owner="me", refresh_token=Secret("R1"))
    await vault.change_state(begun, GrantState.NEEDS_CONSENT, "lost_rotation")
    stored = await vault.store_rotation(begun, credential("2"), began=clock.now)
    assert (stored.state, stored.generation, stored.intent_digest) == (GrantState.ACTIVE, 2, None)


async def test_an_answer_without_a_refresh_token_keeps_the_old_one(vault: Vault, clock: Clock):
    grant = await consented(vault, clock, credential(refresh_lifetime=1000.0))
    stored = await vault.store_rotation(grant, credential("2", refresh=None), began=clock.now, refresh_lifetime=50.0)
    tokens = await vault.open(stored)
    assert (tokens.access.reveal(), tokens.refresh and tokens.refresh.reveal()) == ("A2", "R1")
    assert (stored.refresh_digest, stored.refresh_expires_at) == (grant.refresh_digest, grant.refresh_expires_at)


async def test_a_token_sent_again_keeps_the_time_of_its_first_use(vault: Vault, clock: Clock):
    first = await vault.begin_rotation(await consented(vault, clock), owner="me", refresh_token=Secret("R1"))
    clock.now += 5
    again = await vault.begin_rotation(first, owner="you", refresh_token=Secret("R1"))
    assert (again.intent_at, again.intent_owner, again.updated_at > first.updated_at) == (first.intent_at, "you", True)


# --- States ---


async def test_a_state_does_not_change_for_somebody_who_saw_an_older_one(vault: Vault, clock: Clock):
    grant = await consented(vault, clock)
    await vault.change_state(grant, GrantState.NEEDS_ADMIN, "blocked")
    with pytest.raises(Stale):
        await vault.change_state(grant, GrantState.NEEDS_CONSENT, "revoked")


async def test_a_grant_that_died_keeps_its_tokens(vault: Vault, clock: Clock):
    dead = await vault.change_state(await consented(vault, clock), GrantState.NEEDS_CONSENT, "revoked")
    assert (await vault.open(dead)).refresh is not None


async def test_revoking_leaves_a_row_without_tokens(vault: Vault, clock: Clock):
    grant = await consented(vault, clock)
    gone = await vault.shred(grant, "user")
    assert (gone.state, gone.reason, gone.sealed, gone.refresh_digest) == (GrantState.REVOKED, "user", b"", "")
    with pytest.raises(Unavailable):
        await vault.open(gone)


async def test_revoking_wins_over_whoever_wrote_meanwhile(vault: Vault, clock: Clock):
    grant = await consented(vault, clock)
    await vault.begin_rotation(grant, owner="me", refresh_token=Secret("R1"))
    assert (await vault.shred(grant, "user")).state == GrantState.REVOKED


async def test_a_grant_that_was_deleted_cannot_be_revoked(vault: Vault, records: SqlRecords, clock: Clock):
    grant = await consented(vault, clock)
    async with records.write() as transaction:
        await transaction.delete(Grant, account=ACCOUNT, id=grant.id)
    with pytest.raises(NotFound):
        await vault.shred(grant, "user")


def test_tokens_show_no_secret():
    shown = repr(Tokens(Secret("A"), Secret("R"), "Bearer", {}, {"hook": Secret("H")}))
    assert ("<secret>" in shown, "hook" in shown) == (True, False)
