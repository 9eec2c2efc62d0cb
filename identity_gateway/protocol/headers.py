"""Which headers pass between the caller and the agent, as values: the allowlist and its restricted names.

AWS: `requestHeaderConfiguration.requestHeaderAllowlist` of CreateAgentRuntime. What the gateway itself asserts to the
agent (session, request id, workload access token) is never taken from the caller.
"""

from collections.abc import Iterable, Sequence

from identity_gateway.errors import FieldError

Headers = tuple[tuple[bytes, bytes], ...]

SESSION_ID = b"x-amzn-bedrock-agentcore-runtime-session-id"
USER_ID = b"x-amzn-bedrock-agentcore-runtime-user-id"
REQUEST_ID = b"x-amzn-bedrock-agentcore-runtime-request-id"
CUSTOM_PREFIX = b"x-amzn-bedrock-agentcore-runtime-custom-"
TRACE_ID = b"x-amzn-trace-id"
MCP_SESSION_ID = b"mcp-session-id"

IDENTITY_WAT = b"x-amz-bedrock-agentcore-identity-wat"
WORKLOAD_ACCESS_TOKEN = (b"workloadaccesstoken", IDENTITY_WAT)
"""Agents read one or the other, depending on the SDK's adapter: both are sent."""

ALWAYS_FORWARDED = frozenset(
    {
        b"content-type",
        b"content-encoding",  # a fact about the body, which passes unchanged
        b"accept",
        b"mcp-session-id",
        b"mcp-protocol-version",
        b"mcp-method",
        b"mcp-name",
        b"last-event-id",  # MCP: where a stream of events is taken up again
        b"a2a-version",
        b"a2a-extensions",
        TRACE_ID,
        b"traceparent",
        b"tracestate",
        b"baggage",
    }
)
"""Members of InvokeAgentRuntime, and what MCP and A2A negotiate: the agent needs them whatever the allowlist says."""

ANSWERED = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"content-length",
        b"cache-control",
        b"mcp-session-id",
        b"mcp-protocol-version",
        b"traceparent",
        b"tracestate",
        b"baggage",
    }
)
"""What of the agent's response head reaches the caller; custom headers of the runtime do, too."""

MAX_VALUE = 4096
"""Bytes of one allow-listed header value."""

_RESTRICTED = frozenset(
    name
    for line in (
        "proxy-authorization www-authenticate accept accept-charset accept-encoding accept-language content-type",
        "content-length content-encoding content-language content-location content-range cache-control etag expires",
        "if-match if-modified-since if-none-match if-range if-unmodified-since last-modified pragma vary connection",
        "keep-alive proxy-connection upgrade host user-agent referer from range accept-ranges transfer-encoding te",
        "trailer server date location retry-after set-cookie cookie content-security-policy",
        "content-security-policy-report-only strict-transport-security x-content-type-options x-frame-options",
        "x-xss-protection referrer-policy permissions-policy cross-origin-embedder-policy cross-origin-opener-policy",
        "cross-origin-resource-policy access-control-allow-origin access-control-allow-methods",
        "access-control-allow-headers access-control-allow-credentials access-control-expose-headers",
        "access-control-max-age access-control-request-method access-control-request-headers origin accept-ch",
        "accept-ch-lifetime dpr width viewport-width downlink ect rtt save-data clear-site-data feature-policy",
        "expect-ct public-key-pins public-key-pins-report-only via forwarded x-forwarded-for x-forwarded-host",
        "x-forwarded-proto x-real-ip x-requested-with x-csrf-token true-client-ip x-client-ip x-cluster-client-ip",
        "x-originating-ip x-source-ip x-original-url x-original-host x-rewrite-url cf-ray cf-connecting-ip",
        "x-amz-cf-id x-cache x-served-by link sec-websocket-key sec-websocket-accept sec-websocket-version",
        "sec-websocket-protocol sec-websocket-extensions",
        # Ours: the names under which the gateway speaks to the agent.
        "workloadaccesstoken oauth2callbackurl expect dpop",
    )
    for name in line.split(" ")
)


def check_allowlist(names: Sequence[str], *, bearer: bool) -> list[FieldError]:
    """Return what is wrong with an allowlist. `bearer` says whether the runtime has a JWT authorizer."""
    faults, seen = [], set()
    for index, name in enumerate(names):
        lower = name.lower()
        if fault := _fault_of(lower, bearer=bearer, repeated=lower in seen):
            faults.append(FieldError(f"requestHeaderConfiguration.requestHeaderAllowlist[{index}]", fault))
        seen.add(lower)
    return faults


def _fault_of(name: str, *, bearer: bool, repeated: bool) -> str | None:
    if repeated:
        return "stands twice in the list"
    if name == "authorization":
        return None if bearer else "can be forwarded only by a runtime with a JWT authorizer"
    if name.startswith("x-amz-"):
        return "starts with x-amz-, which is reserved"
    if name.startswith("x-amzn-") and not name.encode().startswith(CUSTOM_PREFIX):
        return f"starts with x-amzn-, of which only {CUSTOM_PREFIX.decode()} may be forwarded"
    if name in _RESTRICTED or "_" in name:
        return "is a restricted name"
    return None


def forwarded(received: Headers, allowlist: frozenset[bytes]) -> Headers:
    """Return the caller's headers that the agent may see: the always forwarded ones and the allow-listed ones."""
    return tuple((name, value) for name, value in received if name in ALWAYS_FORWARDED or name in allowlist)


def answered(received: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the agent's response headers that the caller may see."""
    return [(name, value) for name, value in received if name in ANSWERED or name.startswith(CUSTOM_PREFIX)]
