"""Agent runtimes: what may be registered, and which version a name in a path leads to."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from identity_gateway.errors import ValidationFailed
from identity_gateway.model import AgentRuntimeEndpoint, AgentRuntimeVersion, Realm
from identity_gateway.records.connect import open_engines
from identity_gateway.records.sql import SqlRecords
from identity_gateway.runtimes import Routes, RuntimeConfiguration, routing
from identity_gateway.runtimes.configuration import checked
from identity_gateway.runtimes.routing import Name
from identity_gateway.upstream import Origin

ACCOUNT = "000000000000"
REALM = Realm(ACCOUNT, "us-east-1")
ID = "hello-AbCdEf1234"
ARN = REALM.runtime_arn(ID)
ENDPOINT_ARN = REALM.endpoint_arn(ID, "live")
CONTAINER = "agentRuntimeArtifact.containerConfiguration.containerUri"
AUTHORIZER = "authorizerConfiguration.customJWTAuthorizer"
ALLOWLIST = "requestHeaderConfiguration.requestHeaderAllowlist"
DISCOVERY = "https://issuer.test/.well-known/openid-configuration"
GUARD = {"discoveryUrl": DISCOVERY, "allowedAudience": ["agents"]}


def configuration(
    url: str = "http://agent.test:8080",
    *,
    authorizer: dict[str, Any] | None = None,
    allowlist: list[str] | None = None,
    lifecycle: dict[str, int] | None = None,
    **members: Any,
) -> dict[str, Any]:
    asked: dict[str, Any] = {"agentRuntimeArtifact": {"containerConfiguration": {"containerUri": url}}} | members
    if authorizer is not None:
        asked["authorizerConfiguration"] = {"customJWTAuthorizer": authorizer}
    if allowlist is not None:
        asked["requestHeaderConfiguration"] = {"requestHeaderAllowlist": allowlist}
    if lifecycle is not None:
        asked["lifecycleConfiguration"] = lifecycle
    return asked


def faults(asked: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationFailed) as caught:
        checked(asked)
    assert all(fault.name in caught.value.message for fault in caught.value.fields)
    return [fault.name for fault in caught.value.fields]


# --- Refused at registration ---


@pytest.mark.parametrize(
    "url",
    [
        "000000000000.dkr.ecr.us-east-1.amazonaws.com/agent:latest",
        "ftp://agent.test",
        "HTTP//agent.test",
        "http://",
        "http://user:secret@agent.test",
        "http://agent.test/?a=b",
        "http://agent.test/#x",
        "http://agent.test:0",
        "http://agent.test:65536",
        "http://127.1/",
        "http://agent.test/a b",
        "http://agent.test\r\nx: y",
        "http://ägent.test",
    ],
)
def test_an_agent_that_is_not_at_a_plain_http_url_is_refused(url: str):
    assert faults(configuration(url)) == [CONTAINER]


def test_an_agent_that_is_code_is_refused():
    assert faults({"agentRuntimeArtifact": {"codeConfiguration": {}}}) == ["agentRuntimeArtifact"]


@pytest.mark.parametrize(
    ("authorizer", "fault"),
    [
        ({"discoveryUrl": DISCOVERY}, AUTHORIZER),
        ({"discoveryUrl": DISCOVERY, "allowedAudience": []}, AUTHORIZER),
        (GUARD | {"allowedScopes": [""]}, f"{AUTHORIZER}.allowedScopes[0]"),
        (GUARD | {"privateEndpoint": {}}, f"{AUTHORIZER}.privateEndpoint"),
        (GUARD | {"somethingNew": 1}, f"{AUTHORIZER}.somethingNew"),
        (GUARD | {"discoveryUrl": "https://u:p@issuer.test/"}, f"{AUTHORIZER}.discoveryUrl"),
        (GUARD | {"discoveryUrl": "https://169.254.169.254/"}, f"{AUTHORIZER}.discoveryUrl"),
        (GUARD | {"discoveryUrl": "file:///etc/passwd"}, f"{AUTHORIZER}.discoveryUrl"),
    ],
)
def test_an_authorizer_that_guards_nothing_or_cannot_be_enforced_is_refused(authorizer: dict, fault: str):
    assert faults(configuration(authorizer=authorizer)) == [fault]


def test_a_restricted_header_is_refused():
    assert faults(configuration(allowlist=["x-tenant", "Cookie"])) == [f"{ALLOWLIST}[1]"]


def test_authorization_is_forwarded_only_behind_an_authorizer():
    assert faults(configuration(allowlist=["Authorization"])) == [f"{ALLOWLIST}[0]"]
    checked(configuration(allowlist=["Authorization"], authorizer=GUARD))


def test_an_idle_timeout_beyond_the_lifetime_is_refused():
    lifecycle = {"idleRuntimeSessionTimeout": 601, "maxLifetime": 600}
    assert faults(configuration(lifecycle=lifecycle)) == ["lifecycleConfiguration.idleRuntimeSessionTimeout"]


def test_every_fault_is_told_at_once():
    asked = configuration(
        "docker.test/agent",
        authorizer={"discoveryUrl": DISCOVERY},
        allowlist=["Host"],
        lifecycle={"idleRuntimeSessionTimeout": 2, "maxLifetime": 1},
    )
    assert faults(asked) == [
        CONTAINER,
        AUTHORIZER,
        f"{ALLOWLIST}[0]",
        "lifecycleConfiguration.idleRuntimeSessionTimeout",
    ]


# --- Registered ---


@pytest.mark.parametrize(
    ("given", "idle", "longest"),
    [
        (None, 900, 28_800),
        ({}, 900, 28_800),
        ({"idleRuntimeSessionTimeout": 60}, 60, 28_800),
        ({"maxLifetime": 3600}, 900, 3600),
        ({"maxLifetime": 300}, 300, 300),
        ({"idleRuntimeSessionTimeout": 300, "maxLifetime": 300}, 300, 300),
    ],
)
def test_the_lifecycle_is_filled_in(given: dict[str, int] | None, idle: int, longest: int):
    lifecycle = checked(configuration(lifecycle=given))["lifecycleConfiguration"]
    assert lifecycle == {"idleRuntimeSessionTimeout": idle, "maxLifetime": longest}


def test_everything_else_is_kept_as_it_was_given():
    asked = configuration(authorizer=GUARD, allowlist=["x-tenant"], description="d", environmentVariables={"A": "b"})
    before = deepcopy(asked)
    kept = checked(asked)
    assert asked == before
    assert {name: value for name, value in kept.items() if name != "lifecycleConfiguration"} == before


@pytest.mark.parametrize(
    ("url", "protocol", "target"),
    [
        ("http://agent.test", None, b"/invocations"),
        ("http://agent.test/", {"serverProtocol": "HTTP"}, b"/invocations"),
        ("http://agent.test/base/", {"serverProtocol": "AGUI"}, b"/base/invocations"),
        ("http://agent.test", {"serverProtocol": "MCP"}, b"/mcp"),
        ("http://agent.test/base", {"serverProtocol": "A2A"}, b"/base/"),
        ("http://agent.test", {"serverProtocol": "A2A"}, b"/"),
        ("http://agent.test/base", {"serverProtocol": "MCP", "path": "/own/path"}, b"/base/own/path"),
    ],
)
def test_an_agent_is_called_where_its_protocol_listens(url: str, protocol: dict | None, target: bytes):
    asked = configuration(url) | ({"protocolConfiguration": protocol} if protocol else {})
    assert RuntimeConfiguration.of(checked(asked)).target == target


def test_a_configuration_means_an_origin_a_guard_and_headers_in_lower_case():
    asked = checked(configuration("https://Agent.Test", authorizer=GUARD, allowlist=["X-Tenant", "x-b"]))
    assert RuntimeConfiguration.of(asked) == RuntimeConfiguration(
        origins=(Origin("https", "agent.test", 443),),
        base=b"",
        target=b"/invocations",
        protocol="HTTP",
        authorizer=GUARD,
        allowlist=frozenset({b"x-tenant", b"x-b"}),
    )


def test_a_runtime_without_an_authorizer_has_none():
    assert RuntimeConfiguration.of(checked(configuration())).authorizer is None


# --- Names in a path ---


NAMES = Routes(SqlRecords(*open_engines("sqlite:////nowhere/unused.sqlite")), REALM)


def name(identifier: str, *, account: str | None = None, qualifier: str | None = None) -> Name | None:
    return NAMES.name(identifier, account=account, qualifier=qualifier)


@pytest.mark.parametrize(
    "arn",
    [
        Realm("111111111111", "us-east-1").runtime_arn(ID),
        Realm(ACCOUNT, "eu-west-1").runtime_arn(ID),
        Realm(ACCOUNT, "us-east-1", "aws-cn").runtime_arn(ID),
        ARN.replace("bedrock-agentcore", "lambda"),
        ARN.replace(":runtime/", ":gateway/"),
        ARN + "/",
        ARN + "\n",
        ARN + "/runtime-endpoint/",
        ARN + "/runtime-endpoint/live/more",
        ARN + "/runtime-endpoint/li-ve",
        "arn:",
        ARN.replace(ID, "*"),
        ARN.replace(ID, "hello"),
        ARN.replace(ID, "hello-AbCdEf12345"),
        ARN.replace(ID, "1hello-AbCdEf1234"),
        ARN.replace("us-east-1", "us-east-."),
    ],
)
def test_a_foreign_or_malformed_arn_names_nothing(arn: str):
    assert name(arn) is None


def test_an_arn_beside_another_account_names_nothing():
    assert name(ARN, account="111111111111") is None


@pytest.mark.parametrize(
    "identifier", ["hello", "hello-AbCdEf123", ID + "\n", f"{ID}/runtime-endpoint/live", "../x", ""]
)
def test_an_id_that_cannot_be_one_names_nothing(identifier: str):
    assert name(identifier, account=ACCOUNT) is None


def test_an_id_beside_another_account_names_nothing():
    assert name(ID, account="111111111111") is None


def test_an_id_without_an_account_is_refused():
    with pytest.raises(ValidationFailed, match="accountId"):
        name(ID)


def test_a_qualifier_that_contradicts_the_arn_is_refused():
    with pytest.raises(ValidationFailed, match="qualifier"):
        name(ENDPOINT_ARN, qualifier="DEFAULT")


@pytest.mark.parametrize(
    ("identifier", "account", "qualifier", "endpoint"),
    [
        (ARN, None, None, "DEFAULT"),
        (ARN, ACCOUNT, None, "DEFAULT"),
        (ARN, None, "live", "live"),
        (ENDPOINT_ARN, None, None, "live"),
        (ENDPOINT_ARN, ACCOUNT, "live", "live"),
        (ID, ACCOUNT, None, "DEFAULT"),
        (ID, ACCOUNT, "live", "live"),
    ],
)
def test_a_runtime_is_named_by_its_arn_its_endpoints_arn_or_its_id(
    identifier: str, account: str | None, qualifier: str | None, endpoint: str
):
    assert name(identifier, account=account, qualifier=qualifier) == Name(ID, endpoint)


# --- Routes ---


@pytest.fixture
def routes(records: SqlRecords) -> Routes:
    return Routes(records, REALM)


async def put(records: SqlRecords, *, endpoint: str = "DEFAULT", version: int = 1, url: str | None = None) -> None:
    """Let an endpoint stand at a version, and make that version if it has a URL."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    async with records.write() as transaction:
        await transaction.delete(AgentRuntimeEndpoint, account=ACCOUNT, runtime_id=ID, name=endpoint)
        await transaction.create(AgentRuntimeEndpoint(ACCOUNT, ID, endpoint, "e-1", version, None, now, now))
        if url is not None:
            await transaction.create(AgentRuntimeVersion(ACCOUNT, ID, version, checked(configuration(url)), now))


async def host(routes: Routes, endpoint: str = "DEFAULT") -> str | None:
    route = await routes.find(Name(ID, endpoint))
    return route.configuration.origin.host if route else None


async def test_a_name_that_nobody_registered_has_no_route(routes: Routes, records: SqlRecords):
    assert await host(routes) is None
    await put(records, url="http://one.test")
    assert await host(routes, "live") is None


async def test_an_endpoint_whose_version_is_gone_has_no_route(routes: Routes, records: SqlRecords):
    await put(records, version=7)
    assert await host(routes) is None


async def test_a_route_leads_to_the_version_of_its_endpoint(routes: Routes, records: SqlRecords):
    await put(records, version=1, url="http://one.test")
    await put(records, endpoint="live", version=2, url="http://two.test")
    route = await routes.find(Name(ID, "live"))
    assert route is not None
    assert (route.arn, route.endpoint_arn, route.version, route.workload) == (ARN, ENDPOINT_ARN, 2, ID)
    assert route.configuration.origin.host == "two.test"
    assert await host(routes) == "one.test"


async def test_an_endpoint_that_was_moved_is_followed_at_once(routes: Routes, records: SqlRecords):
    await put(records, version=1, url="http://one.test")
    assert await host(routes) == "one.test"
    await put(records, version=2, url="http://two.test")
    assert await host(routes) == "two.test"


async def test_an_endpoint_that_was_deleted_is_gone_at_once(routes: Routes, records: SqlRecords):
    await put(records, version=1, url="http://one.test")
    assert await host(routes) == "one.test"
    async with records.write() as transaction:
        await transaction.delete(AgentRuntimeEndpoint, account=ACCOUNT, runtime_id=ID)
    assert await host(routes) is None


async def test_remembered_versions_are_bounded(routes: Routes, records: SqlRecords, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routing, "_REMEMBERED", 2)
    for version in range(1, 5):
        await put(records, version=version, url=f"http://v{version}.test")
        assert await host(routes) == f"v{version}.test"
    assert len(routes._versions) == 2
    await put(records, version=1)
    assert await host(routes) == "v1.test"
