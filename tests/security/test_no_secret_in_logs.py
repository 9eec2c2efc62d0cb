"""Secrets in logs: every kind of credential is shown to a gateway, in every place, and none may be found anywhere after.

«Anywhere» is the log, the body and headers of every error, the audit table and the metrics. Good and bad credentials
count alike: a mistyped secret is nearly the right one.
"""

import base64
import json
import re
import socket
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer, SigningKey
from tests.gateways import ROLE, RunningGateway, register, running_gateway

MASTER_KEY = base64.b64encode(b"MasterKeyMasterKeyMasterKey12345").decode()
SECRETS = {
    "the master key": MASTER_KEY,
    "a wrong secret": "WrongSecretWrongSecretWrongSecret",
    "the metrics token": "MetricsTokenMetricsToken02",
    "a wrong metrics token": "MetricsTokenWrongWrong03",
    "a session token": "SessionTokenSessionToken04",
    "a basic password": "BasicPassword05",
    "a cookie": "CookieValueCookieValue06",
    "a proxy password": "ProxyPassword07",
    "an API key": "ApiKeyApiKeyApiKey08",
    "an environment variable": "EnvironmentSecret09",
    "a value that fails validation": "InvalidValueSecret10",
    "a name that fails validation": "InvalidNameSecret11",
    "JSON that ends too soon": "BrokenJsonSecret12",
    "a value of another type": "WrongTypeSecret13",
    "a query parameter": "QuerySecret14",
    "a path segment": "PathSecret15",
    "a header that is refused": "RefusedHeaderSecret16",
    "a forwarded header": "ForwardedHeaderSecret17",
    "a payload": "PayloadSecret18",
    "a tag": "TagSecret19",
    "an opaque bearer token": "OpaqueBearerSecret20",
    "what an agent says when it fails": "AgentSecret21",
    "a digest answer": "DigestSecret22",
    "a malformed request": "MalformedSecret23",
    "a discovery URL": "DiscoverySecret24",
}
FORWARDED = "x-amzn-bedrock-agentcore-runtime-custom-key"


@dataclass
class Shown:
    """What was shown to the gateway, and what it answered when it refused."""

    secrets: dict[str, str] = field(default_factory=lambda: dict(SECRETS))
    refusals: list[tuple[int, str]] = field(default_factory=list)
    granted: int = 0

    def token(self, name: str, token: str) -> str:
        """Note the parts of a token that only its holder should have: what it says, and its signature."""
        for part, value in zip(("header", "payload", "signature"), token.split("."), strict=False):
            if len(value) >= 40 or part == "signature":
                self.secrets[f"the {part} of {name}"] = value
        return token


@pytest.fixture(scope="module")
def watched() -> Iterator[RunningGateway]:
    with running_gateway(
        master_key=MASTER_KEY,
        metrics_token=SECRETS["the metrics token"],
        log_level="debug",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def shown(watched: RunningGateway, _agent_server: Agent, jwt_issuer: FakeIssuer) -> Shown:
    """Everything was shown to the gateway, which then was asked for its metrics."""
    said = Shown()
    said.secrets["the root secret"] = watched.root_key[1]
    with httpx2.Client(trust_env=False, timeout=30) as http:
        sign(watched, said, _agent_server)
        bear(watched, said, http, _agent_server, jwt_issuer)
        vend(watched, said, jwt_issuer)
        register_badly(watched, said)
        stray(watched, said, http)
    return said


def attempt(said: Shown, call: Any, **asked: Any) -> dict[str, Any]:
    """Call with boto3; keep what a refusal says."""
    try:
        answer: dict[str, Any] = call(**asked)
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
        said.refusals.append((metadata["HTTPStatusCode"], json.dumps(error.response, default=str)))
        return {}
    except BotoCoreError:
        return {}
    said.granted += 1
    return answer


def send(said: Shown, http: httpx2.Client, method: str, url: str, **more: Any) -> None:
    """Send a plain request; keep what a refusal says."""
    answer = http.request(method, url, **more)
    if answer.is_success:
        said.granted += 1
    else:
        said.refusals.append((answer.status_code, f"{answer.headers!r}\n{answer.text}"))


def sign(running: RunningGateway, said: Shown, agent: Agent) -> None:
    """Signatures: good, wrong, with a session token, by an unknown key; over payloads and headers."""
    wrong = (running.root_key[0], SECRETS["a wrong secret"])
    data, control = running.data, running.control
    allowlist = {"requestHeaderConfiguration": {"requestHeaderAllowlist": [FORWARDED]}}
    made = attempt(said, control.create_agent_runtime, **runtime(agent.url))
    arn = made["agentRuntimeArn"]
    payload = json.dumps({"prompt": SECRETS["a payload"]})
    attempt(said, data.invoke_agent_runtime, agentRuntimeArn=arn, payload=payload)
    fails = json.dumps({"status": 500, "body": "failed"})
    attempt(said, data.invoke_agent_runtime, agentRuntimeArn=arn, payload=fails)
    for key in (wrong, ("IGNOBODY", SECRETS["a wrong secret"])):
        attempt(
            said,
            running.client("bedrock-agentcore", key=key).invoke_agent_runtime,
            agentRuntimeArn=arn,
            payload=payload,
        )
        attempt(said, running.client("bedrock-agentcore-control", key=key).list_agent_runtimes)
    session = running.client("bedrock-agentcore-control")
    session._request_signer._credentials.token = SECRETS["a session token"]
    attempt(said, session.list_agent_runtimes)
    updated = runtime(agent.url) | allowlist | {"environmentVariables": {"KEY": SECRETS["an environment variable"]}}
    del updated["agentRuntimeName"]
    attempt(said, control.update_agent_runtime, agentRuntimeId=made["agentRuntimeId"], **updated)
    attempt(
        said,
        control.create_agent_runtime,
        **runtime(agent.url),
        environmentVariables={"K": SECRETS["an environment variable"]},
    )

    def add(request: Any, **_: Any) -> None:
        request.headers[FORWARDED] = SECRETS["a forwarded header"]

    data.meta.events.register("before-sign.bedrock-agentcore.InvokeAgentRuntime", add)
    attempt(said, data.invoke_agent_runtime, agentRuntimeArn=arn, payload=b"{}")
    data.meta.events.unregister("before-sign.bedrock-agentcore.InvokeAgentRuntime", add)
    data.meta.events.register("before-send.bedrock-agentcore.InvokeAgentRuntime", add)
    attempt(said, data.invoke_agent_runtime, agentRuntimeArn=arn, payload=b"{}")
    attempt(said, control.tag_resource, resourceArn=arn, tags={"key": SECRETS["a tag"]})
    attempt(said, control.tag_resource, resourceArn=arn, tags={"aws:reserved": SECRETS["a tag"]})


def runtime(url: str) -> dict[str, Any]:
    return {
        "agentRuntimeName": "watched",
        "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": url}},
        "roleArn": ROLE,
        "networkConfiguration": {"networkMode": "PUBLIC"},
    }


def bear(running: RunningGateway, said: Shown, http: httpx2.Client, agent: Agent, issuer: FakeIssuer) -> None:
    """Tokens: good, expired, forged, unsigned, for nobody; in the header, the query, the body, and as other schemes."""
    guarded = running.invocation_url(register(running, agent.url, name="guarded", **guarded_by(issuer.discovery_url)))
    unguarded = running.invocation_url(register(running, agent.url, name="unguarded"))
    stranger = SigningKey.make("ES256", "stranger")
    good = said.token("a good token", token_of(issuer))
    header, payload, signature = good.split(".")
    tokens = [
        good,
        said.token("an expired token", token_of(issuer, exp=int(time.time()) - 1000)),
        said.token("a forged token", token_of(issuer, key=stranger)),
        said.token("a token for others", token_of(issuer, aud="others-and-nobody-else")),
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[::-1]}",
        said.token("a token without algorithm", issuer.keys[0].token({"sub": "someone-with-a-name"}, {"alg": "none"})),
        SECRETS["an opaque bearer token"],
        f"{header}.{SECRETS['an opaque bearer token']}",
    ]
    said.secrets["a signature backwards"] = signature[::-1]
    for url in (guarded, unguarded):
        for token in tokens:
            send(said, http, "POST", url, content=b"{}", headers={"authorization": f"Bearer {token}"})
        basic = base64.b64encode(f"user:{SECRETS['a basic password']}".encode()).decode()
        said.secrets["a basic password as it is sent"] = basic
        for scheme in (f"Basic {basic}", f'Digest response="{SECRETS["a digest answer"]}"', SECRETS["an API key"]):
            send(said, http, "POST", url, content=b"{}", headers={"authorization": scheme})
    for where in ("access_token", "token", "qualifier", "accountId"):
        send(said, http, "POST", f"{guarded}&{where}={good}", content=b"{}")
        send(said, http, "POST", f"{guarded}&{where}={SECRETS['a query parameter']}", content=b"{}")
    send(said, http, "POST", guarded, data={"access_token": good})
    twice = [("authorization", f"Bearer {good}"), ("authorization", f"Bearer {tokens[2]}")]
    send(said, http, "POST", guarded, content=b"{}", headers=twice)
    beside = {"cookie": f"session={SECRETS['a cookie']}", "x-api-key": SECRETS["an API key"], "dpop": good}
    beside["proxy-authorization"] = f"Basic {SECRETS['a proxy password']}"
    send(said, http, "POST", guarded, content=b"{}", headers=beside)
    send(said, http, "POST", guarded, content=b"{}", headers=beside | {"authorization": f"Bearer {good}"})
    told = json.dumps({"status": 500, "headers": {"x-secret": SECRETS["what an agent says when it fails"]}}).encode()
    send(said, http, "POST", guarded, content=told, headers={"authorization": f"Bearer {good}"})


def vend(running: RunningGateway, said: Shown, issuer: FakeIssuer) -> None:
    """Workload access tokens: minted for good and bad user tokens, and shown where they do not belong."""
    control, data = running.control, running.data
    attempt(said, control.create_workload_identity, name="watched-identity")
    minted = attempt(said, data.get_workload_access_token, workloadName="watched-identity")["workloadAccessToken"]
    said.secrets["a workload access token"] = minted
    for user_token in (
        said.token("a user token", token_of(issuer, sub="a-user-of-some-length")),
        said.token("a forged user token", token_of(issuer, key=SigningKey.make("ES256", "stranger"))),
        said.token(
            "a user token of nobody", SigningKey.make().token({"iss": "http://127.0.0.1:9", "sub": "nobody-at-all"})
        ),
        SECRETS["an opaque bearer token"],
    ):
        for workload in ("watched-identity", "no-such-identity"):
            answer = attempt(said, data.get_workload_access_token_for_jwt, workloadName=workload, userToken=user_token)
            if answer:
                said.secrets["a user's workload access token"] = answer["workloadAccessToken"]
    attempt(said, data.get_resource_oauth2_token, workloadIdentityToken=minted, resourceCredentialProviderName="x",
            scopes=["y"], oauth2Flow="M2M")  # fmt: skip
    attempt(said, data.get_resource_api_key, workloadIdentityToken=minted, resourceCredentialProviderName="x")
    attempt(said, control.create_api_key_credential_provider, name="x", apiKey=SECRETS["an API key"])
    attempt(said, control.list_gateways, nextToken=SECRETS["an API key"])  # AWS's own, and not served
    with httpx2.Client(trust_env=False) as http:
        for header in ("workloadaccesstoken", "x-amz-bedrock-agentcore-identity-wat", "authorization"):
            send(said, http, "POST", running.url + "/identities/GetWorkloadAccessToken", headers={header: minted})


def register_badly(running: RunningGateway, said: Shown) -> None:
    """Input that is refused after its caller was known: the values stand next to what is wrong with them."""
    control = running.control
    good, invalid = runtime("http://127.0.0.1:9"), SECRETS["a value that fails validation"]
    name, header = SECRETS["a name that fails validation"], SECRETS["a header that is refused"]
    discovery = f"https://user:{SECRETS['a discovery URL']}@127.0.0.1/.well-known/openid-configuration"
    for change in (
        {"agentRuntimeName": f"{invalid} with blanks"},
        {"roleArn": invalid},
        {"agentRuntimeArtifact": {"containerConfiguration": {"containerUri": f"ftp://user:{invalid}@host/"}}},
        {"agentRuntimeArtifact": {"containerConfiguration": {"containerUri": f"http://user:{invalid}@host/"}}},
        {"networkConfiguration": {"networkMode": invalid}},
        {"environmentVariables": {"KEY": invalid * 1000}},
        {"environmentVariables": {"KEY": ["not", invalid]}},
        {"environmentVariables": SECRETS["a value of another type"]},
        {"clientToken": invalid},
        {"protocolConfiguration": {"serverProtocol": invalid}},
        {"lifecycleConfiguration": {"maxLifetime": SECRETS["a value of another type"]}},
        {"requestHeaderConfiguration": {"requestHeaderAllowlist": [f"{header} "]}},
        guarded_by(discovery),
        guarded_by(invalid),
        {name: name},
    ):
        send_signed(said, control, json.dumps(good | change).encode())
    broken = SECRETS["JSON that ends too soon"].encode()
    for text in (b'{"name": "%s', b'{"name": "%s"} trailing', b'["%s"]', b'{"%s": 1, "%s": 2}', b"\xff%s"):
        send_signed(said, control, text.replace(b"%s", broken))
    attempt(said, control.list_agent_runtimes, nextToken=invalid)


def send_signed(said: Shown, control: Any, body: bytes) -> None:
    """Send a well-signed CreateAgentRuntime with this body, whatever it is."""

    def replace(request: Any, **_: Any) -> None:
        request.data = body

    control.meta.events.register("before-sign", replace, unique_id="replace")
    attempt(said, control.create_agent_runtime, **runtime("http://127.0.0.1:9"))
    control.meta.events.unregister("before-sign", unique_id="replace")


def stray(running: RunningGateway, said: Shown, http: httpx2.Client) -> None:
    """Requests that are no calls: unknown paths, metrics, and what is not HTTP."""
    path, header = SECRETS["a path segment"], SECRETS["a header that is refused"]
    for target in (
        f"/{path}",
        f"/runtimes/{path}/invocations",
        f"/runtimes/{urllib.parse.quote('arn:' + path, safe='')}/x",
    ):
        for method in ("GET", "POST", "PUT", "DELETE"):
            send(said, http, method, running.url + target, headers={"x-secret": header})
    for token in (SECRETS["the metrics token"], SECRETS["a wrong metrics token"]):
        send(said, http, "GET", running.url + "/metrics", headers={"authorization": f"Bearer {token}"})
    for piece in (
        b"GET /%s HTTP/9\r\n\r\n",
        b"%s\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nauthorization : Bearer %s\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(piece.replace(b"%s", SECRETS["a malformed request"].encode()))
            with suppress(ConnectionResetError):
                said.refusals.append((400, connection.recv(65536).decode("latin-1")))


def found_in(text: str, shown: Shown) -> list[str]:
    return [name for name, secret in shown.secrets.items() if secret in text]


def test_what_was_shown_was_partly_granted_and_partly_refused(shown: Shown):
    statuses = {status for status, _ in shown.refusals}
    assert (shown.granted > 10, len(shown.refusals) > 80, {400, 401, 403, 404, 501} <= statuses) == (True, True, True)


def test_no_credential_failed_for_a_reason_that_nobody_foresaw(watched: RunningGateway, shown: Shown):
    assert [text for status, text in shown.refusals if status == 500] == []
    assert ("unforeseen" in watched.log, "Traceback" in watched.log) == (False, False)


def test_no_secret_is_in_the_log(watched: RunningGateway, shown: Shown):
    assert watched.log.count('"event": "request"') > 80
    assert found_in(watched.log, shown) == []


def test_no_part_of_a_token_is_in_the_log(watched: RunningGateway, shown: Shown):
    assert re.findall(r"eyJ[A-Za-z0-9_-]{4}", watched.log) == []


def test_no_secret_is_in_the_answer_to_a_refused_call(shown: Shown):
    leaks = [(name, text[:300]) for _, text in shown.refusals for name in found_in(text, shown)]
    assert leaks == []


def test_no_secret_is_in_the_audit_table(watched: RunningGateway, shown: Shown):
    with closing(sqlite3.connect(watched.data_dir / "gateway.sqlite")) as connection:
        rows = [repr(row) for row in connection.execute("SELECT * FROM audit_record")]
    found = set(found_in("\n".join(rows), shown)) - {"a path segment"}  # it names the resource that was asked for
    assert (len(rows) > 60, found) == (True, set())


def test_no_secret_is_in_the_metrics(watched: RunningGateway, shown: Shown):
    headers = {"authorization": f"Bearer {SECRETS['the metrics token']}"}
    with httpx2.Client(trust_env=False) as http:
        page = http.get(watched.url + "/metrics", headers=headers)
    assert (page.status_code, found_in(page.text, shown)) == (200, [])


def test_no_credential_is_in_any_file_of_the_data_folder_in_the_clear(watched: RunningGateway, shown: Shown):
    credentials = {name for name in shown.secrets if "token" in name or "secret" in name or "password" in name}
    files = [path for path in watched.data_dir.rglob("*") if path.is_file() and path.name != "root-access-key.json"]
    content = b"".join(path.read_bytes() for path in files)
    assert [name for name in sorted(credentials) if shown.secrets[name].encode() in content] == []
