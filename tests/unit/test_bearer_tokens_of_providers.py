"""Bearer tokens of providers whose habits are known: tenants behind one document, kinds of tokens, explanations."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from ipaddress import ip_network
from typing import Any

import pytest

from identity_gateway.egress import Egress
from identity_gateway.errors import InvalidToken, Unavailable
from identity_gateway.identity_providers import IdentityProviders, packaged
from identity_gateway.inbound import BearerTokens, Explanation, UserTokens
from identity_gateway.keysets import KeySets
from identity_gateway.model import JwtUser, Secret
from identity_gateway.protocol.identity_provider import parse
from identity_gateway.protocol.jwt import SignedClaims
from tests.fakes.clock import Clock
from tests.fakes.issuer import FakeIssuer, SigningKey, Vice
from tests.providers.inbound.entra import API, ENTRA_V2, FOR_API, OTHER_TENANT, TEMPLATE, TENANT, V2_ISSUER, of_tenants

KEY = SigningKey.make()


@dataclass
class Door:
    issuer: FakeIssuer
    keysets: KeySets
    tokens: BearerTokens
    clock: Clock

    async def verify(self, rules: dict[str, Any], **claims: Any) -> SignedClaims:
        token = KEY.token(ENTRA_V2 | {"nbf": self.clock.now, "exp": self.clock.now + 600} | claims)
        authorizer = {"discoveryUrl": self.issuer.discovery_url, **rules}
        return await self.tokens.verify(Secret(token), authorizer, runtime_id="hello-AbCdEf1234", version=1)

    async def explain(self, key: SigningKey, rules: dict[str, Any], **claims: Any) -> Explanation:
        token = key.token(ENTRA_V2 | {"nbf": self.clock.now, "exp": self.clock.now + 600} | claims)
        return await self.tokens.explain(Secret(token), {"discoveryUrl": self.issuer.discovery_url, **rules})


@pytest.fixture
async def door(clock: Clock) -> AsyncIterator[Door]:
    async with FakeIssuer(KEY) as issuer:
        egress = Egress((ip_network("127.0.0.0/8"),))
        keysets = KeySets(egress, clock=clock)
        issuer.document_changes = {"issuer": TEMPLATE}
        yield Door(issuer, keysets, BearerTokens(keysets, clock=clock), clock)
        await keysets.aclose()
        await egress.aclose()


async def test_a_document_of_many_tenants_opens_to_none_that_was_not_listed(door: Door) -> None:
    with pytest.raises(InvalidToken) as caught:
        await door.verify(FOR_API)
    assert caught.value.reason.startswith("wrong_tenant")


async def test_a_user_of_another_tenant_is_refused(door: Door) -> None:
    with pytest.raises(InvalidToken):
        await door.verify(of_tenants(OTHER_TENANT))


async def test_users_of_two_tenants_are_users_of_two_issuers(door: Door) -> None:
    both = of_tenants(TENANT, OTHER_TENANT)
    other = V2_ISSUER.replace(TENANT, OTHER_TENANT)
    issuers = [
        (await door.verify(both)).issuer,
        (await door.verify(both, tid=OTHER_TENANT, iss=other)).issuer,
    ]
    assert issuers == [V2_ISSUER, other]


async def test_clients_are_sent_to_the_place_of_a_document_of_many_tenants(door: Door) -> None:
    assert await door.tokens.issuer_of({"discoveryUrl": door.issuer.discovery_url}) == door.issuer.issuer


async def test_the_client_is_what_the_providers_claim_says(door: Door) -> None:
    assert (await door.verify(of_tenants(TENANT))).client_id == ENTRA_V2["azp"]


# --- Explanations ---


async def test_an_explanation_looks_for_a_key_that_was_published_later(door: Door) -> None:
    await door.verify(of_tenants(TENANT))
    new = door.issuer.rotate()
    assert (await door.explain(new, of_tenants(TENANT))).accepted


async def test_an_explanation_names_the_provider_and_every_fault(door: Door) -> None:
    found = await door.explain(KEY, of_tenants(TENANT), aud="other", scp=None)
    assert (found.accepted, found.provider) == (False, "Microsoft Entra ID")
    assert [check.name for check in found.checks if not check.passed] == ["audience"]


async def test_an_issuer_that_does_not_answer_is_no_explanation(door: Door) -> None:
    door.issuer.fail(Vice.DOWN)
    with pytest.raises(Unavailable):
        await door.explain(KEY, of_tenants(TENANT))


async def test_a_document_that_names_somebody_else_is_the_only_fault(door: Door, clock: Clock) -> None:
    tokens = BearerTokens(door.keysets, strict(door.issuer), clock=clock)
    found = await tokens.explain(Secret(KEY.token({})), {"discoveryUrl": door.issuer.discovery_url, **FOR_API})
    assert [check.name for check in found.checks] == ["discovery document"]
    assert not found.accepted


# --- Users that a token proves ---


def strict(issuer: FakeIssuer) -> IdentityProviders:
    """Return providers of which one has this issuer, its own documents only, and two kinds of tokens."""
    document = {
        "schema": 1,
        "id": "strict",
        "name": "Strict",
        "verified": date(2026, 11, 23),
        "sources": ["https://docs.example.com"],
        "addresses": {"discovery_urls": [r"http://127\.0\.0\.1:" + str(issuer.port) + "/.*"]},
        "issuer": {"elsewhere": False},
        "header": {"types": ["jwt"]},
        "kinds": [
            {"name": "access token", "when": [{"claim": "use", "equals": "access"}]},
            {"name": "ID token", "accepted": "to_identify", "when": [{"claim": "use", "equals": "id"}]},
        ],
    }
    return IdentityProviders([*packaged(), parse(document, file="strict.toml")])


@pytest.mark.parametrize("use", ["refresh", None])
async def test_a_token_of_no_known_kind_proves_no_user(door: Door, clock: Clock, use: str | None) -> None:
    door.issuer.document_changes = {}
    token = KEY.token({"iss": door.issuer.issuer, "sub": "ada", "exp": clock.now + 60, "use": use})
    with pytest.raises(InvalidToken) as caught:
        await UserTokens(door.keysets, strict(door.issuer), clock=clock).user_of(Secret(token))
    assert caught.value.reason.startswith("wrong_kind")


async def test_an_id_token_proves_its_user_and_opens_no_door(door: Door, clock: Clock) -> None:
    door.issuer.document_changes = {}
    issuer, known = door.issuer.issuer, strict(door.issuer)
    token = Secret(KEY.token({"iss": issuer, "sub": "ada", "aud": API, "exp": clock.now + 60, "use": "id"}))
    assert await UserTokens(door.keysets, known, clock=clock).user_of(token) == JwtUser(issuer, "ada")
    with pytest.raises(InvalidToken):
        await BearerTokens(door.keysets, known, clock=clock).verify(
            token, {"discoveryUrl": door.issuer.discovery_url, **FOR_API}, runtime_id="hello-AbCdEf1234", version=1
        )
