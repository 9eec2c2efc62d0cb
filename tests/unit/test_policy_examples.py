"""The policies of deploy/policies, which people copy: what each lets through, and what it must not."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.authorization import principal_context
from identity_gateway.model import IamPrincipal
from identity_gateway.protocol.policy import ANONYMOUS, KEYS, Caller, Held, Kind, check, parse, rule

ROOT = Path(__file__).parents[2]
FOLDER, HOWTO = ROOT / "deploy" / "policies", ROOT / "docs" / "howto" / "policies.md"
EXAMPLES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
STANDING = {name for name in EXAMPLES if name.startswith("resource-")}

ACCOUNT = "000000000000"
PREFIX = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:"
RUNTIME = PREFIX + "runtime/hello-AbCdEf1234"
OTHER = PREFIX + "runtime/other-AbCdEf1234"
AGENT = (RUNTIME, RUNTIME + "/runtime-endpoint/DEFAULT")
VAULT = PREFIX + "token-vault/default"
DIRECTORY = PREFIX + "workload-identity-directory/default"
USER_ID, CLAIM = "bedrock-agentcore:userid", "bedrock-agentcore:inboundjwtclaim/"
ISSUER, AUDIENCE = CLAIM + "iss", CLAIM + "aud"
TYPE, URL = "bedrock-agentcore:runtimeauthorizertype", "bedrock-agentcore:discoveryurl"
LOGIN = {ISSUER: ("https://login.example.com/",), AUDIENCE: ("https://agents.example.com/research", "x")}
GUARDED = {TYPE: ("CUSTOM_JWT",), URL: ("https://login.example.com/.well-known/openid-configuration",)}
OFFICE = {"aws:sourceip": ("203.0.113.7",), "aws:currenttime": ("2026-01-31T09:00:00Z",)}


def workload(name: str) -> tuple[str, ...]:
    return (DIRECTORY, f"{DIRECTORY}/workload-identity/{name}")


def provider(name: str, kind: str = "oauth2credentialprovider") -> tuple[str, ...]:
    return (*workload("ci"), VAULT, f"{VAULT}/{kind}/{name}")


# Example, action, resources, context, and whether the key `ci` is allowed.
DECIDED: list[tuple[str, str, tuple[str, ...], dict[str, Any], bool]] = [
    ("invoke-one-agent", "InvokeAgentRuntime", AGENT, {}, True),
    ("invoke-one-agent", "InvokeAgentRuntime", (RUNTIME, RUNTIME + "/runtime-endpoint/beta"), {}, False),
    ("invoke-one-agent", "InvokeAgentRuntime", (OTHER,), {}, False),
    ("invoke-one-agent", "InvokeAgentRuntimeForUser", AGENT, {USER_ID: ("shop/ada",)}, False),
    ("invoke-one-agent", "DeleteAgentRuntime", (RUNTIME,), {}, False),
    ("backend-for-users", "InvokeAgentRuntime", AGENT, {}, True),
    ("backend-for-users", "InvokeAgentRuntimeForUser", AGENT, {USER_ID: ("shop/ada",)}, True),
    ("backend-for-users", "InvokeAgentRuntimeForUser", AGENT, {USER_ID: ("bank/ada",)}, False),
    ("backend-for-users", "StopRuntimeSession", AGENT, {}, True),
    ("backend-for-users", "CompleteResourceTokenAuth", (VAULT,), {USER_ID: ("shop/ada",)}, True),
    ("backend-for-users", "CompleteResourceTokenAuth", (VAULT,), {USER_ID: ("bank/ada",)}, False),
    ("backend-for-users", "CompleteResourceTokenAuth", (VAULT,), {}, False),
    ("backend-for-users", "GetTokenVault", (VAULT,), {USER_ID: ("shop/ada",)}, False),
    ("agent-of-its-own", "GetWorkloadAccessTokenForJWT", workload("ci"), LOGIN, True),
    ("agent-of-its-own", "GetWorkloadAccessTokenForJWT", workload("other"), LOGIN, False),
    ("agent-of-its-own", "GetWorkloadAccessTokenForJWT", workload("ci"), LOGIN | {AUDIENCE: ("x",)}, False),
    ("agent-of-its-own", "GetWorkloadAccessTokenForJWT", workload("ci"), LOGIN | {ISSUER: ("https://evil/",)}, False),
    ("agent-of-its-own", "GetWorkloadAccessTokenForJWT", workload("ci"), {}, False),
    ("agent-of-its-own", "GetWorkloadAccessTokenForUserId", workload("ci"), LOGIN, False),
    ("agent-of-its-own", "GetResourceOauth2Token", provider("github"), {}, True),
    ("agent-of-its-own", "GetResourceOauth2Token", provider("slack"), {}, False),
    ("agent-of-its-own", "GetResourceApiKey", provider("github", "apikeycredentialprovider"), {}, False),
    ("register-guarded-agents", "CreateAgentRuntime", (PREFIX + "runtime/*",), GUARDED, True),
    ("register-guarded-agents", "CreateAgentRuntime", (PREFIX + "runtime/*",), {TYPE: ("AWS_IAM",)}, False),
    ("register-guarded-agents", "UpdateAgentRuntime", (RUNTIME,), GUARDED, True),
    ("register-guarded-agents", "UpdateAgentRuntime", (RUNTIME,), {TYPE: ("AWS_IAM",)}, False),
    ("register-guarded-agents", "CreateAgentRuntime", (PREFIX + "runtime/*",), GUARDED | {URL: ("https://x",)}, False),
    ("register-guarded-agents", "ListAgentRuntimes", (PREFIX + "runtime/*",), {}, True),
    ("register-guarded-agents", "DeleteAgentRuntime", (RUNTIME,), GUARDED, False),
    ("register-guarded-agents", "PutResourcePolicy", (RUNTIME,), {}, False),
    ("own-workloads", "CreateWorkloadIdentity", workload("ci-web"), {}, True),
    ("own-workloads", "DeleteWorkloadIdentity", workload("ci-web"), {}, True),
    ("own-workloads", "DeleteWorkloadIdentity", workload("bob-web"), {}, False),
    ("own-workloads", "ListWorkloadIdentities", (DIRECTORY,), {}, True),
    ("own-workloads", "GetWorkloadAccessToken", workload("ci-web"), {}, False),
    ("auditor", "GetAgentRuntime", (RUNTIME,), {}, True),
    ("auditor", "GetResourcePolicy", (RUNTIME,), {}, True),
    ("auditor", "ListTagsForResource", (RUNTIME,), {}, True),
    ("auditor", "GetWorkloadAccessTokenForUserId", workload("ci"), {}, False),
    ("auditor", "GetResourceOauth2Token", provider("github"), {}, False),
    ("auditor", "GetResourceApiKey", provider("x", "apikeycredentialprovider"), {}, False),
    ("auditor", "UpdateAgentRuntime", (RUNTIME,), {}, False),
    ("operator-from-the-office", "DeleteAgentRuntime", (RUNTIME,), OFFICE, True),
    ("operator-from-the-office", "DeleteAgentRuntime", (RUNTIME,), OFFICE | {"aws:sourceip": ("192.0.2.1",)}, False),
    ("operator-from-the-office", "DeleteAgentRuntime", (RUNTIME,), OFFICE | {"aws:sourceip": ()}, False),
    ("operator-from-the-office", "GetTokenVault", (VAULT,), OFFICE | {"aws:sourceip": ("2001:db8:1::7",)}, True),
    ("operator-from-the-office", "GetTokenVault", (VAULT,), OFFICE | {"aws:currenttime": ("2028-01-01T00:00:00Z",)}, False),
]  # fmt: skip

# Example, caller (None: the bearer of a token), context, and whether an invocation is denied by the resource.
DENIED_THERE: list[tuple[str, str | None, dict[str, Any], bool]] = [
    ("resource-one-network", None, OFFICE, False),
    ("resource-one-network", None, {"aws:sourceip": ("192.0.2.1",)}, True),
    ("resource-one-network", None, {}, True),
    ("resource-one-network", "user/ci", {"aws:sourceip": ("192.0.2.1",)}, True),
    ("resource-one-caller", "user/shop", {}, False),
    ("resource-one-caller", "user/ci", {}, True),
    ("resource-one-caller", None, {}, True),
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_policy_that_the_gateway_takes(name: str):
    if name in STANDING:
        assert check(EXAMPLES[name], kind=Kind.RESOURCE, resource=RUNTIME) == []
    else:
        assert check(EXAMPLES[name]) == []


@pytest.mark.parametrize(("name", "action", "resources", "context", "allowed"), DECIDED)
def test_an_example_allows_what_its_page_says_and_no_more(
    name: str, action: str, resources: tuple[str, ...], context: dict[str, Any], allowed: bool
):
    caller = IamPrincipal(ACCOUNT, "IGAKAAAABBBBCCCCDDDD", "ci", admin=False, policy=None)
    held = Held(Caller(caller.names, ACCOUNT), identity=parse(EXAMPLES[name]))
    ruling = rule(held, f"bedrock-agentcore:{action}", resources, {**context, **principal_context(caller)})
    assert (ruling.decision.value == "allowed") is allowed


@pytest.mark.parametrize(("name", "caller", "context", "denied"), DENIED_THERE)
def test_an_example_at_a_resource_denies_whom_its_page_says(
    name: str, caller: str | None, context: dict[str, Any], denied: bool
):
    who = ANONYMOUS if caller is None else Caller((f"arn:aws:iam::{ACCOUNT}:{caller}",), ACCOUNT)
    standing = {RUNTIME: parse(EXAMPLES[name], kind=Kind.RESOURCE)}
    ruling = rule(Held(who, standing=standing), "bedrock-agentcore:InvokeAgentRuntime", (RUNTIME,), context)
    assert (ruling.decision.value == "explicitly denied") is denied


def test_every_example_is_decided_about_and_stands_on_the_page():
    assert {name for name, *_ in (*DECIDED, *DENIED_THERE)} == set(EXAMPLES)
    shown = set(re.findall(r"deploy/policies/([a-z-]+)\.json", HOWTO.read_text()))
    assert shown == set(EXAMPLES)


def test_the_page_has_every_condition_key_and_no_other():
    shown = set(
        re.findall(
            r"`((?:aws|sts|bedrock-agentcore):[A-Za-z_/]+)`",
            HOWTO.read_text().partition("## Condition keys")[2].partition("\n## ")[0],
        )
    )
    assert shown == {key.name for key in KEYS.values()}
