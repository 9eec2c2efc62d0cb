"""A grant that is taken back is taken from agents at once, then at the vendor, and then its tokens are destroyed."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from identity_gateway.errors import Conflict, NotFound, ValidationFailed
from identity_gateway.model import Grant, GrantState, JwtUser
from identity_gateway.records.sql import SqlRecords
from identity_gateway.refresh import ConsentNeeded
from identity_gateway.vault import PROVIDER_CHANGED, SUPERSEDED
from tests.fakes.clock import Clock
from tests.fakes.granted import ADA, BOB, World, world
from tests.fakes.vendor import Answer, Lost, Unreachable

PENDING = (GrantState.REVOKED, "vendor_revocation_pending", True)


@pytest.fixture
async def github(records: SqlRecords, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    """A vendor with refresh tokens that can end one token, or all that a person gave to the client."""
    async with world(records, clock, tmp_path, "github", "app") as here:
        await here.register()
        yield here


@pytest.fixture
async def zoom(records: SqlRecords, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    """A vendor that can only end everything of a person, and does not say whether a token lives."""
    async with world(records, clock, tmp_path, "zoom") as here:
        await here.register()
        yield here


@pytest.fixture
async def slack(records: SqlRecords, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    """A vendor that can only end one token."""
    async with world(records, clock, tmp_path, "slack") as here:
        await here.register()
        yield here


# --- What cannot be asked ---


async def test_a_grant_that_there_is_not_is_not_found(github: World):
    with pytest.raises(NotFound):
        await github.grants.revoke_grant({"grantId": "0" * 32})


@pytest.mark.parametrize(
    "asked",
    [
        {"userIssuer": "https://issuer.example"},
        {"userSubject": "ada"},
        {"userIssuer": "https://issuer.example", "userSubject": "ada", "userId": "ada"},
        {"state": "bogus"},
        {"nextToken": "bogus"},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(github: World, asked: dict[str, str]):
    with pytest.raises(ValidationFailed):
        await github.grants.list_grants(asked)


async def test_a_provider_that_there_is_not_has_no_list(github: World):
    with pytest.raises(NotFound):
        await github.grants.list_grants({"providerName": "nowhere"})


async def test_a_page_token_is_good_for_the_same_filters_only(github: World):
    for number in range(2):
        await github.consent(workload=f"agent-{number}")
    page = await github.grants.list_grants({"userId": "ada", "maxResults": 1})
    with pytest.raises(ValidationFailed):
        await github.grants.list_grants({"userId": "bob", "maxResults": 1, "nextToken": page["nextToken"]})


# --- The vendor does not do what it is asked ---


async def test_a_vendor_that_is_down_keeps_no_grant_alive_and_its_tokens_stay_sealed(github: World):
    grant = await github.consent()
    github.vendor.script = [Unreachable(), Unreachable()]
    said = await github.revoke(grant)
    assert (said["status"], said["errorCode"]) == ("FAILED", "unreachable")
    assert await github.state(grant) == PENDING


async def test_no_agent_is_given_a_grant_that_the_vendor_has_not_taken_back_yet(github: World):
    grant = await github.consent()
    github.vendor.script = [Unreachable(), Unreachable()]
    await github.revoke(grant)
    found = await github.refreshing().fresh(await github.row(grant), await github.client())
    assert found == ConsentNeeded("revoked")


async def test_a_second_attempt_reaches_a_vendor_that_was_down(github: World):
    grant = await github.consent()
    github.vendor.script = [Unreachable(), Unreachable()]
    await github.revoke(grant)
    assert await github.revoke(grant) == {"status": "VERIFIED", "effect": "user_client"}
    assert await github.state(grant) == (GrantState.REVOKED, "revoked_verified", False)


async def test_the_vendors_own_code_and_description_are_passed_on(slack: World):
    grant = await slack.consent()
    slack.vendor.script = [Answer(200, {"ok": False, "error": "accesslimited"})]
    assert (await slack.revoke(grant))["errorCode"] == "accesslimited"


async def test_a_second_attempt_after_the_access_token_has_expired_refreshes_first(github: World):
    grant = await github.consent()
    github.vendor.script = [Unreachable(), Unreachable()]
    await github.revoke(grant)
    github.expire()
    assert (await github.revoke(grant))["status"] == "VERIFIED"
    assert not github.vendor.families[0].lives(github.vendor.families[0].newest)


async def test_what_a_refresh_gave_is_kept_when_the_vendor_goes_down_before_it_is_revoked(github: World):
    grant = await github.consent()
    github.expire()
    original = github.vendor.renew

    def then_down(params: dict[str, str]) -> Answer:
        github.vendor.script = [Unreachable(), Unreachable()]
        return original(params)

    github.vendor.renew = then_down  # type: ignore[method-assign]
    assert (await github.revoke(grant))["status"] == "FAILED"
    assert (await github.vault.open(await github.row(grant))).access.reveal() == github.vendor.families[0].newest


async def test_a_refresh_without_an_answer_does_not_prove_that_a_grant_is_dead(github: World):
    grant = await github.consent()
    github.expire()
    github.vendor.script = [Lost()]
    assert (await github.revoke(grant))["status"] == "FAILED"
    github.clock.now += 60
    assert (await github.revoke(grant))["status"] == "FAILED"
    assert await github.state(grant) == PENDING


async def test_two_who_revoke_at_once_spend_one_refresh_token(github: World):
    grant = await github.consent()
    github.expire()
    answers = await asyncio.gather(*(github.revoke(grant) for _ in range(2)), return_exceptions=True)
    assert [each for each in answers if not isinstance(each, Conflict | dict)] == []
    assert any(isinstance(each, dict) and each["status"] in {"VERIFIED", "REVOKED"} for each in answers)
    assert len(github.vendor.families[0].access) == 2


# --- The vendor does ---


async def test_a_grant_is_revoked_at_the_vendor_and_then_its_tokens_are_destroyed(github: World):
    grant = await github.consent()
    assert await github.revoke(grant) == {"status": "VERIFIED", "effect": "user_client"}
    assert await github.state(grant) == (GrantState.REVOKED, "revoked_verified", False)
    assert github.vendor.complaints == []


async def test_a_vendor_that_does_not_say_whether_a_token_lives_leaves_it_unverified(zoom: World):
    grant = await zoom.consent()
    assert await zoom.revoke(grant) == {"status": "REVOKED", "effect": "user_client"}
    assert await zoom.state(grant) == (GrantState.REVOKED, "revoked", False)


async def test_revoking_again_says_the_same_and_asks_nobody(github: World):
    grant = await github.consent()
    await github.revoke(grant)
    before = len(github.vendor.requests)
    assert (await github.revoke(grant))["status"] == "VERIFIED"
    assert len(github.vendor.requests) == before


async def test_an_expired_access_token_is_refreshed_for_being_revoked(github: World):
    grant = await github.consent()
    github.expire()
    assert (await github.revoke(grant))["status"] == "VERIFIED"
    family = github.vendor.families[0]
    assert (len(family.access), family.lives(family.newest)) == (2, False)


async def test_a_grant_that_the_vendor_ended_before_is_verified_by_its_refresh_token(github: World):
    grant = await github.consent()
    github.expire()
    github.vendor.families[0].end()
    assert (await github.revoke(grant))["status"] == "VERIFIED"


async def test_a_grant_that_the_vendor_ended_while_its_access_token_seemed_good_is_verified_too(github: World):
    grant = await github.consent()
    github.vendor.families[0].end()
    assert (await github.revoke(grant))["status"] == "VERIFIED"
    assert (await github.state(grant))[2] is False


async def test_a_token_without_refresh_that_the_vendor_calls_dead_is_verified(
    records: SqlRecords, clock: Clock, tmp_path: Path
):
    async with world(records, clock, tmp_path, "github", "oauth_app") as here:
        await here.register()
        grant = await here.consent()
        here.vendor.families[0].end()
        assert (await here.revoke(grant))["status"] == "VERIFIED"


async def test_a_grant_whose_key_was_lost_is_revoked_here_and_says_so(github: World):
    grant = await github.consent()
    async with github.records.write() as transaction:
        await transaction.update(replace(grant, sealed=b"", state=GrantState.NEEDS_CONSENT, reason="key_lost"))
    assert (await github.revoke(grant))["status"] == "NOT_SUPPORTED"
    assert (await github.state(grant))[:2] == (GrantState.REVOKED, "revoked_here_only")


async def test_the_record_of_a_revocation_names_whose_grant_it_was_and_no_token(github: World):
    grant = await github.consent()
    tokens = {github.vendor.families[0].newest, str(github.vendor.families[0].refresh)}
    done = await github.grants.revoke_grant({"grantId": grant.id})
    assert (done.details["workload"], done.details["user"], done.details["status"]) == (
        "agent",
        json.loads(grant.user),
        "VERIFIED",
    )
    assert not any(token in repr((done.details, done.output)) for token in tokens)


# --- What else the same person gave ---


async def test_another_grant_of_the_same_person_is_spared_where_the_vendor_can(github: World):
    first, second = await github.consent(workload="one"), await github.consent(workload="two")
    assert await github.revoke(first) == {"status": "VERIFIED", "effect": "token"}
    assert await github.state(second) == (GrantState.ACTIVE, "", True)


async def test_where_the_vendor_never_said_who_it_was_the_users_other_grants_are_spared(github: World):
    first, second = [await github.consent(workload=each, subject="", account="") for each in ("one", "two")]
    assert (await github.revoke(first))["effect"] == "token"
    assert (await github.state(second))[0] == GrantState.ACTIVE


async def test_grants_that_a_wide_revocation_ended_do_not_stay_active(zoom: World):
    first = await zoom.consent(workload="one")
    second = await zoom.consent(BOB, workload="two")
    async with zoom.records.write() as transaction:  # as if the vendor had not superseded the first
        await transaction.update(replace(await zoom.row(first), state=GrantState.ACTIVE, reason=""))
    assert await zoom.revoke(second) == {"status": "REVOKED", "effect": "user_client", "alsoEnded": [first.id]}
    assert await zoom.state(first) == (GrantState.REVOKED, "revoked_with_another", False)


async def test_grants_of_another_person_outlive_a_wide_revocation(zoom: World):
    other = await zoom.consent(BOB, workload="two", subject="zu-2")
    mine = await zoom.consent(workload="one")
    await zoom.revoke(mine)
    assert (await zoom.state(other))[0] == GrantState.ACTIVE


async def test_revoking_a_superseded_grant_does_not_end_the_newer_one(zoom: World):
    old = await zoom.consent(workload="one")
    new = await zoom.consent(workload="two")
    assert (await zoom.row(old)).reason == SUPERSEDED
    assert (await zoom.revoke(old))["status"] == "REVOKED"
    assert (await zoom.state(new), len(zoom.vendor.requests)) == ((GrantState.ACTIVE, "", True), 4)


# --- Races ---


async def test_a_refresh_under_way_does_not_bring_a_revoked_grant_back_and_what_it_gave_is_revoked_too(github: World):
    grant = await github.consent()
    github.clock.now += 28800 - 30
    sent, flight = asyncio.Event(), asyncio.Event()
    original = github.server.refresh

    async def slow(*args: object, **asked: object) -> object:
        answer = await original(*args, **asked)  # type: ignore[arg-type]
        sent.set()
        await flight.wait()
        return answer

    github.server.refresh = slow  # type: ignore[method-assign, assignment]
    refreshing = github.refreshing()
    asking = asyncio.create_task(refreshing.fresh(grant, await github.client()))
    await sent.wait()

    async def land() -> None:
        github.while_asleep = None  # the refresh sleeps by the same clock
        flight.set()
        await asyncio.wait([asking])

    github.while_asleep = land
    said = await github.revoke(grant)
    await refreshing.aclose()
    family = github.vendor.families[0]
    assert (said["status"], family.lives(family.newest)) == ("VERIFIED", False)
    assert await github.state(grant) == (GrantState.REVOKED, "revoked_verified", False)


async def test_a_user_who_consents_anew_during_the_revocation_keeps_the_new_grant(slack: World):
    grant = await slack.consent()
    original = slack.server.revoke

    async def meanwhile(*args: object, **asked: object) -> object:
        slack.clock.now += 1
        await slack.consent()
        return await original(*args, **asked)  # type: ignore[arg-type]

    slack.server.revoke = meanwhile  # type: ignore[method-assign, assignment]
    await slack.revoke(grant)
    assert await slack.state(grant) == (GrantState.ACTIVE, "", True)


async def test_a_user_may_consent_again_to_what_was_revoked(github: World):
    grant = await github.consent()
    await github.revoke(grant)
    again = await github.consent()
    assert (again.id, again.state) == (grant.id, GrantState.ACTIVE)


# --- Lists ---


async def test_grants_are_listed_by_user_agent_provider_and_state(github: World):
    mine, of_bob = await github.consent(ADA, "one"), await github.consent(BOB, "two")
    await github.revoke(of_bob)
    for asked, wanted in (
        ({}, {mine.id, of_bob.id}),
        ({"userId": "ada"}, {mine.id}),
        ({"userIssuer": "https://issuer.example", "userSubject": "ada"}, set()),
        ({"workloadName": "two"}, {of_bob.id}),
        ({"providerName": "github"}, {mine.id, of_bob.id}),
        ({"state": "REVOKED"}, {of_bob.id}),
        ({"userId": "ada", "state": "REVOKED"}, set()),
    ):
        listed = await github.grants.list_grants(dict(asked))
        assert {each["grantId"] for each in listed["grants"]} == wanted, asked


async def test_a_user_of_a_token_is_not_the_user_of_the_same_name(github: World):
    await github.consent(JwtUser("https://issuer.example", "ada"))
    assert (await github.grants.list_grants({"userId": "ada"}))["grants"] == []
    (found,) = (await github.grants.list_grants({"userIssuer": "https://issuer.example", "userSubject": "ada"}))["grants"]  # fmt: skip
    assert found["user"] == {"issuer": "https://issuer.example", "subject": "ada"}


async def test_pages_hold_every_grant_once(github: World):
    made = {(await github.consent(workload=f"agent-{number}")).id for number in range(5)}
    seen: list[str] = []
    token = None
    while True:
        page = await github.grants.list_grants({"maxResults": 2} | ({"nextToken": token} if token else {}))
        seen += [each["grantId"] for each in page["grants"]]
        token = page["nextToken"]
        if token is None:
            break
    assert (len(seen), set(seen)) == (5, made)


async def test_a_grant_is_shown_without_its_tokens(github: World):
    grant = await github.consent()
    shown = repr(await github.grants.get_grant({"grantId": grant.id}))
    assert github.vendor.secret_free(shown)
    assert grant.sealed.hex() not in shown


# --- The provider was changed ---

CHANGED = {"status": "NOT_SUPPORTED", "detail": "the provider was changed: take it back where it was given"}


async def give_to_another(world: World, grant: Grant) -> None:
    """Let the row say that another server gave the grant, as if the change had come between two reads."""
    row = await world.row(grant)
    async with world.records.write() as transaction:
        await transaction.update(replace(row, request={**row.request, "recipient": "another"}))


async def test_what_another_server_gave_is_not_sent_to_this_one(zoom: World):
    grant = await zoom.consent()
    await zoom.providers.set_variables("zoom", {"domain": "zoomgov.com"})
    before = len(zoom.vendor.requests)
    assert (await zoom.revoke(grant), len(zoom.vendor.requests)) == (CHANGED, before)
    assert await zoom.state(grant) == (GrantState.REVOKED, "revoked_here_only", False)


async def test_a_change_right_after_the_grant_was_read_sends_nothing_either(github: World):
    grant = await github.consent()
    await give_to_another(github, grant)
    before = len(github.vendor.requests)
    assert (await github.revoke(grant), len(github.vendor.requests)) == (CHANGED, before)


async def test_a_revocation_that_failed_before_the_change_is_not_repeated_elsewhere(github: World):
    grant = await github.consent()
    github.vendor.script = [Unreachable(), Unreachable()]
    await github.revoke(grant)
    await github.providers.set_variables("github", {"host": "ours.ghe.com"})
    before = len(github.vendor.requests)
    assert (await github.revoke(grant), len(github.vendor.requests)) == (CHANGED, before)


async def test_what_another_server_gave_does_not_end_with_a_grant_of_this_one(github: World):
    other, grant = await github.consent(workload="other"), await github.consent()
    await github.vault.change_state(other, GrantState.NEEDS_CONSENT, PROVIDER_CHANGED)
    await give_to_another(github, other)
    assert (await github.revoke(grant))["effect"] == "user_client"
    assert await github.state(other) == (GrantState.NEEDS_CONSENT, PROVIDER_CHANGED, True)
