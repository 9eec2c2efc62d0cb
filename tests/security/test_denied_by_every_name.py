"""A policy that stands at a runtime or at one of its endpoints denies, by whatever name an attacker calls it."""

import json
from urllib.parse import quote

import httpx2
import pytest

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import ACCOUNT, RunningGateway, register

PATHS = {
    "the ARN": ("{arn}", ""),
    "the ARN, with the qualifier": ("{arn}", "?qualifier=DEFAULT"),
    "the ARN, with an escaped qualifier": ("{arn}", "?qualifier=D%45FAULT"),
    "the ARN, with the qualifier in another case": ("{arn}", "?qualifier=default"),
    "the ARN, with an empty qualifier": ("{arn}", "?qualifier="),
    "the ARN, with two qualifiers": ("{arn}", "?qualifier=beta&qualifier=DEFAULT"),
    "the ARN, with colons as they are": ("{colons}", ""),
    "the ARN, escaped in lower case": ("{lower}", ""),
    "the ARN, escaped twice": ("{twice}", ""),
    "the ARN, every letter escaped": ("{letters}", ""),
    "the ARN, in upper case": ("{upper}", ""),
    "the ARN, of another partition": ("{partition}", ""),
    "the ARN, of another account": ("{account}", ""),
    "the ARN, of a version": ("{arn}%3A1", ""),
    "the ARN, with a slash behind it": ("{arn}%2F", ""),
    "the ARN of the endpoint": ("{arn}%2Fruntime-endpoint%2FDEFAULT", ""),
    "the ARN of another endpoint, with the qualifier": ("{arn}%2Fruntime-endpoint%2Fbeta", "?qualifier=DEFAULT"),
    "the id": ("{id}", f"?accountId={ACCOUNT}"),
    "the id, with the qualifier": ("{id}", f"?accountId={ACCOUNT}&qualifier=DEFAULT"),
    "the id, in another case": ("{other_case}", f"?accountId={ACCOUNT}"),
    "the id, with a null byte": ("{id}%00", f"?accountId={ACCOUNT}"),
}


def path_of(gateway: RunningGateway, arn: str, form: str) -> str:
    """Return the URL that names the runtime in this form."""
    runtime_id = arn.rpartition("/")[2]
    escaped = quote(arn, safe="")
    segment, query = PATHS[form]
    named = segment.format(
        arn=escaped,
        colons=quote(arn, safe=":"),
        lower=escaped.replace("%3A", "%3a").replace("%2F", "%2f"),
        twice=quote(escaped, safe=""),
        letters="".join(f"%{byte:02X}" for byte in arn.encode()),
        upper=quote(arn.upper(), safe=""),
        partition=quote(arn.replace("arn:aws:", "arn:aws-cn:"), safe=""),
        account=quote(arn.replace(ACCOUNT, "111111111111"), safe=""),
        id=runtime_id,
        other_case=runtime_id.swapcase(),
    )
    return f"{gateway.url}/runtimes/{named}/invocations{query}"


def answer(url: str, token: str) -> int:
    with httpx2.Client(trust_env=False, timeout=30, verify=False) as http:  # nothing here speaks TLS
        return int(http.post(url, content=b"{}", headers={"authorization": f"Bearer {token}"}).status_code)


def guarded(gateway: RunningGateway, agent: Agent, issuer: FakeIssuer, *, endpoint: str = "") -> str:
    """Register an agent with the endpoints DEFAULT and beta, which everybody may call but by a place that denies."""
    arn = register(gateway, agent.url, **guarded_by(issuer.discovery_url))
    gateway.control.create_agent_runtime_endpoint(agentRuntimeId=arn.rpartition("/")[2], name="beta")
    place = arn + endpoint
    deny = {"Effect": "Deny", "Principal": "*", "Action": "bedrock-agentcore:*", "Resource": place}
    gateway.control.put_resource_policy(
        resourceArn=place, policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    )
    return arn


@pytest.mark.parametrize("place", ["", "/runtime-endpoint/DEFAULT"], ids=["runtime", "endpoint"])
@pytest.mark.parametrize("form", PATHS)
def test_no_name_leads_round_a_denial(
    gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer, form: str, place: str
):
    arn = guarded(gateway, agent, jwt_issuer, endpoint=place)
    assert 400 <= answer(path_of(gateway, arn, form), token_of(jwt_issuer)) < 500
    assert agent.received == []


def test_a_denial_at_one_endpoint_is_none_at_another(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer):
    arn = guarded(gateway, agent, jwt_issuer, endpoint="/runtime-endpoint/DEFAULT")
    assert post(gateway, arn, token_of(jwt_issuer), query="qualifier=beta").status_code == 200


def test_a_denial_at_one_runtime_is_none_at_another(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer):
    guarded(gateway, agent, jwt_issuer)
    other = register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    assert post(gateway, other, token_of(jwt_issuer)).status_code == 200
