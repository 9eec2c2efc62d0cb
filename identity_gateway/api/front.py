"""The front door: everything enters here, is routed on the raw path, and is answered in AWS's dialect.

Three kinds of requests: what ends at an agent (`invocations`: the hot path), AWS JSON operations, and what stands
behind the open doors (`public`, `pages`, `webhooks`). The dispatcher checks the request head, gives each request its
id, and writes one log line about it; the stories decide everything else.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from identity_gateway import telemetry
from identity_gateway.admission import Admission, Attempt
from identity_gateway.api import render
from identity_gateway.api.exchange import Application, CallerLeft, Exchange, Receive, Scope, Send
from identity_gateway.api.invocations import AgentDoors
from identity_gateway.api.operations import SERVED, Stories
from identity_gateway.errors import OperationNotServed, Unavailable
from identity_gateway.invocation import Discovery, Invocations
from identity_gateway.invocation.discovery import resource_path
from identity_gateway.model import Realm
from identity_gateway.protocol.aws import Match, Services
from identity_gateway.spool import Spool

_MAX_OPERATION_BODY = 1 << 20


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
        self._agents = AgentDoors(services, invocations, discovery)
        self._stories = stories
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
        telemetry.in_flight(1)
        try:
            await self._answer(exchange)
        finally:
            telemetry.in_flight(-1)
            telemetry.answered(
                exchange.operation,
                exchange.status,
                time.perf_counter() - started,
                request_id=exchange.request_id,
                source=exchange.source,
                error=exchange.error,
                reason=exchange.reason,
            )

    async def _answer(self, exchange: Exchange) -> None:
        try:
            exchange.check_head()
            if (described := resource_path(exchange.request.raw_path)) is not None:
                await self._agents.metadata(exchange, described)
                return
            match = self._agents.match(exchange)
            exchange.operation = match.operation.name
            if self._agents.serve(match):
                await self._agents.answer(exchange, match)
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

    # --- AWS JSON operations -----------------------------------------------------------------------------------------

    async def _operate(self, exchange: Exchange, match: Match) -> None:
        """Authenticate, validate, authorise, then call the story: in this order, whatever the operation."""
        operation, request = match.operation, exchange.request
        attempt = Attempt(
            operation.name,
            exchange.request_id,
            exchange.source,
            operation.policy_prefix,
            exchange.secure,
            request.header(b"user-agent"),
        )
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
        verify = served.proof
        resource = await self._admission.authorize(
            attempt,
            principal,
            lambda: name_resources(self._realm, asked),
            demands,
            context=served.keys(asked),
            proof=None if verify is None else lambda: verify(self._stories.user_tokens, asked),
        )
        story = served.story(self._stories)(asked)
        result = await self._admission.answer(attempt, principal, resource, story)
        status, headers, content = operation.serialise_output(result)
        await exchange.answer(status, headers, content)
