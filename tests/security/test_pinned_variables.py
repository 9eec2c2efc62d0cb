"""What an administrator has set, no agent chooses: whose account, and which installation, an agent gets a token for."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from identity_gateway.errors import ValidationFailed
from tests.fakes.issuer import FakeIssuer
from tests.fakes.stamping import StampingVendor
from tests.tenants import Clock, Tenant, open_tenants

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT, ZOOM = "agent", "zoom"
GIVEN = {"access_token": "a-token-of-the-account", "token_type": "bearer", "expires_in": 3600}


@pytest.fixture
def vendor() -> Iterator[StampingVendor]:
    """A vendor that gives everybody a token for whatever account they name."""
    with StampingVendor(trouble=lambda _: (200, GIVEN)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory, jwt_issuer: FakeIssuer) -> AsyncIterator[Tenant]:
    folder: Path = tmp_path_factory.mktemp("tenants")
    async with open_tenants(folder, Clock(), jwt_issuer) as (ours, _):
        yield ours


@pytest_asyncio.fixture(loop_scope="module")
async def here(opened: Tenant, vendor: StampingVendor) -> AsyncIterator[Tenant]:
    await opened.create_agent(AGENT)
    members = {
        "clientId": "client",
        "clientSecret": "secret",
        "authorizationEndpoint": f"{vendor.url}/authorize",
        "tokenEndpoint": f"{vendor.url}/token",
    }
    asked = {"includedOauth2ProviderConfig": members}
    await opened.create_provider(ZOOM, {"credentialProviderVendor": "ZoomOauth2", "oauth2ProviderConfigInput": asked})
    yield opened
    await opened.clear()


async def set_(here: Tenant, **variables: str) -> dict[str, Any]:
    """PutProviderSettings."""
    return await here.gateway.stories.provider_settings.put_provider_settings({"name": ZOOM, "variables": variables})


async def machine_token(here: Tenant, **parameters: str) -> str:
    asked = {
        "workloadIdentityToken": here.workload_token(AGENT, None),
        "resourceCredentialProviderName": ZOOM,
        "scopes": [],
        "oauth2Flow": "M2M",
        "customParameters": parameters,
    }
    vended = await here.gateway.stories.outbound.get_resource_oauth2_token(asked)
    return str(vended.output["accessToken"])


def accounts(vendor: StampingVendor) -> list[str | None]:
    return [form.get("account_id") for form in vendor.forms]


async def test_an_agent_gets_no_token_of_another_account_than_the_one_that_was_set(
    here: Tenant, vendor: StampingVendor
):
    await set_(here, account_id="ours")
    with pytest.raises(ValidationFailed, match=r"^account_id: the provider's configuration has set this value"):
        await machine_token(here, account_id="somebody-elses")
    assert accounts(vendor) == []


async def test_a_token_that_was_given_before_is_not_given_after_the_account_was_set(
    here: Tenant, vendor: StampingVendor
):
    await machine_token(here, account_id="somebody-elses")
    await set_(here, account_id="ours")
    with pytest.raises(ValidationFailed, match=r"^account_id: "):
        await machine_token(here, account_id="somebody-elses")
    assert accounts(vendor) == ["somebody-elses"]


@pytest.mark.parametrize("value", ["", "two words", "x" * 65])
async def test_a_value_that_no_caller_could_name_cannot_be_set(here: Tenant, value: str):
    with pytest.raises(ValidationFailed, match="account_id is not"):
        await set_(here, account_id=value)


async def test_what_the_vendor_says_itself_cannot_be_set(here: Tenant):
    wanted = re.escape("api_url is no setting of Zoom; it has: domain, account_id")
    with pytest.raises(ValidationFailed, match=wanted):
        await set_(here, api_url="https://api.zoom.us")


@pytest.mark.parametrize("parameters", [{}, {"account_id": "ours"}])
async def test_the_account_that_was_set_need_not_be_named(
    here: Tenant, vendor: StampingVendor, parameters: dict[str, str]
):
    await set_(here, account_id="ours")
    await machine_token(here, **parameters)
    assert accounts(vendor) == ["ours"]


async def test_what_was_not_set_callers_choose(here: Tenant, vendor: StampingVendor):
    await machine_token(here, account_id="theirs")
    assert accounts(vendor) == ["theirs"]


async def test_the_settings_show_what_was_set(here: Tenant):
    assert (await set_(here, account_id="ours"))["variables"] == {"account_id": "ours"}
