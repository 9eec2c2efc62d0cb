"""Policies: what is not served is refused, a deny wins, and no pattern takes for ever."""

import fnmatch
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_gateway.protocol.policy import MOST, Caller, Decision, Kind, Question, Verdict, check, parse

ALLOWED, DENIED, NOT_ALLOWED = Decision.ALLOWED, Decision.EXPLICITLY_DENIED, Decision.NOT_ALLOWED
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"
RUNTIMES = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/"
HELLO = RUNTIMES + "hello-AbCdEf1234"
ENDPOINT = HELLO + "/runtime-endpoint/DEFAULT"
ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def policy(*statements: Any, **changes: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)} | changes


def allow(action: Any = INVOKE, resource: Any = HELLO, **changes: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource} | changes


def deny(action: Any = INVOKE, resource: Any = HELLO) -> dict[str, Any]:
    return allow(action, resource, Effect="Deny")


def without(statement: dict[str, Any], *names: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in statement.items() if name not in names} | changes


def decided(*statements: Any, action: str = INVOKE, resource: str = HELLO) -> Decision:
    return parse(policy(*statements)).decide(action, resource)


# --- Refused ---

REFUSED: dict[str, tuple[Any, list[str]]] = {
    "no object": ([], ["policy"]),
    "null": (None, ["policy"]),
    "a string": ('{"Version": "2012-10-17"}', ["policy"]),
    "nothing": ({}, ["Version", "Statement"]),
    "no version": ({"Statement": [ALLOW_ALL]}, ["Version"]),
    "the old version": (policy(ALLOW_ALL, Version="2008-10-17"), ["Version"]),
    "a version that is a list": (policy(ALLOW_ALL, Version=["2012-10-17"]), ["Version"]),
    "no statement": (policy(), ["Statement"]),
    "an element of another kind": (policy(ALLOW_ALL, Principal="*", statement=[]), ["Principal", "statement"]),
    "a statement that is a string": (policy("allow"), ["Statement[0]"]),
    "a statement that is null": (policy(ALLOW_ALL, None), ["Statement[1]"]),
    "an empty statement": (policy({}), ["Statement[0].Effect", "Statement[0]", "Statement[0]"]),
    "Condition": (policy(allow(Condition={})), ["Statement[0].Condition"]),
    "Principal": (policy(allow(Principal="*")), ["Statement[0].Principal"]),
    "NotPrincipal": (policy(allow(NotPrincipal="*")), ["Statement[0].NotPrincipal"]),
    "a member in lower case": (policy(without(allow(), "Action", action="*")), ["Statement[0].action", "Statement[0]"]),
    "no effect": (policy(without(allow(), "Effect")), ["Statement[0].Effect"]),
    "an effect in lower case": (policy(allow(Effect="allow")), ["Statement[0].Effect"]),
    "an effect that is a list": (policy(allow(Effect=["Allow"])), ["Statement[0].Effect"]),
    "an effect that is an object": (policy(allow(Effect={"Allow": 1})), ["Statement[0].Effect"]),
    "an effect that is true": (policy(allow(Effect=True)), ["Statement[0].Effect"]),
    "no action": (policy(without(allow(), "Action")), ["Statement[0]"]),
    "no resource": (policy(without(allow(), "Resource")), ["Statement[0]"]),
    "Action and NotAction": (policy(allow(NotAction="x")), ["Statement[0]"]),
    "Resource and NotResource": (policy(allow(NotResource="x")), ["Statement[0]"]),
    "an empty list of actions": (policy(allow([])), ["Statement[0].Action"]),
    "an empty action": (policy(allow("")), ["Statement[0].Action"]),
    "an empty action among others": (policy(allow([INVOKE, ""])), ["Statement[0].Action"]),
    "an action that is a number": (policy(allow(1)), ["Statement[0].Action"]),
    "a list in a list": (policy(allow([[INVOKE]])), ["Statement[0].Action"]),
    "a resource that is null": (policy(allow(resource=None)), ["Statement[0].Resource"]),
    "an empty list of other resources": (
        policy(without(allow(), "Resource", NotResource=[])),
        ["Statement[0].NotResource"],
    ),
    "a variable in an action": (policy(allow("bedrock-agentcore:${aws:username}")), ["Statement[0].Action"]),
    "a variable that nobody has": (
        policy(allow(resource=RUNTIMES + "${aws:PrincipalTag/x}")),
        ["Statement[0].Resource"],
    ),
    "a variable of several values": (
        policy(allow(resource=RUNTIMES + "${bedrock-agentcore:InboundJwtClaim/aud}")),
        ["Statement[0].Resource"],
    ),
    "a variable without an end": (policy(allow(resource=RUNTIMES + "${aws:username")), ["Statement[0].Resource"]),
    "an empty variable": (policy(allow(resource=RUNTIMES + "${}")), ["Statement[0].Resource"]),
    "a default without quotes": (policy(allow(resource=RUNTIMES + "${aws:username, x}")), ["Statement[0].Resource"]),
    "a document that is too long": (policy(allow(resource=RUNTIMES + "x" * MOST)), ["policy"]),
    "faults in several statements": (
        policy(allow(Effect="No"), allow(), allow(Condition={})),
        ["Statement[0].Effect", "Statement[2].Condition"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_policy_that_is_not_served_whole_is_refused_with_every_fault(name: str):
    document, faults = REFUSED[name]
    assert [fault.name for fault in check(document)] == faults
    with pytest.raises(ValueError, match=r".") as caught:
        parse(document)
    assert all(fault in str(caught.value) for fault in faults)


CONDITIONS: dict[str, tuple[Any, str]] = {
    "a list": ([], ""),
    "an empty object": ({}, ""),
    "an operator that is none": ({"StringIs": {"aws:username": "a"}}, ".StringIs"),
    "a quantifier that is none": ({"ForSomeValues:StringEquals": {"aws:username": "a"}}, ".ForSomeValues:StringEquals"),
    "an operator without keys": ({"StringEquals": {}}, ".StringEquals"),
    "an operator with a list": ({"StringEquals": ["aws:username"]}, ".StringEquals"),
    "Null if it exists": ({"NullIfExists": {"aws:username": "true"}}, ".NullIfExists"),
    "Null of several": ({"ForAnyValue:Null": {"aws:username": "true"}}, ".ForAnyValue:Null"),
    "Null of something else": ({"Null": {"aws:username": "maybe"}}, ".Null.aws:username"),
    "a key that nobody has": ({"StringEquals": {"aws:SourceVpc": "vpc-1"}}, ".StringEquals.aws:SourceVpc"),
    "no values": ({"StringEquals": {"aws:username": []}}, ".StringEquals.aws:username"),
    "a value that is null": ({"StringEquals": {"aws:username": None}}, ".StringEquals.aws:username"),
    "a value that is an object": ({"StringEquals": {"aws:username": [{}]}}, ".StringEquals.aws:username"),
    "several values without a quantifier": (
        {"StringEquals": {"bedrock-agentcore:InboundJwtClaim/aud": "a"}},
        ".StringEquals.bedrock-agentcore:InboundJwtClaim/aud",
    ),
    "a number that is none": ({"NumericLessThan": {"aws:EpochTime": "ten"}}, ".NumericLessThan.aws:EpochTime"),
    "a number without an end": ({"NumericLessThan": {"aws:EpochTime": "9" * 40}}, ".NumericLessThan.aws:EpochTime"),
    "a date that is none": ({"DateLessThan": {"aws:CurrentTime": "soon"}}, ".DateLessThan.aws:CurrentTime"),
    "a day that is none": ({"DateLessThan": {"aws:CurrentTime": "2026-02-30"}}, ".DateLessThan.aws:CurrentTime"),
    "a time without a zone": (
        {"DateLessThan": {"aws:CurrentTime": "2026-01-31T09:00:00"}},
        ".DateLessThan.aws:CurrentTime",
    ),
    "a year, or seconds": ({"DateLessThan": {"aws:CurrentTime": "2026"}}, ".DateLessThan.aws:CurrentTime"),
    "a truth that is none": ({"Bool": {"aws:SecureTransport": "yes"}}, ".Bool.aws:SecureTransport"),
    "bytes that are none": ({"BinaryEquals": {"aws:userid": "%"}}, ".BinaryEquals.aws:userid"),
    "an address that is none": ({"IpAddress": {"aws:SourceIp": "203.0.113.300"}}, ".IpAddress.aws:SourceIp"),
    "an address that is a name": ({"NotIpAddress": {"aws:SourceIp": "localhost"}}, ".NotIpAddress.aws:SourceIp"),
    "an ARN that is a star": ({"ArnLike": {"aws:PrincipalArn": "*"}}, ".ArnLike.aws:PrincipalArn"),
    "an ARN of five parts": ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::x"}}, ".ArnLike.aws:PrincipalArn"),
    "a variable among numbers": ({"NumericEquals": {"aws:EpochTime": "${aws:userid}"}}, ".NumericEquals.aws:EpochTime"),
    "a variable among addresses": ({"IpAddress": {"aws:SourceIp": "${aws:userid}"}}, ".IpAddress.aws:SourceIp"),
    "a variable without an end": ({"StringLike": {"aws:username": "${aws:userid"}}, ".StringLike.aws:username"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_that_cannot_be_obeyed_is_refused_where_it_stands(name: str):
    condition, place = CONDITIONS[name]
    assert [fault.name for fault in check(policy(allow(Condition=condition)))] == [f"Statement[0].Condition{place}"]


AT_RESOURCE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nobody": (allow(), ["Statement[0]"]),
    "both kinds of names": (allow(Principal="*", NotPrincipal="*"), ["Statement[0]"]),
    "a name in a text": (allow(Principal="arn:aws:iam::000000000000:user/ada"), ["Statement[0].Principal"]),
    "an empty object": (allow(Principal={}), ["Statement[0].Principal"]),
    "an empty list": (allow(Principal={"AWS": []}), ["Statement[0].Principal"]),
    "a service": (allow(Principal={"Service": "x.amazonaws.com"}), ["Statement[0].Principal"]),
    "a federation": (allow(Principal={"AWS": "*", "Federated": "x"}), ["Statement[0].Principal"]),
    "a wildcard in an ARN": (allow(Principal={"AWS": "arn:aws:iam::000000000000:user/*"}), ["Statement[0].Principal"]),
    "a wildcard for the account": (allow(Principal={"AWS": "arn:aws:iam::*:root"}), ["Statement[0].Principal"]),
    "an id": (allow(Principal={"AWS": "AIDAABCDEFGHIJKLMNOP"}), ["Statement[0].Principal"]),
    "a number": (allow(Principal={"AWS": 0}), ["Statement[0].Principal"]),
    "an allowance of everybody else": (
        allow(NotPrincipal={"AWS": "000000000000"}),
        ["Statement[0].NotPrincipal"],
    ),
    "another resource": (allow(resource=ENDPOINT, Principal="*"), ["Statement[0].Resource"]),
    "any resource": (allow(resource="*", Principal="*"), ["Statement[0].Resource"]),
    "one resource too many": (allow(resource=[HELLO, ENDPOINT], Principal="*"), ["Statement[0].Resource"]),
    "every other resource": (
        without(allow(Principal="*"), "Resource", NotResource=ENDPOINT),
        ["Statement[0].Resource"],
    ),
}


@pytest.mark.parametrize("name", AT_RESOURCE)
def test_a_policy_at_a_resource_that_cannot_be_obeyed_is_refused(name: str):
    statement, faults = AT_RESOURCE[name]
    assert [fault.name for fault in check(policy(statement), kind=Kind.RESOURCE, resource=HELLO)] == faults


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["Allow", "2012-10-17", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Version",
                    "Statement",
                    "Effect",
                    "Action",
                    "NotAction",
                    "Resource",
                    "NotResource",
                    "Condition",
                    "StringLike",
                    "NumericLessThan",
                    "Null",
                    "aws:username",
                    "aws:EpochTime",
                ]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_document_is_refused_or_decides(document: Any):
    if check(document):
        with pytest.raises(ValueError, match=r"."):
            parse(document)
    else:
        assert parse(document).decide(INVOKE, HELLO) in Decision


# --- Decided ---


def test_what_no_statement_speaks_of_is_not_allowed():
    assert decided(allow(resource=RUNTIMES + "other-AbCdEf1234")) is NOT_ALLOWED
    assert decided(allow("bedrock-agentcore:GetAgentRuntime")) is NOT_ALLOWED


def test_what_a_statement_allows_is_allowed():
    assert decided(allow()) is ALLOWED


@pytest.mark.parametrize("statements", [(ALLOW_ALL, deny()), (deny(), ALLOW_ALL), (allow(), deny("*", "*"), allow())])
def test_an_explicit_deny_wins_wherever_it_stands(statements: tuple[Any, ...]):
    assert decided(*statements) is DENIED


def test_a_deny_that_speaks_of_something_else_denies_nothing():
    assert decided(ALLOW_ALL, deny(resource=ENDPOINT), deny("bedrock-agentcore:DeleteAgentRuntime", "*")) is ALLOWED


def test_a_deny_alone_allows_nothing():
    assert decided(deny("bedrock-agentcore:Delete*", "*")) is NOT_ALLOWED


def test_one_statement_may_stand_without_a_list():
    assert parse(policy(Statement=allow())).decide(INVOKE, HELLO) is ALLOWED


def test_any_of_several_actions_and_resources_is_enough():
    statement = allow(["bedrock-agentcore:GetAgentRuntime", INVOKE], [ENDPOINT, HELLO])
    assert decided(statement) is ALLOWED
    assert decided(statement, action="bedrock-agentcore:DeleteAgentRuntime") is NOT_ALLOWED


def test_ids_of_policies_and_statements_mean_nothing():
    assert parse(policy(allow(Sid="Deny"), Id="x")).decide(INVOKE, HELLO) is ALLOWED


@pytest.mark.parametrize(
    ("action", "decision"), [(INVOKE, NOT_ALLOWED), ("bedrock-agentcore:GetAgentRuntime", ALLOWED)]
)
def test_notaction_speaks_of_every_other_action(action: str, decision: Decision):
    statement = without(allow(), "Action", NotAction=[INVOKE, "bedrock-agentcore:Delete*"])
    assert decided(statement, action=action) is decision


@pytest.mark.parametrize(("resource", "decision"), [(HELLO, NOT_ALLOWED), (ENDPOINT, ALLOWED)])
def test_notresource_speaks_of_every_other_resource(resource: str, decision: Decision):
    assert decided(without(allow(), "Resource", NotResource=HELLO), resource=resource) is decision


def test_a_deny_of_notresource_leaves_that_resource_alone():
    denial = without(deny(), "Resource", NotResource=HELLO)
    assert decided(ALLOW_ALL, denial) is ALLOWED
    assert decided(ALLOW_ALL, denial, resource=ENDPOINT) is DENIED


def test_actions_are_compared_without_case():
    assert decided(allow("Bedrock-AgentCore:invokeagentRUNTIME")) is ALLOWED
    assert decided(ALLOW_ALL, deny("BEDROCK-AGENTCORE:INVOKE*")) is DENIED


def test_resources_are_compared_with_case():
    assert decided(allow(resource=HELLO.upper())) is NOT_ALLOWED
    assert decided(allow(resource=HELLO.lower())) is NOT_ALLOWED


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "", True),
        ("*", "a\nb", True),
        ("**", "abc", True),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("*a", "ab", False),
        ("a*c", "abbbc", True),
        ("a*c", "abbb", False),
        ("a*bc", "abcbc", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("aba*aba", "aba", False),
        ("aba*aba", "ababa", False),
        ("a*ab*b", "ab", False),
        ("?", "a", True),
        ("?", "", False),
        ("?", "ab", False),
        ("a?c", "a\nc", True),
        ("*?", "", False),
        ("?*?", "ab", True),
        ("a.c", "abc", False),
        ("a+", "aa", False),
        ("[ab]", "a", False),
        ("(a|b)", "a", False),
        ("a\\d", "a1", False),
        ("^a$", "a", False),
        ("a", "a\n", False),
        ("$*", "$x", True),
    ],
)
def test_star_is_any_text_question_mark_any_character_and_nothing_else_is_special(
    pattern: str, text: str, matches: bool
):
    assert decided(allow("*", pattern), resource=text) is (ALLOWED if matches else NOT_ALLOWED)


@given(st.text("ab*?", min_size=1, max_size=8), st.text("ab", max_size=8))
def test_a_pattern_matches_what_a_shell_would_match(pattern: str, text: str):
    allowed = decided(allow("*", pattern), resource=text) is ALLOWED
    assert allowed is fnmatch.fnmatchcase(text, pattern)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["*", "*a", "*?", "a*", "**a", "*aa"]), min_size=10, max_size=60), st.sampled_from("ba")
)
def test_no_pattern_of_many_stars_hangs(parts: list[str], end: str):
    pattern = "".join(parts) + end + "c"
    assert decided(allow("*", pattern), resource="a" * 400 + "b") is NOT_ALLOWED


MANY = (MOST - 200) // 2


@pytest.mark.parametrize(
    "pattern", ["*a" * MANY, "?" * (2 * MANY), "*?" * MANY, "${*}*" * (MANY // 3), "a" * (2 * MANY), "*" * (2 * MANY)]
)
def test_the_longest_patterns_that_fit_hang_nothing(pattern: str):
    condition = {"StringLike": {"aws:username": pattern}}
    read = parse(policy(allow("*", "*", Condition=condition)))
    context = {"aws:username": ("a" * 2048,)}
    assert read.decide(INVOKE, HELLO, context) is (ALLOWED if set(pattern) == {"*"} else NOT_ALLOWED)


@pytest.mark.parametrize("opening", ["${", "${ ", "${aws:username, ", "${aws:username,'", "${a:"])
def test_variables_that_never_end_hang_nothing(opening: str):
    text = (opening + " " * 20) * (MOST // (len(opening) + 21) - 10)
    assert [fault.name for fault in check(policy(allow(resource=text)))] == ["Statement[0].Resource"]


# --- Which statement ---


@pytest.mark.parametrize(
    ("statements", "verdict", "words"),
    [
        ([allow(action="s3:Get")], Verdict(NOT_ALLOWED), ""),
        ([allow(action="s3:Get"), allow(Sid="Hello"), allow()], Verdict(ALLOWED, 1, "Hello"), "Statement[1] (Hello)"),
        ([allow(), deny(), deny()], Verdict(DENIED, 1), "Statement[1]"),
        ([allow(Sid=7)], Verdict(ALLOWED, 0), "Statement[0]"),
    ],
)
def test_a_verdict_names_the_first_statement_that_decided_it(statements: list[Any], verdict: Verdict, words: str):
    found = parse(policy(*statements)).judge(Question(INVOKE, HELLO))
    assert (found, found.statement) == (verdict, words)


# --- What is not known yet ---

CLAIM = "bedrock-agentcore:inboundjwtclaim/sub"


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([allow(Condition={"StringEquals": {CLAIM: "ada"}})], ALLOWED),
        ([allow(Condition={"StringEquals": {CLAIM: "ada"}, "Bool": {"aws:SecureTransport": True}})], NOT_ALLOWED),
        ([allow(resource=RUNTIMES + "${" + CLAIM + "}")], ALLOWED),
        ([allow("s3:Get", Condition={"StringEquals": {CLAIM: "ada"}})], NOT_ALLOWED),
        ([allow(), without(deny(), Condition={"StringNotEquals": {CLAIM: "ada"}})], ALLOWED),
        ([allow(), deny(resource=RUNTIMES + "${" + CLAIM + "}")], ALLOWED),
        ([allow(), deny()], DENIED),
    ],
)
def test_a_policy_may_still_allow_what_depends_on_a_value_that_is_not_known(statements: list[Any], decision: Decision):
    asked = Question(INVOKE, HELLO, {"aws:securetransport": ("false",)}, Caller(), frozenset({CLAIM}))
    assert parse(policy(*statements)).judge(asked).decision is decision


def test_a_policy_knows_which_keys_it_looks_at():
    condition = {"StringLike": {"aws:UserAgent": "${aws:username}"}, "Null": {"aws:SourceIp": "true"}}
    read = parse(policy(allow(resource=RUNTIMES + "${aws:userid}"), allow(Condition=condition)))
    assert read.keys == {"aws:useragent", "aws:username", "aws:sourceip", "aws:userid"}


# --- Several resources ---


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([allow(resource=[HELLO, ENDPOINT])], ALLOWED),
        ([allow(resource=HELLO + "*")], ALLOWED),
        ([allow(resource=HELLO)], NOT_ALLOWED),
        ([allow(resource=ENDPOINT)], NOT_ALLOWED),
        ([ALLOW_ALL, deny(resource=ENDPOINT)], DENIED),
        ([ALLOW_ALL, deny(resource=HELLO)], DENIED),
    ],
)
def test_each_of_several_resources_must_be_allowed(statements: list[Any], decision: Decision):
    assert parse(policy(*statements)).decide_all(INVOKE, (HELLO, ENDPOINT)) is decision


def test_no_resource_at_all_is_not_allowed():
    assert parse(policy(ALLOW_ALL)).decide_all(INVOKE, ()) is NOT_ALLOWED


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([], NOT_ALLOWED),
        ([allow(resource=HELLO)], ALLOWED),
        ([allow(resource=ENDPOINT)], ALLOWED),
        ([allow(resource="*"), deny(resource=ENDPOINT)], DENIED),
        ([deny(resource=HELLO), allow(resource=ENDPOINT)], DENIED),
    ],
)
def test_of_several_names_of_one_thing_any_allows_and_any_denies(statements: list[Any], decision: Decision):
    other = allow(action="s3:GetObject")
    assert parse(policy(other, *statements)).decide_any(INVOKE, (HELLO, ENDPOINT)) is decision
