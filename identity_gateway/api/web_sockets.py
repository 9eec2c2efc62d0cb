"""The door of an agent for WebSockets: four ways to bring credentials, refusals before the handshake, then the stream.

Credentials stand in the Authorization header (a signature or a bearer token), in the query string (a presigned URL), or
among the sub-protocols, the only place where a browser lets a script put a token. Nothing is decided here.
"""

import asyncio
import base64
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import structlog

from identity_gateway import telemetry
from identity_gateway.api import render
from identity_gateway.api.exchange import Application, CallerLeft, Receive, Scope, Send, check_head
from identity_gateway.errors import GatewayError, InsufficientScope, InvalidToken, UnknownOperation, ValidationFailed
from identity_gateway.inbound import Scheme, scheme_of
from identity_gateway.invocation import Call, Discovery, Invocations, Opened
from identity_gateway.invocation.doors import Door
from identity_gateway.invocation.web_sockets import Streams
from identity_gateway.model import Document
from identity_gateway.protocol import headers, sigv4
from identity_gateway.protocol.aws import Services
from identity_gateway.protocol.headers import Headers
from identity_gateway.protocol.request import Request, query_pairs
from identity_gateway.upstream import AgentSocket, Ended

LAST_FRAME = "identity_gateway.last_frame"
"""The extension of an ASGI scope with which the server says when the caller was last heard of."""

SENTINEL = "base64UrlBearerAuthorization"
"""The sub-protocol that is chosen when another one carries the token (AWS: WebSocket, OAuth from browsers)."""

_CARRIER = SENTINEL + "."
_MAX_CARRIER = 16_384
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")
_PATH = re.compile(rb"/runtimes/[^/?#]+/ws")
_NAME = re.compile(rb"[a-z0-9_-]+")
_VISIBLE = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_IN_QUERY = (headers.SESSION_ID, headers.USER_ID)
_ONCE = (b"host", b"authorization", b"x-amz-date", b"x-amz-security-token", headers.SESSION_ID, headers.USER_ID)

_log = structlog.get_logger()


def opens(raw_path: bytes) -> bool:
    """Whether a path is a door for WebSockets."""
    return _PATH.fullmatch(raw_path) is not None


def web_sockets(services: Services, invocations: Invocations, discovery: Discovery, streams: Streams) -> Application:
    """Return the application behind the paths that `opens` names, for WebSockets and for those who use plain HTTP."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        handshake = Handshake(scope, receive, send)
        if scope["type"] != "websocket":
            await handshake.refuse_http()
            return
        started = time.perf_counter()
        telemetry.IN_FLIGHT.inc()
        try:
            await _serve(handshake, services, invocations, discovery, streams)
        finally:
            telemetry.IN_FLIGHT.dec()
            handshake.log(time.perf_counter() - started)

    return application


class Handshake:
    """A request for a WebSocket, and the answer to it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._last_frame = scope.get("extensions", {}).get(LAST_FRAME)
        self.received = Request("GET", scope["raw_path"], scope["query_string"], tuple(scope["headers"]))
        self.secure = scope.get("scheme") in {"https", "wss"}
        client = scope.get("client")
        self.source = client[0] if client else ""
        self.request_id = str(uuid.uuid4())
        self.status = 0
        self.ended: Ended | None = None
        self.error = self.reason = ""

    def check_head(self) -> None:
        """Refuse a head that this gateway would not answer."""
        check_head(self.received, _ONCE)

    async def left(self) -> None:
        """Return when the caller has gone. It may not say anything before it was let in."""
        while (await self._receive())["type"] != "websocket.disconnect":
            pass

    async def accept(self, subprotocol: str | None, fields: list[tuple[bytes, bytes]]) -> "_Caller":
        """Let the caller in."""
        fields = [*fields, (b"x-amzn-requestid", self.request_id.encode())]
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": fields})
        self.status = 101
        return _Caller(self._receive, self._send, self._last_frame)

    async def deny(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer with a status and a body of our own instead of a handshake."""
        self.status = status
        fields = [*fields, (b"content-length", str(len(body)).encode())]
        await self._send({"type": "websocket.http.response.start", "status": status, "headers": fields})
        await self._send({"type": "websocket.http.response.body", "body": body, "more_body": False})

    async def refuse_http(self) -> None:
        """Answer a request that does not ask for a WebSocket (RFC 9110 §15.5.22)."""
        error = ValidationFailed("This path serves WebSockets: ask for an upgrade.", kind="CannotParse")
        _, fields, body = render.aws(error, self.request_id)
        fields = [*fields, (b"upgrade", b"websocket"), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": 426, "headers": fields})
        await self._send({"type": "http.response.body", "body": body})

    def log(self, seconds: float) -> None:
        """Write the one line about this stream, at its end. Its target is not in it: presigned URLs are credentials."""
        telemetry.REQUESTS.labels(Door.STREAM.value, str(self.status)).inc()
        telemetry.DURATION.labels(Door.STREAM.value).observe(seconds)
        _log.info(
            "request",
            request_id=self.request_id,
            operation=Door.STREAM.value,
            status=self.status,
            seconds=round(seconds, 6),
            source=self.source,
            closed=self.ended.code if self.ended else None,
            error=self.error or None,
            reason=self.reason or None,
        )


class _Caller:
    """The caller's side of an open stream, over ASGI."""

    def __init__(self, receive: Receive, send: Send, last_frame: Any) -> None:
        self._receive = receive
        self._send = send
        self._heard = last_frame["loop_time"] if last_frame else lambda: 0.0
        self._gone = False

    def last_frame(self) -> float:
        return float(self._heard())

    async def next(self) -> str | bytes | Ended:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._gone = True
            return Ended(message.get("code") or 1005, message.get("reason") or "")
        text = message.get("text")
        return text if text is not None else bytes(message["bytes"])

    async def pass_on(self, message: str | bytes) -> Ended | None:
        kind = "text" if isinstance(message, str) else "bytes"
        try:
            await self._send({"type": "websocket.send", kind: message})
        except (OSError, RuntimeError):  # the server's way to say that the caller has gone
            self._gone = True
            return Ended(1006)
        return None

    async def close(self, ended: Ended) -> None:
        if not self._gone:
            self._gone = True
            await self._send({"type": "websocket.close", "code": ended.code, "reason": ended.reason})


async def _serve(
    handshake: Handshake, services: Services, invocations: Invocations, discovery: Discovery, streams: Streams
) -> None:
    request, asked = handshake.received, None
    try:
        handshake.check_head()
        request, subprotocol = credentials_in(handshake.received)
        asked, customs = asked_for(services, request)
        call = Call(
            request, asked, _nothing(), handshake.request_id, handshake.source,
            door=Door.STREAM, method=b"GET", secure=handshake.secure,
        )  # fmt: skip
        opened = await invocations.stream(call)
        allowed = [(name, value) for name, value in customs if name in opened.route.configuration.allowlist]
        fields = [*opened.headers, *allowed]
        agent = await _unless_left(handshake, streams, opened, fields)
        try:
            caller = await handshake.accept(subprotocol, [(headers.SESSION_ID, opened.session_id.encode())])
        except BaseException:
            await streams.abandon(agent)
            raise
        handshake.ended = await streams.relay(caller, agent, expires_at=opened.expires_at)
    except CallerLeft:
        handshake.error = "the caller left"
    except Exception as error:  # noqa: BLE001 - the last resort: nobody may see a traceback
        shown = render.safe(error)
        handshake.error, handshake.reason = error.__class__.__name__, shown.reason
        if not handshake.status:
            await handshake.deny(*await _refusal(shown, handshake.request_id, request, asked, discovery))


async def _refusal(
    error: GatewayError, request_id: str, request: Request, asked: Document | None, discovery: Discovery
) -> render.Rendered:
    challenge = None
    if asked is not None and isinstance(error, InvalidToken | InsufficientScope):
        challenge = await discovery.challenge(asked, error, shown=scheme_of(request) is Scheme.BEARER)
    return render.aws(error, request_id, challenge=challenge)


async def _unless_left(
    handshake: Handshake, streams: Streams, opened: Opened, fields: list[tuple[bytes, bytes]]
) -> AgentSocket:
    """Open the stream to the agent. Raises CallerLeft when nobody waits for it any more."""
    opening = asyncio.create_task(streams.open(opened.origins, opened.target, fields))
    left = asyncio.create_task(handshake.left())
    try:
        await asyncio.wait({opening, left}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            return opening.result()
        raise CallerLeft
    finally:
        left.cancel()
        if not opening.done():
            opening.cancel()


def credentials_in(request: Request) -> tuple[Request, str | None]:
    """Return the request with its bearer token in the Authorization header, and the sub-protocol to choose.

    A browser's token comes as `base64UrlBearerAuthorization.<base64url>` beside `base64UrlBearerAuthorization`: exactly
    these two, and no other credentials. Other sub-protocols are not chosen. Nothing is believed here.
    """
    offered = [
        each.strip()
        for name, value in request.headers
        if name == b"sec-websocket-protocol"
        for each in value.decode("latin-1").split(",")
    ]
    carried = any(each.startswith(SENTINEL) for each in offered)
    if carried + request.count(b"authorization") + sigv4.is_presigned(request) > 1:
        raise ValidationFailed(
            "Credentials stand in more than one of: the Authorization header, the query string, the sub-protocols.",
            kind="CannotParse",
        )
    if not carried:
        return request, None
    carriers = [each for each in offered if each.startswith(_CARRIER)]
    if len(offered) != 2 or len(carriers) != 1 or SENTINEL not in offered:
        raise ValidationFailed(
            f"A token among the sub-protocols stands there once, as {_CARRIER}<base64url>, beside {SENTINEL} alone.",
            kind="CannotParse",
        )
    authorization = b"Bearer " + _carried(carriers[0].removeprefix(_CARRIER))
    kept = tuple(pair for pair in request.headers if pair[0] != b"sec-websocket-protocol")
    return replace(request, headers=(*kept, (b"authorization", authorization))), SENTINEL


def _carried(encoded: str) -> bytes:
    """Return the token in a sub-protocol (base64url without padding, RFC 4648 §5), spelt in the one way there is."""
    if len(encoded) > _MAX_CARRIER or not _BASE64URL.fullmatch(encoded) or len(encoded) % 4 == 1:
        raise InvalidToken(reason="the token among the sub-protocols is not base64url")
    token = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    if base64.urlsafe_b64encode(token).rstrip(b"=") != encoded.encode() or not _TOKEN.fullmatch(token):
        raise InvalidToken(reason="the token among the sub-protocols is not one")
    return token


def asked_for(services: Services, request: Request) -> tuple[Document, Headers]:
    """Return what a handshake asks for, and the custom headers that its query string names for the agent.

    A script in a browser and a presigned URL set no headers: the session's id, the user's, and the runtime's custom
    headers may stand in the query string under the names of the headers. Not in both places, and not twice.
    """
    named = _headers_in(request.raw_query)
    for name, _ in named:
        if request.count(name) or [each for each, _ in named].count(name) > 1:
            raise ValidationFailed(f"{name.decode()} stands more than once.", kind="CannotParse")
    match = services.match("POST", request.raw_path.removesuffix(b"/ws") + b"/invocations")
    if match.operation.name != Door.INVOKE.value:
        raise UnknownOperation("No operation has this method and path.")
    modelled = tuple(pair for pair in named if pair[0] in _IN_QUERY)
    asked = match.operation.parse_input(match.labels, request.raw_query, (*request.headers, *modelled), b"")
    return asked, tuple(pair for pair in named if pair not in modelled)


def _headers_in(raw_query: bytes) -> Headers:
    return tuple(_named_headers(query_pairs(raw_query)))


def _named_headers(pairs: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    for spelt, value in pairs:
        name = spelt.lower()
        if name in _IN_QUERY or name.startswith(headers.CUSTOM_PREFIX):
            if not _NAME.fullmatch(name) or len(value) > headers.MAX_VALUE or not _VISIBLE.fullmatch(value):
                raise ValidationFailed(
                    "A parameter that is a header has a name of letters, digits, - and _, and holds 1 to "
                    f"{headers.MAX_VALUE} visible ASCII characters.",
                    kind="CannotParse",
                )
            yield name, value


async def _nothing() -> AsyncIterator[bytes]:
    """Return the body of a handshake: there is none."""
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece
