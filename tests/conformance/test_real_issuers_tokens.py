"""The real issuers that other tests rely on work, and their tokens have the shape that the issuers document."""

import base64
import json
from typing import Any

import httpx2
import jwt
import pytest
from jwt import PyJWKSet

from tests.issuers import Cognito, OidcProvider

COGNITO_HOST = "https://cognito-idp.us-east-1.amazonaws.com/"


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims, not verified."""
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))


def get(url: str) -> Any:
    with httpx2.Client(trust_env=False) as http:
        return http.get(url).raise_for_status().json()


def published_keys(discovery_url: str) -> dict[str, Any]:
    keys = PyJWKSet.from_dict(get(get(discovery_url)["jwks_uri"]))
    return {str(key.key_id): key for key in keys.keys}


def key_ids(provider: OidcProvider) -> set[str]:
    return set(published_keys(provider.discovery_url))


def test_oidc_provider_refuses_a_resource_that_it_does_not_know(oidc_provider: OidcProvider) -> None:
    with pytest.raises(httpx2.HTTPStatusError, match="400"):
        oidc_provider.token(resource="https://elsewhere.example/")


def test_oidc_provider_answers_an_opaque_token_when_no_resource_is_named(oidc_provider: OidcProvider) -> None:
    assert "." not in oidc_provider.token(resource=None)


def test_oidc_provider_is_discovered_under_its_own_issuer(oidc_provider: OidcProvider) -> None:
    assert get(oidc_provider.discovery_url)["issuer"] == oidc_provider.issuer


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "PS256"])
def test_oidc_provider_signs_with_the_algorithm_that_the_resource_asks_for(
    oidc_provider: OidcProvider, algorithm: str
) -> None:
    audience = f"https://agents.example/{algorithm.lower()}"
    token = oidc_provider.token(resource=audience)
    key = published_keys(oidc_provider.discovery_url)[parts(token)[0]["kid"]]
    assert jwt.decode(token, key, algorithms=[algorithm], audience=audience, issuer=oidc_provider.issuer)


def test_oidc_provider_answers_access_tokens_of_rfc_9068(oidc_provider: OidcProvider) -> None:
    token = oidc_provider.token(scope="agents.invoke agents.read", resource="https://agents.example/shop")
    header, claims = parts(token)
    assert header["typ"] == "at+jwt"
    assert claims.items() >= {
        "iss": oidc_provider.issuer,
        "sub": "agent-caller",
        "aud": "https://agents.example/shop",
        "client_id": "agent-caller",
        "scope": "agents.invoke agents.read",
        "groups": ["agents", "operators"],
    }.items()  # fmt: skip


def test_oidc_provider_names_the_client_that_asked(oidc_provider: OidcProvider) -> None:
    _, claims = parts(oidc_provider.token(client="other-caller"))
    assert (claims["client_id"], claims["groups"]) == ("other-caller", ["guests"])


def test_oidc_provider_keeps_old_keys_published_when_it_rotates(oidc_provider: OidcProvider) -> None:
    before = key_ids(oidc_provider)
    oidc_provider.rotate()
    assert parts(oidc_provider.token())[0]["kid"] not in before
    assert before < key_ids(oidc_provider)


def test_oidc_provider_publishes_new_keys_only_when_it_withdraws_the_old(oidc_provider: OidcProvider) -> None:
    before = key_ids(oidc_provider)
    oidc_provider.rotate(withdraw=True)
    assert before.isdisjoint(key_ids(oidc_provider))


def test_cognito_is_discovered_under_the_issuer_of_aws(cognito: Cognito) -> None:
    assert cognito.issuer == f"{COGNITO_HOST}{cognito.pool.id}"


def test_cognito_access_tokens_name_the_client_and_no_audience(cognito: Cognito) -> None:
    _, claims = parts(cognito.access_token())
    assert "aud" not in claims
    assert claims.items() >= {
        "iss": cognito.issuer,
        "client_id": cognito.client_id,
        "token_use": "access",
        "username": "ada",
        "scope": "aws.cognito.signin.user.admin",
        "cognito:groups": ["agents"],
    }.items()  # fmt: skip


def test_cognito_id_tokens_name_the_client_as_audience(cognito: Cognito) -> None:
    _, claims = parts(cognito.id_token())
    assert "client_id" not in claims
    assert (claims["aud"], claims["token_use"], claims["iss"]) == (cognito.client_id, "id", cognito.issuer)


def test_cognito_names_the_app_client_that_signed_the_user_in(cognito: Cognito) -> None:
    _, claims = parts(cognito.access_token(cognito.other_client_id))
    assert claims["client_id"] == cognito.other_client_id != cognito.client_id


def test_cognito_tokens_of_another_pool_verify_under_the_same_key_and_differ_by_issuer(cognito: Cognito) -> None:
    token = cognito.other_pool_access_token()
    key = published_keys(cognito.discovery_url)[parts(token)[0]["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"])
    assert claims["iss"] == f"{COGNITO_HOST}{cognito.other_pool.id}" != cognito.issuer
