"""The front door: everything enters here, is routed on the raw path, and is answered in AWS's dialect.

Three kinds of requests: invocations of agents (the hot path: plain ASGI, streamed both ways), AWS JSON operations, and
what stands behind the open doors (`public`, `pages`, `webhooks`). The dispatcher checks the request head, gives each
request its id, and writes one log line about it; the stories decide everything else.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256

import structlog

from identity_gateway import telemetry
from identity_gateway.admission import Admission, Attempt
from identity_gateway.api import render
from identity_gateway.api.exchange import Application, CallerLeft, Exchange, Receive, Scope, Send
from identity_gateway.api.operations import INVOKE, SERVED, Stories
from identity_gateway.errors import (
    AgentFailed,
    InsufficientScope,
    InvalidToken,
    OperationNotServed,
    Unavailable,
    UnknownOperation,
)
from identity_gateway.inbound import Scheme, scheme_of
from identity_gateway.invocation import Answer, Call, Discovery, Invocations
from identity_gateway.model import Realm
from identity_gateway.protocol.aws import Match, Services
from identity_gateway.spool import Spool
from identity_gateway.upstream import UpstreamError

_MAX_OPERATION_BODY = 1 << 20
_METADATA_SUFFIX = b"/.well-known/oauth-protected-resource"

_log = structlog.get_logger()


class Front:
    """The ASGI application."""

    def __init__(
        self,
        services: Services,
        stories: Stories,
        invocations: Invocations,
        discovery: Discovery,
        admission: Admission,
        realm: Realm,
        doors: Sequence[tuple[Callable[[bytes], bool], Application]],
    ) -> None:
        self._services = services
        self._stories = stories
        self._invocations = invocations
        self._discovery = discovery
        self._admission = admission
        self._realm = realm
        self._doors = tuple(doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        for opens, application in self._doors:
            if opens(scope["raw_path"]):
                await application(scope, receive, send)
                return
        exchange = Exchange(scope, receive, send)
        started = time.perf_counter()
        telemetry.IN_FLIGHT.inc()
        try:
            await self._answer(exchange)
        finally:
            telemetry.IN_FLIGHT.dec()
            self._log(exchange, time.perf_counter() - started)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            exchange.check_head()
            if exchange.request.raw_path.endswith(_METADATA_SUFFIX):
                await self._metadata(exchange)
                return
            match = self._services.match(exchange.request.method, exchange.request.raw_path)
            exchange.operation = match.operation.name
            if match.operation.name == INVOKE:
                await self._invoke(exchange, match)
            else:
                await self._operate(exchange, match)
        except CallerLeft:
            exchange.error = "the caller left"
        except asyncio.CancelledError:  # the server's patience with its last requests has ended
            exchange.error = "cut by the end of the gateway"
            if not exchange.status:
                await exchange.answer(*render.aws(Unavailable(), exchange.request_id))
        except Exception as error:  # noqa: BLE001 - the last resort: nobody may see a traceback
            shown = render.safe(error)
            exchange.error, exchange.reason = error.__class__.__name__, shown.reason
            if not exchange.status:  # otherwise the head is out, and a cut connection is the honest end
                await exchange.answer(*render.aws(shown, exchange.request_id))

    # --- invocations -------------------------------------------------------------------------------------------------

    async def _invoke(self, exchange: Exchange, match: Match) -> None:
        request = exchange.request
        asked = match.operation.parse_input(match.labels, request.raw_query, request.headers, b"")
        call = Call(request, asked, exchange.body(), exchange.request_id, exchange.source)
        try:
            async with _watched(exchange):
                answer = await self._invocations.invoke(call)
                exchange.abandon_body()  # an agent may answer before it was told everything
                await self._relay(answer, exchange)
        except (InvalidToken, InsufficientScope) as error:
            shown = scheme_of(request) is Scheme.BEARER  # RFC 6750 §3.1: other schemes are not told of an error
            challenge = await self._discovery.challenge(asked, error, shown=shown)
            exchange.error, exchange.reason = error.__class__.__name__, error.reason
            await exchange.answer(*render.aws(error, exchange.request_id, challenge=challenge))

    async def _relay(self, answer: Answer, exchange: Exchange) -> None:
        try:
            async with answer.body, asyncio.timeout_at(answer.deadline):
                await exchange.begin(answer.status, answer.headers)
                async for chunk in answer.body:
                    await exchange.chunk(chunk)
                await exchange.end()
        except (UpstreamError, TimeoutError) as error:
            raise AgentFailed("The agent did not complete its answer.", reason=str(error)) from None

    async def _metadata(self, exchange: Exchange) -> None:
        """Answer the protected resource metadata of a runtime (RFC 9728): an open door, by design."""
        request = exchange.request
        exchange.operation = "GetRuntimeProtectedResourceMetadata"
        match = self._services.match("POST", request.raw_path.removesuffix(_METADATA_SUFFIX))
        if match.operation.name != INVOKE or request.method != "GET":
            raise UnknownOperation("No operation has this method and path.")
        asked = match.operation.parse_input(match.labels, request.raw_query, (), b"")
        metadata = await self._discovery.resource_metadata(asked)
        headers = [(b"content-type", b"application/json"), (b"access-control-allow-origin", b"*")]
        await exchange.answer(200, headers, json.dumps(metadata).encode())

    # --- AWS JSON operations -----------------------------------------------------------------------------------------

    async def _operate(self, exchange: Exchange, match: Match) -> None:
        """Authenticate, validate, authorise, then call the story: in this order, whatever the operation."""
        operation, request = match.operation, exchange.request
        attempt = Attempt(operation.name, exchange.request_id, exchange.source, operation.policy_prefix)
        presented = await self._admission.present(attempt, request)
        await self._admission.refuse_stranger(
            attempt, presented, lambda: Spool.digest(exchange.body(), max_bytes=_MAX_OPERATION_BODY)
        )
        body = await exchange.read(_MAX_OPERATION_BODY)
        principal = await self._admission.authenticate(attempt, presented, sha256(body).hexdigest())
        if operation.name not in SERVED:
            raise OperationNotServed(f"{operation.name} is not served by this gateway.")
        asked = operation.parse_input(match.labels, request.raw_query, request.headers, body)
        served = SERVED[operation.name]
        name_resources, demands = served.resources(self._stories), served.demands(self._realm, asked)
        resource = await self._admission.authorize(
            attempt, principal, lambda: name_resources(self._realm, asked), demands
        )
        story = served.story(self._stories)(asked)
        result = await self._admission.answer(attempt, principal, resource, story)
        status, headers, content = operation.serialise_output(result)
        await exchange.answer(status, headers, content)

    def _log(self, exchange: Exchange, seconds: float) -> None:
        telemetry.REQUESTS.labels(exchange.operation, str(exchange.status)).inc()
        telemetry.DURATION.labels(exchange.operation).observe(seconds)
        _log.info(
            "request",
            request_id=exchange.request_id,
            operation=exchange.operation,
            status=exchange.status,
            seconds=round(seconds, 6),
            source=exchange.source,
            error=exchange.error or None,
            reason=exchange.reason or None,
        )


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
