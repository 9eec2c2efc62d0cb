"""Policies and what AWS IAM says of them, checked by hand: every operator, quantifier, variable and kind of principal.

The same table is held against this gateway (`tests/unit/protocol/test_policy_cases.py`) and against an independent
evaluator (`tests/conformance/test_policy_evaluator.py`). `evaluator` is what the latter says where it differs, and
DIFFERENCES says why we do not follow it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "000000000000"
RUNTIME = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/hello-AbCdEf1234"
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"
USER = f"arn:aws:iam::{ACCOUNT}:user/ada"
OTHER_USER = f"arn:aws:iam::{ACCOUNT}:user/bob"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/ci"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/ci/build-7"
OTHER_SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/ci/build-8"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"

ALLOWED, DENIED, NOT_ALLOWED = "allowed", "explicitly denied", "not allowed by any statement"

TEXT, NAME, MOMENT, NUMBER = "bedrock-agentcore:userid", "aws:username", "aws:CurrentTime", "aws:EpochTime"
SECURE, BYTES, SOURCE, ARN = "aws:SecureTransport", "aws:userid", "aws:SourceIp", "aws:PrincipalArn"
AUDIENCES, SCOPES = "bedrock-agentcore:InboundJwtClaim/aud", "bedrock-agentcore:InboundJwtClaim/scope"

ABSENT = None
Values = Any
Given = str | tuple[str, ...] | None

DIFFERENCES = {
    "unreadable": "What cannot be read as a number, a date or an address equals nothing, so that it is not equal. The "
    "evaluator lets a negated comparison fail then; requests of this gateway have no such values.",
    "seconds": "Both forms of a moment may be mixed (IAM: date operators). The evaluator compares seconds with "
    "milliseconds there.",
    "spelling": "One address has several spellings. The evaluator compares single addresses as texts.",
    "family": "An IPv6 address is not a certain IPv4 address, so that it is outside. The evaluator says neither.",
    "absent": "`IfExists` holds where the key is absent, whatever stands before it (IAM: IfExists). The evaluator looks "
    "at ForAnyValue first.",
    "unresolved": "A variable that stands for nothing must not be a way around a Deny. The evaluator, as IAM, drops "
    "the whole statement, also where it denies.",
    "escape": "${*}, ${?} and ${$} stand for their characters wherever variables may stand (IAM: policy variables). The "
    "evaluator takes them for themselves where there are no wildcards.",
    "everything": "0.0.0.0/0 is every IPv4 address. The evaluator shifts by 32 bits, which JavaScript does not do.",
}


@dataclass(frozen=True)
class Case:
    """One question. `identity` and `standing` are statements, of the caller's policy and of the one at the resource."""

    says: str
    identity: tuple[dict[str, Any], ...] | None = None
    standing: tuple[dict[str, Any], ...] | None = None
    context: Mapping[str, Given] = field(default_factory=dict)
    caller: str | None = USER
    action: str = INVOKE
    resource: str = RUNTIME
    evaluator: tuple[str, str] | None = None


def allow(**changes: Any) -> dict[str, Any]:
    return _statement("Allow", changes)


def deny(**changes: Any) -> dict[str, Any]:
    return _statement("Deny", changes)


def _statement(effect: str, changes: dict[str, Any]) -> dict[str, Any]:
    whole = {"Effect": effect, "Action": INVOKE, "Resource": RUNTIME} | changes
    if "NotAction" in changes:
        del whole["Action"]
    if "NotResource" in changes:
        del whole["Resource"]
    return whole


T, F = True, False

# Operator, key, values of the policy, and whether it holds for each value of the request.
CONDITIONS: list[tuple[str, str, Values, dict[Given, bool | tuple[bool, str]]]] = [
    # Texts
    ("StringEquals", TEXT, "ada", {"ada": T, "Ada": F, "ada ": F, "": F, ABSENT: F}),
    ("StringEquals", TEXT, ["bob", "ada"], {"ada": T, "bob": T, "eve": F, ABSENT: F}),
    ("StringEquals", TEXT, "a*", {"ada": F, "a*": T}),
    ("StringEquals", TEXT, "a?a", {"ada": F, "a?a": T}),
    ("StringEquals", TEXT, "a.a", {"ada": F, "a.a": T}),
    ("StringEquals", TEXT, "${*}", {"*": (T, "escape"), "ada": F}),
    ("StringEquals", TEXT, "a${?}", {"a?": (T, "escape"), "ab": F}),
    ("StringEquals", TEXT, "${$}{x}", {"${x}": (T, "escape"), "x": F}),
    ("StringNotEquals", TEXT, "ada", {"ada": F, "Ada": T, "bob": T, ABSENT: T}),
    ("StringNotEquals", TEXT, ["bob", "ada"], {"ada": F, "bob": F, "eve": T, ABSENT: T}),
    ("StringNotEquals", TEXT, "a*", {"ada": T, "a*": F}),
    ("StringEqualsIgnoreCase", TEXT, "ADA", {"ada": T, "Ada": T, "bob": F, ABSENT: F}),
    ("StringEqualsIgnoreCase", TEXT, ["BOB", "a*"], {"bob": T, "A*": T, "ada": F}),
    ("StringNotEqualsIgnoreCase", TEXT, "ADA", {"ada": F, "bob": T, ABSENT: T}),
    ("StringLike", TEXT, "a*", {"ada": T, "a": T, "Ada": F, "bad": F, ABSENT: F}),
    ("StringLike", TEXT, "a?a", {"ada": T, "aa": F, "adda": F}),
    ("StringLike", TEXT, "*", {"ada": T, ABSENT: F}),
    ("StringLike", TEXT, ["x*", "*a"], {"ada": T, "xyz": T, "eve": F}),
    ("StringLike", TEXT, "a${*}", {"a*": T, "ada": F}),
    ("StringLike", TEXT, "a${?}b", {"a?b": T, "axb": F}),
    ("StringLike", TEXT, "a*b*c", {"abc": T, "a-b-b-c": T, "acb": F}),
    ("StringNotLike", TEXT, "a*", {"ada": F, "bob": T, ABSENT: T}),
    ("StringNotLike", TEXT, ["b*", "a*"], {"ada": F, "bob": F, "eve": T}),
    # Numbers
    ("NumericEquals", NUMBER, "10", {"9": F, "10": T, "10.0": T, "11": F, "ten": F, ABSENT: F}),
    ("NumericEquals", NUMBER, ["10", "20.5"], {"10": T, "20.5": T, "15": F}),
    ("NumericEquals", NUMBER, 10, {"10": T, "11": F}),
    ("NumericNotEquals", NUMBER, "10", {"9": T, "10": F, "ten": (T, "unreadable"), ABSENT: T}),
    ("NumericLessThan", NUMBER, "10", {"9": T, "9.99": T, "-1": T, "10": F, "11": F, ABSENT: F}),
    ("NumericLessThanEquals", NUMBER, "10", {"9": T, "10": T, "11": F, ABSENT: F}),
    ("NumericGreaterThan", NUMBER, "10", {"9": F, "10": F, "11": T, ABSENT: F}),
    ("NumericGreaterThanEquals", NUMBER, "10", {"9": F, "10": T, "11": T, ABSENT: F}),
    ("NumericGreaterThan", NUMBER, ["10", "5"], {"7": T, "3": F}),
    # Dates
    ("DateEquals", MOMENT, "2026-01-31T09:00:00Z", {
        "2026-01-31T09:00:00Z": T, "2026-01-31T10:00:00+01:00": T, "2026-01-31T09:00:01Z": F, "soon": F, ABSENT: F,
    }),
    ("DateEquals", MOMENT, "2026-01-31", {"2026-01-31T00:00:00Z": T, "2026-01-31T00:00:01Z": F}),
    ("DateEquals", MOMENT, "2026-02", {"2026-02-01T00:00:00Z": T, "2026-02-02T00:00:00Z": F}),
    ("DateEquals", NUMBER, "1769850000", {"1769850000": T, "1769850001": F}),
    ("DateEquals", MOMENT, "1769850000", {"2026-01-31T09:00:00Z": (T, "seconds")}),
    ("DateNotEquals", MOMENT, "2026-01-31T09:00:00Z", {
        "2026-01-31T09:00:00Z": F, "2026-01-31T09:00:01Z": T, "soon": (T, "unreadable"), ABSENT: T,
    }),
    ("DateLessThan", MOMENT, "2026-01-31T09:00:00Z", {
        "2026-01-31T08:59:59Z": T, "2026-01-31T09:00:00Z": F, "2026-01-31T09:00:01Z": F, ABSENT: F,
    }),
    ("DateLessThanEquals", MOMENT, "2026-01-31T09:00:00Z", {
        "2026-01-31T08:59:59Z": T, "2026-01-31T09:00:00Z": T, "2026-01-31T09:00:01Z": F, ABSENT: F,
    }),
    ("DateGreaterThan", MOMENT, "2026-01-31T09:00:00Z", {
        "2026-01-31T08:59:59Z": F, "2026-01-31T09:00:00Z": F, "2026-01-31T09:00:01Z": T, ABSENT: F,
    }),
    ("DateGreaterThanEquals", MOMENT, "2026-01-31T09:00:00Z", {
        "2026-01-31T08:59:59Z": F, "2026-01-31T09:00:00Z": T, "2026-01-31T09:00:01Z": T, ABSENT: F,
    }),
    ("DateGreaterThan", NUMBER, "2026-01-31T09:00:00Z", {"1769850001": (T, "seconds"), "1769849999": F}),
    # Booleans and bytes
    ("Bool", SECURE, "true", {"true": T, "false": F, "TRUE": T, "yes": F, ABSENT: F}),
    ("Bool", SECURE, "false", {"true": F, "false": T, ABSENT: F}),
    ("Bool", SECURE, True, {"true": T, "false": F}),
    ("Bool", SECURE, ["true", "false"], {"true": T, "false": T, ABSENT: F}),
    ("BinaryEquals", BYTES, "QUJD", {"QUJD": T, "QUJE": F, "ABC": F, ABSENT: F}),
    ("BinaryEquals", BYTES, ["QUJE", "QUJD"], {"QUJD": T, "QUJF": F}),
    # Addresses
    ("IpAddress", SOURCE, "203.0.113.0/24", {
        "203.0.113.0": T, "203.0.113.255": T, "203.0.114.0": F, "2001:db8::1": F, "nowhere": F, ABSENT: F,
    }),
    ("IpAddress", SOURCE, "203.0.113.7", {"203.0.113.7": T, "203.0.113.8": F}),
    ("IpAddress", SOURCE, "203.0.113.200/24", {"203.0.113.7": T, "203.0.114.7": F}),
    ("IpAddress", SOURCE, "0.0.0.0/0", {"203.0.113.7": (T, "everything"), "2001:db8::1": F}),
    ("IpAddress", SOURCE, "2001:db8::/32", {"2001:db8:1::7": T, "2001:db9::1": F, "203.0.113.7": F}),
    ("IpAddress", SOURCE, "2001:db8::1", {"2001:db8::1": T, "2001:db8:0::1": (T, "spelling"), "2001:db8::2": F}),
    ("IpAddress", SOURCE, ["198.51.100.0/24", "203.0.113.0/24"], {"203.0.113.7": T, "198.51.100.7": T, "192.0.2.1": F}),
    ("NotIpAddress", SOURCE, "203.0.113.0/24", {
        "203.0.113.7": F, "203.0.114.7": T, "2001:db8::1": T, "nowhere": (T, "unreadable"), ABSENT: T,
    }),
    ("NotIpAddress", SOURCE, "203.0.113.7", {"203.0.113.7": F, "203.0.113.8": T, "2001:db8::1": (T, "family")}),
    ("NotIpAddress", SOURCE, ["198.51.100.0/24", "203.0.113.0/24"], {"203.0.113.7": F, "192.0.2.1": T}),
    # ARNs
    ("ArnEquals", ARN, USER, {USER: T, OTHER_USER: F, USER.upper(): F, "ada": F, ABSENT: F}),
    ("ArnEquals", ARN, f"arn:aws:iam::{ACCOUNT}:user/*", {USER: T, ROLE: F}),
    ("ArnLike", ARN, "arn:aws:iam::*:user/a?a", {USER: T, OTHER_USER: F, ROLE: F}),
    ("ArnLike", ARN, "arn:*:*:*:*:*", {USER: T, SESSION: T, "arn:aws:iam": F}),
    ("ArnLike", ARN, "arn:aws:iam:*:r:x", {"arn:aws:iam:a:r:x": T, "arn:aws:iam:a:b:r:x": F}),  # no star spans a colon
    ("ArnLike", ARN, "arn:aws:x:::a:b*", {"arn:aws:x:::a:bc": T, "arn:aws:x:::a:b:c": T, "arn:aws:x:::ab": F}),
    ("ArnLike", ARN, [ROLE, f"arn:aws:iam::{ACCOUNT}:user/*"], {USER: T, ROLE: T, SESSION: F}),
    ("ArnNotEquals", ARN, USER, {USER: F, OTHER_USER: T, ABSENT: T}),
    ("ArnNotEquals", ARN, [USER, ROLE], {USER: F, ROLE: F, OTHER_USER: T}),
    ("ArnNotLike", ARN, f"arn:aws:iam::{ACCOUNT}:user/*", {USER: F, ROLE: T, ABSENT: T}),
    # Presence
    ("Null", TEXT, "true", {"ada": F, ABSENT: T}),
    ("Null", TEXT, "false", {"ada": T, ABSENT: F}),
    ("Null", TEXT, ["true", "false"], {"ada": T, ABSENT: T}),
    ("Null", AUDIENCES, "false", {("a", "b"): T, ABSENT: F}),
    ("Null", AUDIENCES, True, {("a",): F, ABSENT: T}),
    # If it exists
    ("StringEqualsIfExists", TEXT, "ada", {"ada": T, "bob": F, ABSENT: T}),
    ("StringNotEqualsIfExists", TEXT, "ada", {"ada": F, "bob": T, ABSENT: T}),
    ("StringEqualsIgnoreCaseIfExists", TEXT, "ADA", {"ada": T, "bob": F, ABSENT: T}),
    ("StringNotEqualsIgnoreCaseIfExists", TEXT, "ADA", {"ada": F, "bob": T, ABSENT: T}),
    ("StringLikeIfExists", TEXT, "a*", {"ada": T, "bob": F, ABSENT: T}),
    ("StringNotLikeIfExists", TEXT, "a*", {"ada": F, "bob": T, ABSENT: T}),
    ("NumericEqualsIfExists", NUMBER, "10", {"10": T, "9": F, ABSENT: T}),
    ("NumericLessThanIfExists", NUMBER, "10", {"9": T, "10": F, ABSENT: T}),
    ("NumericGreaterThanEqualsIfExists", NUMBER, "10", {"10": T, "9": F, ABSENT: T}),
    ("DateLessThanIfExists", MOMENT, "2026-01-31", {"2026-01-30T23:59:59Z": T, "2026-01-31T00:00:00Z": F, ABSENT: T}),
    ("BoolIfExists", SECURE, "true", {"true": T, "false": F, ABSENT: T}),
    ("BinaryEqualsIfExists", BYTES, "QUJD", {"QUJD": T, "QUJE": F, ABSENT: T}),
    ("IpAddressIfExists", SOURCE, "203.0.113.0/24", {"203.0.113.7": T, "192.0.2.1": F, ABSENT: T}),
    ("NotIpAddressIfExists", SOURCE, "203.0.113.0/24", {"203.0.113.7": F, "192.0.2.1": T, ABSENT: T}),
    ("ArnEqualsIfExists", ARN, USER, {USER: T, ROLE: F, ABSENT: T}),
    ("ArnLikeIfExists", ARN, "arn:aws:iam::*:user/*", {USER: T, ROLE: F, ABSENT: T}),
    ("ArnNotLikeIfExists", ARN, "arn:aws:iam::*:user/*", {USER: F, ROLE: T, ABSENT: T}),
    # Several values
    ("ForAnyValue:StringEquals", AUDIENCES, ["a", "b"], {("a", "c"): T, ("c",): F, ("c", "b"): T, (): F, ABSENT: F}),
    ("ForAnyValue:StringNotEquals", AUDIENCES, ["a"], {("a", "c"): T, ("a",): F, ABSENT: F}),
    ("ForAnyValue:StringNotEquals", AUDIENCES, ["a", "b"], {("a", "b"): F, ("a", "c"): T}),
    ("ForAnyValue:StringLike", SCOPES, "agents.*", {("agents.read", "x"): T, ("x", "y"): F, ABSENT: F}),
    ("ForAnyValue:StringEqualsIgnoreCase", SCOPES, "READ", {("write", "read"): T, ("write",): F}),
    ("ForAnyValue:StringEquals", TEXT, ["ada", "bob"], {"ada": T, "eve": F, ABSENT: F}),
    ("ForAnyValue:StringEqualsIfExists", AUDIENCES, "a", {("a",): T, ("b",): F, ABSENT: (T, "absent")}),
    ("ForAllValues:StringEquals", AUDIENCES, ["a", "b"], {("a",): T, ("a", "b"): T, ("a", "c"): F, ABSENT: T}),
    ("ForAllValues:StringNotEquals", AUDIENCES, ["a"], {("b", "c"): T, ("a", "b"): F, ABSENT: T}),
    ("ForAllValues:StringLike", SCOPES, ["agents.*", "openid"], {("agents.read", "openid"): T, ("email",): F}),
    ("ForAllValues:StringNotLike", SCOPES, "admin*", {("agents.read",): T, ("agents.read", "admin.all"): F}),
    ("ForAllValues:StringEqualsIfExists", AUDIENCES, "a", {("a",): T, ("a", "b"): F, ABSENT: T}),
    ("ForAllValues:ArnLike", ARN, "arn:aws:iam::*:user/*", {USER: T, ROLE: F, ABSENT: T}),
    ("ForAllValues:IpAddress", SOURCE, "203.0.113.0/24", {"203.0.113.7": T, "192.0.2.1": F, ABSENT: T}),
]  # fmt: skip

# A condition, the context, and whether an Allow and a Deny with it apply. Three values: the third is the evaluator's Deny.
VARIABLES: list[tuple[str, dict[str, Any], dict[str, Given], bool, bool | tuple[bool, str]]] = [
    ("stands for the key's value", {"StringEquals": {TEXT: "${aws:username}"}}, {TEXT: "ada", NAME: "ada"}, T, T),
    ("is compared with case", {"StringEquals": {TEXT: "${aws:username}"}}, {TEXT: "Ada", NAME: "ada"}, F, F),
    ("is named without case", {"StringEquals": {TEXT: "${AWS:UserName}"}}, {TEXT: "ada", NAME: "ada"}, T, T),
    ("is a part of a text", {"StringLike": {TEXT: "${aws:username}-*"}}, {TEXT: "ada-1", NAME: "ada"}, T, T),
    ("is no pattern", {"StringLike": {TEXT: "${aws:username}"}}, {TEXT: "anybody", NAME: "*"}, F, F),
    ("is itself with a star", {"StringLike": {TEXT: "${aws:username}"}}, {TEXT: "*", NAME: "*"}, T, T),
    ("stands for nothing", {"StringEquals": {TEXT: "${aws:username}"}}, {TEXT: "ada"}, F, F),
    ("stands for its default", {"StringEquals": {TEXT: "${aws:username, 'guest'}"}}, {TEXT: "guest"}, T, T),
    ("does not need its default", {"StringEquals": {TEXT: "${aws:username, 'guest'}"}}, {TEXT: "guest", NAME: "a"}, F, F),
    ("is not equal", {"StringNotEquals": {TEXT: "${aws:username}"}}, {TEXT: "bob", NAME: "ada"}, T, T),
    ("is equal after all", {"StringNotEquals": {TEXT: "${aws:username}"}}, {TEXT: "ada", NAME: "ada"}, F, F),
    ("is nothing to differ from", {"StringNotEquals": {TEXT: "${aws:username}"}}, {TEXT: "ada"}, F, (T, "unresolved")),
    ("is nothing to be unlike", {"StringNotLike": {TEXT: "${aws:username}*"}}, {TEXT: "ada"}, F, (T, "unresolved")),
    ("stands in an ARN", {"ArnLike": {ARN: "arn:aws:iam::*:user/${aws:username}"}}, {ARN: USER, NAME: "ada"}, T, T),
    ("is another's ARN", {"ArnEquals": {ARN: "arn:aws:iam::*:user/${aws:username}"}}, {ARN: USER, NAME: "bob"}, F, F),
    ("is no ARN", {"ArnNotEquals": {ARN: "arn:aws:iam::*:user/${aws:username}"}}, {ARN: USER}, F, (T, "unresolved")),
    ("is one of two values", {"StringEquals": {TEXT: ["${aws:username}", "x"]}}, {TEXT: "x"}, T, T),
    ("stands for each value", {"ForAnyValue:StringEquals": {AUDIENCES: "${aws:username}"}},
     {AUDIENCES: ("x", "ada"), NAME: "ada"}, T, T),
]  # fmt: skip

OWN = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/${{aws:username}}-*"
ADAS = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/ada-AbCdEf1234"
BOTH = {"StringEquals": {TEXT: "ada"}, "Bool": {SECURE: "true"}}
TWO_KEYS = {"StringEquals": {TEXT: "ada", NAME: "web"}}
AT_HELLO = {"Principal": "*"}

WHOLE: dict[str, Case] = {
    # Actions and resources
    "nothing is said": Case(NOT_ALLOWED, identity=(allow(Action="bedrock-agentcore:GetAgentRuntime"),)),
    "a wildcard in the action": Case(ALLOWED, identity=(allow(Action="bedrock-agentcore:Invoke*"),)),
    "a question mark in the action": Case(ALLOWED, identity=(allow(Action="bedrock-agentcore:?nvokeAgentRuntim?"),)),
    "an action in other case": Case(ALLOWED, identity=(allow(Action="BEDROCK-AGENTCORE:invokeagentruntime"),)),
    "every other action": Case(ALLOWED, identity=(allow(NotAction="bedrock-agentcore:Delete*"),)),
    "every action but this": Case(NOT_ALLOWED, identity=(allow(NotAction=[INVOKE, "sts:*"]),)),
    "another resource": Case(NOT_ALLOWED, identity=(allow(Resource=RUNTIME + "x"),)),
    "a wildcard in the resource": Case(ALLOWED, identity=(allow(Resource="arn:aws:bedrock-agentcore:*:*:runtime/hello-*"),)),
    "a resource in other case": Case(NOT_ALLOWED, identity=(allow(Resource=RUNTIME.lower()),)),
    "every other resource": Case(NOT_ALLOWED, identity=(allow(NotResource=RUNTIME),)),
    "every resource but another": Case(ALLOWED, identity=(allow(NotResource=RUNTIME + "x"),)),
    "a deny of the rest": Case(ALLOWED, identity=(allow(Resource="*"), deny(Action="*", NotResource=RUNTIME))),
    "a deny of the rest, there": Case(
        DENIED, identity=(allow(Resource="*"), deny(Action="*", NotResource=RUNTIME)), resource=ADAS
    ),
    # Variables in resources
    "one's own runtime": Case(ALLOWED, identity=(allow(Resource=OWN),), context={NAME: "ada"}, resource=ADAS),
    "another's runtime": Case(NOT_ALLOWED, identity=(allow(Resource=OWN),), context={NAME: "bob"}, resource=ADAS),
    "a name that is a star": Case(NOT_ALLOWED, identity=(allow(Resource=OWN),), context={NAME: "*"}, resource=ADAS),
    "no name": Case(NOT_ALLOWED, identity=(allow(Resource=OWN),), resource=ADAS),
    "no name, and its default": Case(
        ALLOWED, identity=(allow(Resource=OWN.replace("}", ", 'ada'}")),), resource=ADAS
    ),
    "all but one's own": Case(NOT_ALLOWED, identity=(allow(NotResource=OWN),), context={NAME: "ada"}, resource=ADAS),
    "all but nobody's": Case(NOT_ALLOWED, identity=(allow(NotResource=OWN),), resource=ADAS),
    "a deny of all but nobody's": Case(
        DENIED, identity=(allow(Resource="*"), deny(NotResource=OWN)), resource=ADAS, evaluator=(ALLOWED, "unresolved")
    ),
    # Conditions together
    "both operators hold": Case(ALLOWED, identity=(allow(Condition=BOTH),), context={TEXT: "ada", SECURE: "true"}),
    "one operator does not": Case(NOT_ALLOWED, identity=(allow(Condition=BOTH),), context={TEXT: "ada", SECURE: "false"}),
    "both keys hold": Case(ALLOWED, identity=(allow(Condition=TWO_KEYS),), context={TEXT: "ada", NAME: "web"}),
    "one key does not": Case(NOT_ALLOWED, identity=(allow(Condition=TWO_KEYS),), context={TEXT: "ada", NAME: "x"}),
    "a deny whose condition holds": Case(
        DENIED, identity=(allow(), deny(Condition={"Bool": {SECURE: "false"}})), context={SECURE: "false"}
    ),
    "a deny whose condition does not hold": Case(
        ALLOWED, identity=(allow(), deny(Condition={"Bool": {SECURE: "false"}})), context={SECURE: "true"}
    ),
    "a deny from elsewhere": Case(
        DENIED, identity=(allow(), deny(Condition={"NotIpAddress": {SOURCE: "203.0.113.0/24"}})), context={SOURCE: "192.0.2.1"}
    ),
    "a deny from nowhere": Case(DENIED, identity=(allow(), deny(Condition={"NotIpAddress": {SOURCE: "203.0.113.0/24"}}))),
    "an operator in other case": Case(
        ALLOWED, identity=(allow(Condition={"stringequals": {TEXT.upper(): "ada"}}),), context={TEXT: "ada"}
    ),
    # Identity and resource policies together
    "the resource alone allows": Case(ALLOWED, standing=(allow(Principal={"AWS": USER}),)),
    "the resource allows anybody": Case(ALLOWED, standing=(allow(Principal="*"),)),
    "the resource allows any of AWS": Case(ALLOWED, standing=(allow(Principal={"AWS": "*"}),)),
    "the resource allows another": Case(NOT_ALLOWED, standing=(allow(Principal={"AWS": OTHER_USER}),)),
    "the resource allows one of two": Case(ALLOWED, standing=(allow(Principal={"AWS": [OTHER_USER, USER]}),)),
    "the resource allows another account": Case(NOT_ALLOWED, standing=(allow(Principal={"AWS": "111111111111"}),)),
    "the resource allows the account": Case(NOT_ALLOWED, standing=(allow(Principal={"AWS": ACCOUNT}),)),
    "the resource allows the account's root": Case(NOT_ALLOWED, standing=(allow(Principal={"AWS": ROOT}),)),
    "the resource allows the account, the identity allows": Case(
        ALLOWED, identity=(allow(),), standing=(allow(Principal={"AWS": ACCOUNT}),)
    ),
    "the identity allows, the resource says nothing of it": Case(
        ALLOWED, identity=(allow(),), standing=(allow(Principal={"AWS": OTHER_USER}),)
    ),
    "the identity allows, the resource denies": Case(DENIED, identity=(allow(),), standing=(deny(Principal={"AWS": USER}),)),
    "the identity allows, the resource denies anybody": Case(DENIED, identity=(allow(),), standing=(deny(Principal="*"),)),
    "the identity allows, the resource denies the account": Case(
        DENIED, identity=(allow(),), standing=(deny(Principal={"AWS": ACCOUNT}),)
    ),
    "the identity allows, the resource denies another": Case(
        ALLOWED, identity=(allow(),), standing=(deny(Principal={"AWS": OTHER_USER}),)
    ),
    "the resource allows, the identity denies": Case(DENIED, identity=(deny(),), standing=(allow(Principal="*"),)),
    "the resource denies everybody else": Case(
        DENIED, identity=(allow(),), standing=(deny(NotPrincipal={"AWS": OTHER_USER}),)
    ),
    "the resource denies everybody else but this one": Case(
        ALLOWED, identity=(allow(),), standing=(deny(NotPrincipal={"AWS": [USER, ACCOUNT]}),)
    ),
    "the resource denies everybody but the account": Case(
        ALLOWED, identity=(allow(),), standing=(deny(NotPrincipal={"AWS": ROOT}),)
    ),
    "the resource allows by condition": Case(
        ALLOWED, standing=(allow(Principal="*", Condition={"IpAddress": {SOURCE: "203.0.113.0/24"}}),),
        context={SOURCE: "203.0.113.7"},
    ),
    "the resource's condition does not hold": Case(
        NOT_ALLOWED, standing=(allow(Principal="*", Condition={"IpAddress": {SOURCE: "203.0.113.0/24"}}),),
        context={SOURCE: "192.0.2.1"},
    ),
    # Sessions of roles
    "a session by its role": Case(ALLOWED, standing=(allow(Principal={"AWS": ROLE}),), caller=SESSION),
    "a session by itself": Case(ALLOWED, standing=(allow(Principal={"AWS": SESSION}),), caller=SESSION),
    "another session of the role": Case(NOT_ALLOWED, standing=(allow(Principal={"AWS": SESSION}),), caller=OTHER_SESSION),
    "a session of another role": Case(
        NOT_ALLOWED, standing=(allow(Principal={"AWS": ROLE + "x"}),), caller=SESSION
    ),
    "a session denied by its role": Case(
        DENIED, identity=(allow(),), standing=(deny(Principal={"AWS": ROLE}),), caller=SESSION
    ),
    "a session exempt by its role": Case(
        ALLOWED, identity=(allow(),), standing=(deny(NotPrincipal={"AWS": [ROLE, ACCOUNT]}),), caller=SESSION
    ),
    # Nobody's key: the bearer of a token
    "a bearer whom anybody includes": Case(ALLOWED, standing=(allow(Principal="*"),), caller=None),
    "a bearer whom any of AWS includes": Case(ALLOWED, standing=(allow(Principal={"AWS": "*"}),), caller=None),
    "a bearer is not of the account": Case(NOT_ALLOWED, standing=(allow(Principal={"AWS": ACCOUNT}),), caller=None),
    "a bearer is not a user": Case(NOT_ALLOWED, standing=(allow(Principal={"AWS": USER}),), caller=None),
    "a bearer whom all are denied": Case(
        DENIED, standing=(allow(Principal="*"), deny(Principal="*", Condition={"Bool": {SECURE: "false"}})),
        context={SECURE: "false"}, caller=None,
    ),
    "a bearer is everybody else": Case(
        DENIED, standing=(allow(Principal="*"), deny(NotPrincipal={"AWS": ACCOUNT})), caller=None
    ),
}  # fmt: skip


def cases() -> Iterator[tuple[str, Case]]:
    """Yield every case of the three tables by its name."""
    for operator, key, values, table in CONDITIONS:
        for given, row in table.items():
            holds, why = row if isinstance(row, tuple) else (row, None)
            name = f"{operator} {key} {values!r} of {given!r}"
            condition = {operator: {key: values}}
            says = ALLOWED if holds else NOT_ALLOWED
            other = None if why is None else (NOT_ALLOWED if holds else ALLOWED, why)
            yield name, Case(says, identity=(allow(Condition=condition),), context={key: given}, evaluator=other)
    for name, condition, context, allows, denies in VARIABLES:
        says = ALLOWED if allows else NOT_ALLOWED
        yield f"a variable {name}", Case(says, identity=(allow(Condition=condition),), context=context)
        denied, why = denies if isinstance(denies, tuple) else (denies, None)
        other = None if why is None else (ALLOWED if denied else DENIED, why)
        statements = (allow(), deny(Condition=condition))
        says = DENIED if denied else ALLOWED
        yield f"a variable {name}, and denies", Case(says, identity=statements, context=context, evaluator=other)
    yield from WHOLE.items()
