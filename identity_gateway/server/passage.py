"""A call on its way to the agent and back, from socket to socket (`server.lane`): recorded, sent, answered.

Until the agent was sent something, every doubt ends on the long way. Nothing is decided here.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from identity_gateway import telemetry
from identity_gateway.api import render
from identity_gateway.audit import ALLOWED, Audit
from identity_gateway.errors import AgentFailed, GatewayError, Unavailable
from identity_gateway.inbound import Scheme
from identity_gateway.invocation.forwarding import Timeouts, failure_of, refuse_failure
from identity_gateway.invocation.known import Known
from identity_gateway.invocation.placement import Placement
from identity_gateway.invocation.recall import Recall
from identity_gateway.protocol import headers
from identity_gateway.protocol.request import Request
from identity_gateway.server.alike import Alike, Found
from identity_gateway.server.turn import CallerConnection, DefaultFields, Ids, Turn
from identity_gateway.upstream import Head, Upstream, UpstreamError, UpstreamResponse
from identity_gateway.upstream.connection import Connection

_CUT = "cut by the end of the gateway"
_ALLOWED = {scheme: telemetry.Tally(telemetry.DECISIONS.labels(scheme.value, ALLOWED)) for scheme in Scheme}
_AT_ONCE = 0.01
"""Seconds within which a body arrives together with its head."""

_REQUEST_ID = b"\r\n" + headers.REQUEST_ID + b": "
_TRACE_ID = b"\r\n" + headers.TRACE_ID + b": "
_TOLD_SESSION = headers.SESSION_ID + b": "


@dataclass(frozen=True, slots=True)
class Means:
    """What all passages share."""

    recall: Recall
    upstream: Upstream
    placement: Placement
    audit: Audit
    timeouts: Timeouts
    alike: Alike
    ids: Ids = field(default_factory=Ids)
    defaults: DefaultFields = field(default_factory=DefaultFields)


class Passage(Turn):
    """One call."""

    operation = "InvokeAgentRuntime"

    __slots__ = (
        "_asked", "_connection", "_deadline", "_known", "_lines", "_means", "_proves", "_response", "_signed",
        "_trace_id", "_whole",
    )  # fmt: skip

    def __init__(
        self,
        means: Means,
        protocol: CallerConnection,
        known: Known,
        lines: bytes,
        trace_id: bytes,
        signed: Request | None = None,
    ) -> None:
        """Begin with a head that has arrived, and `lines` of it for the agent. `signed` is what is to be proven."""
        super().__init__(protocol, means.ids.request(), means.defaults)
        self._means = means
        self._known = known
        self._lines = lines
        self._trace_id = trace_id
        self._signed = signed
        self._proves: Callable[[], bool] | None = None
        self._connection: Connection | None = None
        self._asked = False
        self._response: UpstreamResponse | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._whole = False

    def set(self) -> None:
        """Hear from uvicorn that something came: a part of the body, its end, or that the caller has left."""
        if self.disconnected:
            self._left()
        elif not self.more_body and not self._whole:
            self._whole = True
            self._enter()

    def arrived(self, request: bytes, found: Found, connection: Connection) -> None:
        """Take the whole of a request that was not parsed, and the connection to its agent. `enter` comes next."""
        self._unread, self.body, self._connection, self._proves = request, found.body, connection, found.proves
        self.more_body, self._whole = False, True

    # --- Before the agent is sent anything ---------------------------------------------------------------------------

    def enter(self) -> None:
        """Have the call recorded; the agent is called then."""
        self._means.audit.repeat(self._known.place.trail, self._request_id, self._source, self._recorded)

    def _enter(self) -> None:
        means, known, protocol = self._means, self._known, self._protocol
        late = time.perf_counter() - self._started > _AT_ONCE  # what held when the head came need not hold any more
        if late and not means.recall.holds(known):
            self.go_the_long_way()
            return
        if self._signed is not None:
            self._proves = partial(means.recall.proves, known, self._signed, self.body)
            if not self._proves() or means.recall.is_to_ask(known):
                self.go_the_long_way()
                return
        if protocol.head_in_segment and self.keep_alive:
            means.alike.learn(protocol, known, self._signed, self.body)
        self._connection = means.upstream.idle(known.place.origin)
        if self._connection is None:
            self.in_background(self._connect())
        else:
            self.enter()

    async def _connect(self, *, recorded: bool = False) -> None:
        """Wait for a connection to the agent, in the order of those who wait. What was proven has to hold then, too."""
        means, known = self._means, self._known
        origin = known.place.origin
        try:
            connection = await means.upstream.connection(origin)
        except UpstreamError:
            if not self.response_complete:
                self.go_the_long_way()
            return
        except asyncio.CancelledError:
            if not self.response_complete:
                self._cut()
            raise
        holds = means.recall.holds(known) and (self._proves is None or self._proves())
        if self.response_complete or not holds:
            means.upstream.spare(origin, connection)
            if not self.response_complete:
                self.go_the_long_way()
            return
        self._connection = connection
        if recorded:
            self._recorded(None)
        else:
            self.enter()

    def _recorded(self, fault: Unavailable | None) -> None:
        """Call the agent, now that this is on record."""
        means, place, connection = self._means, self._known.place, self._connection
        assert connection is not None
        if self.response_complete:  # the caller has left
            self._connection = None
            means.upstream.spare(place.origin, connection)
            return
        if fault is not None:
            self._connection = None
            means.upstream.spare(place.origin, connection)
            self.go_the_long_way()
            return
        if not connection.usable:  # the agent closed it meanwhile; the call is on record, once
            self._connection = None
            means.upstream.spare(place.origin, connection)
            self.in_background(self._connect(recorded=True))
            return
        if not self._trace_id:
            self._trace_id = means.ids.trace()
        start = means.recall.start(self._known)
        body = self.body
        request = b"%b%b%b%b%b%b\r\ncontent-length: %d\r\n\r\n%b" % (
            start, self._lines, _REQUEST_ID, self._request_id.encode(), _TRACE_ID, self._trace_id, len(body), body,
        )  # fmt: skip
        self._asked = True
        _ALLOWED[place.scheme].add()
        connection.ask(request, self, means.timeouts.sync)

    # --- The answer --------------------------------------------------------------------------------------------------

    def answered(self, head: Head, body: bytes) -> None:
        """Pass on an answer that came whole (`upstream.connection.Asker`)."""
        self._connection = None
        protocol = self._protocol
        if self.response_complete or protocol.transport.is_closing():  # `set` will say so
            return
        self._framed = not head.sized and head.status != 204
        parts = (head.lines, _TOLD_SESSION, self._known.place.session_id, _TRACE_ID, self._trace_id)
        self.write_head(head.status, b"".join(parts), self.piece(body, over=True) if self._framed else body)
        if head.streams:
            self._keep_session(self._means.timeouts.stream)
        self.complete()

    def began(self, response: UpstreamResponse) -> None:
        """Take an answer that takes longer, or what became of it (`upstream.connection.Asker`)."""
        self._connection = None
        self._response = response
        response.listen(self.proceed)

    def proceed(self) -> None:
        """Pass on what the agent has sent, unless the caller takes too little of it: then it is called again."""
        response, protocol = self._response, self._protocol
        if response is None or self.response_complete or (self.response_started and protocol.flow.write_paused):
            return
        if protocol.transport.is_closing():  # `set` will say so
            return
        if not self.response_started and response.status and not 200 <= response.status < 300:
            self._response = None
            response.listen(None)
            self.in_background(self._refuse_failure(response))
            return
        try:
            data, over = response.ready()
        except UpstreamError as error:
            self._fail(error)
            return
        if self.response_started:
            if data or over:
                protocol.transport.write(self.piece(data, over=over))
        elif not response.status:
            return
        else:
            self._begin(response, data, over=over)
        if over:
            self.complete()
        elif data:  # what comes after it may be here already, if it is the news of a failure
            self.proceed()

    def _begin(self, response: UpstreamResponse, data: bytes, *, over: bool) -> None:
        status, told = response.status, headers.answered(response.headers)
        said = dict(told)
        self._framed = b"content-length" not in said and status != 204
        lines = b"".join([b"%b: %b\r\n" % field for field in told])
        lines += _TOLD_SESSION + self._known.place.session_id + _TRACE_ID + self._trace_id
        self.write_head(status, lines, self.piece(data, over=over))
        streams = said.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        if streams or not over:
            patience = self._means.timeouts.stream if streams else self._means.timeouts.sync
            self._deadline = self._protocol.loop.call_later(patience, self._overdue)
            self._keep_session(patience)
        if not over:
            self.body = self._lines = b""
            self._signed = self._proves = None
            self._protocol.forget_request()

    def _keep_session(self, patience: float) -> None:
        place = self._known.place
        self.in_background(self._means.placement.used_again(place.route, place.placed, place.proven, lasting=patience))

    def complete(self, error: str = "", reason: str = "", *, cut: bool = False) -> None:
        """End the call."""
        self._response = None
        if self._deadline is not None:
            self._deadline.cancel()
        super().complete(error, reason, cut=cut)

    # --- What goes wrong ---------------------------------------------------------------------------------------------

    def _fail(self, error: UpstreamError) -> None:
        if self._means.upstream.closing:
            self._cut()
        elif self.response_started:  # a cut connection says it best
            self.complete("AgentFailed", str(error), cut=True)
        else:
            self._refuse(failure_of(error))

    async def _refuse_failure(self, response: UpstreamResponse) -> None:
        """Answer for an agent that failed, when it has said why."""
        try:
            await refuse_failure(response, "HTTP")
        except AgentFailed as error:
            if not self.response_complete:
                self._refuse(error)
        finally:
            await response.aclose()
            if not self.response_complete:
                self._cut()

    def _cut(self) -> None:
        """Say that the server's patience with its last requests has ended."""
        if self.response_started:
            self.complete(_CUT, cut=True)
        else:
            self.answer(*render.aws(Unavailable(), self._request_id))
            self.complete(_CUT)

    def _refuse(self, error: GatewayError) -> None:
        self.answer(*render.native("HTTP", error, self._request_id, challenge=None))
        self.complete(error.__class__.__name__, error.reason)

    def _overdue(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.abandon()
            self.complete("AgentFailed", "The agent did not complete its answer.", cut=True)

    def _left(self) -> None:
        response, self._response = self._response, None
        if self.response_complete:
            return
        if response is not None:
            response.abandon()
        if self._asked and self._connection is not None:
            self._connection.leave(self)
            self._connection = None
        self.complete("the caller left")
