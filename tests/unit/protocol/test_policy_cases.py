"""Every row of the hand-checked table of policies, decided by this gateway."""

from typing import Any

import pytest

from identity_gateway.protocol.policy import ANONYMOUS, Caller, Held, Kind, parse, rule
from identity_gateway.protocol.policy.comparisons import OPERATORS
from tests import policy_cases
from tests.policy_cases import ACCOUNT, ROLE, RUNTIME, Case

CASES = dict(policy_cases.cases())


def document(statements: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def held(case: Case) -> Held:
    names = {None: (), policy_cases.USER: (policy_cases.USER,)}.get(case.caller, (case.caller, ROLE))
    standing = {} if case.standing is None else {RUNTIME: parse(document(case.standing), kind=Kind.RESOURCE)}
    return Held(
        ANONYMOUS if case.caller is None else Caller(names, ACCOUNT),
        identity=None if case.identity is None else parse(document(case.identity)),
        standing=standing,
    )


@pytest.mark.parametrize("name", CASES)
def test_a_policy_decides_as_the_table_says(name: str):
    case = CASES[name]
    values = {key.lower(): (given,) if isinstance(given, str) else given or () for key, given in case.context.items()}
    assert rule(held(case), case.action, (case.resource,), values).decision == case.says


def test_the_table_has_every_operator_with_and_without_its_key():
    rows = [(operator.rpartition(":")[2], table) for operator, _, _, table in policy_cases.CONDITIONS]
    missing = [
        operator
        for operator in (*OPERATORS, "Null")
        if not any(name == operator and policy_cases.ABSENT in table and len(table) > 1 for name, table in rows)
    ]
    assert missing == []
    assert len(CASES) >= 150
