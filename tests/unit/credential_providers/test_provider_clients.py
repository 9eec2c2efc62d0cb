"""From a registered provider to the client that talks to the vendor."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.protocol.oauth2 import Client
from tests.fakes.issuer import FakeIssuer, Vice

METADATA = {
    "issuer": "https://id.example",
    "authorizationEndpoint": "https://id.example/authorize",
    "tokenEndpoint": "https://id.example/token",
}
KMS_KEY = "arn:aws:kms:us-east-1:000000000000:key/01234567-89ab-cdef-0123-456789abcdef"


async def made(providers: CredentialProviders, vendor: str, config: str, **members: Any) -> None:
    await providers.create_oauth2_credential_provider(
        {
            "name": "made",
            "credentialProviderVendor": vendor,
            "oauth2ProviderConfigInput": {config: {"clientId": "id", "clientSecret": "hush"} | members},
        }
    )


async def client(providers: CredentialProviders) -> Client:
    return await providers.client_of(await providers.oauth2("made"))


async def custom(providers: CredentialProviders, **members: Any) -> Client:
    discovery = {"oauthDiscovery": {"authorizationServerMetadata": METADATA}}
    await made(providers, "CustomOauth2", "customOauth2ProviderConfig", **discovery | members)
    return await client(providers)


@pytest.fixture
async def server() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer() as running:
        running.document_changes = {
            "authorization_endpoint": f"{running.issuer}/authorize",
            "token_endpoint": f"{running.issuer}/token",
        }
        yield running


async def discovered(providers: CredentialProviders, server: FakeIssuer) -> Client:
    return await custom(providers, oauthDiscovery={"discoveryUrl": server.discovery_url})


# --- Clients that cannot be used ---


async def test_a_variable_that_only_the_operator_knows_is_named_when_it_is_missed(providers: CredentialProviders):
    issuer = "https://example.id.cyberark.cloud"
    await made(providers, "CyberArkOauth2", "includedOauth2ProviderConfig", issuer=issuer)
    with pytest.raises(ValidationFailed, match=r"An administrator must set: app_id \(Application ID"):
        await client(providers)


async def test_a_server_that_does_not_answer_makes_no_client(providers: CredentialProviders, server: FakeIssuer):
    server.fail(Vice.DOWN)
    with pytest.raises(Unavailable):
        await discovered(providers, server)


# --- Clients that can ---


async def test_a_client_shows_no_secret(providers: CredentialProviders):
    assert "hush" not in repr(await custom(providers))


async def test_a_client_of_the_catalog_is_as_its_descriptor_says(providers: CredentialProviders):
    await made(providers, "ZoomOauth2", "includedOauth2ProviderConfig")
    found = await client(providers)
    assert (found.id, found.secret.reveal(), found.auth, dict(found.endpoints)) == ("id", "hush", None, {})


async def test_a_tenant_that_was_not_named_is_the_default(providers: CredentialProviders):
    await made(providers, "MicrosoftOauth2", "microsoftOauth2ProviderConfig")
    assert (await client(providers)).variables["tenant"] == "common"


async def test_a_tenant_that_was_named_is_known(providers: CredentialProviders):
    await made(providers, "MicrosoftOauth2", "microsoftOauth2ProviderConfig", tenantId="contoso.example")
    assert (await client(providers)).variables["tenant"] == "contoso.example"


@pytest.mark.parametrize(
    ("method", "auth"), [(None, "basic"), ("CLIENT_SECRET_BASIC", "basic"), ("CLIENT_SECRET_POST", "post")]
)
async def test_a_custom_client_authenticates_as_it_was_told(
    providers: CredentialProviders, method: str | None, auth: str
):
    found = await custom(providers, **{"clientAuthenticationMethod": method} if method else {})
    assert (found.auth, found.private_key_jwt) == (auth, None)


async def test_given_metadata_say_where_the_server_is(providers: CredentialProviders):
    found = await custom(providers)
    assert (found.issuer, dict(found.endpoints)) == (
        "https://id.example",
        {"authorize": "https://id.example/authorize", "token": "https://id.example/token"},
    )


async def test_published_metadata_say_where_the_server_is(providers: CredentialProviders, server: FakeIssuer):
    server.document_changes |= {
        "revocation_endpoint": f"{server.issuer}/revoke",
        "introspection_endpoint": f"{server.issuer}/introspect",
        "userinfo_endpoint": f"{server.issuer}/me",
    }
    found = await discovered(providers, server)
    assert (found.issuer, dict(found.endpoints)) == (
        server.issuer,
        {
            "authorize": f"{server.issuer}/authorize",
            "token": f"{server.issuer}/token",
            "revoke": f"{server.issuer}/revoke",
            "introspect": f"{server.issuer}/introspect",
            "userinfo": f"{server.issuer}/me",
        },
    )


@pytest.mark.parametrize("always", [True, False])
async def test_a_server_that_always_sends_iss_is_held_to_it(
    providers: CredentialProviders, server: FakeIssuer, always: bool
):
    server.document_changes["authorization_response_iss_parameter_supported"] = always
    assert (await discovered(providers, server)).descriptor.authorize.issuer_required is always


# --- Clients that sign ---


async def test_a_client_that_signs_sends_no_secret(providers: CredentialProviders, rsa_pem: str):
    found = await custom(providers, clientAuthenticationMethod="PRIVATE_KEY_JWT", clientSecret=rsa_pem)
    assert (found.auth, found.secret, found.secrets["private_key"].reveal()) == ("private_key_jwt", None, rsa_pem)


async def test_a_key_chooses_its_algorithm_when_nobody_does(providers: CredentialProviders, ec_pem: str):
    found = await custom(providers, clientAuthenticationMethod="PRIVATE_KEY_JWT", clientSecret=ec_pem)
    assert found.private_key_jwt.algorithm == "ES256"


async def test_a_key_in_kms_signs_as_it_was_told(providers: CredentialProviders):
    config = {
        "privateKeySource": {"kmsKeySource": {"kmsKeyArn": KMS_KEY}},
        "signingAlgorithm": "PS256",
        "additionalHeaderClaims": {"kid": "7"},
        "additionalPayloadClaims": {"aud": "https://other.example"},
    }
    found = (
        await custom(
            providers, clientAuthenticationMethod="PRIVATE_KEY_JWT", privateKeyJwtConfig=config, clientSecret=""
        )
    ).private_key_jwt
    assert (found.kms_key, found.algorithm, found.headers, found.claims) == (
        KMS_KEY,
        "PS256",
        {"kid": "7"},
        {"aud": "https://other.example"},
    )


# --- On behalf of a user ---


async def test_an_exchange_is_told_as_it_was_registered(providers: CredentialProviders):
    asked = {"grantType": "JWT_AUTHORIZATION_GRANT"}
    await custom(providers, onBehalfOfTokenExchangeConfig=asked)
    assert providers.on_behalf_of(await providers.oauth2("made")) == asked


async def test_of_a_vendor_of_the_catalog_the_descriptor_tells(providers: CredentialProviders):
    await made(providers, "MicrosoftOauth2", "microsoftOauth2ProviderConfig")
    assert providers.on_behalf_of(await providers.oauth2("made")) is None
