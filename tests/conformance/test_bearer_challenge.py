"""Which door a caller is shown: 401 with the way to a token, 403 without one, and the documents of RFC 9728.

Runtimes of both kinds stand side by side; each accepts its own scheme only, and an unknown one tells nobody that it is.
"""

import re
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import httpx2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.agents import Agent
from tests.callers import guarded_by, post, token_of
from tests.fakes.authority import Authority
from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.gateways import ACCOUNT, REGION, RunningGateway, register

METADATA = "/.well-known/oauth-protected-resource"
UNKNOWN = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/nobody-AbCdEf1234"
MISMATCH = (
    "Authorization method mismatch. The agent is configured for a different authorization method than what was used in "
    "your request. Check the agent's authorization configuration and ensure your request uses the matching method "
    "(OAuth or SigV4)"
)


@pytest.fixture(scope="module")
def guarded(gateway: RunningGateway, _agent_server: Agent, jwt_issuer: FakeIssuer) -> str:
    """The ARN of a runtime that asks for a JWT."""
    return register(gateway, _agent_server.url, **guarded_by(jwt_issuer.discovery_url))


@pytest.fixture(scope="module")
def scoped(gateway: RunningGateway, _agent_server: Agent, jwt_issuer: FakeIssuer) -> str:
    """The ARN of a runtime whose scopes have other names where clients ask for them."""
    rules = {
        "allowedScopes": ["invoke", "read"],
        "advertisedScopeMapping": {"invoke": "api://agents/invoke"},
    }
    return register(gateway, _agent_server.url, **guarded_by(jwt_issuer.discovery_url, **rules))


@pytest.fixture(scope="module")
def signed(gateway: RunningGateway, _agent_server: Agent) -> str:
    """The ARN of a runtime that asks for a signature."""
    return register(gateway, _agent_server.url)


@pytest.fixture
def forged(jwt_issuer: FakeIssuer) -> str:
    """A token with the right claims and key id, and somebody else's signature."""
    return token_of(jwt_issuer, key=SigningKey.make(kid=jwt_issuer.keys[0].kid))


def challenge(response: httpx2.Response) -> dict[str, str]:
    """Return the parameters of a Bearer challenge."""
    scheme, _, rest = response.headers["www-authenticate"].partition(" ")
    assert scheme == "Bearer"
    return dict(re.findall(r'(\w+)="([^"]*)"', rest))


def error_of(response: httpx2.Response) -> tuple[int, str, str]:
    """Return status, AWS error code and message."""
    return response.status_code, response.headers["x-amzn-errortype"], response.json()["message"]


def get(url: str) -> httpx2.Response:
    return httpx2.get(url, trust_env=False)


# --- A runtime that asks for a JWT ---------------------------------------------------------------------------------------


def test_a_caller_without_a_token_is_shown_where_to_learn_about_one(gateway: RunningGateway, guarded: str):
    response = post(gateway, guarded, None)
    assert error_of(response)[:2] == (401, "UnauthorizedException")
    assert challenge(response) == {
        "resource_metadata": f"{gateway.url}/runtimes/{quote(guarded, safe='')}/invocations{METADATA}?qualifier=DEFAULT"
    }


def test_the_challenge_names_the_endpoint_that_was_asked_for(gateway: RunningGateway, guarded: str):
    response = post(gateway, guarded, None, query="qualifier=PROD")
    assert response.status_code == 403  # there is no such endpoint: like a runtime that does not exist
    runtime_id = guarded.rpartition("/")[2]
    gateway.control.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="PROD")
    response = post(gateway, guarded, None, query="qualifier=PROD")
    assert challenge(response)["resource_metadata"].endswith(f"{METADATA}?qualifier=PROD")


def test_the_metadata_names_the_very_url_of_a_call_without_a_qualifier(gateway: RunningGateway, guarded: str):
    metadata = get(challenge(post(gateway, guarded, None, query=""))["resource_metadata"]).json()
    assert metadata["resource"] == gateway.invocation_url(guarded, query="")


def test_the_challenge_names_the_scopes_as_clients_ask_for_them(gateway: RunningGateway, scoped: str):
    assert challenge(post(gateway, scoped, None))["scope"] == "api://agents/invoke read"


def test_the_document_that_the_challenge_names_is_there(gateway: RunningGateway, guarded: str):
    url = challenge(post(gateway, guarded, None))["resource_metadata"]
    assert get(url).status_code == 200


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"exp": 1}, "expired"), ({"aud": "another"}, "audience"), ({"iss": "https://other.example"}, "issuer")],
    ids=["expired", "for another audience", "of another issuer"],
)
def test_a_token_that_is_refused_is_called_invalid_and_not_told_why(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer, changes: dict[str, Any], why: str
):
    response = post(gateway, guarded, token_of(jwt_issuer, **changes))
    assert error_of(response) == (401, "UnauthorizedException", "The bearer token is missing or not valid.")
    assert challenge(response)["error"] == "invalid_token"
    assert why not in response.text


@pytest.mark.parametrize("authorization", ["Basic YWRhOnBhc3N3b3Jk", "Negotiate abc", ""], ids=repr)
def test_a_caller_who_shows_no_bearer_token_is_not_told_that_it_is_invalid(
    gateway: RunningGateway, agent: Agent, guarded: str, authorization: str
):
    response = post(gateway, guarded, None, headers=[("authorization", authorization)])
    assert (response.status_code, "error" in challenge(response)) == (401, False)
    assert agent.received == []


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer a b", "Bearer  a", "Bearer a,b", "Bearer é"], ids=repr)
def test_a_bearer_token_that_is_not_one_word_is_invalid(
    gateway: RunningGateway, agent: Agent, guarded: str, authorization: str
):
    with httpx2.Client(trust_env=False) as http:
        response = http.post(gateway.invocation_url(guarded), headers=[(b"authorization", authorization.encode())])
    assert (response.status_code, challenge(response)["error"]) == (401, "invalid_token")
    assert agent.received == []


def test_a_token_without_the_scope_is_told_which_scopes_would_do(
    gateway: RunningGateway, agent: Agent, scoped: str, jwt_issuer: FakeIssuer
):
    response = post(gateway, scoped, token_of(jwt_issuer, scope="write"))
    assert error_of(response)[:2] == (403, "AccessDeniedException")
    assert challenge(response) == {
        "resource_metadata": f"{gateway.url}/runtimes/{quote(scoped, safe='')}/invocations{METADATA}?qualifier=DEFAULT",
        "error": "insufficient_scope",
        "scope": "api://agents/invoke read",
    }
    assert agent.received == []


def test_a_signature_on_a_runtime_that_asks_for_a_jwt_is_a_mismatch(gateway: RunningGateway, guarded: str):
    with pytest.raises(ClientError) as refused:
        gateway.data.invoke_agent_runtime(agentRuntimeArn=guarded, payload=b"{}")
    assert refused.value.response["Error"] == {"Code": "AccessDeniedException", "Message": MISMATCH}
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_the_name_of_the_scheme_is_read_in_any_case(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer, scheme: str
):
    response = post(gateway, guarded, None, headers=[("authorization", f"{scheme} {token_of(jwt_issuer)}")])
    assert response.status_code == 200


def test_two_authorization_headers_are_refused_though_both_hold_a_good_token(
    gateway: RunningGateway, agent: Agent, guarded: str, jwt_issuer: FakeIssuer
):
    token = token_of(jwt_issuer)
    response = post(gateway, guarded, token, headers=[("authorization", f"Bearer {token}")])
    assert error_of(response)[:2] == (400, "ValidationException")
    assert agent.received == []


def test_a_token_in_the_query_is_not_looked_at(
    gateway: RunningGateway, agent: Agent, guarded: str, jwt_issuer: FakeIssuer
):
    response = post(gateway, guarded, None, query=f"qualifier=DEFAULT&access_token={token_of(jwt_issuer)}")
    assert (response.status_code, "error" in challenge(response)) == (401, False)
    assert agent.received == []


def test_a_token_in_the_body_is_not_looked_at(
    gateway: RunningGateway, agent: Agent, guarded: str, jwt_issuer: FakeIssuer
):
    form = [("content-type", "application/x-www-form-urlencoded")]
    response = post(gateway, guarded, None, f"access_token={token_of(jwt_issuer)}".encode(), headers=form)
    assert response.status_code == 401
    assert agent.received == []


# --- A runtime that asks for a signature ---------------------------------------------------------------------------------


def test_a_call_without_credentials_is_refused_as_aws_does(gateway: RunningGateway, agent: Agent, signed: str):
    response = post(gateway, signed, None)
    assert error_of(response) == (403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    assert "www-authenticate" not in response.headers
    assert agent.received == []


def test_a_good_token_on_a_runtime_that_asks_for_a_signature_is_a_mismatch(
    gateway: RunningGateway, agent: Agent, signed: str, jwt_issuer: FakeIssuer
):
    response = post(gateway, signed, token_of(jwt_issuer))
    assert error_of(response) == (403, "AccessDeniedException", MISMATCH)
    assert "www-authenticate" not in response.headers
    assert agent.received == []


# --- A runtime that does not exist ---------------------------------------------------------------------------------------


def test_a_token_learns_nothing_about_a_runtime_that_does_not_exist(gateway: RunningGateway, guarded: str, forged: str):
    unknown, known = (post(gateway, arn, forged) for arn in (UNKNOWN, guarded))

    def told(response: httpx2.Response, arn: str) -> Any:
        fixed = {
            name: value.replace(quote(arn, safe=""), "ARN")
            for name, value in response.headers.items()
            if name not in {"x-amzn-requestid", "date"}
        }
        return response.status_code, fixed, response.content

    assert told(unknown, UNKNOWN) == told(known, guarded)


def test_a_call_without_credentials_learns_nothing_about_a_runtime_that_does_not_exist(
    gateway: RunningGateway, signed: str
):
    assert error_of(post(gateway, UNKNOWN, None)) == error_of(post(gateway, signed, None))


def test_a_good_signature_learns_that_a_runtime_does_not_exist(gateway: RunningGateway):
    with pytest.raises(ClientError) as refused:
        gateway.data.invoke_agent_runtime(agentRuntimeArn=UNKNOWN, payload=b"{}")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_wrong_signature_learns_nothing_about_a_runtime_that_does_not_exist(gateway: RunningGateway, signed: str):
    client = gateway.client("bedrock-agentcore", key=(gateway.root_key[0], "not-the-secret"))
    told = []
    for arn in (UNKNOWN, signed):
        with pytest.raises(ClientError) as refused:
            client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")
        told.append(refused.value.response["Error"])
    assert told[0]["Code"] == "InvalidSignatureException"
    assert told[0] == told[1]


# --- Protected resource metadata (RFC 9728) ------------------------------------------------------------------------------


def test_the_document_names_the_resource_and_who_issues_tokens_for_it(
    gateway: RunningGateway, guarded: str, jwt_issuer: FakeIssuer
):
    url = f"{gateway.url}/runtimes/{quote(guarded, safe='')}/invocations"
    response = get(f"{url}{METADATA}?qualifier=DEFAULT")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "resource": f"{url}?qualifier=DEFAULT",
        "authorization_servers": [jwt_issuer.issuer],
        "bearer_methods_supported": ["header"],
    }


def test_the_document_of_a_call_without_a_qualifier_names_it_without_one(gateway: RunningGateway, guarded: str):
    url = f"{gateway.url}/runtimes/{quote(guarded, safe='')}/invocations"
    assert get(url + METADATA).json()["resource"] == url


def test_the_document_names_the_scopes_as_clients_ask_for_them(gateway: RunningGateway, scoped: str):
    response = get(f"{gateway.url}/runtimes/{quote(scoped, safe='')}/invocations{METADATA}?qualifier=DEFAULT")
    assert response.json()["scopes_supported"] == ["api://agents/invoke", "read"]


def test_a_runtime_that_asks_for_a_signature_and_an_unknown_one_have_no_document(gateway: RunningGateway, signed: str):
    told = [get(f"{gateway.url}/runtimes/{quote(arn, safe='')}/invocations{METADATA}") for arn in (signed, UNKNOWN)]
    assert [error_of(response)[:2] for response in told] == [(404, "ResourceNotFoundException")] * 2
    assert told[0].json() == told[1].json()


def test_the_document_is_read_and_not_posted_to(gateway: RunningGateway, guarded: str):
    url = f"{gateway.url}/runtimes/{quote(guarded, safe='')}/invocations{METADATA}"
    assert httpx2.post(url, trust_env=False).status_code == 404


# --- TLS, and boto3 with a bearer token ----------------------------------------------------------------------------------


class TlsGateway(RunningGateway):
    """A gateway that speaks TLS with a certificate of the test's own authority."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.ca_file = authority.ca_file
        self._trust = authority.trust()
        certified = str(authority.certify("127.0.0.1"))
        super().__init__(folder, tls_cert_file=certified, tls_key_file=certified)
        self.url = f"https://127.0.0.1:{self.port}"

    def status(self, path: str) -> int:
        try:
            return httpx2.get(self.url + path, verify=self._trust, trust_env=False, timeout=5).status_code
        except httpx2.HTTPError:
            return 0

    def client(self, service: str, **options: Any) -> Any:
        key_id, secret = options.pop("key", None) or self.root_key
        return boto3.session.Session().client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            verify=str(self.ca_file),
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, **options),
        )


@pytest.fixture(scope="module")
def tls_gateway() -> Iterator[TlsGateway]:
    folder = Path(tempfile.mkdtemp(prefix="gateway-tls-"))
    running = TlsGateway(folder, Authority(folder))
    try:
        yield running.start()
    finally:
        running.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_boto3_with_a_bearer_token_from_its_environment_is_let_in(
    tls_gateway: TlsGateway, agent: Agent, jwt_issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
):
    arn = register(tls_gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK_AGENTCORE", token_of(jwt_issuer))
    client = tls_gateway.client("bedrock-agentcore", signature_version="bearer")
    response = client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b'{"echo": 1}')
    assert (response["statusCode"], len(agent.received)) == (200, 1)


def test_boto3_with_a_forged_bearer_token_is_refused(
    tls_gateway: TlsGateway, agent: Agent, jwt_issuer: FakeIssuer, forged: str, monkeypatch: pytest.MonkeyPatch
):
    arn = register(tls_gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK_AGENTCORE", forged)
    client = tls_gateway.client("bedrock-agentcore", signature_version="bearer")
    with pytest.raises(ClientError, match="UnauthorizedException"):
        client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")
    assert agent.received == []


def test_the_challenge_of_a_gateway_with_tls_is_an_https_url(
    tls_gateway: TlsGateway, agent: Agent, jwt_issuer: FakeIssuer
):
    arn = register(tls_gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))
    trust = ssl.create_default_context(cafile=str(tls_gateway.ca_file))
    response = httpx2.post(tls_gateway.invocation_url(arn), verify=trust, trust_env=False)
    assert challenge(response)["resource_metadata"].startswith(f"https://127.0.0.1:{tls_gateway.port}/runtimes/")
