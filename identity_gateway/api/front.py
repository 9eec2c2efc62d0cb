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
from identity_gateway.admission import Admission, Attempt, Kept
from identity_gateway.api import render
from identity_gateway.api.exchange import Application, CallerLeft, Exchange, Receive, Scope, Send
from identity_gateway.api.invocations import AgentDoors
from identity_gateway.api.operations import SERVED, Stories
from identity_gateway.audit import Entry
from identity_gateway.errors import OperationNotServed, Unavailable
from identity_gateway.invocation import Discovery, Invocations
from identity_gateway.invocation.discovery import resource_path
from identity_gateway.model import IamPrincipal, Realm
from identity_gateway.outbound import RepeatedVends
from identity_gateway.protocol.aws import Match, Services
from identity_gateway.protocol.request import Request
from identity_gateway.spool import Spool

_MAX_OPERATION_BODY = 1 << 20
_SMALL = 4
"""Digits of the length of a body that may be read before anything is known about its sender."""


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
        repeats: RepeatedVends | None = None,
    ) -> None:
        self._repeats = repeats
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
        principal, body, digest = await self._authenticate(exchange, attempt)
        if operation.name not in SERVED:
            raise OperationNotServed(f"{operation.name} is not served by this gateway.")
        asked = operation.parse_input(match.labels, request.raw_query, request.headers, body)
        served = SERVED[operation.name]
        name_resources, demands = served.resources(self._stories), served.demands(self._realm, asked)
        verify = served.proof
        resource, reason = await self._admission.permit(
            attempt,
            principal,
            lambda: name_resources(self._realm, asked),
            demands,
            context=served.keys(asked),
            proof=None if verify is None else lambda: verify(self._stories.user_tokens, asked),
        )
        kept = None if served.kept is None else await served.kept(self._stories)(asked)
        secret = None if kept is None else kept.reveal()
        if kept is None or secret is None:
            await self._admission.admit(attempt, principal, resource, reason, demands)
            story = served.story(self._stories)(asked)
            result = await self._admission.answer(attempt, principal, resource, story)
        else:
            entry = await self._admission.vend(attempt, principal, resource, reason, kept.details)
            result = {kept.member: secret.reveal()}
            self._remember(exchange, digest, principal, entry, kept)
        status, headers, content = operation.serialise_output(result)
        await exchange.answer(status, headers, content)

    async def _authenticate(self, exchange: Exchange, attempt: Attempt) -> tuple[IamPrincipal, bytes, str]:
        """Return who signed the request, its body, and the body's digest."""
        request = exchange.request
        if _is_small(request):
            body = await exchange.read(_MAX_OPERATION_BODY)
            digest = sha256(body).hexdigest()
            known = self._admission.authenticate_at_once(request, digest)
            if known is not None:
                return known, body, digest
            presented = await self._admission.present(attempt, request)
        else:
            presented = await self._admission.present(attempt, request)
            await self._admission.refuse_stranger(
                attempt, presented, lambda: Spool.digest(exchange.body(), max_bytes=_MAX_OPERATION_BODY)
            )
            body = await exchange.read(_MAX_OPERATION_BODY)
            digest = sha256(body).hexdigest()
        return await self._admission.authenticate(attempt, presented, digest), body, digest

    def _remember(self, exchange: Exchange, digest: str, principal: IamPrincipal, entry: Entry, kept: Kept) -> None:
        """Remember what was handed out, where the same request would be given it again."""
        request = exchange.request
        plain = request.method == "POST" and not request.raw_query
        if self._repeats is not None and plain and self._admission.permits_alike(principal):
            self._repeats.remember(request.raw_path, digest, principal, exchange.operation, entry, kept)


def _is_small(request: Request) -> bool:
    """Whether the body is so short that whoever says to have signed it may have it read, and comes unasked."""
    length, signed = request.header(b"content-length") or b"", request.header(b"authorization") or b""
    plain = request.header(b"expect") is None and request.header(b"transfer-encoding") is None
    return plain and length.isdigit() and len(length) <= _SMALL and signed.startswith(b"AWS4-HMAC-SHA256 ")
