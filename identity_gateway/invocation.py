"""InvokeAgentRuntime: authenticate by the runtime's own scheme, then let the agent answer.

The story of one call: find the runtime, prove the caller (AWS Signature Version 4 or a JWT, never both), write the
audit record, mint the agent's workload access token, forward, and hand back the agent's answer as it comes. An agent
runs once per call: nothing here is repeated.
"""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import quote

from identity_gateway import telemetry
from identity_gateway.audit import ALLOWED, DENIED, Audit, Decided
from identity_gateway.errors import (
    AccessDenied,
    AgentFailed,
    GatewayError,
    IncompleteSignature,
    InvalidToken,
    MissingAuthentication,
    NotFound,
    Throttled,
    ValidationFailed,
)
from identity_gateway.inbound import BearerTokens, Scheme, Signatures, authorize, scheme_of
from identity_gateway.model import Document, JwtUser, NamedUser, Realm, Secret, User
from identity_gateway.protocol import bearer, headers
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.runtimes import Route, Routes
from identity_gateway.spool import Spool, SpooledBody
from identity_gateway.upstream import FailureKind, Upstream, UpstreamError, UpstreamResponse
from identity_gateway.workload import WorkloadTokens

MAX_BODY = 100_000_000
"""Bytes of an invocation's payload (AWS: InvokeAgentRuntime)."""

_MISMATCH = (
    "Authorization method mismatch. The agent is configured for a different authorization method than what was used in "
    "your request. Check the agent's authorization configuration and ensure your request uses the matching method "
    "(OAuth or SigV4)"
)
_EXCERPT = 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that an agent may take: for a whole answer, and for an answer that is an event stream."""

    sync: float
    stream: float


@dataclass(frozen=True, slots=True)
class Call:
    """An invocation as it arrived. `asked` holds the modelled members of the request head; nothing is proven."""

    request: Request
    asked: Document
    body: AsyncIterator[bytes]
    request_id: str
    source: str


@dataclass(frozen=True, slots=True)
class Proven:
    """Who calls, for whom, and what the agent may see of it."""

    principal: str
    reason: str
    user: User | None
    inbound_token: Secret | None
    headers: headers.Headers
    body: SpooledBody | AsyncIterator[bytes]
    length: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The agent's answer. `body` yields chunks as they arrive; `deadline` is the loop time when patience ends."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: UpstreamResponse
    deadline: float


class Invocations:
    """Serves InvokeAgentRuntime and the protected resource metadata of its runtimes."""

    def __init__(
        self,
        routes: Routes,
        signatures: Signatures,
        bearer_tokens: BearerTokens,
        workload_tokens: WorkloadTokens,
        upstream: Upstream,
        spool: Spool,
        audit: Audit,
        realm: Realm,
        *,
        base_url: str,
        timeouts: Timeouts,
        clock: Callable[[], float],
    ) -> None:
        self._routes = routes
        self._signatures = signatures
        self._bearer_tokens = bearer_tokens
        self._workload_tokens = workload_tokens
        self._upstream = upstream
        self._spool = spool
        self._audit = audit
        self._realm = realm
        self._base_url = base_url
        self._timeouts = timeouts
        self._clock = clock

    async def invoke(self, call: Call) -> Answer:
        """Answer one invocation. Every decision, also a refusal, leaves an audit record before its effect."""
        scheme = scheme_of(call.request)
        resource = call.asked["agentRuntimeArn"]
        route = None
        proven: Proven | None = None
        try:
            route = await self._route(call.asked)
            resource = route.endpoint_arn if route else resource
            proven = await self._proven(call, scheme, route)
            if route is None:
                raise NotFound("There is no such agent runtime or endpoint.")
        except GatewayError as error:
            telemetry.DECISIONS.labels(scheme.value, DENIED).inc()
            who = proven.principal if proven else "unknown"
            await self._keep(call, who, resource, DENIED, f"{error.code}: {error.reason}", scheme, route)
            if proven is not None:
                _close(proven.body)
            raise
        try:
            await self._keep(call, proven.principal, resource, ALLOWED, proven.reason, scheme, route)
            telemetry.DECISIONS.labels(scheme.value, ALLOWED).inc()
            return await self._forward(call, route, proven)
        finally:
            _close(proven.body)

    async def resource_metadata(self, asked: Document) -> Document:
        """Return the protected resource metadata of a runtime (RFC 9728 §2). Public by design.

        Raises NotFound for a runtime that is unknown or is not guarded by a JWT authorizer.
        """
        route = await self._route(asked)
        authorizer = route.configuration.authorizer if route else None
        if route is None or authorizer is None:
            raise NotFound("There is no protected resource metadata here.")
        metadata: Document = {
            "resource": self._invocation_url(asked),
            "authorization_servers": [await self._bearer_tokens.issuer_of(authorizer)],
            "bearer_methods_supported": ["header"],
        }
        if scopes := _advertised(authorizer):
            metadata["scopes_supported"] = list(scopes)
        return metadata

    async def challenge(self, asked: Document, error: GatewayError, *, shown: bool) -> bytes:
        """Return the WWW-Authenticate value that goes with a refused or missing bearer token."""
        code = None
        if shown:
            code = "invalid_token" if isinstance(error, InvalidToken) else "insufficient_scope"
        route = await self._route(asked)
        scopes = _advertised((route.configuration.authorizer if route else None) or {})
        return bearer.challenge(self._metadata_url(asked), error=code, scopes=scopes)

    async def _route(self, asked: Document) -> Route | None:
        name = self._routes.name(
            asked["agentRuntimeArn"], account=asked.get("accountId"), qualifier=asked.get("qualifier")
        )
        return await self._routes.find(name) if name else None

    # --- who calls ---------------------------------------------------------------------------------------------------

    async def _proven(self, call: Call, scheme: Scheme, route: Route | None) -> Proven:
        guarded = route is not None and route.configuration.authorizer is not None
        if scheme is Scheme.NONE:
            raise InvalidToken(reason="no bearer token") if guarded else MissingAuthentication()
        if scheme is Scheme.BEARER:
            return await self._proven_by_token(call, route)
        if guarded and scheme is Scheme.SIGNATURE:
            raise AccessDenied(_MISMATCH, reason="signature on a runtime with a JWT authorizer")
        if guarded:
            raise InvalidToken(reason="the Authorization header names a scheme that is not served")
        return await self._proven_by_signature(call, route)

    async def _proven_by_token(self, call: Call, route: Route | None) -> Proven:
        token = Secret(bearer.token(call.request))
        if route is None:
            raise InvalidToken(reason="bearer token for an unknown agent runtime")
        configuration = route.configuration
        if configuration.authorizer is None:
            raise AccessDenied(_MISMATCH, reason="bearer token on a runtime without a JWT authorizer")
        claims = await self._bearer_tokens.verify(
            token, configuration.authorizer, runtime_id=route.name.runtime_id, version=route.version
        )
        user = JwtUser(claims.issuer, claims.subject) if claims.subject else None
        return Proven(
            principal=f"{claims.issuer}#{claims.subject or claims.client_id}",
            reason="token accepted by the authorizer",
            user=user,
            inbound_token=token,
            headers=_allowed(call.request.headers, configuration.allowlist),
            body=_bounded(call.body),
            length=_content_length(call.request),
        )

    async def _proven_by_signature(self, call: Call, route: Route | None) -> Proven:
        presented = self._signatures.present(call.request)
        _content_length(call.request)
        body = await self._received(call)
        try:
            principal, signed = await self._signatures.verify(presented, body.sha256)
            resources = (route.arn, route.endpoint_arn) if route else (self._realm.runtime_arn("*"),)
            reason = authorize(principal, "InvokeAgentRuntime", resources)
            user_id = call.asked.get("runtimeUserId")
            if user_id is not None:
                authorize(principal, "InvokeAgentRuntimeForUser", resources)
            allowlist = route.configuration.allowlist if route else frozenset()
            return Proven(
                principal=principal.arn,
                reason=reason,
                user=NamedUser(user_id) if user_id is not None else None,
                inbound_token=None,
                headers=_signed_only(_allowed(call.request.headers, allowlist), signed),
                body=body,
                length=body.length,
            )
        except BaseException:
            body.close()
            raise

    async def _received(self, call: Call) -> SpooledBody:
        try:
            async with asyncio.timeout(self._timeouts.sync):
                return await self._spool.receive(call.body, max_bytes=MAX_BODY)
        except TimeoutError:
            raise ValidationFailed("The request body did not arrive in time.", kind="CannotParse") from None

    async def _keep(
        self, call: Call, principal: str, resource: str, decision: str, reason: str, scheme: Scheme, route: Route | None
    ) -> None:
        details: Document = {"scheme": scheme.value}
        if route is not None:
            details["version"] = route.version
        if user := call.asked.get("runtimeUserId"):
            details["userId"] = user
        decided = Decided(
            principal, "InvokeAgentRuntime", resource, decision, reason, call.request_id, call.source, details
        )
        await self._audit.record(decided)

    # --- what the agent sees, and what it answers --------------------------------------------------------------------

    async def _forward(self, call: Call, route: Route, proven: Proven) -> Answer:
        session_id = call.asked.get("runtimeSessionId") or str(uuid.uuid4())
        trace_id = call.asked.get("traceId") or self._new_trace_id()
        token = self._workload_tokens.mint(route.workload, proven.user, proven.inbound_token).reveal().encode()
        sent = [
            *((name, value) for name, value in proven.headers if name != headers.TRACE_ID),
            (headers.SESSION_ID, session_id.encode()),
            (headers.REQUEST_ID, call.request_id.encode()),
            (headers.TRACE_ID, trace_id.encode()),
            *((name, token) for name in headers.WORKLOAD_ACCESS_TOKEN),
        ]
        response = await self._request(route, sent, proven)
        try:
            await _refuse_failure(response)
        except BaseException:
            await response.aclose()
            raise
        own = [(headers.SESSION_ID, session_id.encode()), (headers.TRACE_ID, trace_id.encode())]
        return Answer(
            response.status, [*headers.answered(response.headers), *own], response, self._deadline_of(response)
        )

    async def _request(self, route: Route, sent: list[tuple[bytes, bytes]], proven: Proven) -> UpstreamResponse:
        body = proven.body
        if isinstance(body, SpooledBody):
            payload = body.in_memory if body.in_memory is not None else aiter(body)
        else:
            payload = body
        try:
            async with asyncio.timeout(self._timeouts.sync):  # a caller who drips its body is bounded, too
                return await self._upstream.request(
                    route.configuration.origin,
                    b"POST",
                    route.configuration.target,
                    sent,
                    payload,
                    proven.length,
                    head_timeout=self._timeouts.sync,
                )
        except UpstreamError as error:
            raise _agent_failure(error) from error
        except TimeoutError:
            raise AgentFailed("The agent did not answer in time.", reason="no response head in time") from None

    def _deadline_of(self, response: UpstreamResponse) -> float:
        streams = any(
            name == b"content-type" and value.startswith(b"text/event-stream") for name, value in response.headers
        )
        patience = self._timeouts.stream if streams else self._timeouts.sync
        return asyncio.get_running_loop().time() + patience

    def _new_trace_id(self) -> str:
        return f"Root=1-{int(self._clock()):08x}-{secrets.token_hex(12)}"

    def _invocation_url(self, asked: Document) -> str:
        identifier = quote(asked["agentRuntimeArn"], safe="")
        return f"{self._base_url}/runtimes/{identifier}/invocations{_query_of(asked)}"

    def _metadata_url(self, asked: Document) -> str:
        identifier = quote(asked["agentRuntimeArn"], safe="")
        path = f"/runtimes/{identifier}/invocations/.well-known/oauth-protected-resource"
        return self._base_url + path + _query_of(asked, qualifier=asked.get("qualifier", "DEFAULT"))


def _query_of(asked: Document, **given: str) -> str:
    names = {name: asked[name] for name in ("qualifier", "accountId") if name in asked} | given
    return "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in names.items()) if names else ""


def _advertised(authorizer: Document) -> tuple[str, ...]:
    """Return the scopes that clients are told to ask for (AWS: `advertisedScopeMapping`)."""
    mapping = authorizer.get("advertisedScopeMapping", {})
    return tuple(mapping.get(scope, scope) for scope in authorizer.get("allowedScopes", ()))


def _content_length(request: Request) -> int | None:
    """Return the declared length of the body, or None when it is chunked. Refuses early what is too large."""
    value = request.header(b"content-length")
    if value is None:
        return None if request.header(b"transfer-encoding") else 0
    if request.count(b"content-length") != 1 or not value.isdigit():
        raise ValidationFailed("Content-Length is not a number.", kind="CannotParse")
    if int(value) > MAX_BODY:
        raise ValidationFailed(f"The request body is larger than {MAX_BODY} bytes.", kind="CannotParse")
    return int(value)


async def _bounded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass chunks on until there are too many of them: the agent then sees a cut request, never a complete one."""
    length = 0
    async for chunk in chunks:
        length += len(chunk)
        if length > MAX_BODY:
            raise ValidationFailed(f"The request body is larger than {MAX_BODY} bytes.", kind="CannotParse")
        yield chunk


def _allowed(received: headers.Headers, allowlist: frozenset[bytes]) -> headers.Headers:
    passed = headers.forwarded(received, allowlist)
    for name, value in passed:
        if name in allowlist and len(value) > headers.MAX_VALUE:
            raise ValidationFailed(f"The header {name.decode('latin-1')} is longer than {headers.MAX_VALUE} bytes.")
    return tuple((name, value.strip()) for name, value in passed)


def _signed_only(passed: headers.Headers, signed: SignedRequest) -> headers.Headers:
    """Refuse an allow-listed header that the signature does not cover: it could have been added on the way."""
    for name, _ in passed:
        if name not in headers.ALWAYS_FORWARDED and signed.header(name) is None:
            raise IncompleteSignature(
                f"The header {name.decode('latin-1')} is forwarded to the agent and must be signed."
            )
    return passed


def _close(body: SpooledBody | AsyncIterator[bytes]) -> None:
    if isinstance(body, SpooledBody):
        body.close()


def _agent_failure(error: UpstreamError) -> GatewayError:
    """Say in words what went wrong between the gateway and the agent. Never 5xx: SDKs would run the agent again."""
    if error.kind is FailureKind.BUSY:
        return Throttled("The agent has too many connections open. Try again.", reason=str(error))
    said = {
        FailureKind.TIMEOUT: "The agent did not answer in time.",
        FailureKind.REFUSED: "The agent does not accept connections.",
        FailureKind.UNREACHABLE: "The agent cannot be reached.",
        FailureKind.TLS: "The agent's certificate was not accepted.",
        FailureKind.CLOSED: "The agent closed the connection before its answer was complete.",
        FailureKind.FORBIDDEN_ADDRESS: "The agent's address is one that this gateway does not call.",
    }
    message = said.get(error.kind, "The agent did not answer in HTTP/1.1 as expected.")
    return AgentFailed(message, reason=f"{error.kind}: {error}")


async def _refuse_failure(response: UpstreamResponse) -> None:
    """Turn an agent's answer that is not a success into 424, with its status and the beginning of what it said."""
    if 200 <= response.status < 300:
        return
    said = await _excerpt(response)
    message = f"Received error ({response.status}) from runtime." + (f" The agent said: {said}" if said else "")
    raise AgentFailed(message, reason=f"agent answered {response.status}")


async def _excerpt(response: UpstreamResponse) -> str:
    taken = b""
    try:
        async with asyncio.timeout(2):
            async for chunk in response:
                taken += chunk
                if len(taken) >= _EXCERPT:
                    break
    except (UpstreamError, TimeoutError):
        pass
    text = taken[:_EXCERPT].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()
