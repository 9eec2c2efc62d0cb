"""Create, Get, Update, Delete and ListOauth2CredentialProvider(s), with real boto3."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.control_plane import CONTROL, faults, model, outcomes, refusal, refused, shown, status
from tests.fakes.issuer import rsa_private
from tests.fakes.private_keys import pem
from tests.gateways import ACCOUNT, REGION, RunningGateway, fresh_name

NOT_FOUND = (404, "ResourceNotFoundException")
INVALID = (400, "ValidationException")
VENDORS = model(CONTROL).shape_for("CredentialProviderVendorType").enum
OWN_MEMBERS = model(CONTROL).shape_for("Oauth2ProviderConfigInput").members
ISSUER = "https://id.example"
METADATA = {
    "issuer": ISSUER,
    "authorizationEndpoint": f"{ISSUER}/authorize",
    "tokenEndpoint": f"{ISSUER}/token",
}
DISCOVERY = {"discoveryUrl": f"{ISSUER}/.well-known/openid-configuration"}
REFERENCE = {"secretId": "team/vendor", "jsonKey": "secret"}
KMS_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/01234567-89ab-cdef-0123-456789abcdef"


def asked(vendor: str = "GithubOauth2", name: str | None = None, **members: Any) -> dict[str, Any]:
    """Return what Create and Update take. A change to None leaves a member out."""
    own = vendor[0].lower() + vendor[1:] + "ProviderConfig"
    key = own if own in OWN_MEMBERS else "includedOauth2ProviderConfig"
    whole = {"clientId": "id", "clientSecret": "hush"} | members
    return {
        "name": name or fresh_name("provider"),
        "credentialProviderVendor": vendor,
        "oauth2ProviderConfigInput": {key: {name: each for name, each in whole.items() if each is not None}},
    }


def custom(name: str | None = None, **members: Any) -> dict[str, Any]:
    return asked("CustomOauth2", name, **{"oauthDiscovery": DISCOVERY} | members)


def promised(operation: str, answer: dict[str, Any]) -> list[str]:
    """Return where an answer departs from the model, but for its ARN: the model writes another service's name."""
    return [fault for fault in faults(CONTROL, operation, answer) if "credentialProviderArn" not in fault]


@pytest.fixture
def name(control: Any) -> str:
    """A provider of the test's own."""
    made: str = control.create_oauth2_credential_provider(**asked())["name"]
    return made


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get_oauth2_credential_provider", "delete_oauth2_credential_provider"])
def test_a_provider_that_does_not_exist_is_not_found(control: Any, method: str):
    assert refused(getattr(control, method), name="nobody") == NOT_FOUND


def test_a_provider_that_does_not_exist_is_not_updated(control: Any):
    assert refused(control.update_oauth2_credential_provider, **asked(name="nobody")) == NOT_FOUND


def test_a_name_is_given_once(control: Any, name: str):
    assert refused(control.create_oauth2_credential_provider, **asked(name=name)) == (409, "ConflictException")


def test_of_creations_of_one_name_at_once_one_succeeds(control: Any):
    wanted = fresh_name("provider")
    got = outcomes(lambda _: control.create_oauth2_credential_provider(**asked(name=wanted))["name"], times=6)
    assert sorted(got) == ["ConflictException"] * 5 + [wanted]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (asked(clientSecret=None), "githubOauth2ProviderConfig.clientSecret"),
        (asked(clientSecret=""), "githubOauth2ProviderConfig.clientSecret"),
        (asked(clientSecretSource="EXTERNAL"), "githubOauth2ProviderConfig.clientSecret"),
        (asked(clientSecret=None, clientSecretSource="EXTERNAL"), "githubOauth2ProviderConfig.clientSecretConfig"),
        (asked(clientSecretConfig=REFERENCE), "githubOauth2ProviderConfig.clientSecretConfig"),
        (asked("SlackOauth2") | {"credentialProviderVendor": "ZoomOauth2"}, "slackOauth2ProviderConfig"),
        (asked("OktaOauth2"), "includedOauth2ProviderConfig.issuer"),
        (asked("ZoomOauth2", tokenEndpoint="https://169.254.169.254/"), "includedOauth2ProviderConfig.tokenEndpoint"),
        (asked("MicrosoftOauth2", tenantId="../x"), "microsoftOauth2ProviderConfig.tenantId"),
        (custom(clientId=""), "customOauth2ProviderConfig.clientId"),
        (
            custom(clientAuthenticationMethod="AWS_IAM_ID_TOKEN_JWT"),
            "customOauth2ProviderConfig.clientAuthenticationMethod",
        ),
        (custom(clientAuthenticationMethod="PRIVATE_KEY_JWT"), "customOauth2ProviderConfig.clientSecret"),
        (
            custom(privateEndpoint={"selfManagedLatticeResource": {"resourceConfigurationIdentifier": "rcfg-" + "0" * 17}}),
            "customOauth2ProviderConfig.privateEndpoint",
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused_with_the_field(
    control_on_sqlite: Any, request_: dict[str, Any], field: str
):
    response = refusal(control_on_sqlite.create_oauth2_credential_provider, **request_)
    assert (status(response), response["Error"]["Code"], response["reason"]) == (*INVALID, "FieldValidationFailed")
    assert response["fieldList"][0]["name"] == f"oauth2ProviderConfigInput.{field}"


@pytest.mark.parametrize("vendor", ["NobodyOauth2", "Nobody", "", "github"])
def test_a_vendor_that_nobody_knows_is_refused(control_on_sqlite: Any, vendor: str):
    request = asked() | {"credentialProviderVendor": vendor}
    assert refused(control_on_sqlite.create_oauth2_credential_provider, **request) == INVALID


@pytest.mark.parametrize("name", ["a.b", "a b", "a/b", "ü", "x" * 129])
def test_a_name_of_another_form_is_refused(control_on_sqlite: Any, name: str):
    assert refused(control_on_sqlite.create_oauth2_credential_provider, **asked(name=name)) == INVALID


@pytest.mark.parametrize("key", ["githubOauth2ProviderConfig", "customOauth2ProviderConfig"])
def test_a_configuration_of_no_or_two_vendors_is_refused(unchecked_on_sqlite: Any, key: str):
    two = {"slackOauth2ProviderConfig": {"clientId": "id", "clientSecret": "hush"}, key: {"clientId": "id"}}
    for given in ({}, two):
        request = asked("SlackOauth2") | {"oauth2ProviderConfigInput": given}
        assert refused(unchecked_on_sqlite.create_oauth2_credential_provider, **request) == INVALID


@pytest.mark.parametrize("size", [0, 21])
def test_a_page_of_another_size_is_refused(control_on_sqlite: Any, unchecked_on_sqlite: Any, size: int):
    assert refused(unchecked_on_sqlite.list_oauth2_credential_providers, maxResults=size) == INVALID


@pytest.mark.parametrize("token", ["x", "AAAA", "with blanks", "A" * 5000])
def test_a_page_token_that_nobody_gave_is_refused(control_on_sqlite: Any, token: str):
    assert refused(control_on_sqlite.list_oauth2_credential_providers, nextToken=token) == INVALID


def test_a_provider_does_not_change_its_vendor(control: Any, name: str):
    assert refused(control.update_oauth2_credential_provider, **asked("SlackOauth2", name)) == INVALID


def test_an_update_without_the_secret_is_refused(control: Any, name: str):
    assert refused(control.update_oauth2_credential_provider, **asked(name=name, clientSecret=None)) == INVALID


def test_a_deleted_provider_is_gone(control: Any, name: str):
    control.delete_oauth2_credential_provider(name=name)
    assert refused(control.get_oauth2_credential_provider, name=name) == NOT_FOUND


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_creating_a_provider_answers_what_the_model_promises(control: Any):
    made = control.create_oauth2_credential_provider(**asked(name=(wanted := fresh_name("provider"))))
    assert (status(made), promised("CreateOauth2CredentialProvider", made)) == (201, [])
    vault = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:token-vault/default"
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:bedrock-agentcore-identity!default/oauth2/{wanted}"
    assert made["credentialProviderArn"] == f"{vault}/oauth2credentialprovider/{wanted}"
    assert made["clientSecretArn"] == {"secretArn": secret}
    assert (made["clientSecretSource"], made["status"]) == ("MANAGED", "READY")


def test_a_callback_url_leads_to_the_gateway_and_to_one_provider(control: Any, each_gateway: RunningGateway):
    urls = [control.create_oauth2_credential_provider(**asked())["callbackUrl"] for _ in range(2)]
    assert len(set(urls)) == 2
    assert all(url.startswith(f"{each_gateway.url}/identities/oauth2/callback/") for url in urls)


def test_getting_a_provider_shows_vendor_times_and_endpoints(control: Any, name: str):
    found = control.get_oauth2_credential_provider(name=name)
    assert (status(found), promised("GetOauth2CredentialProvider", found)) == (200, [])
    assert abs(datetime.now(UTC) - found["createdTime"]) < timedelta(minutes=5)
    assert found["credentialProviderVendor"] == "GithubOauth2"
    shown_ = found["oauth2ProviderConfigOutput"]["githubOauth2ProviderConfig"]
    assert shown_["clientId"] == "id"
    endpoint = shown_["oauthDiscovery"]["authorizationServerMetadata"]["tokenEndpoint"]
    assert endpoint == "https://github.com/login/oauth/access_token"


TENANTS = {
    "OktaOauth2": "https://example.okta.com/oauth2/default",
    "Auth0Oauth2": "https://example.eu.auth0.com",
    "CognitoOauth2": "https://example.auth.us-east-1.amazoncognito.com",
    "OneLoginOauth2": "https://example.onelogin.com/oidc/2",
    "PingOneOauth2": "https://auth.pingone.eu/01234567-89ab-cdef-0123-456789abcdef/as",
    "CyberArkOauth2": "https://example.id.cyberark.cloud",
    "FusionAuthOauth2": "https://auth.example.com",
}


@pytest.mark.parametrize("vendor", sorted(set(VENDORS) - {"CustomOauth2"}))
def test_every_vendor_of_aws_can_be_registered(control_on_sqlite: Any, vendor: str):
    made = control_on_sqlite.create_oauth2_credential_provider(**asked(vendor, issuer=TENANTS.get(vendor)))
    found = control_on_sqlite.get_oauth2_credential_provider(name=made["name"])
    assert (found["credentialProviderVendor"], promised("GetOauth2CredentialProvider", found)) == (vendor, [])


def test_a_vendor_that_aws_does_not_have_can_be_registered(control: Any):
    request = asked("BoxOauth2")
    control.create_oauth2_credential_provider(**request)
    found = control.get_oauth2_credential_provider(name=request["name"])
    assert found["credentialProviderVendor"] == "BoxOauth2"


def test_a_private_key_longer_than_aws_lets_a_secret_be_is_taken(control_on_sqlite: Any):
    key = pem(rsa_private(bits=3072))
    made = control_on_sqlite.create_oauth2_credential_provider(
        **custom(clientSecret=key, clientAuthenticationMethod="PRIVATE_KEY_JWT")
    )
    assert (len(key) > 2048, made["status"]) == (True, "READY")


@pytest.mark.parametrize(
    "members",
    [
        {"oauthDiscovery": DISCOVERY},
        {"oauthDiscovery": {"authorizationServerMetadata": METADATA | {"responseTypes": ["code"]}}},
        {
            "oauthDiscovery": {
                "authorizationServerMetadata": METADATA | {"tokenEndpointAuthMethods": ["client_secret_post"]}
            }
        },
        {"clientAuthenticationMethod": "CLIENT_SECRET_POST"},
        {
            "clientSecret": None,
            "clientAuthenticationMethod": "PRIVATE_KEY_JWT",
            "privateKeyJwtConfig": {
                "privateKeySource": {"kmsKeySource": {"kmsKeyArn": KMS_KEY}},
                "signingAlgorithm": "PS256",
                "additionalHeaderClaims": {"kid": "7"},
                "additionalPayloadClaims": {"aud": ISSUER},
            },
        },
        {
            "onBehalfOfTokenExchangeConfig": {
                "grantType": "TOKEN_EXCHANGE",
                "tokenExchangeGrantTypeConfig": {"actorTokenContent": "M2M", "actorTokenScopes": ["act"]},
            }
        },
        {
            "clientId": None,
            "clientSecret": None,
            "onBehalfOfTokenExchangeConfig": {
                "grantType": "JWT_AUTHORIZATION_GRANT",
                "onBehalfOfAuthenticationConfig": {"clientAuthenticationMethod": "NO_CLIENT"},
            },
        },
    ],
)
def test_a_custom_provider_is_shown_as_it_was_given_but_for_its_secret(control: Any, members: dict[str, Any]):
    request = custom(**members)
    made = control.create_oauth2_credential_provider(**request)
    given = request["oauth2ProviderConfigInput"]["customOauth2ProviderConfig"]
    expected = {name: each for name, each in given.items() if name != "clientSecret"}
    assert made["oauth2ProviderConfigOutput"]["customOauth2ProviderConfig"] == expected
    assert shown(control.get_oauth2_credential_provider(name=made["name"]))["oauth2ProviderConfigOutput"] == {
        "customOauth2ProviderConfig": expected
    }


def test_a_secret_that_stays_with_its_owner_is_shown_where_it_stands(control: Any):
    request = asked(clientSecret=None, clientSecretSource="EXTERNAL", clientSecretConfig=REFERENCE)
    made = control.create_oauth2_credential_provider(**request)
    found = made["clientSecretArn"]["secretArn"], made["clientSecretJsonKey"], made["clientSecretSource"]
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:team/vendor"
    assert (found, promised("CreateOauth2CredentialProvider", made)) == ((arn, "secret", "EXTERNAL"), [])


def test_no_answer_and_no_log_line_holds_a_secret(control: Any, each_gateway: RunningGateway):
    secret = fresh_name("very-hush")
    request = asked(clientSecret=secret)
    answers = [
        control.create_oauth2_credential_provider(**request),
        control.update_oauth2_credential_provider(**request),
        control.get_oauth2_credential_provider(name=request["name"]),
        control.list_oauth2_credential_providers(),
        refusal(control.create_oauth2_credential_provider, **request),
    ]
    assert secret not in repr(answers)
    assert secret not in each_gateway.log


def test_an_update_replaces_the_configuration_and_keeps_the_callback_url(control: Any):
    made = control.create_oauth2_credential_provider(**custom())
    other = {"oauthDiscovery": {"authorizationServerMetadata": METADATA}, "clientId": "other"}
    updated = control.update_oauth2_credential_provider(**custom(made["name"], **other))
    assert (status(updated), promised("UpdateOauth2CredentialProvider", updated)) == (200, [])
    assert updated["oauth2ProviderConfigOutput"] == {"customOauth2ProviderConfig": other}
    assert updated["callbackUrl"] == made["callbackUrl"]
    assert updated["createdTime"] < updated["lastUpdatedTime"]
    assert shown(control.get_oauth2_credential_provider(name=made["name"])) == shown(updated)


def test_updates_at_once_leave_the_configuration_of_one_of_them(control: Any, name: str):
    got = outcomes(
        lambda number: control.update_oauth2_credential_provider(**asked(name=name, clientId=f"id-{number}")), times=6
    )
    found = control.get_oauth2_credential_provider(name=name)["oauth2ProviderConfigOutput"]
    succeeded = [f"id-{number}" for number, each in enumerate(got) if each != "ConflictException"]
    assert found["githubOauth2ProviderConfig"]["clientId"] in succeeded


def test_deleting_a_provider_answers_nothing(control: Any, name: str):
    deleted = control.delete_oauth2_credential_provider(name=name)
    assert (status(deleted), shown(deleted)) == (204, {})


def test_the_name_of_a_deleted_provider_is_free_and_its_callback_url_is_not(control: Any, name: str):
    before = control.get_oauth2_credential_provider(name=name)["callbackUrl"]
    control.delete_oauth2_credential_provider(name=name)
    assert control.create_oauth2_credential_provider(**asked(name=name))["callbackUrl"] != before


def test_every_provider_stands_on_one_page(control: Any):
    made = {control.create_oauth2_credential_provider(**asked())["name"] for _ in range(5)}
    pages = list(control.get_paginator("list_oauth2_credential_providers").paginate(PaginationConfig={"PageSize": 2}))
    names = [row["name"] for page in pages for row in page["credentialProviders"]]
    assert made <= set(names)
    assert names == sorted(set(names))


def test_a_list_shows_vendors_and_times(control: Any):
    wanted = control.create_oauth2_credential_provider(**asked(name=fresh_name("0")))["name"]
    page = control.list_oauth2_credential_providers(maxResults=1)
    (row,) = page["credentialProviders"]
    found = control.get_oauth2_credential_provider(name=wanted)
    assert row == {name: found[name] for name in row}
    assert set(row) == {"name", "credentialProviderVendor", "credentialProviderArn", "createdTime", "lastUpdatedTime"}
    control.delete_oauth2_credential_provider(name=wanted)


def test_tags_come_and_go_with_their_provider(control: Any):
    request = asked() | {"tags": {"team": "blue"}}
    arn = control.create_oauth2_credential_provider(**request)["credentialProviderArn"]
    assert control.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "blue"}
    control.delete_oauth2_credential_provider(name=request["name"])
    assert refused(control.list_tags_for_resource, resourceArn=arn) == NOT_FOUND
