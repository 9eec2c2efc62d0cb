"""Consents as agents and applications see them: a session is its user's, is completed once, and says how it failed."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from identity_gateway.consent import LIFETIME, SessionState, Started
from identity_gateway.consent.story import MOST_BEGUN
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.errors import AccessDenied, NotFound, Throttled, Unavailable, ValidationFailed
from identity_gateway.model import Document, JwtUser, NamedUser
from identity_gateway.records.sql import SqlRecords
from tests.fakes.clock import Clock
from tests.fakes.consent import ADA, BOB, OTHER_ID, World, client, holder, query, request_uri, world

INVALID = r"^Invalid or expired session$"
UNKNOWN = "urn:ietf:params:oauth:request_uri:" + "A" * 43
REFUSED = {"error": "invalid_grant", "error_description": "The code has expired."}


@pytest.fixture
async def here(records: SqlRecords, clock: Clock) -> AsyncIterator[World]:
    async with world(records, clock) as opened:
        yield opened


async def failed(here: World, started: Started) -> tuple[str, str]:
    """Return the code and the description that the first poll after a failure is given."""
    status = await here.consents.status(started.session_uri, holder())
    assert status.state is SessionState.FAILED
    return status.code, status.description


async def completed(here: World) -> list[Document]:
    """Return the details of the records of completed consents."""
    return [record.details for record in await here.trail() if record.reason == "completed"]


# --- Beginning ---


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "//app.example/back",
        "app.example/back",
        "https://app.example/back\r\nset-cookie: a=b",
        "https://app.example/b ck",
        "https://äpp.example/back",
        "",
    ],
)
async def test_a_return_url_that_no_link_may_hold_is_refused(here: World, url: str):
    with pytest.raises(ValidationFailed, match="resourceOauth2ReturnUrl"):
        await here.begin(return_url=url)


async def test_an_agent_that_begins_one_consent_after_the_other_is_throttled(here: World):
    for _ in range(MOST_BEGUN):
        await here.begin()
    with pytest.raises(Throttled):
        await here.begin()


async def test_a_throttled_agent_may_still_ask_for_another_user_and_later_again(here: World, clock: Clock):
    for _ in range(MOST_BEGUN):
        await here.begin()
    await here.begin(holder(BOB))
    clock.now += LIFETIME + 1
    await here.begin()


async def test_a_parameter_that_only_the_gateway_sets_is_refused_before_there_is_a_link(here: World):
    with pytest.raises(ValidationFailed):
        await here.begin(holder(parameters={"redirect_uri": "https://evil.example"}))


async def test_a_link_leads_to_the_gateway_and_does_not_hold_what_completes_the_session(here: World):
    started = await here.begin()
    assert started.authorization_url.startswith(
        "https://gateway.example/identities/oauth2/authorize?request_uri=urn%3A"
    )
    assert query(started.authorization_url).keys() == {"request_uri"}
    assert request_uri(started) != started.session_uri


async def test_a_session_id_has_the_form_of_the_aws_models_and_256_bits(here: World):
    ids = {(await here.begin()).session_uri for _ in range(5)}
    assert len(ids) == 5
    assert all(re.fullmatch(r"urn:ietf:params:oauth:request_uri:[a-zA-Z0-9-._~]{43}", each) for each in ids)


# --- Asking ---


@pytest.mark.parametrize(
    "other",
    [
        holder(BOB),
        holder(NamedUser("ada")),
        holder(JwtUser("https://login.example/other", "ada")),
        holder(workload="other-agent"),
        holder(provider_id=OTHER_ID),
        holder(scopes=("files.read",)),
        replace(holder(), since=holder().since + timedelta(seconds=1)),
    ],
    ids=["user", "named", "issuer", "agent", "provider", "scopes", "namesake"],
)
async def test_a_session_of_another_holder_is_invalid(here: World, other):
    started = await here.begin()
    with pytest.raises(AccessDenied, match="Invalid or expired session"):
        await here.consents.status(started.session_uri, other)


@pytest.mark.parametrize("uri", [UNKNOWN, "", "x", "urn:ietf:params:oauth:request_uri:", UNKNOWN + "A"])
async def test_an_unknown_session_is_invalid(here: World, uri: str):
    with pytest.raises(AccessDenied, match="Invalid or expired session"):
        await here.consents.status(uri, holder())


async def test_a_session_is_invalid_after_ten_minutes(here: World, clock: Clock):
    started = await here.begin()
    clock.now += LIFETIME
    with pytest.raises(AccessDenied, match="Invalid or expired session"):
        await here.consents.status(started.session_uri, holder())


async def test_a_session_in_progress_gives_its_link_again(here: World, clock: Clock):
    started = await here.begin()
    clock.now += LIFETIME - 1
    status = await here.consents.status(started.session_uri, holder(scopes=("files.write", "files.read")))
    assert (status.state, status.authorization_url) == (SessionState.IN_PROGRESS, started.authorization_url)


async def test_a_session_whose_code_waits_is_still_in_progress(here: World):
    started = await here.returned()
    assert (await here.consents.status(started.session_uri, holder())).state is SessionState.IN_PROGRESS


async def test_a_failure_is_told_once_and_raised_from_then_on(here: World):
    started = await here.begin()
    browser = here.browser()
    await browser.come_back(state=await browser.state(started), error="access_denied", error_description="No, thanks")
    assert await failed(here, started) == ("access_denied", "No, thanks")
    for _ in range(2):
        with pytest.raises(AccessDenied, match="Sample Drive refused the consent: access_denied: No, thanks"):
            await here.consents.status(started.session_uri, holder())


# --- Completing ---


@pytest.mark.parametrize(
    "other", [BOB, NamedUser("ada"), JwtUser("https://login.example/other", "ada"), NamedUser('["jwt","i","ada"]')]
)
async def test_another_user_completes_nothing_and_burns_the_session(here: World, other):
    started = await here.returned()
    with pytest.raises(AccessDenied, match=INVALID):
        await here.consents.complete(started.session_uri, other)
    with pytest.raises(AccessDenied, match=INVALID):
        await here.consents.complete(started.session_uri, ADA)
    assert here.vendor.asked == []
    assert await here.vault.find(holder(), "default") is None


async def test_the_poller_hears_that_another_user_came_back(here: World):
    started = await here.returned()
    with pytest.raises(AccessDenied):
        await here.consents.complete(started.session_uri, BOB)
    assert (await failed(here, started))[0] == "wrong_user"


async def test_a_code_that_comes_after_another_user_is_never_kept(here: World):
    started = await here.begin()
    browser = here.browser()
    state = await browser.state(started)
    with pytest.raises(AccessDenied):
        await here.consents.complete(started.session_uri, BOB)
    await browser.come_back(state=state, code="code-1")
    with pytest.raises(AccessDenied):
        await here.consents.complete(started.session_uri, ADA)
    assert here.vendor.asked == []


@pytest.mark.parametrize("uri", [UNKNOWN, "", "x" * 1024])
async def test_completing_an_unknown_session_is_refused(here: World, uri: str):
    with pytest.raises(AccessDenied, match=INVALID):
        await here.consents.complete(uri, ADA)


async def test_a_session_is_not_completed_after_ten_minutes(here: World, clock: Clock):
    started = await here.returned()
    clock.now += LIFETIME
    with pytest.raises(AccessDenied, match=INVALID):
        await here.consents.complete(started.session_uri, ADA)
    assert here.vendor.asked == []


async def test_completing_before_the_vendor_has_answered_spoils_nothing(here: World):
    started = await here.begin()
    with pytest.raises(AccessDenied, match=INVALID):
        await here.consents.complete(started.session_uri, ADA)
    await here.browser().consent(started)
    await here.consents.complete(started.session_uri, ADA)
    assert len(here.vendor.asked) == 1


async def test_a_session_that_failed_is_not_completed(here: World):
    started = await here.begin()
    browser = here.browser()
    await browser.come_back(state=await browser.state(started), error="access_denied")
    with pytest.raises(AccessDenied, match=INVALID):
        await here.consents.complete(started.session_uri, ADA)


async def test_of_many_who_complete_at_once_one_exchanges_the_code(here: World):
    started = await here.returned()
    results = await asyncio.gather(
        *(here.consents.complete(started.session_uri, ADA) for _ in range(8)), return_exceptions=True
    )
    assert [isinstance(result, dict) for result in results].count(True) == 1
    assert len(here.vendor.asked) == 1


async def test_a_session_is_completed_once(here: World):
    started = await here.returned()
    await here.consents.complete(started.session_uri, ADA)
    with pytest.raises(AccessDenied, match=INVALID):
        await here.consents.complete(started.session_uri, ADA)


async def test_a_refusal_of_the_vendor_reaches_the_application_in_its_words(here: World):
    started = await here.returned()
    here.vendor.status, here.vendor.answer = 400, REFUSED
    with pytest.raises(
        ValidationFailed, match=r"Sample Drive .* invalid_grant: The code has expired\. Start again\."
    ) as raised:
        await here.consents.complete(started.session_uri, ADA)
    assert raised.value.kind == "VendorError"


async def test_a_refusal_of_the_vendor_reaches_the_poller_and_stores_nothing(here: World):
    started = await here.returned()
    here.vendor.status, here.vendor.answer = 400, REFUSED
    with pytest.raises(ValidationFailed):
        await here.consents.complete(started.session_uri, ADA)
    assert await failed(here, started) == ("invalid_grant", "The code has expired.")
    assert await here.vault.find(holder(), "default") is None


@pytest.mark.parametrize("fault", [Unavailable(reason="the database is gone"), RuntimeError("a bug")])
async def test_a_fault_of_the_gateway_ends_the_session_without_its_details(here: World, fault: Exception):
    started = await here.returned()
    here.vendor.fault = fault
    with pytest.raises(type(fault)):
        await here.consents.complete(started.session_uri, ADA)
    assert await failed(here, started) == ("server_error", "The gateway could not finish.")


async def test_a_consent_at_a_provider_that_was_deleted_is_not_completed(here: World):
    started = await here.returned()
    del here.register.clients[holder().provider_id]
    with pytest.raises(NotFound, match="deleted"):
        await here.consents.complete(started.session_uri, ADA)
    assert here.vendor.asked == []


async def test_nothing_is_stored_when_the_record_of_it_cannot_be_kept(here: World, monkeypatch: pytest.MonkeyPatch):
    started = await here.returned()

    async def full(_decided: object) -> None:
        raise Unavailable(reason="audit sink failed")

    monkeypatch.setattr(here.audit, "record", full)
    with pytest.raises(Unavailable):
        await here.consents.complete(started.session_uri, ADA)
    assert await here.vault.find(holder(), "default") is None


async def test_a_completed_session_says_so_and_its_grant_is_in_the_vault(here: World):
    started = await here.returned()
    await here.consents.complete(started.session_uri, JwtUser(ADA.issuer, ADA.subject))
    assert (await here.consents.status(started.session_uri, holder())).state is SessionState.COMPLETED
    grant = await here.vault.find(holder(), "default")
    assert grant is not None
    assert (await here.vault.open(grant)).access.reveal() == "access-1"


async def test_a_session_that_is_completed_at_the_last_moment_still_says_so(here: World, clock: Clock):
    started = await here.returned()
    clock.now += LIFETIME - 1
    await here.consents.complete(started.session_uri, ADA)
    clock.now += 5
    assert (await here.consents.status(started.session_uri, holder())).state is SessionState.COMPLETED


async def test_the_exchange_proves_the_challenge_that_the_vendor_was_given(here: World):
    started = await here.begin()
    browser = here.browser()
    asked = query((await browser.press(started)).url)
    await browser.come_back(state=asked["state"], code="code-1", location="us")
    await here.consents.complete(started.session_uri, ADA)
    (exchange,) = here.vendor.asked
    digest = hashlib.sha256(exchange["code_verifier"].encode()).digest()
    assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert (asked["code_challenge_method"], asked["redirect_uri"]) == ("S256", exchange["redirect_uri"])
    assert exchange["code"] == "code-1"


async def test_a_vendor_without_pkce_is_asked_without_it(records: SqlRecords, clock: Clock):
    off = client(authorize={"url": "https://vendor.example/oauth/authorize", "pkce": "off"})
    async with world(records, clock, first=off) as here:
        started = await here.begin()
        browser = here.browser()
        asked = query((await browser.press(started)).url)
        await browser.come_back(state=asked["state"], code="code-1")
        await here.consents.complete(started.session_uri, ADA)
        assert "code_challenge" not in asked
        assert "code_verifier" not in here.vendor.asked[0]


async def test_variables_of_the_redirect_reach_the_exchange_and_stay_with_the_grant(here: World):
    started = await here.begin()
    browser = here.browser()
    await browser.come_back(state=await browser.state(started), code="code-1", location="us")
    await here.consents.complete(started.session_uri, ADA)
    assert here.vendor.asked[0]["region"] == "us"
    grant = await here.vault.find(holder(), "default")
    assert grant is not None
    assert (await here.vault.open(grant)).variables == {"region": "us", "shard": "7"}


async def test_scopes_that_the_vendor_did_not_give_are_recorded_with_the_grant(here: World):
    started = await here.returned()
    here.vendor.answer["scope"] = "files.read profile"
    await here.consents.complete(started.session_uri, ADA)
    grant = await here.vault.find(holder(), "default")
    assert grant is not None
    assert (grant.scopes, grant.granted_scopes) == (("files.read", "files.write"), ("files.read", "profile"))
    (details,) = await completed(here)
    assert (details["missing"], details["extra"]) == (["files.write"], ["profile"])


async def test_a_consent_by_another_account_of_the_vendor_wins_and_is_on_record(here: World):
    await here.consents.complete((await here.returned()).session_uri, ADA)
    here.vendor.answer["user"] = "vendor-ada-at-work"
    await here.consents.complete((await here.returned()).session_uri, ADA)
    grant = await here.vault.find(holder(), "default")
    assert grant is not None
    assert grant.vendor_subject == "vendor-ada-at-work"
    assert [each.get("otherVendorAccount") for each in await completed(here)].count(True) == 1


async def test_a_vendor_whose_answer_names_nobody_is_asked_whose_account_it_is(here: World):
    started = await here.returned()
    del here.vendor.answer["user"]
    here.vendor.me = {"id": "vendor-ada", "name": "Ada"}
    await here.consents.complete(started.session_uri, ADA)
    grant = await here.vault.find(holder(), "default")
    assert grant is not None
    assert (grant.vendor_subject, grant.vendor_account, grant.label) == ("vendor-ada", "team-1", "Ada")


async def test_a_vendor_that_does_not_say_whose_account_it_is_spoils_no_consent(here: World):
    started = await here.returned()
    del here.vendor.answer["user"]
    await here.consents.complete(started.session_uri, ADA)
    grant = await here.vault.find(holder(), "default")
    assert grant is not None
    assert grant.vendor_subject == ""


# --- What is left behind ---


async def test_each_step_is_on_record_with_user_agent_provider_and_scopes(here: World):
    await here.consents.complete((await here.returned()).session_uri, ADA)
    records = await here.trail()
    assert {record.reason for record in records} == {"begun", "opened", "completed"}
    assert all(record.details["user"] == ["jwt", "https://login.example/tenant", "ada"] for record in records)
    assert {(record.principal, record.resource) for record in records} == {
        (
            "arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default/workload-identity/expense-agent",
            "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/oauth2credentialprovider/drive",
        )
    }


async def test_records_hold_no_session_no_state_and_no_code(here: World):
    started = await here.begin(state="custom-state")
    browser = here.browser()
    state = await browser.state(started)
    await browser.come_back(state=state, code="code-of-the-vendor")
    await here.consents.complete(started.session_uri, ADA)
    kept = repr(await here.trail())
    for secret in (request_uri(started).rpartition(":")[2], state, "code-of-the-vendor", "custom-state", "access-1"):
        assert secret not in kept


async def test_the_store_holds_neither_ids_nor_codes_nor_users(records: SqlRecords, clock: Clock, tmp_path: Path):
    async with world(records, clock, ephemeral=LocalEphemeral(tmp_path / "e.sqlite", clock=clock)) as here:
        started = await here.begin(state="custom-state")
        browser = here.browser()
        state = await browser.state(started)
        await browser.come_back(state=state, code="code-of-the-vendor")
        await here.ephemeral.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("e.sqlite*"))  # noqa: ASYNC240 - a test
    assert b"consent:000000000000:session:" in stored
    for secret in (
        started.session_uri.rpartition(":")[2],
        state,
        "code-of-the-vendor",
        "custom-state",
        "expense-agent",
    ):
        assert secret.encode() not in stored


async def test_a_session_that_was_moved_in_the_store_does_not_open(here: World):
    mine, other = await here.begin(), await here.begin(holder(BOB))
    keys = [
        f"consent:000000000000:session:{hashlib.sha256(each.session_uri.encode()).hexdigest()}"
        for each in (mine, other)
    ]
    moved = await here.ephemeral.get(keys[1])
    assert moved is not None
    await here.ephemeral.put(keys[0], moved, ttl=100)
    with pytest.raises(AccessDenied):
        await here.consents.status(mine.session_uri, holder())


async def test_sessions_and_what_leads_to_them_show_no_secret_in_their_repr(here: World):
    started = await here.begin()
    assert "urn:ietf" not in repr(started)
