"""A call that is like one before it is given what the long way would give it, until anybody changes anything."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.admission import Kept, Vended
from identity_gateway.audit import Audit, Decided
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.model import Document, IamPrincipal, NamedUser
from identity_gateway.outbound import Known, RepeatedVends
from identity_gateway.outbound.asking import REJECTED
from identity_gateway.records.changes import OWN_LONGEST, SHARED_LONGEST, Changes
from identity_gateway.records.connect import open_engines
from identity_gateway.records.sql import SqlRecords
from tests.fakes.clock import Clock
from tests.unit.conftest import Appending
from tests.unit.outbound.conftest import ADA, AGENT, INBOUND, METADATA, REALM, RETURN_URL, World, opened

TARGET, DIGEST, KEY = b"/identities/oauth2/token", "d" * 64, "IGAKEXAMPLE000000001"
PRINCIPAL = IamPrincipal(REALM.account, KEY, "agent-key", admin=True, policy=None)
M2M, OBO, USER, API_KEY = "M2M", "ON_BEHALF_OF_TOKEN_EXCHANGE", "USER_FEDERATION", "API_KEY"
EXCHANGED = {"onBehalfOfTokenExchangeConfig": {"grantType": "TOKEN_EXCHANGE"}}
FLOWS = [USER, M2M, OBO, API_KEY]


@dataclass
class Call:
    """One call, asked again and again, and what a process remembers of it."""

    world: World
    flow: str
    asked: Document
    repeats: RepeatedVends

    async def kept(self, **changed: Any) -> Kept | None:
        """Look it up as the front door does."""
        find = self.world.outbound.kept.api_key if self.flow == API_KEY else self.world.outbound.kept.oauth2
        return await find(self.asked | changed)

    async def vended(self) -> Vended:
        """Take the long way."""
        outbound = self.world.outbound
        story = outbound.get_resource_api_key if self.flow == API_KEY else outbound.get_resource_oauth2_token
        answered = await story(self.asked)
        assert isinstance(answered, Vended), answered
        return answered

    async def remember(self) -> Known:
        """Take the call as the front door does, and return what is remembered of it."""
        kept = await self.kept()
        assert kept is not None
        decided = Decided(PRINCIPAL.arn, "GetResourceOauth2Token", "-", "allowed", "vended", details=kept.details)
        self.repeats.remember(TARGET, DIGEST, PRINCIPAL, decided.action, audit_of(self.world).written(decided), kept)
        known = self.find()
        assert known is not None
        return known

    def find(self, now: float | None = None) -> Known | None:
        return self.repeats.find(TARGET, KEY, DIGEST, now)


def audit_of(world: World) -> Audit:
    return Audit(world.records, REALM.account, clock=world.clock, retention=timedelta(days=1))


async def begun(world: World, flow: str) -> Call:
    """Have the agent be given a credential once, by the long way."""
    inbound = INBOUND if flow == OBO else None
    asked: Document = {
        "workloadIdentityToken": world.token(inbound=inbound),
        "resourceCredentialProviderName": "vendor",
        "oauth2Flow": flow,
        "scopes": ["read"],
        "resourceOauth2ReturnUrl": RETURN_URL,
    }
    if flow == API_KEY:
        asked = {name: asked[name] for name in ("workloadIdentityToken", "resourceCredentialProviderName")}
        await world.providers.create_api_key_credential_provider({"name": "vendor", "apiKey": 'a"key'})
    else:
        await world.register("vendor", "CustomOauth2", **(EXCHANGED if flow == OBO else {}))
    if flow == USER:
        await world.consent("vendor", scopes=["read"], workloadIdentityToken=asked["workloadIdentityToken"])
    call = Call(world, flow, asked, RepeatedVends(clock=world.clock))
    await call.vended()
    return call


@pytest.fixture(params=FLOWS)
async def call(request: pytest.FixtureRequest, here: World) -> Call:
    return await begun(here, request.param)


@pytest.fixture
async def of_user(here: World) -> Call:
    return await begun(here, USER)


# --- Not remembered, or not given ---


@pytest.mark.parametrize(
    "changed",
    [
        {"workloadIdentityToken": "AAAA"},
        {"resourceCredentialProviderName": "other"},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_what_the_long_way_refuses_is_not_found(call: Call, changed: Document):
    assert await call.kept(**changed) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"sessionUri": "urn:ietf:params:oauth:request_uri:x"},
        {"forceAuthentication": True},
        {"customParameters": {REJECTED: "0" * 64}},
        {"customParameters": {"identity-gateway.unknown": "x"}},
        {"customParameters": {"team": "T1"}},
        {"scopes": ["read", "write"]},
        {"scopes": [f"scope-{number}" for number in range(101)]},
    ],
    ids=str,
)
@pytest.mark.parametrize("flow", [USER, M2M, OBO])
async def test_what_was_not_kept_for_this_very_question_is_not_found(here: World, flow: str, changed: Document):
    call = await begun(here, flow)
    assert await call.kept(**changed) is None


async def test_another_user_is_not_given_what_a_user_gave(of_user: Call):
    assert await of_user.kept(workloadIdentityToken=of_user.world.token(NamedUser("ada"))) is None


async def test_an_agent_without_a_user_is_not_given_what_a_user_gave(of_user: Call):
    assert await of_user.kept(workloadIdentityToken=of_user.world.token(None)) is None


async def test_a_token_that_its_client_has_only_once_is_left_to_the_long_way(here: World):
    await here.register("calls", "CallsOauth2")
    call = Call(here, M2M, {"workloadIdentityToken": here.token(), "resourceCredentialProviderName": "calls",
                            "oauth2Flow": M2M, "scopes": []}, RepeatedVends(clock=here.clock))  # fmt: skip
    await call.vended()
    assert await call.kept() is None


async def test_a_grant_whose_refresh_token_was_sent_is_left_to_the_long_way(of_user: Call):
    (grant,) = await of_user.world.vault.list(limit=1)
    tokens = await of_user.world.vault.open(grant)
    assert tokens.refresh is not None
    await of_user.world.vault.begin_rotation(grant, owner="somebody", refresh_token=tokens.refresh)
    assert await of_user.kept() is None


@pytest.mark.parametrize("flow", [USER, M2M, OBO])
async def test_what_another_machine_may_change_is_found_but_not_remembered(
    empty_database: Path, tmp_path: Path, clock: Clock, flow: str
):
    async with process(empty_database, tmp_path, clock, longest=SHARED_LONGEST) as world:
        call = await begun(world, flow)
        kept = await call.kept()
        assert kept is not None
        call.repeats.remember(TARGET, DIGEST, PRINCIPAL, "GetResourceOauth2Token", (), kept)
        assert call.find() is None


@pytest.mark.parametrize(
    "asked", [(b"/identities/api-key", KEY, DIGEST), (TARGET, "IGAKOTHER", DIGEST), (TARGET, KEY, "e" * 64)]
)
async def test_a_call_that_is_not_alike_is_not_known(call: Call, asked: tuple[bytes, str, str]):
    await call.remember()
    assert call.repeats.find(*asked) is None


async def test_what_does_not_open_any_more_is_neither_found_nor_answered(call: Call):
    known = await call.remember()
    call.world.envelope.forget()
    assert known.answer() is None
    assert await call.kept() is None


async def test_a_data_key_that_is_not_remembered_any_more_is_not_used(of_user: Call):
    known = await of_user.remember()
    of_user.world.clock.now += 301
    assert known.answer() is None


async def test_a_grant_that_is_being_refreshed_is_neither_found_nor_answered_with(of_user: Call):
    known = await of_user.remember()
    (grant,) = await of_user.world.vault.list(limit=1)
    flight: asyncio.Task[Any] = asyncio.create_task(asyncio.Event().wait())
    of_user.world.outbound.kept._refreshing._flights[grant.id] = flight
    found = await of_user.kept(), known.answer()
    flight.cancel()
    assert found == (None, None)


async def test_a_grant_of_another_server_is_left_to_the_long_way(of_user: Call):
    (grant,) = await of_user.world.vault.list(limit=1)
    async with of_user.world.records.write() as transaction:
        await transaction.update(replace(grant, request=grant.request | {"recipient": "another"}))
    assert await of_user.kept() is None


async def test_nothing_of_a_credential_is_shown(call: Call):
    known = await call.remember()
    kept = await call.kept()
    (credential,) = (await call.vended()).output.values()
    assert credential not in f"{known!r} {kept!r} {known.trail!r} {vars(call.repeats)!r}"


# --- Ends ---

End = Callable[[Call, World], Awaitable[object]]


async def _grant_revoked(_call: Call, there: World) -> None:
    (grant,) = await there.vault.list(limit=1)
    await there.vault.shred(grant, "revoked")


async def _grant_consented_anew(call: Call, there: World) -> None:
    token = call.asked["workloadIdentityToken"]
    await there.consent("vendor", scopes=["read"], workloadIdentityToken=token, forceAuthentication=True)


async def _grant_refreshed(call: Call, there: World) -> None:
    there.clock.now += 60  # a rejected token is replaced only when it is some seconds old
    there.vendor.answer = {"access_token": "token-of-a-refresh"}
    rejected = sha256((await call.vended()).output["accessToken"].encode()).hexdigest()
    answered = await there.outbound.get_resource_oauth2_token(call.asked | {"customParameters": {REJECTED: rejected}})
    assert isinstance(answered, Vended)


async def _data_key_wrapped_anew(_call: Call, there: World) -> None:
    (grant,) = await there.vault.list(limit=1)
    sealed = await there.envelope.rewrap(grant.sealed, place=there.vault.place_of(grant))
    async with there.records.write() as transaction:
        await transaction.update(replace(grant, sealed=sealed))


async def _provider_deleted(call: Call, there: World) -> None:
    providers, name = there.providers, {"name": "vendor"}
    delete = (
        providers.delete_api_key_credential_provider
        if call.flow == API_KEY
        else providers.delete_oauth2_credential_provider
    )
    await delete(name)


async def _provider_changed(call: Call, there: World) -> None:
    if call.flow == API_KEY:
        await there.providers.update_api_key_credential_provider({"name": "vendor", "apiKey": "another"})
        return
    found = {"oauthDiscovery": {"authorizationServerMetadata": METADATA}}
    given = {"clientId": "client-2", "clientSecret": "s3cret", **found, **(EXCHANGED if call.flow == OBO else {})}
    await there.providers.update_oauth2_credential_provider(
        {
            "name": "vendor",
            "credentialProviderVendor": "CustomOauth2",
            "oauth2ProviderConfigInput": {"customOauth2ProviderConfig": given},
        }
    )


async def _workload_deleted(_call: Call, there: World) -> None:
    await there.workloads.delete_workload_identity({"name": AGENT})


async def _workload_changed(_call: Call, there: World) -> None:
    await there.workloads.update_workload_identity({"name": AGENT, "allowedResourceOauth2ReturnUrls": []})


async def _vendor_said_dead(_call: Call, there: World) -> None:
    provider = await there.providers.oauth2("vendor")
    await there.issued.flush(provider.id)


ENDS: list[tuple[str, End]] = [
    *((USER, end) for end in (_grant_revoked, _grant_consented_anew, _grant_refreshed, _data_key_wrapped_anew)),
    *((flow, _vendor_said_dead) for flow in (M2M, OBO)),
    *((flow, _provider_deleted) for flow in FLOWS),
    *((flow, _provider_changed) for flow in FLOWS),
    *((flow, _workload_deleted) for flow in FLOWS),
    *((flow, _workload_changed) for flow in FLOWS),
]


@asynccontextmanager
async def process(empty: Path, folder: Path, clock: Clock, *, longest: float = OWN_LONGEST) -> AsyncIterator[World]:
    """Open what a process of this machine has: stores and marks that it shares with the others."""
    path = folder / "shared.sqlite"
    is_first = not path.exists()
    if is_first:
        shutil.copy(empty, path)
    changes = Changes(folder / "changes", longest=longest)
    records = SqlRecords(*open_engines(f"sqlite:///{path}"), changes, Appending(str(path)))
    try:
        async with opened(records, LocalEphemeral(folder / "ephemeral.sqlite", clock=clock), clock) as world:
            if is_first:
                given = {"name": AGENT, "allowedResourceOauth2ReturnUrls": [RETURN_URL]}
                await world.workloads.create_workload_identity(given)
            yield world
    finally:
        await records.close()


@pytest.mark.parametrize(("flow", "end"), ENDS, ids=lambda value: getattr(value, "__name__", value).strip("_"))
async def test_what_was_remembered_ends_when_this_process_changes_it(here: World, flow: str, end: End):
    call = await begun(here, flow)
    await call.remember()
    await end(call, here)
    assert call.find() is None


@pytest.mark.parametrize(("flow", "end"), ENDS, ids=lambda value: getattr(value, "__name__", value).strip("_"))
async def test_what_was_remembered_ends_when_another_process_changes_it(
    empty_database: Path, tmp_path: Path, clock: Clock, flow: str, end: End
):
    async with process(empty_database, tmp_path, clock) as here, process(empty_database, tmp_path, clock) as there:
        call = await begun(here, flow)
        await call.remember()
        await end(call, there)
        assert call.find() is None


async def test_a_machine_token_that_was_replaced_is_not_given_any_more(here: World):
    call = await begun(here, M2M)
    before = (await call.vended()).output["accessToken"]
    await call.remember()
    here.clock.now += 60
    rejected = {"customParameters": {REJECTED: sha256(before.encode()).hexdigest()}}
    await here.outbound.get_resource_oauth2_token(call.asked | rejected)
    assert call.find() is None


async def test_it_ends_with_the_workload_access_token(call: Call):
    known = await call.remember()
    call.world.clock.now += 899
    held = known.holds()
    call.world.clock.now += 1
    assert (held, known.holds()) == (True, False)


async def test_it_ends_when_a_refresh_may_begin(here: World):
    here.vendor.answer = {"expires_in": 600}
    call = await begun(here, USER)
    known = await call.remember()
    here.clock.now += 600 - 60 - 1  # a tenth of its life before its end a token may be renewed
    held = known.holds()
    here.clock.now += 2
    assert (held, known.holds()) == (True, False)


async def test_it_ends_when_a_machine_token_is_not_handed_out_any_more(here: World):
    here.vendor.answer = {"expires_in": 600}
    call = await begun(here, M2M)
    known = await call.remember()
    here.clock.now += 600 - 60 - 1
    held = known.holds()
    here.clock.now += 2
    assert (held, known.holds()) == (True, False)


async def test_it_ends_when_the_marks_are_not_believed_any_longer(call: Call):
    await call.remember()
    later = asyncio.get_running_loop().time() + OWN_LONGEST + 1
    assert [call.find(later), call.find(later)] == [None, None]


async def test_of_what_has_aged_one_call_finds_out_anew(call: Call):
    known = await call.remember()
    assert [call.find(known.aged_at), call.find(known.aged_at)] == [None, known]


# --- Given ---


async def test_a_repeated_call_is_answered_like_the_first(call: Call):
    known = await call.remember()
    answered = known.answer()
    assert answered is not None
    assert json.loads(answered) == (await call.vended()).output


async def test_its_record_says_what_that_of_the_long_way_says(call: Call):
    known = await call.remember()
    assert json.loads(known.trail.row[-1]) == (await call.vended()).details


async def test_the_record_names_agent_user_provider_scopes_and_a_fingerprint(of_user: Call):
    details = json.loads((await of_user.remember()).trail.row[-1])
    named = {name: details[name] for name in ("workload", "user", "provider", "scopes")}
    assert named == {"workload": AGENT, "user": ["jwt", ADA.issuer, "ada"], "provider": "vendor", "scopes": ["read"]}
    assert len(details["fingerprint"]) == 16


async def test_a_repeated_call_asks_the_vendor_nothing(call: Call):
    known = await call.remember()
    asked = len(call.world.vendor.asked)
    known.answer()
    assert len(call.world.vendor.asked) == asked


@pytest.mark.parametrize("asked", [{"workloadName": AGENT}, {"workloadName": AGENT, "userId": "ada"}], ids=str)
async def test_a_workload_access_token_is_minted_anew_for_each_call(here: World, asked: Document):
    kept = await here.workloads.kept(asked)
    assert kept is not None
    minted = {secret.reveal() for secret in (kept.reveal(), kept.reveal()) if secret is not None}
    users = [here.tokens.open(token).user for token in minted]
    assert users == [NamedUser("ada") if "userId" in asked else None] * 2


@pytest.mark.parametrize("asked", [{"workloadName": "unknown"}, {"workloadName": AGENT}], ids=str)
async def test_no_workload_access_token_is_minted_for_an_identity_that_is_gone(here: World, asked: Document):
    await here.workloads.delete_workload_identity({"name": AGENT})
    assert await here.workloads.kept(asked) is None
