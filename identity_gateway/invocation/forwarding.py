"""What the agent sees of a call, and what the caller sees of the agent's answer.

An agent runs once per call: nothing here is repeated, and no failure of an agent is answered with a status that makes
SDKs try again.
"""

import asyncio
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from identity_gateway.errors import AgentFailed, GatewayError, Throttled
from identity_gateway.invocation.proof import Call, Proven
from identity_gateway.protocol import headers
from identity_gateway.runtimes import Route
from identity_gateway.spool import SpooledBody
from identity_gateway.upstream import FailureKind, Upstream, UpstreamError, UpstreamResponse
from identity_gateway.workload import WorkloadTokens

_EXCERPT = 1024


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


class Forwarding:
    """Sends proven invocations to their agents."""

    def __init__(
        self, upstream: Upstream, tokens: WorkloadTokens, timeouts: Timeouts, *, clock: Callable[[], float]
    ) -> None:
        self._upstream = upstream
        self._tokens = tokens
        self._timeouts = timeouts
        self._clock = clock

    async def forward(self, call: Call, route: Route, proven: Proven) -> Answer:
        """Send the call to the agent and return the beginning of its answer. Raises AgentFailed, Throttled."""
        session_id = call.asked.get("runtimeSessionId") or str(uuid.uuid4())
        trace_id = call.asked.get("traceId") or self._new_trace_id()
        token = self._tokens.mint(route.workload, proven.user, proven.inbound_token).reveal().encode()
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
            name == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in response.headers
        )
        patience = self._timeouts.stream if streams else self._timeouts.sync
        return asyncio.get_running_loop().time() + patience

    def _new_trace_id(self) -> str:
        return f"Root=1-{int(self._clock()):08x}-{secrets.token_hex(12)}"


def _agent_failure(error: UpstreamError) -> GatewayError:
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
