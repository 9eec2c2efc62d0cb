"""Tokens that moto's Cognito makes, by the rules of Cognito: recognised by the issuer that its document names."""

import time
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest

from identity_gateway.egress import Egress
from identity_gateway.errors import InvalidToken
from identity_gateway.inbound import BearerTokens
from identity_gateway.keysets import KeySets
from identity_gateway.model import Secret
from tests.issuers import Cognito
from tests.providers.inbound import custom

GROUP = {"customClaims": [custom("cognito:groups", "agents", operator="CONTAINS")]}


@pytest.fixture
async def tokens() -> AsyncIterator[BearerTokens]:
    egress = Egress((ip_network("127.0.0.0/8"),))
    keysets = KeySets(egress, clock=time.monotonic)
    yield BearerTokens(keysets, clock=time.time)
    await keysets.aclose()
    await egress.aclose()


async def enter(tokens: BearerTokens, cognito: Cognito, token: str, **rules: Any) -> str | None:
    authorizer = {"discoveryUrl": cognito.discovery_url, **rules}
    return (await tokens.verify(Secret(token), authorizer, runtime_id="hello-AbCdEf1234", version=1)).client_id


async def test_an_id_token_is_not_let_in_by_a_group(tokens: BearerTokens, cognito: Cognito) -> None:
    with pytest.raises(InvalidToken) as caught:
        await enter(tokens, cognito, cognito.id_token(), **GROUP)
    assert caught.value.reason.startswith("wrong_kind")


async def test_an_id_token_is_not_let_in_by_its_client(tokens: BearerTokens, cognito: Cognito) -> None:
    with pytest.raises(InvalidToken):
        await enter(tokens, cognito, cognito.id_token(), allowedClients=[cognito.client_id])


async def test_an_access_token_of_another_pool_is_refused(tokens: BearerTokens, cognito: Cognito) -> None:
    with pytest.raises(InvalidToken) as caught:
        await enter(tokens, cognito, cognito.other_pool_access_token(), **GROUP)
    assert caught.value.reason.startswith("wrong_issuer")


async def test_an_access_token_is_let_in_by_a_group(tokens: BearerTokens, cognito: Cognito) -> None:
    assert await enter(tokens, cognito, cognito.access_token(), **GROUP) == cognito.client_id


async def test_an_access_token_is_let_in_by_its_client(tokens: BearerTokens, cognito: Cognito) -> None:
    allowed = [cognito.client_id]
    assert await enter(tokens, cognito, cognito.access_token(), allowedClients=allowed) == cognito.client_id


async def test_an_id_token_is_let_in_by_its_audience(tokens: BearerTokens, cognito: Cognito) -> None:
    assert await enter(tokens, cognito, cognito.id_token(), allowedAudience=[cognito.client_id]) is None


async def test_the_explanation_of_a_refused_token_names_what_failed(tokens: BearerTokens, cognito: Cognito) -> None:
    authorizer = {"discoveryUrl": cognito.discovery_url, "allowedAudience": [cognito.client_id]}
    found = await tokens.explain(Secret(cognito.access_token()), authorizer)
    assert [check.name for check in found.checks if not check.passed] == ["audience"]
    assert found.provider == "Amazon Cognito user pools"
