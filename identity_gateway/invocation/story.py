"""InvokeAgentRuntime from end to end: find the runtime, prove the caller, keep the record, let the agent answer."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from identity_gateway import telemetry
from identity_gateway.audit import ALLOWED, DENIED, UNKNOWN, Audit, Decided
from identity_gateway.errors import Conflict, GatewayError, NotFound, UnknownOperation
from identity_gateway.inbound import Scheme, scheme_of
from identity_gateway.invocation.doors import Door
from identity_gateway.invocation.forwarding import Answer, Forwarding, Opened
from identity_gateway.invocation.placement import Placed, Placement
from identity_gateway.invocation.proof import Call, Callers, Proven, details_of
from identity_gateway.invocation.recall import Recall
from identity_gateway.runtimes import Route, Routes
from identity_gateway.sessions import Session
from identity_gateway.spool import SpooledBody

_STALE_AFTER = 1.0
"""Seconds after which a route that was looked up is looked up again before it is used."""


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A call that may happen: where it goes, or which session it ends."""

    route: Route
    proven: Proven
    placed: Placed | None
    ending: Session | None


class Invocations:
    """Serves InvokeAgentRuntime."""

    def __init__(
        self,
        routes: Routes,
        callers: Callers,
        placement: Placement,
        forwarding: Forwarding,
        recall: Recall,
        audit: Audit,
    ) -> None:
        self._recall = recall
        self._routes = routes
        self._callers = callers
        self._placement = placement
        self._forwarding = forwarding
        self._audit = audit

    async def invoke(self, call: Call) -> Answer:
        """Answer one invocation. Every decision, also a refusal, leaves an audit record before its effect."""
        return await self._answered(call)

    async def card(self, call: Call) -> Answer:
        """Return an A2A agent's own card, as it says it: `cards` makes of it what its clients may see."""
        return await self._answered(call)

    async def stop(self, call: Call) -> str:
        """End a session and return its id. Raises NotFound for a session that is not known."""
        admitted = await self._admitted(call)
        with _closing(admitted.proven):
            assert admitted.ending is not None
            await self._placement.stop(admitted.route, admitted.ending)
        session_id: str = call.asked["runtimeSessionId"]
        return session_id

    async def stream(self, call: Call) -> Opened:
        """Return the stream that the caller may open. Whoever asks opens it, and ends it when it has lasted enough."""
        admitted = await self._admitted(call)
        assert admitted.placed is not None
        return self._forwarding.opened(call, admitted.route, admitted.proven, admitted.placed)

    async def _answered(self, call: Call) -> Answer:
        admitted = await self._admitted(call)
        with _closing(admitted.proven):
            assert admitted.placed is not None
            return await self._forwarding.forward(call, admitted.route, admitted.proven, admitted.placed)

    async def _admitted(self, call: Call) -> _Admitted:
        """Return the runtime and its caller, who is proven, permitted and recorded, and where the call goes."""
        began = asyncio.get_running_loop().time()
        scheme = scheme_of(call.request)
        resource = call.asked["agentRuntimeArn"]
        route = None
        proven: Proven | None = None
        try:
            watch = self._recall.watch(call)
            route = await self._routes.asked_for(call.asked)
            resource = route.endpoint_arn if route else resource
            proven = await self._callers.prove(call, scheme, route)
            keys = self._recall.keys(route)  # nothing is awaited in between: these are the keys of the proof
            reason = await self._callers.permit(call, proven, route)
            if route is None:
                raise NotFound("There is no such agent runtime or endpoint.")
            _refuse_foreign(call, route)
            await self._still_there(route, since=began)
            ends = call.door is Door.STOP
            placed = None if ends else await self._placement.enter(call, route, proven)
            ending = await self._placement.ending(call, route, proven) if ends else None
            version = placed.version if placed else None
            await self._keep(call, proven, resource, ALLOWED, reason, scheme, route, version=version)
            if placed is not None:
                await self._recall.remember(call, route, proven, placed, reason, watch, keys)
        except BaseException as error:
            if proven is not None:
                self._recall.forget(call, proven)
            with _closing(proven):
                if isinstance(error, GatewayError):
                    await self._keep(call, proven, resource, DENIED, f"{error.code}: {error.reason}", scheme, route)
            raise
        return _Admitted(route, proven, placed, ending)

    async def _still_there(self, route: Route, *, since: float) -> None:
        """Look again when the body took its time: a runtime that changed meanwhile is not called by its old rules."""
        if asyncio.get_running_loop().time() - since > _STALE_AFTER:
            now = await self._routes.find(route.name)
            if now is None or now.version != route.version:
                raise Conflict("The agent runtime was changed while the request arrived. Try again.")

    async def _keep(
        self,
        call: Call,
        proven: Proven | None,
        resource: str,
        decision: str,
        reason: str,
        scheme: Scheme,
        route: Route | None,
        *,
        version: int | None = None,
    ) -> None:
        telemetry.DECISIONS.labels(scheme.value, decision).inc()
        details = details_of(scheme, version or (route.version if route else None), proven)
        principal = proven.principal if proven else UNKNOWN
        decided = Decided(principal, call.door.value, resource, decision, reason, call.request_id, call.source, details)
        await self._audit.record(decided)


def _refuse_foreign(call: Call, route: Route) -> None:
    """Refuse what the runtime's protocol does not have: cards are A2A's, methods other than POST are MCP's."""
    protocol = route.configuration.protocol
    if call.door is Door.CARD and protocol != "A2A":
        raise NotFound("This agent runtime has no agent card: its protocol is not A2A.")
    if call.door is Door.INVOKE and call.method != b"POST" and protocol != "MCP":
        raise UnknownOperation("No operation has this method and path.")


@contextmanager
def _closing(proven: Proven | None) -> Iterator[None]:
    """Give a spooled body back when the block ends, however it ends."""
    try:
        yield
    finally:
        if proven is not None and isinstance(proven.body, SpooledBody):
            proven.body.close()
