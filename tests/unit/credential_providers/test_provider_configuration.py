"""What an OAuth2 credential provider may be configured with."""

from typing import Any

import pytest
from botocore.loaders import Loader
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from identity_gateway.catalog import Catalog
from identity_gateway.credential_providers import configuration
from identity_gateway.credential_providers.configuration import Registered
from identity_gateway.errors import ValidationFailed
from tests.fakes.issuer import rsa_private
from tests.fakes.private_keys import pem

CUSTOM = "customOauth2ProviderConfig"
INCLUDED = "includedOauth2ProviderConfig"
KMS_KEY = "arn:aws:kms:us-east-1:000000000000:key/01234567-89ab-cdef-0123-456789abcdef"
DISCOVERY = {"discoveryUrl": "https://id.example/.well-known/openid-configuration"}
METADATA = {
    "issuer": "https://id.example",
    "authorizationEndpoint": "https://id.example/authorize",
    "tokenEndpoint": "https://id.example/token",
}
TENANTS = {
    "OktaOauth2": "https://example.okta.com/oauth2/default",
    "Auth0Oauth2": "https://example.eu.auth0.com/",
    "CognitoOauth2": "https://example.auth.us-east-1.amazoncognito.com",
    "OneLoginOauth2": "https://example.onelogin.com/oidc/2",
    "PingOneOauth2": "https://auth.pingone.eu/01234567-89ab-cdef-0123-456789abcdef/as",
    "CyberArkOauth2": "https://example.id.cyberark.cloud",
    "FusionAuthOauth2": "https://auth.example.com",
}
SHAPES = Loader().load_service_model("bedrock-agentcore-control", "service-2")["shapes"]
AWS_VENDORS = SHAPES["CredentialProviderVendorType"]["enum"]


def changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (members | changes).items() if value is not None}


def included(vendors: Catalog, vendor: str, **changes: Any) -> Registered:
    """Check the configuration of a vendor of the catalog. A change to None leaves a member out."""
    descriptor = vendors.get(vendor)
    members = changed({"clientId": "id", "clientSecret": "hush"}, changes)
    return configuration.check(descriptor, {descriptor.agentcore.config: members})


def custom(vendors: Catalog, **changes: Any) -> Registered:
    members = changed({"oauthDiscovery": DISCOVERY, "clientId": "id", "clientSecret": "hush"}, changes)
    return configuration.check(vendors.get("CustomOauth2"), {CUSTOM: members})


def metadata(**changes: Any) -> dict[str, Any]:
    return {"authorizationServerMetadata": changed(METADATA, changes)}


def faults(check: Any, *given: Any, **changes: Any) -> dict[str, str]:
    """Return the fields that were refused, without the path that all of them share, and why."""
    with pytest.raises(ValidationFailed) as caught:
        check(*given, **changes)
    start = "oauth2ProviderConfigInput."
    assert all(field.name in caught.value.message for field in caught.value.fields)
    return {field.name.removeprefix(start).partition(".")[2]: field.message for field in caught.value.fields}


# --- The secret ---


@pytest.mark.parametrize("secret", [None, ""])
def test_a_secret_is_needed(vendors: Catalog, secret: str | None):
    assert list(faults(included, vendors, "GoogleOauth2", clientSecret=secret)) == ["clientSecret"]


REFERENCE = {"secretId": "team/vendor", "jsonKey": "secret"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"clientSecretSource": "EXTERNAL"}, ["clientSecret", "clientSecretConfig"]),
        ({"clientSecretSource": "EXTERNAL", "clientSecret": None}, ["clientSecretConfig"]),
        ({"clientSecretSource": "EXTERNAL", "clientSecretConfig": REFERENCE}, ["clientSecret"]),
        ({"clientSecretSource": "MANAGED", "clientSecretConfig": REFERENCE}, ["clientSecretConfig"]),
        ({"clientSecretConfig": REFERENCE}, ["clientSecretConfig"]),
        ({"clientSecretConfig": REFERENCE, "clientSecret": None}, ["clientSecretConfig"]),
    ],
)
def test_a_secret_stands_in_one_place(vendors: Catalog, changes: dict[str, Any], named: list[str]):
    assert list(faults(included, vendors, "SlackOauth2", **changes)) == named


def test_a_secret_is_no_longer_than_aws_lets_it_be(vendors: Catalog):
    assert "2048" in faults(included, vendors, "SlackOauth2", clientSecret="x" * 2049)["clientSecret"]


def test_a_refusal_repeats_no_secret(vendors: Catalog):
    with pytest.raises(ValidationFailed) as caught:
        custom(vendors, clientAuthenticationMethod="PRIVATE_KEY_JWT", clientSecret="very hush")
    assert "very hush" not in caught.value.message + caught.value.reason + repr(caught.value.fields)


def test_what_is_kept_in_the_open_holds_no_secret(vendors: Catalog):
    registered = included(vendors, "SlackOauth2")
    assert registered.configuration == {"slackOauth2ProviderConfig": {"clientId": "id"}}
    assert "hush" not in repr(registered)


def test_a_secret_may_stand_with_its_owner(vendors: Catalog):
    source = included(
        vendors, "SlackOauth2", clientSecret=None, clientSecretSource="EXTERNAL", clientSecretConfig=REFERENCE
    ).source
    assert (source.kind, source.value, source.reference) == ("EXTERNAL", None, REFERENCE)


# --- Vendors of the catalog ---


@pytest.mark.parametrize("vendor", sorted({*AWS_VENDORS} - {"CustomOauth2"}))
def test_every_vendor_of_aws_can_be_registered(vendors: Catalog, vendor: str):
    more = {"issuer": TENANTS[vendor]} if vendor in TENANTS else {}
    assert included(vendors, vendor, **more).source.value.reveal() == "hush"


@pytest.mark.parametrize("vendor", AWS_VENDORS)
def test_every_vendor_of_aws_has_the_member_that_aws_gives_it(vendors: Catalog, vendor: str):
    own = vendor[0].lower() + vendor[1:] + "ProviderConfig"
    members = SHAPES["Oauth2ProviderConfigInput"]["members"]
    assert vendors.get(vendor).agentcore.config == (own if own in members else INCLUDED)


@pytest.mark.parametrize("key", [CUSTOM, INCLUDED, "googleOauth2ProviderConfig"])
def test_the_member_of_another_vendor_is_refused(vendors: Catalog, key: str):
    with pytest.raises(ValidationFailed) as caught:
        configuration.check(vendors.get("SlackOauth2"), {key: {"clientId": "id", "clientSecret": "hush"}})
    assert "give slackOauth2ProviderConfig" in caught.value.message


@pytest.mark.parametrize("vendor", TENANTS)
def test_a_vendor_with_tenants_wants_to_know_the_tenant(vendors: Catalog, vendor: str):
    found = faults(included, vendors, vendor)
    assert "is needed" in found["issuer"]
    assert vendors.get(vendor).variables["issuer"].description in found["issuer"]


@pytest.mark.parametrize("vendor", TENANTS)
def test_both_endpoints_will_do_without_an_issuer(vendors: Catalog, vendor: str):
    endpoints = {"authorizationEndpoint": "https://t.example/a", "tokenEndpoint": "https://t.example/t"}
    members = configuration.members_of(included(vendors, vendor, **endpoints).configuration)
    assert configuration.endpoints_of(members) == {"authorize": "https://t.example/a", "token": "https://t.example/t"}


@pytest.mark.parametrize("vendor", TENANTS)
def test_one_endpoint_will_not_do_without_an_issuer(vendors: Catalog, vendor: str):
    assert "issuer" in faults(included, vendors, vendor, authorizationEndpoint="https://t.example/a")


def test_the_base_of_a_tenant_is_what_stands_before_the_end_of_its_token_endpoint(vendors: Catalog):
    issuer = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_abc"
    base = "https://example.auth.us-east-1.amazoncognito.com"
    members = {"clientId": "id", "issuer": issuer, "tokenEndpoint": base + "/oauth2/token"}
    found = configuration.variables_of(vendors.get("CognitoOauth2"), members, {}, issuer)
    assert found["issuer"] == base


def test_a_default_takes_the_place_of_no_value_that_was_given(vendors: Catalog):
    found = configuration.variables_of(vendors.get("SlackOauth2"), {}, {"domain": "gone.example"}, None)
    assert found["domain"] == "gone.example"


def test_an_issuer_loses_the_slash_at_its_end(vendors: Catalog):
    members = {"issuer": "https://example.eu.auth0.com/"}
    found = configuration.variables_of(vendors.get("Auth0Oauth2"), members, {}, members["issuer"])
    assert found["issuer"] == "https://example.eu.auth0.com"


@pytest.mark.parametrize("tenant", ["../common", "a/b", "a?b", "a@b", "a/", " ", "a\nb", "{tenant}"])
def test_a_tenant_that_is_none_is_refused(vendors: Catalog, tenant: str):
    assert list(faults(included, vendors, "MicrosoftOauth2", tenantId=tenant)) == ["tenantId"]


@pytest.mark.parametrize("member", ["issuer", "authorizationEndpoint", "tokenEndpoint"])
@pytest.mark.parametrize(
    "url",
    ["", "id.example", "ftp://id.example", "https://u:p@id.example/", "https://id.example/#x", "https://169.254.169.254/",
     "https://[::ffff:169.254.169.254]/", "https://2130706433/", "https://id.example/ x", "file:///etc/passwd"],
)  # fmt: skip
def test_a_url_that_nobody_may_reach_is_refused(vendors: Catalog, member: str, url: str):
    assert "cannot be used" in faults(included, vendors, "ZoomOauth2", **{member: url})[member]


def test_a_browser_is_not_sent_to_plain_http_for_a_token_endpoint_that_is_not(vendors: Catalog):
    found = faults(included, vendors, "ZoomOauth2", authorizationEndpoint="http://id.example/a")
    assert list(found) == ["authorizationEndpoint"]


# --- Any other server ---


@pytest.mark.parametrize("member", ["issuer", "authorizationEndpoint", "tokenEndpoint"])
def test_metadata_of_a_place_that_nobody_may_reach_is_refused(vendors: Catalog, member: str):
    found = faults(custom, vendors, oauthDiscovery=metadata(**{member: "https://169.254.169.254/x"}))
    assert list(found) == [f"oauthDiscovery.authorizationServerMetadata.{member}"]


def test_an_issuer_has_no_query(vendors: Catalog):
    found = faults(custom, vendors, oauthDiscovery=metadata(issuer="https://id.example/?a=b"))
    assert "query" in found["oauthDiscovery.authorizationServerMetadata.issuer"]


def test_a_discovery_url_of_a_place_that_nobody_may_reach_is_refused(vendors: Catalog):
    url = "https://169.254.169.254/.well-known/openid-configuration"
    assert list(faults(custom, vendors, oauthDiscovery={"discoveryUrl": url})) == ["oauthDiscovery.discoveryUrl"]


@pytest.mark.parametrize("client_id", [None, ""])
def test_a_custom_client_has_an_id(vendors: Catalog, client_id: str | None):
    assert list(faults(custom, vendors, clientId=client_id)) == ["clientId"]


def test_client_authentication_is_said_once(vendors: Catalog):
    found = faults(
        custom,
        vendors,
        oauthDiscovery=metadata(tokenEndpointAuthMethods=["client_secret_post"]),
        clientAuthenticationMethod="CLIENT_SECRET_POST",
    )
    assert list(found) == ["oauthDiscovery.authorizationServerMetadata.tokenEndpointAuthMethods"]


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({}, "CLIENT_SECRET_BASIC"),
        ({"clientAuthenticationMethod": "CLIENT_SECRET_POST"}, "CLIENT_SECRET_POST"),
        ({"oauthDiscovery": metadata(tokenEndpointAuthMethods=["client_secret_post"])}, "CLIENT_SECRET_POST"),
        ({"oauthDiscovery": metadata(tokenEndpointAuthMethods=["client_secret_basic"])}, "CLIENT_SECRET_BASIC"),
        (
            {"oauthDiscovery": metadata(tokenEndpointAuthMethods=["client_secret_post", "client_secret_basic"])},
            "CLIENT_SECRET_BASIC",
        ),
    ],
)
def test_the_way_to_authenticate_is_the_one_that_was_asked_for(vendors: Catalog, changes: dict[str, Any], method: str):
    assert configuration.method_of(configuration.members_of(custom(vendors, **changes).configuration)) == method


def test_identity_tokens_of_aws_are_refused_in_plain_words(vendors: Catalog):
    found = faults(custom, vendors, clientAuthenticationMethod="AWS_IAM_ID_TOKEN_JWT", clientSecret=None)
    assert "no AWS service issues identity tokens" in found["clientAuthenticationMethod"]


@pytest.mark.parametrize("member", ["privateEndpoint", "privateEndpointOverrides", "certificateConfigurations"])
def test_what_belongs_to_a_vpc_is_refused(vendors: Catalog, member: str):
    assert "cannot be served" in faults(custom, vendors, **{member: [{"domain": "id.example"}]})[member]


# --- private_key_jwt ---


def signing(**config: Any) -> dict[str, Any]:
    return {"clientAuthenticationMethod": "PRIVATE_KEY_JWT", "privateKeyJwtConfig": config}


KMS = {"privateKeySource": {"kmsKeySource": {"kmsKeyArn": KMS_KEY}}}


@pytest.mark.parametrize(
    "secret", ["hush", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "\N{SNOWMAN}"]
)
def test_a_secret_that_is_no_key_cannot_sign(vendors: Catalog, secret: str):
    found = faults(custom, vendors, **signing(), clientSecret=secret)
    assert found["clientSecret"] == "must be a private key in PEM, without a password"


@pytest.mark.parametrize(
    "key",
    [rsa_private(bits=1024), ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["short", "other curve", "other kind"],
)
def test_a_key_of_another_kind_cannot_sign(vendors: Catalog, key: object):
    assert "must be" in faults(custom, vendors, **signing(), clientSecret=pem(key))["clientSecret"]


def test_a_key_signs_only_with_the_algorithms_of_its_kind(vendors: Catalog, rsa_pem: str, ec_pem: str):
    for secret, algorithm in ((rsa_pem, "ES256"), (ec_pem, "RS256"), (ec_pem, "PS256")):
        found = faults(custom, vendors, **signing(signingAlgorithm=algorithm), clientSecret=secret)
        assert f"cannot sign {algorithm}" in found["clientSecret"]


def test_a_client_without_a_key_cannot_sign(vendors: Catalog):
    assert list(faults(custom, vendors, **signing(), clientSecret=None)) == ["clientSecret"]


def test_only_one_key_signs(vendors: Catalog, rsa_pem: str):
    assert "KMS" in faults(custom, vendors, **signing(**KMS), clientSecret=rsa_pem)["clientSecret"]


def test_a_way_to_sign_is_for_those_who_sign(vendors: Catalog):
    found = faults(custom, vendors, **signing(**KMS) | {"clientAuthenticationMethod": "CLIENT_SECRET_POST"})
    assert "privateKeyJwtConfig" in found


@pytest.mark.parametrize(
    ("member", "name"),
    [("additionalHeaderClaims", name) for name in ("alg", "typ", "crit", "b64")]
    + [("additionalPayloadClaims", name) for name in ("iss", "sub", "jti", "iat", "nbf", "exp")],
)
def test_what_the_gateway_sets_cannot_be_added(vendors: Catalog, member: str, name: str):
    found = faults(custom, vendors, **signing(**KMS, **{member: {name: "x"}}), clientSecret=None)
    assert found[f"privateKeyJwtConfig.{member}"] == f"must not name {name}"


def test_a_key_in_pem_is_a_secret_like_any_other(vendors: Catalog, rsa_pem: str, ec_pem: str):
    for key in (rsa_pem, ec_pem):
        registered = custom(vendors, **signing(), clientSecret=key)
        assert (registered.source.value.reveal(), "BEGIN" in repr(registered.configuration)) == (key, False)


def test_a_key_in_kms_needs_no_secret(vendors: Catalog):
    registered = custom(vendors, **signing(**KMS, signingAlgorithm="PS256"), clientSecret=None)
    assert registered.source.value is None
    assert configuration.kms_key_of(configuration.members_of(registered.configuration)) == KMS_KEY


# --- On behalf of a user ---


def exchange(content: str = "NONE", **more: Any) -> dict[str, Any]:
    return {
        "grantType": "TOKEN_EXCHANGE",
        "tokenExchangeGrantTypeConfig": {"actorTokenContent": content} | more,
    }


NO_CLIENT = {"onBehalfOfAuthenticationConfig": {"clientAuthenticationMethod": "NO_CLIENT"}}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (exchange("AWS_IAM_ID_TOKEN_JWT"), "tokenExchangeGrantTypeConfig.actorTokenContent"),
        (exchange("NONE", actorTokenScopes=["a"]), "tokenExchangeGrantTypeConfig.actorTokenScopes"),
        (exchange("M2M") | {"grantType": "JWT_AUTHORIZATION_GRANT"}, "tokenExchangeGrantTypeConfig"),
    ],
)
def test_a_contradicting_exchange_is_refused(vendors: Catalog, asked: dict[str, Any], field: str):
    found = faults(custom, vendors, onBehalfOfTokenExchangeConfig=asked)
    assert list(found) == [f"onBehalfOfTokenExchangeConfig.{field}"]


def test_an_actor_that_is_the_client_needs_a_client(vendors: Catalog):
    asked = exchange("M2M") | NO_CLIENT
    found = faults(custom, vendors, onBehalfOfTokenExchangeConfig=asked, clientId=None, clientSecret=None)
    assert list(found) == ["clientSecret", "clientId"]


@pytest.mark.parametrize("asked", [exchange(), {"grantType": "JWT_AUTHORIZATION_GRANT"}])
def test_an_exchange_without_client_authentication_needs_no_client(vendors: Catalog, asked: dict[str, Any]):
    registered = custom(vendors, onBehalfOfTokenExchangeConfig=asked | NO_CLIENT, clientId=None, clientSecret=None)
    assert registered.configuration[CUSTOM]["onBehalfOfTokenExchangeConfig"] == asked | NO_CLIENT


# --- What is shown ---


def test_endpoints_are_shown_with_the_tenant_in_them(vendors: Catalog):
    registered = included(vendors, "Auth0Oauth2", issuer="https://example.eu.auth0.com/")
    shown = configuration.shown(vendors.get("Auth0Oauth2"), registered.configuration, {"variables": {}})
    assert shown[INCLUDED]["oauthDiscovery"]["authorizationServerMetadata"] == {
        "issuer": "https://example.eu.auth0.com/",
        "authorizationEndpoint": "https://example.eu.auth0.com/authorize",
        "tokenEndpoint": "https://example.eu.auth0.com/oauth/token",
    }


def test_a_vendor_without_an_issuer_is_shown_with_the_origin_of_its_token_endpoint(vendors: Catalog):
    registered = included(vendors, "ZoomOauth2")
    shown = configuration.shown(vendors.get("ZoomOauth2"), registered.configuration, {"variables": {}})
    assert shown[INCLUDED]["oauthDiscovery"]["authorizationServerMetadata"]["issuer"] == "https://zoom.us"


def test_a_variable_that_was_not_set_is_shown_as_its_name(vendors: Catalog):
    registered = included(vendors, "CyberArkOauth2", issuer=TENANTS["CyberArkOauth2"])
    shown = configuration.shown(vendors.get("CyberArkOauth2"), registered.configuration, {"variables": {}})
    token = shown[INCLUDED]["oauthDiscovery"]["authorizationServerMetadata"]["tokenEndpoint"]
    assert token == TENANTS["CyberArkOauth2"] + "/OAuth2/Token/{app_id}"


def test_a_vendor_that_left_the_catalog_is_still_shown(vendors: Catalog):
    registered = included(vendors, "ZoomOauth2")
    shown = configuration.shown(None, registered.configuration, {"variables": {}})
    assert shown[INCLUDED]["clientId"] == "id"


def test_a_custom_configuration_is_shown_as_it_was_given(vendors: Catalog):
    registered = custom(vendors, **signing(**KMS), clientSecret=None)
    shown = configuration.shown(vendors.get("CustomOauth2"), registered.configuration, {"variables": {}})
    assert shown == {CUSTOM: {"oauthDiscovery": DISCOVERY, "clientId": "id"} | signing(**KMS)}
