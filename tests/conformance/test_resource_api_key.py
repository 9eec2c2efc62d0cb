"""GetResourceApiKey, with real boto3: the key of a provider for an agent, whoever the agent acts for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.callers import token_of, workload_token
from tests.conformance.control_plane import DATA, faults, refusal, refused, status
from tests.conformance.test_access_keys_cli import PREFIX, commands
from tests.conformance.test_oauth2_credential_providers import asked as oauth2_provider
from tests.conformance.test_resource_oauth2_token import limited
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, fresh_name

DENIED = (403, "AccessDeniedException")
NOT_FOUND = (404, "ResourceNotFoundException")
DIRECTORY = PREFIX + "workload-identity-directory/default"


@pytest.fixture
def agent_name(control: Any) -> str:
    return str(control.create_workload_identity(name=fresh_name("agent"))["name"])


@pytest.fixture
def token(data: Any, agent_name: str) -> str:
    """A token of the agent alone."""
    return str(data.get_workload_access_token(workloadName=agent_name)["workloadAccessToken"])


@pytest.fixture
def provider(control: Any) -> str:
    return str(control.create_api_key_credential_provider(name=fresh_name("key"), apiKey="k-1")["name"])


def asking(token: str, provider: str) -> dict[str, str]:
    return {"workloadIdentityToken": token, "resourceCredentialProviderName": provider}


# --- Refusals -----------------------------------------------------------------------------------------------------------


def test_a_provider_that_does_not_exist_is_not_found(data: Any, token: str):
    assert refused(data.get_resource_api_key, **asking(token, "nobody")) == NOT_FOUND


def test_a_provider_of_oauth2_has_no_api_key(control: Any, data: Any, token: str):
    name = control.create_oauth2_credential_provider(**oauth2_provider())["name"]
    assert refused(data.get_resource_api_key, **asking(token, name)) == NOT_FOUND


def test_a_token_of_another_gateway_is_refused(data: Any, agent_name: str, provider: str):
    assert refused(data.get_resource_api_key, **asking(workload_token(agent_name, None), provider)) == DENIED


def test_a_token_that_ended_is_refused(data: Any, each_gateway: RunningGateway, agent_name: str, provider: str):
    response = refusal(data.get_resource_api_key, **asking(workload_token(agent_name, each_gateway, age=901), provider))
    assert (status(response), response["Error"]["Code"]) == DENIED
    assert "Token has expired" in response["Error"]["Message"]


def test_a_token_that_was_changed_is_refused(data: Any, token: str, provider: str):
    changed = token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:]
    assert refused(data.get_resource_api_key, **asking(changed, provider)) == DENIED


def test_a_token_of_an_identity_that_was_deleted_is_refused(
    control: Any, data: Any, agent_name: str, token: str, provider: str
):
    control.delete_workload_identity(name=agent_name)
    assert refused(data.get_resource_api_key, **asking(token, provider)) == DENIED


def test_a_key_of_a_provider_that_was_deleted_is_gone(control: Any, data: Any, token: str, provider: str):
    control.delete_api_key_credential_provider(name=provider)
    assert refused(data.get_resource_api_key, **asking(token, provider)) == NOT_FOUND


# --- Answers ------------------------------------------------------------------------------------------------------------


def test_an_agent_gets_the_key(data: Any, token: str, provider: str):
    answer = data.get_resource_api_key(**asking(token, provider))
    assert (status(answer), answer["apiKey"]) == (200, "k-1")
    assert faults(DATA, "GetResourceApiKey", answer) == []


def test_the_key_is_the_same_for_every_user(data: Any, agent_name: str, provider: str, jwt_issuer: FakeIssuer):
    tokens = [
        data.get_workload_access_token_for_user_id(workloadName=agent_name, userId="ada"),
        data.get_workload_access_token_for_jwt(workloadName=agent_name, userToken=token_of(jwt_issuer)),
    ]
    keys = {data.get_resource_api_key(**asking(each["workloadAccessToken"], provider))["apiKey"] for each in tokens}
    assert keys == {"k-1"}


def test_a_key_that_was_updated_is_given_at_once(control: Any, data: Any, token: str, provider: str):
    data.get_resource_api_key(**asking(token, provider))
    control.update_api_key_credential_provider(name=provider, apiKey="k-2")
    assert data.get_resource_api_key(**asking(token, provider))["apiKey"] == "k-2"


def test_a_provider_that_is_made_again_has_a_key_of_its_own(control: Any, data: Any, token: str, provider: str):
    control.delete_api_key_credential_provider(name=provider)
    control.create_api_key_credential_provider(name=provider, apiKey="k-3")
    assert data.get_resource_api_key(**asking(token, provider))["apiKey"] == "k-3"


# --- Who may ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data_under(
    each_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client_of: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a function that gives a data client whose key may call GetResourceApiKey on these resources alone."""
    client = partial(client_of, each_gateway, DATA)
    return partial(limited, commands(each_gateway, monkeypatch), client, tmp_path, "GetResourceApiKey")


def needed(workload: str, provider: str) -> list[str]:
    """Return the four ARNs that a caller needs."""
    vault = PREFIX + "token-vault/default"
    return [
        DIRECTORY, f"{DIRECTORY}/workload-identity/{workload}", vault, f"{vault}/apikeycredentialprovider/{provider}"
    ]  # fmt: skip


def test_a_caller_needs_all_four_resources(data_under: Callable[..., Any], agent_name: str, token: str, provider: str):
    arns = needed(agent_name, provider)
    for missing in arns:
        few = data_under(*(arn for arn in arns if arn != missing))
        assert refused(few.get_resource_api_key, **asking(token, provider)) == DENIED
    assert data_under(*arns).get_resource_api_key(**asking(token, provider))["apiKey"] == "k-1"


def test_a_caller_gets_no_key_of_another_provider(
    control: Any, data_under: Callable[..., Any], agent_name: str, token: str, provider: str
):
    other = control.create_api_key_credential_provider(name=fresh_name("key"), apiKey="k-9")["name"]
    allowed = data_under(*needed(agent_name, provider))
    assert refused(allowed.get_resource_api_key, **asking(token, other)) == DENIED


def test_a_caller_gets_no_key_by_another_agents_token(
    control: Any, data: Any, data_under: Callable[..., Any], agent_name: str, provider: str
):
    other = control.create_workload_identity(name=fresh_name("agent"))["name"]
    token = data.get_workload_access_token(workloadName=other)["workloadAccessToken"]
    assert refused(data_under(*needed(agent_name, provider)).get_resource_api_key, **asking(token, provider)) == DENIED
