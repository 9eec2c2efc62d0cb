"""Tokens as identity providers document them are let in or refused as their tables say, and explained alike."""

import pytest

from identity_gateway.identity_providers import packaged
from identity_gateway.protocol import jwt
from identity_gateway.protocol.jwt import KeySet
from tests.providers.inbound import KEY, NOW, TABLES, Case, Table, verdict

CASES = [pytest.param(table, case, id=f"{table.name}: {case.what}") for table in TABLES for case in table.cases]


@pytest.mark.parametrize(("table", "case"), CASES)
def test_a_token_is_answered_as_its_table_says(table: Table, case: Case) -> None:
    assert verdict(table, case) == case.refused


@pytest.mark.parametrize(("table", "case"), CASES)
def test_an_explanation_agrees_with_the_answer(table: Table, case: Case) -> None:
    token = KEY.token({"exp": NOW + 3600, "iat": NOW} | case.claims, case.header)
    policy = packaged().policy_of({"discoveryUrl": table.discovery_url, **case.rules}, table.issuer)
    keys = KeySet.from_jwks({"keys": [KEY.jwk(issuer=case.key_issuer)]})
    failed = [check for check in jwt.explain(token, keys, policy, now=NOW) if not check.passed]
    assert (failed[0].why.partition(":")[0] if failed else "") == case.refused


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_discovery_url_is_recognised_as_its_providers(table: Table) -> None:
    assert packaged().recognise(table.discovery_url).id == table.provider


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_has_accepted_and_refused_tokens(table: Table) -> None:
    assert {bool(case.refused) for case in table.cases} == {True, False}


def test_every_provider_of_the_project_has_a_table() -> None:
    assert {provider.id for provider in packaged()} == {table.provider for table in TABLES}
