"""Which headers pass: what the gateway asserts itself is never the caller's, and what is restricted is refused."""

import pytest

from identity_gateway.protocol import headers
from identity_gateway.protocol.headers import ALWAYS_FORWARDED, ANSWERED, answered, check_allowlist, forwarded

CUSTOM = "x-amzn-bedrock-agentcore-runtime-custom-"
OURS = (headers.SESSION_ID, headers.USER_ID, headers.REQUEST_ID, *headers.WORKLOAD_ACCESS_TOKEN)
FIELD = "requestHeaderConfiguration.requestHeaderAllowlist"


def faults(*names: str, bearer: bool = True) -> list[str]:
    return [fault.name for fault in check_allowlist(names, bearer=bearer)]


# --- The allowlist ---


@pytest.mark.parametrize("name", [name.decode() for name in OURS])
def test_what_the_gateway_asserts_cannot_be_allow_listed(name: str):
    assert faults(name) == [f"{FIELD}[0]"]
    assert faults(name.title()) == [f"{FIELD}[0]"]


RESTRICTED = [
    *("Cookie", "Set-Cookie", "Proxy-Authorization", "WWW-Authenticate", "Host", "Origin", "Referer", "User-Agent"),
    *("Content-Length", "Content-Type", "Transfer-Encoding", "TE", "Trailer", "Connection", "Upgrade", "Expect"),
    *("Keep-Alive", "Proxy-Connection", "Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"),
    *("X-Forwarded-Proto", "True-Client-IP", "CF-Connecting-IP", "X-Original-URL", "X-Rewrite-URL", "DPoP"),
    *("WorkloadAccessToken", "OAuth2CallbackUrl", "Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Key"),
    *("X-Amz-Date", "X-Amz-Security-Token", "x-amz-anything", "X-Amz-Content-Sha256"),
    *("X-Amzn-Trace-Id", "x-amzn-anything", "X-Amzn-OIDC-Identity", "x-amzn-bedrock-agentcore-runtime-custom"),
    *("X_Amz_Date", "Workload_Access_Token", "x_tenant"),
]


@pytest.mark.parametrize("name", RESTRICTED)
def test_a_restricted_header_cannot_be_allow_listed(name: str):
    for spelling in (name, name.lower(), name.upper()):
        assert faults("x-tenant", spelling) == [f"{FIELD}[1]"]


def test_authorization_can_be_allow_listed_behind_a_jwt_authorizer_only():
    assert faults("Authorization", bearer=True) == []
    assert faults("Authorization", bearer=False) == [f"{FIELD}[0]"]


def test_a_header_cannot_stand_twice_in_the_list():
    assert faults("x-tenant", "x-other", "X-Tenant") == [f"{FIELD}[2]"]


def test_every_fault_of_a_list_is_named():
    assert faults("Cookie", "x-tenant", "x-amz-date", "HOST") == [f"{FIELD}[{place}]" for place in (0, 2, 3)]


@pytest.mark.parametrize(
    "name", ["x-tenant", "X-Tenant-Id", "baggage", "idempotency-key", CUSTOM + "a", CUSTOM.title()]
)
def test_an_ordinary_header_can_be_allow_listed(name: str):
    assert faults(name, bearer=False) == []


# --- To the agent ---


@pytest.mark.parametrize("name", [*OURS, b"authorization", b"cookie", b"host", b"x-amz-date", b"x-tenant"])
def test_a_header_that_is_not_allow_listed_does_not_reach_the_agent(name: bytes):
    assert forwarded(((name, b"v"),), frozenset({b"x-other"})) == ()


def test_an_allow_listed_header_reaches_the_agent_with_its_repeats_and_its_order():
    received = ((b"x-b", b"1"), (b"cookie", b"no"), (b"x-a", b"2"), (b"x-b", b"3"))
    assert forwarded(received, frozenset({b"x-a", b"x-b"})) == ((b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"3"))


@pytest.mark.parametrize("name", sorted(ALWAYS_FORWARDED))
def test_what_an_agent_needs_reaches_it_without_an_allowlist(name: bytes):
    assert forwarded(((name, b"v"),), frozenset()) == ((name, b"v"),)


def test_no_header_that_is_always_forwarded_is_the_gateways_own_or_a_credential():
    assert ALWAYS_FORWARDED.isdisjoint({*OURS, b"authorization", b"cookie", b"proxy-authorization", b"host"})


# --- From the agent ---


@pytest.mark.parametrize(
    "name",
    [
        *OURS,
        *(b"set-cookie", b"server", b"location", b"connection", b"transfer-encoding", b"www-authenticate"),
        *(b"x-amzn-requestid", b"x-amzn-errortype", b"access-control-allow-origin", b"strict-transport-security"),
        b"x-amzn-trace-id",
        b"x-tenant",
    ],
)
def test_an_agents_header_that_is_not_the_answers_does_not_reach_the_caller(name: bytes):
    assert answered([(name, b"v")]) == []


@pytest.mark.parametrize("name", [*sorted(ANSWERED), CUSTOM.encode() + b"colour"])
def test_what_describes_the_answer_reaches_the_caller(name: bytes):
    assert answered([(b"server", b"x"), (name, b"v")]) == [(name, b"v")]
