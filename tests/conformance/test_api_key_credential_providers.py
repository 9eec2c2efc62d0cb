"""Create, Get, Update, Delete and ListApiKeyCredentialProvider(s), with real boto3."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.control_plane import CONTROL, faults, outcomes, refusal, refused, shown, status
from tests.gateways import ACCOUNT, REGION, RunningGateway, fresh_name

NOT_FOUND = (404, "ResourceNotFoundException")
INVALID = (400, "ValidationException")
REFERENCE = {"secretId": "team/vendor", "jsonKey": "secret"}


def promised(operation: str, answer: dict[str, Any]) -> list[str]:
    """Return where an answer departs from the model, but for its ARN: the model writes another service's name."""
    return [fault for fault in faults(CONTROL, operation, answer) if "credentialProviderArn" not in fault]


@pytest.fixture
def name(control: Any) -> str:
    """A provider of the test's own."""
    made: str = control.create_api_key_credential_provider(name=fresh_name("key"), apiKey="hush")["name"]
    return made


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get_api_key_credential_provider", "delete_api_key_credential_provider"])
def test_a_provider_that_does_not_exist_is_not_found(control: Any, method: str):
    assert refused(getattr(control, method), name="nobody") == NOT_FOUND


def test_a_provider_that_does_not_exist_is_not_updated(control: Any):
    assert refused(control.update_api_key_credential_provider, name="nobody", apiKey="hush") == NOT_FOUND


def test_a_name_is_given_once(control: Any, name: str):
    assert refused(control.create_api_key_credential_provider, name=name, apiKey="k") == (409, "ConflictException")


def test_of_creations_of_one_name_at_once_one_succeeds(control: Any):
    wanted = fresh_name("key")
    got = outcomes(lambda _: control.create_api_key_credential_provider(name=wanted, apiKey="hush")["name"], times=6)
    assert sorted(got) == ["ConflictException"] * 5 + [wanted]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "apiKey"),
        ({"apiKey": ""}, "apiKey"),
        ({"apiKey": "k", "apiKeySecretSource": "EXTERNAL"}, "apiKey"),
        ({"apiKeySecretSource": "EXTERNAL"}, "apiKeySecretConfig"),
        ({"apiKey": "k", "apiKeySecretConfig": REFERENCE}, "apiKeySecretConfig"),
        ({"apiKey": "k", "apiKeySecretSource": "MANAGED", "apiKeySecretConfig": REFERENCE}, "apiKeySecretConfig"),
        ({"apiKey": "k" * 65537}, "apiKey"),
        ({"apiKey": "k", "apiKeySecretSource": "NOWHERE"}, "apiKeySecretSource"),
    ],
)
def test_a_key_that_stands_nowhere_or_twice_is_refused_with_the_field(
    control_on_sqlite: Any, asked: dict[str, Any], field: str
):
    response = refusal(control_on_sqlite.create_api_key_credential_provider, name=fresh_name("key"), **asked)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert response["fieldList"][0]["name"] == field


@pytest.mark.parametrize("size", [0, 101])
def test_a_page_of_another_size_is_refused(unchecked_on_sqlite: Any, size: int):
    assert refused(unchecked_on_sqlite.list_api_key_credential_providers, maxResults=size) == INVALID


def test_a_page_token_of_the_other_list_is_refused(control: Any):
    for _ in range(2):
        secret = {"githubOauth2ProviderConfig": {"clientId": "id", "clientSecret": "hush"}}
        control.create_oauth2_credential_provider(
            name=fresh_name("provider"), credentialProviderVendor="GithubOauth2", oauth2ProviderConfigInput=secret
        )
    token = control.list_oauth2_credential_providers(maxResults=1)["nextToken"]
    assert refused(control.list_api_key_credential_providers, nextToken=token) == INVALID


def test_an_update_without_a_key_is_refused(control: Any, name: str):
    assert refused(control.update_api_key_credential_provider, name=name) == INVALID


def test_a_deleted_provider_is_gone(control: Any, name: str):
    control.delete_api_key_credential_provider(name=name)
    assert refused(control.get_api_key_credential_provider, name=name) == NOT_FOUND


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_creating_a_provider_answers_what_the_model_promises(control: Any):
    wanted = fresh_name("key")
    made = control.create_api_key_credential_provider(name=wanted, apiKey="hush", tags={"team": "blue"})
    assert (status(made), promised("CreateApiKeyCredentialProvider", made)) == (201, [])
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:bedrock-agentcore-identity!default/apikey/{wanted}"
    vault = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:token-vault/default"
    assert shown(made) == {
        "name": wanted,
        "credentialProviderArn": f"{vault}/apikeycredentialprovider/{wanted}",
        "apiKeySecretArn": {"secretArn": secret},
        "apiKeySecretSource": "MANAGED",
    }


def test_getting_a_provider_shows_when_it_was_made(control: Any, name: str):
    found = control.get_api_key_credential_provider(name=name)
    assert (status(found), promised("GetApiKeyCredentialProvider", found)) == (200, [])
    assert abs(datetime.now(UTC) - found["createdTime"]) < timedelta(minutes=5)
    assert found["createdTime"] == found["lastUpdatedTime"]


def test_an_update_may_give_the_key_back_to_its_owner(control: Any, name: str):
    updated = control.update_api_key_credential_provider(
        name=name, apiKeySecretSource="EXTERNAL", apiKeySecretConfig=REFERENCE
    )
    assert (status(updated), promised("UpdateApiKeyCredentialProvider", updated)) == (200, [])
    found = updated["apiKeySecretArn"]["secretArn"], updated["apiKeySecretJsonKey"], updated["apiKeySecretSource"]
    assert found == (f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:team/vendor", "secret", "EXTERNAL")
    assert shown(control.get_api_key_credential_provider(name=name)) == shown(updated)


def test_no_answer_and_no_log_line_holds_a_key(control: Any, each_gateway: RunningGateway):
    key = fresh_name("very-hush")
    asked = {"name": fresh_name("key"), "apiKey": key}
    answers = [
        control.create_api_key_credential_provider(**asked),
        control.update_api_key_credential_provider(**asked),
        control.get_api_key_credential_provider(name=asked["name"]),
        control.list_api_key_credential_providers(),
        refusal(control.create_api_key_credential_provider, **asked),
    ]
    assert key not in repr(answers)
    assert key not in each_gateway.log


def test_deleting_a_provider_answers_nothing(control: Any, name: str):
    deleted = control.delete_api_key_credential_provider(name=name)
    assert (status(deleted), shown(deleted)) == (204, {})


def test_every_provider_stands_on_one_page(control: Any):
    made = {control.create_api_key_credential_provider(name=fresh_name("key"), apiKey="k")["name"] for _ in range(5)}
    pages = list(control.get_paginator("list_api_key_credential_providers").paginate(PaginationConfig={"PageSize": 2}))
    names = [row["name"] for page in pages for row in page["credentialProviders"]]
    assert made <= set(names)
    assert names == sorted(set(names))
    assert [fault for page in pages for fault in promised("ListApiKeyCredentialProviders", page)] == []


def test_tags_come_and_go_with_their_provider(control: Any):
    wanted = fresh_name("key")
    arn = control.create_api_key_credential_provider(name=wanted, apiKey="k", tags={"team": "blue"})[
        "credentialProviderArn"
    ]
    assert control.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "blue"}
    control.delete_api_key_credential_provider(name=wanted)
    assert refused(control.list_tags_for_resource, resourceArn=arn) == NOT_FOUND
