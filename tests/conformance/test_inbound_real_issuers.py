"""Tokens of two real issuers at the gateway's door: Amazon Cognito's shape (moto) and RFC 9068 (npm's oidc-provider).

What a single claim or header must look like is `tests/unit/protocol/test_jwt.py`; here the question is whether a runtime
that an administrator configured as AWS documents it lets in the tokens that those issuers really make, and no others.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from tests.agents import Agent
from tests.callers import guarded_by, post, running_issuer, token_of
from tests.fakes.issuer import JWKS, SigningKey, b64
from tests.gateways import RunningGateway, register
from tests.issuers import Cognito, OidcProvider, running_oidc_provider

RESOURCE = "https://agents.example/"
HOUR = 3600

Rules = dict[str, Any]
Ask = Callable[[Any], Any]


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    """An oidc-provider whose keys nobody rotates: the gateway asks for new ones only every half minute."""
    with running_oidc_provider() as running:
        yield running


def claim(name: str, operator: str, *values: str) -> dict[str, Any]:
    """Return one entry of customClaims."""
    several = operator == "CONTAINS_ANY"
    return {
        "inboundTokenClaimName": name,
        "inboundTokenClaimValueType": "STRING" if operator == "EQUALS" else "STRING_ARRAY",
        "authorizingClaimMatchValue": {
            "claimMatchValue": {"matchValueStringList": list(values)} if several else {"matchValueString": values[0]},
            "claimMatchOperator": operator,
        },
    }


def claims(*entries: dict[str, Any], **more: Any) -> Rules:
    return {"customClaims": list(entries)} | more


def call(gateway: RunningGateway, agent: Agent, discovery_url: str, rules: Rules, token: str) -> httpx2.Response:
    return post(gateway, register(gateway, agent.url, **guarded_by(discovery_url, **rules)), token)


def verdict(response: httpx2.Response) -> tuple[int, str]:
    """Return the status, and the error that the challenge names."""
    _, _, rest = response.headers.get("www-authenticate", "").partition('error="')
    return response.status_code, rest.partition('"')[0]


def published_key(discovery_url: str, kid: str) -> dict[str, Any]:
    with httpx2.Client(trust_env=False) as http:
        keys = http.get(http.get(discovery_url).json()["jwks_uri"]).json()["keys"]
    return next(key for key in keys if key["kid"] == kid)


# --- What somebody may do to a real token -----------------------------------------------------------------------------


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, payload, signature = token.split(".")
    return *(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, payload)), signature  # type: ignore[return-value]


def rewritten(token: str, header: dict[str, Any] | None = None, **payload: Any) -> str:
    """Return the token with members of its header or payload replaced, and the signature that it had."""
    old_header, old_payload, signature = parts(token)
    pieces = (json.dumps(old | new) for old, new in ((old_header, header or {}), (old_payload, payload)))
    return ".".join([*(b64(piece.encode()) for piece in pieces), signature])


def without_signature(token: str) -> str:
    return rewritten(token, {"alg": "none"}).rpartition(".")[0] + "."


def signed_with_the_public_key(token: str, discovery_url: str) -> str:
    """Return the token with an HMAC under the issuer's public key, as it is published in PEM."""
    key = RSAAlgorithm.from_jwk(published_key(discovery_url, parts(token)[0]["kid"]))
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = rewritten(token, {"alg": "HS256"}).rpartition(".")[0]
    return f"{signed}.{b64(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


# --- Amazon Cognito: access tokens have client_id and no aud, ID tokens have aud and no client_id ------------------------

COGNITO_REFUSED: dict[str, tuple[Ask, Ask]] = {
    "an access token by its audience": (
        lambda cognito: {"allowedAudience": [cognito.client_id]},
        lambda cognito: cognito.access_token(),
    ),
    "an ID token by its client": (
        lambda cognito: {"allowedClients": [cognito.client_id]},
        lambda cognito: cognito.id_token(),
    ),
    "an access token where audience and client are asked for": (
        lambda cognito: {"allowedAudience": [cognito.client_id], "allowedClients": [cognito.client_id]},
        lambda cognito: cognito.access_token(),
    ),
    "the access token of another app client": (
        lambda cognito: {"allowedClients": [cognito.client_id]},
        lambda cognito: cognito.access_token(cognito.other_client_id),
    ),
    "the ID token of another app client": (
        lambda cognito: {"allowedAudience": [cognito.client_id]},
        lambda cognito: cognito.id_token(cognito.other_client_id),
    ),
    "a token of another pool that signs with the same key": (
        lambda cognito: {"allowedClients": [cognito.client_id, cognito.other_pool.client_id]},
        lambda cognito: cognito.other_pool_access_token(),
    ),
    "a user who is in another group": (
        lambda cognito: claims(claim("cognito:groups", "CONTAINS", "operators")),
        lambda cognito: cognito.access_token(),
    ),
    "a refresh token": (
        lambda cognito: {"allowedClients": [cognito.client_id]},
        lambda cognito: cognito.pool.sign_in()["RefreshToken"],
    ),
    "a token in which the user was changed": (
        lambda cognito: {"allowedClients": [cognito.client_id]},
        lambda cognito: rewritten(cognito.access_token(), sub="somebody else"),
    ),
    "a token without a signature": (
        lambda cognito: {"allowedClients": [cognito.client_id]},
        lambda cognito: without_signature(cognito.access_token()),
    ),
    "a token signed with the public key as a shared secret": (
        lambda cognito: {"allowedClients": [cognito.client_id]},
        lambda cognito: signed_with_the_public_key(cognito.access_token(), cognito.discovery_url),
    ),
}  # fmt: skip

COGNITO_ACCEPTED: dict[str, tuple[Ask, Ask]] = {
    "an access token by its client": (
        lambda cognito: {"allowedClients": [cognito.client_id]},
        lambda cognito: cognito.access_token(),
    ),
    "an access token of one of several clients": (
        lambda cognito: {"allowedClients": [cognito.client_id, cognito.other_client_id]},
        lambda cognito: cognito.access_token(cognito.other_client_id),
    ),
    "an ID token by its audience": (
        lambda cognito: {"allowedAudience": [cognito.client_id]},
        lambda cognito: cognito.id_token(),
    ),
    "an access token by client and scope": (
        lambda cognito: {
            "allowedClients": [cognito.client_id], "allowedScopes": ["aws.cognito.signin.user.admin"],
        },
        lambda cognito: cognito.access_token(),
    ),
    "an access token by the user's group": (
        lambda cognito: claims(claim("cognito:groups", "CONTAINS", "agents")),
        lambda cognito: cognito.access_token(),
    ),
    "an ID token by the user's name": (
        lambda cognito: claims(claim("cognito:username", "EQUALS", "ada"), allowedAudience=[cognito.client_id]),
        lambda cognito: cognito.id_token(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COGNITO_REFUSED)
def test_cognito_does_not_open_the_door_with(gateway: RunningGateway, agent: Agent, cognito: Cognito, case: str):
    rules, token = COGNITO_REFUSED[case]
    response = call(gateway, agent, cognito.discovery_url, rules(cognito), token(cognito))
    assert verdict(response) == (401, "invalid_token")
    assert agent.received == []


def test_a_cognito_token_without_the_scope_is_told_which_one_it_needs(
    gateway: RunningGateway, agent: Agent, cognito: Cognito
):
    response = call(gateway, agent, cognito.discovery_url, {"allowedScopes": ["agents/invoke"]}, cognito.access_token())
    assert verdict(response) == (403, "insufficient_scope")
    assert agent.received == []


@pytest.mark.parametrize("case", COGNITO_ACCEPTED)
def test_cognito_opens_the_door_with(gateway: RunningGateway, agent: Agent, cognito: Cognito, case: str):
    rules, token = COGNITO_ACCEPTED[case]
    assert call(gateway, agent, cognito.discovery_url, rules(cognito), token(cognito)).status_code == 200
    assert len(agent.received) == 1


# --- oidc-provider: access tokens of RFC 9068, in three algorithms -------------------------------------------------------

AUDIENCE = {"allowedAudience": [f"{RESOURCE}rs256"]}

OIDC_REFUSED: dict[str, tuple[Rules, Ask]] = {
    "a token for another audience": (AUDIENCE, lambda provider: provider.token(resource=f"{RESOURCE}shop")),
    "an audience that begins like the allowed one": (
        {"allowedAudience": [RESOURCE]}, lambda provider: provider.token(),
    ),
    "another client": ({"allowedClients": ["agent-caller"]}, lambda provider: provider.token(client="other-caller")),
    "a client whose name begins like the allowed one": (
        {"allowedClients": ["agent"]}, lambda provider: provider.token(),
    ),
    "a good client with another audience": (
        AUDIENCE | {"allowedClients": ["agent-caller"]},
        lambda provider: provider.token(resource=f"{RESOURCE}shop"),
    ),
    "a client without the group": (
        claims(claim("groups", "CONTAINS", "agents")), lambda provider: provider.token(client="other-caller"),
    ),
    "a client without any of the groups": (
        claims(claim("groups", "CONTAINS_ANY", "agents", "operators")),
        lambda provider: provider.token(client="other-caller"),
    ),
    "a group whose name is a part of the right one": (
        claims(claim("groups", "CONTAINS", "agent")), lambda provider: provider.token(),
    ),
    "a claim of another value": (
        claims(claim("sub", "EQUALS", "agent-caller")), lambda provider: provider.token(client="other-caller"),
    ),
    "a list where one text is asked for": (
        claims(claim("groups", "EQUALS", "agents")), lambda provider: provider.token(),
    ),
    "one text where a list is asked for": (
        claims(claim("sub", "CONTAINS", "agent-caller")), lambda provider: provider.token(),
    ),
    "one good claim of two": (
        claims(claim("groups", "CONTAINS", "agents"), claim("sub", "EQUALS", "other-caller")),
        lambda provider: provider.token(),
    ),
    "a claim that the token does not have": (
        claims(claim("tenant", "EQUALS", "example")), lambda provider: provider.token(),
    ),
    "an opaque token": (AUDIENCE, lambda provider: provider.token(resource=None)),
    "a token without a signature": (AUDIENCE, lambda provider: without_signature(provider.token())),
    "a token signed with the public key as a shared secret": (
        AUDIENCE, lambda provider: signed_with_the_public_key(provider.token(), provider.discovery_url),
    ),
    "a token whose groups were changed": (
        claims(claim("groups", "CONTAINS", "agents")),
        lambda provider: rewritten(provider.token(client="other-caller"), groups=["agents"]),
    ),
    "a token that names another of the issuer's keys": (
        AUDIENCE,
        lambda provider: rewritten(
            provider.token(), {"kid": parts(provider.token(resource=f"{RESOURCE}ps256"))[0]["kid"], "alg": "PS256"}
        ),
    ),
}  # fmt: skip

OIDC_ACCEPTED: dict[str, tuple[Rules, Ask]] = {
    **{
        f"a token signed with {alg}": (
            {"allowedAudience": [f"{RESOURCE}{alg.lower()}"]},
            lambda provider, alg=alg: provider.token(resource=f"{RESOURCE}{alg.lower()}"),
        )
        for alg in ("RS256", "ES256", "PS256")
    },
    "one of several audiences": (
        {"allowedAudience": [f"{RESOURCE}other", f"{RESOURCE}rs256"]}, lambda provider: provider.token(),
    ),
    "a client": ({"allowedClients": ["agent-caller"]}, lambda provider: provider.token()),
    "one of several scopes": (
        {"allowedScopes": ["agents.admin", "agents.read"]},
        lambda provider: provider.token(scope="agents.invoke agents.read"),
    ),
    "a group": (claims(claim("groups", "CONTAINS", "operators")), lambda provider: provider.token()),
    "one of several groups": (
        claims(claim("groups", "CONTAINS_ANY", "admins", "agents")), lambda provider: provider.token(),
    ),
    "a claim with the very value": (claims(claim("sub", "EQUALS", "agent-caller")), lambda provider: provider.token()),
    "everything at once": (
        claims(
            claim("groups", "CONTAINS", "agents"),
            claim("sub", "EQUALS", "agent-caller"),
            **AUDIENCE, allowedClients=["agent-caller"], allowedScopes=["agents.invoke"],
        ),
        lambda provider: provider.token(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OIDC_REFUSED)
def test_oidc_provider_does_not_open_the_door_with(
    gateway: RunningGateway, agent: Agent, provider: OidcProvider, case: str
):
    rules, token = OIDC_REFUSED[case]
    response = call(gateway, agent, provider.discovery_url, rules, token(provider))
    assert verdict(response) == (401, "invalid_token")
    assert agent.received == []


@pytest.mark.parametrize(
    ("allowed", "granted"),
    [("agents.admin", "agents.invoke agents.read"), ("agents", "agents.invoke"), ("agents.invoke", None)],
    ids=["another scope", "a scope that is a part of the granted one", "no scope at all"],
)
def test_oidc_provider_does_not_open_the_door_without_the_scope(
    gateway: RunningGateway, agent: Agent, provider: OidcProvider, allowed: str, granted: str | None
):
    token = provider.token(scope=granted)
    response = call(gateway, agent, provider.discovery_url, {"allowedScopes": [allowed]}, token)
    assert verdict(response) == (403, "insufficient_scope")
    assert agent.received == []


def test_oidc_provider_does_not_open_the_door_with_a_token_that_has_expired(
    gateway: RunningGateway, agent: Agent, provider: OidcProvider
):
    with provider.clock_behind(HOUR):
        token = provider.token()
    assert verdict(call(gateway, agent, provider.discovery_url, AUDIENCE, token)) == (401, "invalid_token")


def test_a_token_of_one_issuer_does_not_open_a_door_of_the_other(
    gateway: RunningGateway, agent: Agent, provider: OidcProvider, cognito: Cognito
):
    rules = {"allowedClients": [cognito.client_id, "agent-caller"]}
    tokens = {cognito.discovery_url: provider.token(), provider.discovery_url: cognito.access_token()}
    verdicts = {verdict(call(gateway, agent, url, rules, token)) for url, token in tokens.items()}
    assert verdicts == {(401, "invalid_token")}


@pytest.mark.parametrize("case", OIDC_ACCEPTED)
def test_oidc_provider_opens_the_door_with(gateway: RunningGateway, agent: Agent, provider: OidcProvider, case: str):
    rules, token = OIDC_ACCEPTED[case]
    assert call(gateway, agent, provider.discovery_url, rules, token(provider)).status_code == 200
    assert len(agent.received) == 1


# --- Keys that change ----------------------------------------------------------------------------------------------------


def test_a_key_that_is_new_is_accepted_without_a_restart_and_the_old_one_stays_good(
    gateway: RunningGateway, agent: Agent
):
    with running_oidc_provider() as own:
        arn = register(gateway, agent.url, **guarded_by(own.discovery_url, **AUDIENCE))
        old = own.token()
        assert post(gateway, arn, old).status_code == 200
        own.rotate()
        assert [post(gateway, arn, token).status_code for token in (own.token(), old)] == [200, 200]


def test_a_key_that_is_withdrawn_stops_working_once_the_new_keys_are_known(gateway: RunningGateway, agent: Agent):
    with running_oidc_provider() as own:
        arn = register(gateway, agent.url, **guarded_by(own.discovery_url, **AUDIENCE))
        old = own.token()
        assert post(gateway, arn, old).status_code == 200
        own.rotate(withdraw=True)
        assert [post(gateway, arn, token).status_code for token in (own.token(), old)] == [200, 401]


def test_keys_that_nobody_published_do_not_make_the_gateway_ask_again_and_again(gateway: RunningGateway, agent: Agent):
    with running_issuer() as issuer:
        arn = register(gateway, agent.url, **guarded_by(issuer.discovery_url))
        stranger = [SigningKey.make(kid=f"made up {number}") for number in range(5)]
        statuses = {post(gateway, arn, token_of(issuer, key=key)).status_code for key in stranger}
        assert statuses == {401}
        assert issuer.requests[JWKS] == 2  # the first fetch, and one more for the first unknown key


def test_an_issuer_that_is_down_is_not_the_callers_fault(gateway: RunningGateway, agent: Agent):
    with running_issuer() as issuer:
        token = token_of(issuer)
    response = call(gateway, agent, issuer.discovery_url, {"allowedClients": ["caller"]}, token)
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (503, "ServiceUnavailableException")
