"""What the agent sees of a call, and what the caller sees of the agent's answer.

An agent runs once per call: nothing here is repeated, and no failure of an agent is answered with a status that makes
SDKs try again.
"""

import asyncio
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from identity_gateway.errors import AgentFailed, GatewayError, Throttled
from identity_gateway.invocation.doors import Door
from identity_gateway.invocation.placement import Placed, Placement
from identity_gateway.invocation.proof import Call, Proven
from identity_gateway.protocol import headers
from identity_gateway.runtimes import Route, RuntimeConfiguration
from identity_gateway.spool import SpooledBody
from identity_gateway.upstream import FailureKind, Origin, Upstream, UpstreamError, UpstreamResponse
from identity_gateway.workload import WorkloadTokens

_EXCERPT = 1024
_PATHS = {Door.CARD: b"/.well-known/agent-card.json", Door.STREAM: b"/ws"}
"""Where agents answer what is no call (AWS: service contract of each protocol)."""

_SAID_BY_PROTOCOL = {"MCP": frozenset({400, 404, 405, 406, 409, 413, 415})}
"""Statuses with which a protocol says something to its client (MCP, streamable HTTP: 404 ends a session, 405 offers no
stream of events). Never 401 or 403: a client would bring a new token to the gateway, which the agent does not see."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that an agent may take: for a whole answer, and for an answer that is an event stream."""

    sync: float
    stream: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The agent's answer. `body` yields chunks as they arrive; `deadline` is the loop time when patience ends."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: UpstreamResponse
    deadline: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream that may be opened: at which addresses, in this order, and with which headers.

    `expires_at` is seconds since the epoch.
    """

    route: Route
    session_id: str
    origins: Sequence[Origin]
    target: bytes
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    expires_at: float | None


class Forwarding:
    """Sends proven invocations to their agents."""

    def __init__(
        self,
        upstream: Upstream,
        placement: Placement,
        tokens: WorkloadTokens,
        timeouts: Timeouts,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._placement = placement
        self._tokens = tokens
        self._timeouts = timeouts
        self._clock = clock

    async def forward(self, call: Call, route: Route, proven: Proven, placed: Placed) -> Answer:
        """Send the call to the agent and return the beginning of its answer. Raises AgentFailed, Throttled."""
        trace_id = call.asked.get("traceId") or self.new_trace_id()
        sent = self._sent(call, route, proven, placed.session_id, trace_id)
        response, origin = await self._request(call, placed, sent, proven)
        try:
            patience = self._patience_of(response)
            await self._placement.used(route, placed, origin, lasting=patience)
            await refuse_failure(response, placed.configuration.protocol)
            own = [(headers.SESSION_ID, placed.session_id.encode()), (headers.TRACE_ID, trace_id.encode())]
            if placed.configuration.protocol == "MCP":
                own += await self._mcp_session(call, route, proven, placed, response, origin)
        except BaseException:
            await response.aclose()
            raise
        deadline = asyncio.get_running_loop().time() + patience
        return Answer(response.status, [*headers.answered(response.headers), *own], response, deadline)

    def opened(self, call: Call, route: Route, proven: Proven, placed: Placed) -> Opened:
        """Return what the agent is told of a stream, and where it stands. Nothing is sent."""
        trace_id = call.asked.get("traceId") or self.new_trace_id()
        return Opened(
            route,
            placed.session_id,
            placed.origins,
            _target_of(call, placed.configuration),
            self._sent(call, route, proven, placed.session_id, trace_id),
            proven.expires_at,
        )

    async def _mcp_session(
        self,
        call: Call,
        route: Route,
        proven: Proven,
        placed: Placed,
        response: UpstreamResponse,
        origin: Origin,
    ) -> list[tuple[bytes, bytes]]:
        """Follow what an MCP server does with its sessions (streamable HTTP): it names, knows and ends them.

        A server without sessions gets no name; the caller of a call gets one, as at AWS, which may be shown again.
        """
        known = call.asked.get("mcpSessionId")
        said = next((value for name, value in response.headers if name == headers.MCP_SESSION_ID), None)
        named = None if said is None else said.decode("utf-8", "replace")  # as callers are read
        if known is not None and (response.status == 404 or (call.method == b"DELETE" and response.status < 300)):
            await self._placement.forget(route, placed)
        if named is not None and named != known:
            await self._placement.named(route, proven, named, origin)
        elif named is None and known is None and call.method == b"POST" and response.status < 300:
            return [(headers.MCP_SESSION_ID, str(uuid.uuid4()).encode())]
        return []

    def _sent(
        self, call: Call, route: Route, proven: Proven, session_id: str, trace_id: str
    ) -> list[tuple[bytes, bytes]]:
        minted = self._tokens.mint(route.workload, proven.user, proven.inbound_token, proven.actors, hosted=True)
        token = minted.reveal().encode()
        return [
            *((name, value) for name, value in proven.headers if name != headers.TRACE_ID),
            (headers.SESSION_ID, session_id.encode()),
            (headers.REQUEST_ID, call.request_id.encode()),
            (headers.TRACE_ID, trace_id.encode()),
            *((name, token) for name in headers.WORKLOAD_ACCESS_TOKEN),
        ]

    async def _request(
        self, call: Call, placed: Placed, sent: list[tuple[bytes, bytes]], proven: Proven
    ) -> tuple[UpstreamResponse, Origin]:
        """Send the call once, to the first address that takes a connection."""
        target = _target_of(call, placed.configuration)
        try:
            async with asyncio.timeout(self._timeouts.sync):  # a caller who drips its body is bounded, too
                for origin in placed.origins:
                    try:
                        return await self._send(origin, call.method, target, sent, proven), origin
                    except UpstreamError as error:
                        if not error.unsent:
                            raise
                        self._placement.failed(origin)
                        if origin == placed.origins[-1]:
                            raise
        except UpstreamError as error:
            raise failure_of(error) from error
        except TimeoutError:
            raise AgentFailed("The agent did not answer in time.", reason="no response head in time") from None
        raise AgentFailed("The agent has no address.", reason="no address")

    async def _send(
        self, origin: Origin, method: bytes, target: bytes, sent: list[tuple[bytes, bytes]], proven: Proven
    ) -> UpstreamResponse:
        body = proven.body
        if isinstance(body, SpooledBody):
            payload = body.in_memory if body.in_memory is not None else aiter(body)
        else:
            payload = body
        return await self._upstream.request(
            origin, method, target, sent, payload, proven.length, head_timeout=self._timeouts.sync
        )

    def _patience_of(self, response: UpstreamResponse) -> float:
        streams = any(
            name == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in response.headers
        )
        return self._timeouts.stream if streams else self._timeouts.sync

    def new_trace_id(self) -> str:
        """Return a trace id for a call that brings none (AWS X-Ray: version, time, 96 random bits)."""
        return f"Root=1-{int(self._clock()):08x}-{random.getrandbits(96):024x}"


def _target_of(call: Call, configuration: RuntimeConfiguration) -> bytes:
    """Return the path at the agent."""
    return configuration.base + _PATHS[call.door] if call.door in _PATHS else configuration.target


def failure_of(error: UpstreamError) -> GatewayError:
    """Say in words what went wrong between the gateway and the agent. Never 5xx: SDKs would run the agent again."""
    if error.kind is FailureKind.BUSY:
        return Throttled("The agent has too many connections open. Try again.", reason=str(error))
    said = {
        FailureKind.TIMEOUT: "The agent did not answer in time.",
        FailureKind.REFUSED: "The agent does not accept connections.",
        FailureKind.UNREACHABLE: "The agent cannot be reached.",
        FailureKind.TLS: "The agent offers no TLS connection that this gateway trusts.",
        FailureKind.CLOSED: "The agent closed the connection before its answer was complete.",
        FailureKind.FORBIDDEN_ADDRESS: "The agent's address is one that this gateway does not call.",
    }
    message = said.get(error.kind, "The agent did not answer in HTTP/1.1 as expected.")
    return AgentFailed(message, reason=f"{error.kind}: {error}")


async def refuse_failure(response: UpstreamResponse, protocol: str) -> None:
    """Turn an agent's answer that is not a success into 424, with its status and the beginning of what it said."""
    if 200 <= response.status < 300 or response.status in _SAID_BY_PROTOCOL.get(protocol, ()):
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
