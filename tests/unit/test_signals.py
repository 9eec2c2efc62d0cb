"""A webhook is believed when its signature proves its vendor, counts once, and can only take away."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.model import CredentialKind, Document, GrantState
from identity_gateway.protocol.oauth2 import Answered, Requested
from identity_gateway.records.sql import SqlRecords
from identity_gateway.signals import Delivery, NotJson, SignatureRefused
from tests.fakes.clock import Clock
from tests.fakes.granted import BOB, World, world
from tests.fakes.vendor.keys import client_key_pem

SECRET = "signing-secret-of-the-app"
REVOKED = (GrantState.REVOKED, "revoked_at_vendor", False)
ALIVE = (GrantState.ACTIVE, "", True)
Opened = Callable[..., Any]


def tokens_revoked(event_id: str = "Ev1", *, team: str = "T1", **tokens: list[str]) -> Document:
    return {
        "type": "event_callback",
        "event_id": event_id,
        "team_id": team,
        "event": {"type": "tokens_revoked", "tokens": tokens},
    }


async def deliver(
    here: World, body: Any, *, secret: str = SECRET, at: float | None = None, provider_id: str = "",
    headers: Mapping[str, str | None] | None = None, raw: bytes | None = None,
) -> Document:  # fmt: skip
    """Send a webhook as the vendor does, signed over what `raw` replaces afterwards. A header of None is left out."""
    webhooks = here.vendor.webhooks
    assert webhooks is not None
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    signed: dict[str, str | None] = {**webhooks.signed(secret.encode(), sent, str(int(at or here.clock.now)))}
    given = {"content-type": "application/json"} | {
        name.lower(): value for name, value in (signed | dict(headers or {})).items() if value is not None
    }
    provider_id = provider_id or (await here.providers.oauth2(here.vendor.id)).id
    return await here.signals.receive(
        Delivery(provider_id, given, sent if raw is None else raw, request_id="request-1", source="192.0.2.7")
    )


@pytest.fixture
async def slack(records: SqlRecords, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    async with world(records, clock, tmp_path, "slack", "both") as here:
        await here.register(signing_secret=SECRET)
        yield here


@pytest.fixture
async def zoom(records: SqlRecords, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    async with world(records, clock, tmp_path, "zoom") as here:
        await here.register(secret_token=SECRET)
        yield here


@pytest.fixture
async def github(records: SqlRecords, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    async with world(records, clock, tmp_path, "github", "app") as here:
        await here.register(webhook_secret=SECRET)
        yield here


async def parts(here: World) -> dict[str, tuple[str, str, bool]]:
    """Return what became of each grant of the vault, by its credential."""
    return {row.part: (row.state, row.reason, bool(row.sealed)) for row in await here.vault.list(limit=10)}


# --- Refused ---


@pytest.mark.parametrize(
    "forged",
    [
        {"secret": "another-secret"},
        {"raw": b'{"type":"event_callback"}'},
        {"headers": {"X-Slack-Signature": None}},
        {"headers": {"X-Slack-Signature": ""}},
        {"headers": {"X-Slack-Signature": "v0=" + "0" * 64}},
        {"headers": {"X-Slack-Request-Timestamp": None}},
        {"headers": {"X-Slack-Request-Timestamp": "1.8e9"}},
        {"headers": {"X-Slack-Request-Timestamp": "\u0661"}},
        {"headers": {"X-Slack-Request-Timestamp": "9" * 40}},
        {"provider_id": "00000000-0000-4000-8000-000000000000"},
        {"provider_id": "../slack"},
        {"provider_id": "slack"},
    ],
    ids=str,
)
async def test_a_webhook_that_its_signature_does_not_prove_ends_nothing(slack: World, forged: dict[str, Any]):
    await slack.consent()
    with pytest.raises(SignatureRefused):
        await deliver(slack, tokens_revoked(oauth=["U1"], bot=["B1"]), **forged)
    assert set((await parts(slack)).values()) == {ALIVE}


async def test_every_refusal_says_the_same(slack: World):
    said = set()
    for forged in ({"secret": "another"}, {"provider_id": "00000000-0000-4000-8000-000000000000"}, {"at": 1.0}):
        with pytest.raises(SignatureRefused) as refused:
            await deliver(slack, tokens_revoked(oauth=["U1"]), **forged)
        said.add((refused.value.message, refused.value.status))
    assert len(said) == 1


@pytest.mark.parametrize("seconds", [-301, 301])
async def test_a_timestamp_out_of_the_window_is_refused(slack: World, seconds: int):
    with pytest.raises(SignatureRefused):
        await deliver(slack, tokens_revoked(oauth=["U1"]), at=slack.clock.now + seconds)


async def test_a_provider_whose_secret_was_never_set_believes_nobody(records: SqlRecords, clock: Clock, tmp_path: Path):
    async with world(records, clock, tmp_path, "slack") as here:
        await here.register()
        for secret in (SECRET, "nobody signs with this"):
            with pytest.raises(SignatureRefused):
                await deliver(here, tokens_revoked(bot=["B1"]), secret=secret)


async def test_an_api_key_receives_no_webhooks(slack: World):
    await slack.providers.create_api_key_credential_provider({"name": "key", "apiKey": "k" * 20})
    found = await slack.providers._register.find(CredentialKind.API_KEY, "key")
    with pytest.raises(SignatureRefused):
        await deliver(slack, tokens_revoked(bot=["B1"]), provider_id=found.id)


async def test_the_secret_of_one_provider_does_not_open_another(slack: World):
    other = await slack.register("second", signing_secret="the-other-secret")
    with pytest.raises(SignatureRefused):
        await deliver(slack, tokens_revoked(oauth=["U1"]), provider_id=other.id)


async def test_strangers_cannot_fill_the_table_of_records(slack: World):
    for _ in range(30):
        with pytest.raises(SignatureRefused):
            await deliver(slack, tokens_revoked(oauth=["U1"]), secret="wrong")
    denied = [record for record in await slack.trail() if record.decision == "denied"]
    assert len(denied) == 10
    assert denied[0].reason == "InvalidSignatureException: signature does not match"


async def test_a_proven_body_that_is_a_form_is_told_which_content_type_to_choose(github: World):
    with pytest.raises(NotJson, match="application/json"):
        await deliver(github, b"payload=%7B%7D", headers={"content-type": "application/x-www-form-urlencoded"})


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"a":1,"a":2}', b"\xff"])
async def test_a_proven_body_that_is_no_json_object_is_refused(slack: World, body: bytes):
    with pytest.raises(ValidationFailed):
        await deliver(slack, body)


async def test_an_event_that_names_nobody_ends_nothing(github: World):
    grant = await github.consent()
    for sender in ({}, {"id": None}, {"id": ""}, {"id": []}, {"id": {"$ne": 1}}):
        await deliver(
            github, {"action": "revoked", "sender": sender}, headers={"X-GitHub-Event": "github_app_authorization"}
        )
    assert await github.state(grant) == ALIVE


async def test_accounts_that_nobody_here_has_are_normal(slack: World):
    await slack.consent()
    assert await deliver(slack, tokens_revoked(team="T-of-others", oauth=["U1"], bot=["B1"])) == {}
    assert set((await parts(slack)).values()) == {ALIVE}


async def test_an_event_older_than_a_consent_leaves_it_alone(slack: World):
    sent = slack.clock.now
    slack.clock.now += 60
    await slack.consent()
    await deliver(slack, tokens_revoked(oauth=["U1"], bot=["B1"]), at=sent)
    assert set((await parts(slack)).values()) == {ALIVE}


async def test_a_delivery_whose_record_cannot_be_kept_ends_nothing_and_counts_when_it_comes_again(
    slack: World, monkeypatch: pytest.MonkeyPatch
):
    await slack.consent()

    async def full(_decided: object) -> None:
        raise Unavailable(reason="audit sink failed")

    with monkeypatch.context() as patched:
        patched.setattr(slack.audit, "record", full)
        with pytest.raises(Unavailable):
            await deliver(slack, tokens_revoked(oauth=["U1"]))
    assert (await parts(slack))["user"] == ALIVE
    await deliver(slack, tokens_revoked(oauth=["U1"]))
    assert (await parts(slack))["user"] == REVOKED


# --- Believed ---


async def test_the_question_that_checks_a_url_is_answered(slack: World, zoom: World):
    for here in (slack, zoom):
        assert here.vendor.webhooks is not None
        assert here.vendor.webhooks.challenge is not None
        question, answer = here.vendor.webhooks.challenge
        assert await deliver(here, dict(question)) == answer(SECRET.encode())


async def test_the_question_that_checks_a_url_is_answered_to_the_vendor_alone(slack: World):
    with pytest.raises(SignatureRefused):
        await deliver(slack, {"type": "url_verification", "challenge": "x"}, secret="wrong")


async def test_a_user_who_takes_back_tokens_ends_the_credential_of_the_user_alone(slack: World):
    await slack.consent()
    await deliver(slack, tokens_revoked(oauth=["U1"], bot=["B-of-others"]))
    assert await parts(slack) == {"user": REVOKED, "bot": ALIVE}


async def test_a_bot_that_is_removed_loses_the_credential_of_the_bot_alone(slack: World):
    await slack.consent()
    await deliver(slack, tokens_revoked(bot=["B1"]))
    assert await parts(slack) == {"user": ALIVE, "bot": REVOKED}


async def test_an_app_that_is_uninstalled_loses_everything_of_the_workspace(slack: World):
    await slack.consent()
    await deliver(slack, {"type": "event_callback", "event_id": "Ev9", "team_id": "T1", "event": {"type": "app_uninstalled"}})  # fmt: skip
    assert await parts(slack) == {"user": REVOKED, "bot": REVOKED}


async def test_two_events_of_one_removal_may_come_in_either_order(slack: World):
    await slack.consent()
    uninstalled = {"type": "event_callback", "event_id": "Ev9", "team_id": "T1", "event": {"type": "app_uninstalled"}}
    await deliver(slack, uninstalled)
    assert await deliver(slack, tokens_revoked("Ev10", oauth=["U1"], bot=["B1"])) == {}
    assert set((await parts(slack)).values()) == {REVOKED}


async def test_a_delivery_that_comes_again_does_not_end_a_newer_consent(github: World):
    event = {"action": "revoked", "sender": {"id": 583231}}
    headers = {"X-GitHub-Event": "github_app_authorization", "X-GitHub-Delivery": "delivery-1"}
    grant = await github.consent()
    await deliver(github, event, headers=headers)
    assert await github.state(grant) == REVOKED
    await github.consent()
    await deliver(github, event, headers=headers)
    assert await github.state(grant) == ALIVE


async def test_an_app_that_a_user_removed_loses_the_grants_of_that_user(zoom: World):
    mine = await zoom.consent()
    other = await zoom.consent(BOB, subject="zu-2")
    await deliver(zoom, {"event": "app_deauthorized", "payload": {"account_id": "za-1", "user_id": "zu-1"}})
    assert (await zoom.state(mine), await zoom.state(other)) == (REVOKED, ALIVE)


async def test_an_authorization_that_was_revoked_ends_all_grants_of_its_user(github: World):
    grants = [await github.consent(workload=name) for name in ("one", "two")]
    other = await github.consent(BOB, subject="42")
    await deliver(
        github,
        {"action": "revoked", "sender": {"id": 583231}},
        headers={"X-GitHub-Event": "github_app_authorization"},
    )
    assert [await github.state(each) for each in grants] == [REVOKED, REVOKED]
    assert await github.state(other) == ALIVE


async def test_an_installation_that_is_suspended_loses_its_cached_tokens(github: World):
    await github.providers.set_secrets("github", {"app_private_key": client_key_pem()})
    provider, client = await github.providers.oauth2("github"), await github.client()
    minted = 0

    async def mint() -> Answered:
        nonlocal minted
        minted += 1
        answered = await github.server.machine_token(client, Requested(parameters={"installation_id": "4711"}))
        assert isinstance(answered, Answered), answered
        return answered

    for _ in range(2):
        await github.issued.get(provider.id, ("machine",), mint)
    assert minted == 1
    await deliver(github, {"action": "suspend", "installation": {"id": 4711}}, headers={"X-GitHub-Event": "installation"})  # fmt: skip
    await github.issued.get(provider.id, ("machine",), mint)
    assert minted == 2


async def test_events_that_mean_nothing_here_leave_no_record(slack: World):
    await deliver(slack, {"type": "event_callback", "event_id": "Ev7", "team_id": "T1", "event": {"type": "message"}})
    assert await slack.trail() == []


async def test_the_record_of_an_event_names_what_it_ended_and_no_secret(slack: World):
    await slack.consent()
    await deliver(slack, tokens_revoked(oauth=["U1"]))
    (record,) = await slack.trail()
    ended = [row.id for row in await slack.vault.list(limit=10) if not row.sealed]
    assert (record.principal, record.action, record.request_id) == ("vendor:SlackOauth2", "ReceiveVendorSignal", "request-1")  # fmt: skip
    assert record.details["grants"] == ended
    assert SECRET not in repr(record)
    assert slack.vendor.secret_free(repr(record))
