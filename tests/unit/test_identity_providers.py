"""Identity providers: whose an address is, which addresses and authorizers are refused, and files of one's own."""

from pathlib import Path
from typing import Any

import pytest

from identity_gateway import identity_providers
from identity_gateway.errors import InvalidToken
from identity_gateway.protocol.descriptor import DescriptorError
from identity_gateway.protocol.identity_provider import UNRECOGNISED
from tests.providers.inbound import custom

KNOWN = identity_providers.packaged()
SUFFIX = "/.well-known/openid-configuration"
OWN = """
schema = 1
id = "{id}"
name = "Ours"
verified = 2026-11-23
sources = ["https://docs.example.com"]
clients = ["azp"]
[addresses]
discovery_urls = ['https://id\\.example\\.com/.*']
"""

# --- Whose is an address? ---

NOT_RECOGNISED = [
    "https://example.com",
    "https://cognito-idp.us-east-1.amazonaws.com.evil.example/us-east-1_x",
    "https://evil.example/cognito-idp.us-east-1.amazonaws.com/us-east-1_x",
    "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_x/more",
    "http://cognito-idp.us-east-1.amazonaws.com/us-east-1_x",
    "https://okta.com.evil.example/oauth2/default",
    "https://exampleokta.com/oauth2/default",
    "https://login.example.com/oauth2/default",
    "https://login.microsoftonline.com.evil.example/common/v2.0",
    "https://evil.example/login.microsoftonline.com/common/v2.0",
    "https://loginXmicrosoftonline.com/common/v2.0",
    "https://auth0.com",
    "https://example.auth0.com.evil.example",
    "https://accounts.google.com.evil.example",
    "https://accounts.google.com/more",
    "https://sso.example.com/realms",
]
RECOGNISED = [
    ("https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Ab12Cd34E", "cognito"),
    ("https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_Ab12Cd34E", "cognito"),
    ("https://issuer-cognito-idp.us-east-1.amazonaws.com/us-east-1_Ab12Cd34E", "cognito"),
    ("https://example.okta.com/oauth2/default", "okta"),
    ("https://example.oktapreview.com/oauth2/ausabcdefghijklmnopq", "okta"),
    ("https://id.example.com/oauth2/ausabcdefghijklmnopq", "okta"),
    ("https://login.microsoftonline.com/contoso.onmicrosoft.com/v2.0", "entra"),
    ("https://login.microsoftonline.com/organizations", "entra"),
    ("https://login.microsoftonline.us/common/v2.0", "entra"),
    ("https://contoso.ciamlogin.com/contoso.onmicrosoft.com/v2.0", "entra"),
    ("https://example.auth0.com", "auth0"),
    ("https://example.us.auth0.com", "auth0"),
    ("https://sso.example.com/realms/agents", "keycloak"),
    ("https://sso.example.com/auth/realms/agents", "keycloak"),
    ("http://keycloak.internal:8080/realms/agents", "keycloak"),
    ("https://accounts.google.com", "google"),
]


@pytest.mark.parametrize("base", NOT_RECOGNISED)
def test_an_address_that_looks_like_a_providers_is_anybodys(base: str) -> None:
    assert KNOWN.recognise(base + SUFFIX).id == "generic"


@pytest.mark.parametrize(("base", "provider"), RECOGNISED)
def test_an_address_is_recognised(base: str, provider: str) -> None:
    assert KNOWN.recognise(base + SUFFIX).id == provider


def test_an_emulator_is_read_as_what_its_document_says() -> None:
    issuer = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Ab12Cd34E"
    assert KNOWN.recognise("http://127.0.0.1:5000/us-east-1_Ab12Cd34E" + SUFFIX, issuer).id == "cognito"


def test_the_address_goes_before_the_issuer_of_the_document() -> None:
    assert (
        KNOWN.recognise("https://example.okta.com/oauth2/default" + SUFFIX, "https://accounts.google.com").id == "okta"
    )


def test_an_endless_address_is_matched_with_no_pattern() -> None:
    assert not any(provider.recognises("https://" + "a" * 3000 + SUFFIX) for provider in KNOWN)


# --- Documents that name somebody else ---


@pytest.mark.parametrize(
    ("base", "issuer"),
    [
        ("https://login.microsoftonline.com/common/v2.0", "https://evil.example/"),
        (
            "https://login.microsoftonline.com/common/v2.0",
            "https://sts.windows.net/11111111-2222-3333-4444-555555555555",
        ),
        ("https://cognito-idp.us-east-1.amazonaws.com/us-east-1_x", "https://accounts.google.com"),
        ("https://example.okta.com/oauth2/default", "https://example.okta.com"),
        ("https://example.auth0.com", "https://other.auth0.com/"),
        ("https://accounts.google.com", "accounts.google.com"),
        ("https://example.okta.com", "https://example.okta.com"),
    ],
)
def test_no_token_is_let_in_where_the_document_names_somebody_else(base: str, issuer: str) -> None:
    with pytest.raises(InvalidToken):
        KNOWN.policy_of({"discoveryUrl": base + SUFFIX, "allowedAudience": ["a"]}, issuer)


# --- Authorizers ---

TENANT = "11111111-2222-3333-4444-555555555555"
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("https://example.okta.com", {"allowedAudience": ["a"]}, "discoveryUrl", "custom authorization server"),
    ("https://cognito-identity.amazonaws.com", {"allowedAudience": ["a"]}, "discoveryUrl", "user pool"),
    ("https://example.auth.us-east-1.amazoncognito.com", {"allowedClients": ["a"]}, "discoveryUrl", "user pool"),
    ("https://login.microsoftonline.com/common/v2.0", {"allowedAudience": ["a"]}, "customClaims", "tid"),
    ("https://login.microsoftonline.com/organizations", {"allowedAudience": ["a"]}, "customClaims", "tid"),
    (f"https://login.microsoftonline.com/{TENANT}/v2.0", {"allowedClients": ["a"]}, "allowedAudience", "must be given"),
    ("https://example.auth0.com", {"allowedScopes": ["a"]}, "allowedAudience", "must be given"),
    ("https://accounts.google.com", {"customClaims": [custom("hd", "a")]}, "allowedAudience", "must be given"),
    ("https://accounts.google.com", {"allowedAudience": ["a"], "allowedScopes": ["b"]}, "allowedScopes", "no token"),
]


@pytest.mark.parametrize(("base", "rules", "member", "words"), REFUSED)
def test_an_authorizer_is_refused_with_a_reason(base: str, rules: dict[str, Any], member: str, words: str) -> None:
    (fault,) = KNOWN.check_authorizer({"discoveryUrl": base + SUFFIX, **rules})
    assert fault.name.endswith(member)
    assert words in fault.message


@pytest.mark.parametrize(
    ("base", "rules"),
    [
        ("https://example.okta.com/oauth2/default", {"allowedClients": ["a"]}),
        ("https://cognito-idp.us-east-1.amazonaws.com/us-east-1_x", {"allowedClients": ["a"]}),
        ("https://sso.example.com/realms/agents", {"allowedClients": ["a"]}),
        ("https://login.example.com", {"allowedClients": ["a"]}),
        (f"https://login.microsoftonline.com/{TENANT}/v2.0", {"allowedAudience": ["a"], "allowedClients": ["b"]}),
        (
            "https://login.microsoftonline.com/common/v2.0",
            {"allowedAudience": ["a"], "customClaims": [custom("tid", TENANT)]},
        ),
    ],
)
def test_an_authorizer_that_a_provider_can_satisfy_is_accepted(base: str, rules: dict[str, Any]) -> None:
    assert KNOWN.check_authorizer({"discoveryUrl": base + SUFFIX, **rules}) == []


# --- Files ---


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("schema = ", "own.toml: "),
        (OWN.format(id="other"), "own.toml: id: must be the name of the file, own"),
        (OWN.format(id="own") + "surprise = 1", "own.toml: addresses.surprise"),
        (OWN.format(id="own").replace("'https", "'(https"), "own.toml: addresses: not a regular expression"),
        (
            OWN.format(id="own") + "[[kinds]]\nname = 'a'\nwhen = [{ claim = 'b' }]",
            "own.toml: kinds.0.when.0: give exactly",
        ),
        (OWN.format(id="own") + "[header]\ntypes = ['logout+jwt']", "own.toml: header.types.0"),
        (OWN.format(id="own").replace("schema", "leeway = 301\nschema"), "own.toml: leeway"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_key(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(DescriptorError) as caught:
        identity_providers.load(tmp_path)
    assert str(caught.value).startswith(fault)


def test_a_set_without_the_generic_provider_is_refused() -> None:
    with pytest.raises(DescriptorError):
        identity_providers.IdentityProviders(provider for provider in KNOWN if provider.id != "generic")


def test_a_file_of_ones_own_recognises_a_domain_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN.format(id="own"))
    assert identity_providers.load(tmp_path).recognise("https://id.example.com" + SUFFIX).id == "own"


def test_a_file_of_ones_own_replaces_the_projects(tmp_path: Path) -> None:
    (tmp_path / "auth0.toml").write_text(OWN.format(id="auth0"))
    known = identity_providers.load(tmp_path)
    assert known.recognise("https://id.example.com" + SUFFIX).name == "Ours"
    assert known.recognise("https://example.auth0.com" + SUFFIX).id == "generic"


def test_a_file_of_ones_own_is_asked_first(tmp_path: Path) -> None:
    text = OWN.format(id="own").replace("https://id\\.example\\.com", "https://[a-z]+\\.okta\\.com")
    (tmp_path / "own.toml").write_text(text)
    assert identity_providers.load(tmp_path).recognise("https://example.okta.com/oauth2/default" + SUFFIX).id == "own"


def test_the_generic_provider_is_what_aws_documents() -> None:
    generic = KNOWN.recognise("https://login.example.com" + SUFFIX)
    rules = {"clients", "scopes", "roles", "audience", "header", "kinds", "refused", "leeway", "issuer"}
    unrecognised = UNRECOGNISED
    assert {name: getattr(generic, name) for name in rules} == {name: getattr(unrecognised, name) for name in rules}
