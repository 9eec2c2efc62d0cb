"""What reaches an agent over HTTP: a call, its card, the end of a session. The hot path: streamed both ways.

Refusals are answered in the protocol of the runtime that was called, as far as that tells a stranger nothing. Who may
call, and what an agent sees, the stories decide.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from identity_gateway.api import render
from identity_gateway.api.exchange import CallerLeft, Exchange
from identity_gateway.errors import (
    AgentFailed,
    Conflict,
    GatewayError,
    InsufficientScope,
    InvalidToken,
    NotFound,
    UnknownOperation,
)
from identity_gateway.inbound import Scheme, scheme_of
from identity_gateway.invocation import Answer, Call, Discovery, Invocations, cards
from identity_gateway.invocation.doors import Door
from identity_gateway.model import Document
from identity_gateway.protocol import headers
from identity_gateway.protocol.aws import Match, Services
from identity_gateway.upstream import UpstreamError

_JSON = (b"content-type", b"application/json")
_ANYBODY = (b"access-control-allow-origin", b"*")
_CALL_PATH = b"/invocations"
_SESSION_METHODS = ("GET", "DELETE")
"""MCP's streamable HTTP: a GET opens the server's own stream of events, a DELETE ends the session."""

_NOT_ACCEPTABLE = 406

_DOORS: Mapping[str, Door] = {door.value: door for door in (Door.INVOKE, Door.CARD, Door.STOP)}

_AFTER_PERMISSION = (AgentFailed, Conflict, NotFound)
"""Errors that nobody sees of an existing runtime who may not call it."""


class AgentDoors:
    """Serves the operations that end at an agent."""

    def __init__(self, services: Services, invocations: Invocations, discovery: Discovery) -> None:
        self._services = services
        self._invocations = invocations
        self._discovery = discovery
        self._served: Mapping[Door, Callable[[Call, Match, Exchange], Awaitable[None]]] = {
            Door.INVOKE: self._invoke,
            Door.CARD: self._card,
            Door.STOP: self._stop,
        }

    def match(self, exchange: Exchange) -> Match:
        """Return the operation of a request. A call of an agent has the same path whatever its method."""
        request = exchange.request
        calls = request.method in _SESSION_METHODS and request.raw_path.endswith(_CALL_PATH)
        return self._services.match("POST" if calls else request.method, request.raw_path)

    @staticmethod
    def serve(match: Match) -> bool:
        """Whether the operation ends at an agent."""
        return match.operation.name in _DOORS

    async def answer(self, exchange: Exchange, match: Match) -> None:
        """Let the agent answer, or answer a refusal."""
        request, door = exchange.request, _DOORS[match.operation.name]
        asked = match.operation.parse_input(match.labels, request.raw_query, request.headers, b"")
        call = Call(
            request,
            asked,
            exchange.body(),
            exchange.request_id,
            exchange.source,
            door=door,
            method=request.method.encode("ascii"),
            secure=exchange.secure,
        )
        try:
            async with _watched(exchange):
                await self._served[door](call, match, exchange)
        except CallerLeft:
            raise
        except Exception as error:
            if exchange.status:  # the head is out
                await self._end_stream(exchange, asked, error)
                raise
            await self._refuse(exchange, asked, door, error)

    async def metadata(self, exchange: Exchange, path: bytes) -> None:
        """Answer the protected resource metadata of a runtime (RFC 9728): an open door, by design.

        Scripts of any origin may read it: clients that run in browsers look here first.
        """
        request = exchange.request
        exchange.operation = "GetRuntimeProtectedResourceMetadata"
        if request.method == "OPTIONS":
            allowed = [(b"access-control-allow-methods", b"GET"), (b"access-control-allow-headers", b"*")]
            await exchange.answer(204, [_ANYBODY, *allowed], b"")
            return
        match = self._services.match("POST", path) if path else None
        if match is None or _DOORS.get(match.operation.name) is not Door.INVOKE or request.method != "GET":
            raise UnknownOperation("No operation has this method and path.")
        asked = match.operation.parse_input(match.labels, request.raw_query, (), b"")
        metadata = await self._discovery.resource_metadata(asked, request)
        await exchange.answer(200, [_JSON, _ANYBODY], json.dumps(metadata).encode())

    # --- The doors ---------------------------------------------------------------------------------------------------

    async def _invoke(self, call: Call, _match: Match, exchange: Exchange) -> None:
        answer = await self._invocations.invoke(call)
        if answer.status == _NOT_ACCEPTABLE:  # an MCP server: other agents' failures are errors by now
            await answer.body.aclose()
            call_id = render.call_id_of(await exchange.small_body())
            await exchange.answer(*render.not_acceptable(exchange.request_id, call_id))
            return
        exchange.abandon_body()  # an agent may answer before it was told everything
        await _relay(answer, exchange)

    async def _card(self, call: Call, _match: Match, exchange: Exchange) -> None:
        answer = await self._invocations.card(call)
        exchange.abandon_body()
        body = await _whole(answer, cards.MAX_CARD)
        card = cards.rewritten(body, await self._discovery.guard(call.asked, call.request))
        own = [(name, value) for name, value in answer.headers if name == headers.SESSION_ID]
        await exchange.answer(200, [_JSON, *own], json.dumps(card).encode())

    async def _stop(self, call: Call, match: Match, exchange: Exchange) -> None:
        session_id = await self._invocations.stop(call)
        exchange.abandon_body()
        output = {"runtimeSessionId": session_id, "statusCode": 200}
        await exchange.answer(*match.operation.serialise_output(output))

    # --- Refusals ----------------------------------------------------------------------------------------------------

    async def _refuse(self, exchange: Exchange, asked: Document, door: Door, fault: Exception) -> None:
        error = render.safe(fault)
        exchange.error, exchange.reason = fault.__class__.__name__, error.reason
        challenge = None
        if isinstance(error, InvalidToken | InsufficientScope):
            shown = (
                scheme_of(exchange.request) is Scheme.BEARER
            )  # RFC 6750 §3.1: other schemes are not told of an error
            challenge = await self._discovery.challenge(asked, error, shown=shown, request=exchange.request)
        protocol = await self._spoken(asked, door, error)
        call_id = None
        if protocol in {"MCP", "A2A"} and exchange.request.method == "POST":
            call_id = render.call_id_of(await exchange.small_body())
        rendered = render.native(protocol, error, exchange.request_id, call_id=call_id, challenge=challenge)
        await exchange.answer(*rendered)

    async def _end_stream(self, exchange: Exchange, asked: Document, error: Exception) -> None:
        """End a stream of AG-UI that its agent broke off with the event that its client waits for.

        In other protocols a cut connection says it best: an answer that ends like a whole one is taken for one.
        """
        if not exchange.streams_events or exchange.ended or not isinstance(error, AgentFailed):
            return
        if await self._spoken(asked, Door.INVOKE, error) == "AGUI":
            await exchange.end(b"\n\n" + render.run_error(error))

    async def _spoken(self, asked: Document, door: Door, error: GatewayError) -> str:
        """Return the protocol in which to refuse: HTTP, that is AWS JSON, wherever another form would tell too much.

        That a runtime with a JWT authorizer exists is known to whoever asks for its metadata. One that asks for a
        signature looks like none at all to those who may not call it. Cards and sessions are AWS's own operations.
        """
        if door is not Door.INVOKE:
            return "HTTP"
        try:
            found = await self._discovery.protocol(asked)
        except GatewayError:
            return "HTTP"
        if found is None:
            return "HTTP"
        protocol, public = found
        return protocol if public or isinstance(error, _AFTER_PERMISSION) else "HTTP"


async def _relay(answer: Answer, exchange: Exchange) -> None:
    """Pass the agent's answer on as it comes."""
    try:
        async with answer.body, asyncio.timeout_at(answer.deadline):
            await exchange.begin(answer.status, answer.headers)
            async for chunk in answer.body:
                await exchange.chunk(chunk)
            await exchange.end()
    except (UpstreamError, TimeoutError) as error:
        raise AgentFailed("The agent did not complete its answer.", reason=str(error)) from None


async def _whole(answer: Answer, max_bytes: int) -> bytes:
    """Return the agent's whole answer. Raises AgentFailed for one that is too long or does not end."""
    taken = bytearray()
    try:
        async with answer.body, asyncio.timeout_at(answer.deadline):
            async for chunk in answer.body:
                taken += chunk
                if len(taken) > max_bytes:
                    raise AgentFailed(f"The agent's answer is longer than {max_bytes} bytes.")
    except (UpstreamError, TimeoutError) as error:
        raise AgentFailed("The agent did not complete its answer.", reason=str(error)) from None
    return bytes(taken)


@asynccontextmanager
async def _watched(exchange: Exchange) -> AsyncIterator[None]:
    """Cancel what the block does when the caller leaves before its answer is complete."""
    answering = asyncio.current_task()
    assert answering is not None
    left = False

    async def watch() -> None:
        nonlocal left
        await exchange.left()
        if not exchange.ended:
            left = True
            answering.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        answering.uncancel()
        raise CallerLeft from None
    finally:
        watcher.cancel()
