"""What one server gave goes to no other: a provider that is pointed elsewhere takes no token, code or grant along."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from identity_gateway import catalog
from identity_gateway.credential_providers.recipient import recipient_of
from identity_gateway.errors import GatewayError, ValidationFailed
from identity_gateway.model import Document, NamedUser
from tests.fakes.consent import provider
from tests.fakes.issuer import FakeIssuer
from tests.fakes.stamping import Form, StampingVendor, returned_to
from tests.tenants import Answer, Browser, Clock, Tenant, open_tenants, session_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADA = NamedUser("ada")
AGENT, DRIVE = "agent", "drive"


@pytest.fixture
def before() -> Iterator[StampingVendor]:
    """The server that the provider is registered with."""
    with StampingVendor() as running:
        yield running


@pytest.fixture
def after() -> Iterator[StampingVendor]:
    """The one that it is pointed to."""
    with StampingVendor() as running:
        yield running


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, jwt_issuer: FakeIssuer
) -> AsyncIterator[Tenant]:
    folder: Path = tmp_path_factory.mktemp("tenants")
    async with open_tenants(folder, clock, jwt_issuer) as (ours, _):
        yield ours


@pytest_asyncio.fixture(loop_scope="module")
async def here(opened: Tenant, clock: Clock, before: StampingVendor) -> AsyncIterator[Tenant]:
    """One agent and one provider, which nobody has consented to."""
    await opened.create_agent(AGENT)
    await opened.create_provider(DRIVE, before.configuration("us"))
    yield opened
    clock.skipped += 60  # a token of this agent is none of the next test's
    await opened.clear()


async def point_to(here: Tenant, vendor: StampingVendor, client: str = "us", **members: Any) -> None:
    asked = {"name": DRIVE, **vendor.configuration(client, **members)}
    await here.gateway.stories.providers.update_oauth2_credential_provider(asked)


async def begun(here: Tenant, browser: Browser) -> tuple[Answer, str]:
    """Begin a consent; return what the agent was told, and where the browser is sent."""
    answer = await here.ask(AGENT, ADA, DRIVE, forceAuthentication=True)
    url = await browser.press(here, answer.link)
    assert url is not None
    return answer, url


async def agreed(here: Tenant, vendor: StampingVendor) -> str:
    """Begin a consent that Ada agrees to; return the session with which she comes back."""
    browser = Browser()
    _, url = await begun(here, browser)
    location = await browser.come_back(here, returned_to(*vendor.agree(url, ADA)))
    assert location is not None
    return session_of(location)


async def consented(here: Tenant, vendor: StampingVendor) -> str:
    """Have Ada consent; return the access token that the agent is given."""
    await here.complete(await agreed(here, vendor), ADA)
    return (await here.ask(AGENT, ADA, DRIVE)).token


async def grants(here: Tenant) -> list[Document]:
    return list((await here.gateway.stories.grants.list_grants({}))["grants"])


def while_asked(grant_type: str, act: Callable[[], Awaitable[None]]) -> Callable[[Form], None]:
    """Return what makes a vendor do something while it is asked, before it answers."""
    loop = asyncio.get_running_loop()

    def trouble(form: Form) -> None:
        if form.get("grant_type") == grant_type:
            asyncio.run_coroutine_threadsafe(_run(act), loop).result(20)

    return trouble


async def _run(act: Callable[[], Awaitable[None]]) -> None:
    await act()


# --- Grants ---


async def test_a_refresh_token_is_not_sent_to_another_server(
    here: Tenant, before: StampingVendor, after: StampingVendor, clock: Clock
):
    await consented(here, before)
    await point_to(here, after)
    clock.skipped += 7200
    answer = await here.ask(AGENT, ADA, DRIVE)
    assert (answer.token, answer.link != "", after.forms) == ("", True, [])


async def test_a_living_access_token_is_not_given_out_for_another_server(
    here: Tenant, before: StampingVendor, after: StampingVendor
):
    await consented(here, before)
    await point_to(here, after)
    assert (await here.ask(AGENT, ADA, DRIVE)).token == ""


async def test_a_refresh_token_is_not_sent_for_another_client(here: Tenant, before: StampingVendor, clock: Clock):
    await consented(here, before)
    await point_to(here, before, client="others")
    clock.skipped += 7200
    assert (await here.ask(AGENT, ADA, DRIVE)).token == ""
    assert not before.uses


async def test_the_grants_of_a_changed_provider_say_why_they_need_consent(
    here: Tenant, before: StampingVendor, after: StampingVendor
):
    await consented(here, before)
    await point_to(here, after)
    (grant,) = await grants(here)
    assert (grant["state"], grant["reason"]) == ("NEEDS_CONSENT", "provider_changed")


async def test_a_provider_that_is_pointed_back_does_not_revive_its_grants(
    here: Tenant, before: StampingVendor, after: StampingVendor
):
    await consented(here, before)
    await point_to(here, after)
    await point_to(here, before)
    assert (await here.ask(AGENT, ADA, DRIVE)).token == ""


async def test_a_refresh_that_was_under_way_does_not_bring_the_grant_back(
    here: Tenant, before: StampingVendor, after: StampingVendor, clock: Clock
):
    await consented(here, before)
    before.trouble = while_asked("refresh_token", lambda: point_to(here, after))
    clock.skipped += 7200
    assert (await here.ask(AGENT, ADA, DRIVE)).token == ""
    ((grant,), answer) = await grants(here), await here.ask(AGENT, ADA, DRIVE)
    assert (grant["reason"], answer.token, len(before.uses), after.forms) == ("provider_changed", "", 1, [])


async def test_what_is_revoked_is_not_sent_to_another_server(
    here: Tenant, before: StampingVendor, after: StampingVendor
):
    await consented(here, before)
    await point_to(here, after)
    (grant,) = await grants(here)
    answered = await here.gateway.stories.grants.revoke_grant({"grantId": grant["grantId"]})
    found = answered.output["vendorRevocation"]
    assert (found["status"], "the provider was changed" in found["detail"]) == ("NOT_SUPPORTED", True)
    assert after.forms == []


async def test_a_new_consent_is_good_at_the_new_server(
    here: Tenant, before: StampingVendor, after: StampingVendor, clock: Clock
):
    await consented(here, before)
    await point_to(here, after)
    assert await consented(here, after) in after.stamps
    clock.skipped += 7200
    assert (await here.ask(AGENT, ADA, DRIVE)).token in after.stamps


@pytest.mark.parametrize("changed", [{}, {"clientAuthenticationMethod": "CLIENT_SECRET_POST"}])
async def test_a_changed_secret_ends_no_grant(here: Tenant, before: StampingVendor, changed: dict[str, str]):
    token = await consented(here, before)
    before.clients["us"] = "the next secret of the client"
    await point_to(here, before, **changed)
    assert (await here.ask(AGENT, ADA, DRIVE)).token == token


# --- Consents under way ---


async def test_a_code_is_not_sent_to_another_server(here: Tenant, before: StampingVendor, after: StampingVendor):
    session = await agreed(here, before)
    await point_to(here, after)
    with pytest.raises(ValidationFailed, match="was changed after this consent had begun"):
        await here.complete(session, ADA)
    assert (await grants(here), after.forms) == ([], [])


async def test_an_answer_that_comes_after_the_change_is_not_taken(
    here: Tenant, before: StampingVendor, after: StampingVendor
):
    browser = Browser()
    answer, url = await begun(here, browser)
    await point_to(here, after)
    assert await browser.come_back(here, returned_to(*before.agree(url, ADA))) is None
    with pytest.raises(GatewayError):
        await here.complete(answer.session, ADA)
    assert after.forms == []


async def test_a_link_from_before_the_change_leads_nowhere(here: Tenant, after: StampingVendor):
    answer = await here.ask(AGENT, ADA, DRIVE)
    await point_to(here, after)
    assert await Browser().press(here, answer.link) is None


async def test_a_code_that_is_being_exchanged_gives_the_changed_provider_no_grant(
    here: Tenant, before: StampingVendor, after: StampingVendor
):
    before.trouble = while_asked("authorization_code", lambda: point_to(here, after))
    session = await agreed(here, before)
    with pytest.raises(ValidationFailed, match="was changed after this consent had begun"):
        await here.complete(session, ADA)
    assert await grants(here) == []


async def test_a_code_that_is_being_exchanged_leaves_no_grant_of_a_deleted_provider(
    here: Tenant, before: StampingVendor
):
    delete = here.gateway.stories.providers.delete_oauth2_credential_provider
    before.trouble = while_asked("authorization_code", lambda: delete({"name": DRIVE}))
    session = await agreed(here, before)
    with pytest.raises(ValidationFailed, match="was deleted"):
        await here.complete(session, ADA)
    assert await grants(here) == []


@pytest.mark.parametrize("made_again", [False, True])
async def test_a_code_that_is_being_exchanged_leaves_no_grant_of_a_deleted_agent(
    here: Tenant, before: StampingVendor, made_again: bool
):
    async def delete() -> None:
        await here.gateway.stories.workloads.delete_workload_identity({"name": AGENT})
        if made_again:
            await here.create_agent(AGENT)

    before.trouble = while_asked("authorization_code", delete)
    session = await agreed(here, before)
    with pytest.raises(ValidationFailed, match="was deleted"):
        await here.complete(session, ADA)
    assert await grants(here) == []


async def test_a_consent_that_was_overtaken_tells_the_agent_so(
    here: Tenant, before: StampingVendor, after: StampingVendor
):
    browser = Browser()
    answer, url = await begun(here, browser)
    await browser.come_back(here, returned_to(*before.agree(url, ADA)))
    await point_to(here, after)
    with pytest.raises(ValidationFailed):
        await here.complete(answer.session, ADA)
    await here.ask(AGENT, ADA, DRIVE, sessionUri=answer.session)  # told once as FAILED, then as an error
    with pytest.raises(GatewayError, match="was changed after this consent had begun"):
        await here.ask(AGENT, ADA, DRIVE, sessionUri=answer.session)


# --- Who receives ---

_METADATA = {
    "issuer": "https://a.example",
    "authorizationEndpoint": "https://a.example/authorize",
    "tokenEndpoint": "https://a.example/token",
}
_DISCOVERED = {"discoveryUrl": "https://a.example/.well-known/openid-configuration"}


def recipient(vendor: str, members: Document, variables: dict[str, str] | None = None) -> str:
    settings = {"variables": variables or {}, "secrets": []}
    made = replace(provider(), vendor=vendor, configuration={"any": members}, settings=settings)
    return recipient_of(made, catalog.load().get(vendor))


def custom(**changes: str) -> Document:
    return {"clientId": "us", "oauthDiscovery": {"authorizationServerMetadata": {**_METADATA, **changes}}}


CHANGES = {
    "client": {**custom(), "clientId": "others"},
    "issuer": custom(issuer="https://b.example"),
    "authorization endpoint": custom(authorizationEndpoint="https://b.example/authorize"),
    "token endpoint": custom(tokenEndpoint="https://b.example/token"),
    "discovery": {"clientId": "us", "oauthDiscovery": _DISCOVERED},
}


@pytest.mark.parametrize("members", CHANGES.values(), ids=CHANGES)
async def test_whatever_leads_elsewhere_is_another_recipient(members: Document):
    assert recipient("CustomOauth2", members) != recipient("CustomOauth2", custom())


async def test_another_discovery_is_another_recipient():
    other = {"discoveryUrl": "https://b.example/.well-known/openid-configuration"}
    one, another = ({"clientId": "us", "oauthDiscovery": each} for each in (_DISCOVERED, other))
    assert recipient("CustomOauth2", one) != recipient("CustomOauth2", another)


async def test_another_tenant_is_another_recipient():
    one, another = ({"clientId": "us", "tenantId": each} for each in ("organizations", "consumers"))
    assert recipient("MicrosoftOauth2", one) != recipient("MicrosoftOauth2", another)


async def test_another_domain_is_another_recipient():
    assert recipient("ZoomOauth2", {}, {"domain": "zoomgov.com"}) != recipient("ZoomOauth2", {})


async def test_what_only_machines_are_asked_with_is_no_other_recipient():
    assert recipient("ZoomOauth2", {}, {"account_id": "ours"}) == recipient("ZoomOauth2", {})


async def test_of_an_unknown_vendor_every_variable_counts():
    assert recipient("NowhereOauth2", {}, {"account_id": "ours"}) != recipient("NowhereOauth2", {})


async def test_how_a_client_authenticates_is_no_other_recipient():
    changed = {**custom(), "clientAuthenticationMethod": "CLIENT_SECRET_POST"}
    assert recipient("CustomOauth2", changed) == recipient("CustomOauth2", custom())
