"""The door of the security token service: `POST /` with a form body, and the documents of the gateway's own issuer.

Signed actions pass `admission` like every other operation. The exchanges are open: their proof stands in the body, and
in the body alone, because query strings are logged by whoever they pass. Nothing is decided here.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import structlog

from identity_gateway import telemetry
from identity_gateway.admission import Admission, Attempt
from identity_gateway.api.exchange import Application, CallerLeft, Exchange, Receive, Scope, Send
from identity_gateway.api.render import safe
from identity_gateway.errors import (
    GatewayError,
    MissingAuthentication,
    OperationNotServed,
    Unavailable,
    ValidationFailed,
)
from identity_gateway.model import Document, IamPrincipal
from identity_gateway.protocol.aws.query import Action, error_document, fields_of, load_query_service
from identity_gateway.protocol.policy import Context
from identity_gateway.protocol.sigv4 import PresentedSignature
from identity_gateway.roles import DEFAULT_SESSION
from identity_gateway.security_tokens import DEFAULT_TOKEN, SecurityTokens
from identity_gateway.spool import Spool
from identity_gateway.web_identity import DISCOVERY_PATH, KEYS_MAX_AGE, KEYS_PATH, WebIdentity

DOORS = {
    DISCOVERY_PATH: "discovery document of the gateway's own issuer",
    KEYS_PATH: "key set of the gateway's own issuer",
}
"""What anybody may read. `POST /` is open for the exchanges alone, whose proof stands in the body."""

SIGNED = ("GetCallerIdentity", "AssumeRole", "GetWebIdentityToken")
OPEN = ("AssumeRoleWithWebIdentity", "AssumeRoleWithCallerIdentity")

_PATHS = {DISCOVERY_PATH.encode(), KEYS_PATH.encode()}
_MEMBERS = {
    "sts:durationseconds": "DurationSeconds",
    "sts:identitytokenaudience": "Audience",
    "sts:rolesessionname": "RoleSessionName",
    "sts:signingalgorithm": "SigningAlgorithm",
}
"""Condition keys, and the members of the input that they are."""

_MAX_BODY = 64 * 1024
_FORM = b"application/x-www-form-urlencoded"
_XML = (b"content-type", b"text/xml")
_NO_STORE = (b"cache-control", b"no-store")

_log = structlog.get_logger()


def opens(method: str, raw_path: bytes) -> bool:
    """Whether this door serves this request: `POST /`, and both documents of the issuer."""
    return raw_path in _PATHS or (method == "POST" and raw_path == b"/")


def reaches(raw_path: bytes) -> bool:
    """Whether this door must see the path: it passes on what it does not serve, such as `GET /`."""
    return raw_path == b"/" or raw_path in _PATHS


class SecurityTokenDoor:
    """The ASGI application. What it does not serve goes `elsewhere`."""

    def __init__(
        self, tokens: SecurityTokens, web_identity: WebIdentity, admission: Admission, *, elsewhere: Application
    ) -> None:
        """`admission` must verify signatures of the scope `sts`."""
        self._service = load_query_service("sts", "identity-gateway-sts")
        self._tokens = tokens
        self._web_identity = web_identity
        self._admission = admission
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http" or not opens(scope["method"], scope["raw_path"]):
            await self._elsewhere(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        started = time.perf_counter()
        telemetry.in_flight(1)
        try:
            await self._answer(exchange)
        finally:
            telemetry.in_flight(-1)
            self._log(exchange, time.perf_counter() - started)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            exchange.check_head()
            if exchange.request.raw_path in _PATHS:
                await self._publish(exchange)
            else:
                await self._serve(exchange)
        except CallerLeft:
            exchange.error = "the caller left"
        except asyncio.CancelledError:  # the server's patience with its last requests has ended
            exchange.error = "cut by the end of the gateway"
            await self._refuse(exchange, Unavailable())
        except Exception as error:  # noqa: BLE001 - the last resort: nobody may see a traceback
            shown = safe(error)
            exchange.error, exchange.reason = error.__class__.__name__, shown.reason
            await self._refuse(exchange, shown)

    async def _publish(self, exchange: Exchange) -> None:
        exchange.operation = "WebIdentityDocuments"
        if exchange.request.method not in {"GET", "HEAD"}:
            await exchange.answer(405, [(b"allow", b"GET, HEAD")], b"")
            return
        keys = exchange.request.raw_path == KEYS_PATH.encode()
        document = await self._web_identity.key_set() if keys else self._web_identity.discovery()
        kept = (b"cache-control", f"public, max-age={KEYS_MAX_AGE}".encode())
        await exchange.answer(200, [(b"content-type", b"application/json"), kept], json.dumps(document).encode())

    async def _serve(self, exchange: Exchange) -> None:
        """Authenticate before the body is understood, wherever somebody claims to have signed."""
        request = exchange.request
        if request.raw_query:
            raise ValidationFailed("Parameters stand in the body of a POST, not in the query.", kind="CannotParse")
        if (request.header(b"content-type") or b"").partition(b";")[0].strip().lower() != _FORM:
            raise ValidationFailed(f"The content type must be {_FORM.decode()}.", kind="CannotParse")
        if request.header(b"authorization") is None:
            await self._exchange(exchange)
            return
        attempt = Attempt("-", exchange.request_id, exchange.source, "sts")
        presented = await self._admission.present(attempt, request)
        await self._admission.refuse_stranger(
            attempt, presented, lambda: Spool.digest(exchange.body(), max_bytes=_MAX_BODY)
        )
        body = await exchange.read(_MAX_BODY)
        await self._signed(exchange, presented, body)

    async def _exchange(self, exchange: Exchange) -> None:
        """Serve an action that nobody signs."""
        fields = fields_of(await exchange.read(_MAX_BODY))
        action = self._service.match(fields)
        if action.name not in OPEN:
            raise MissingAuthentication
        exchange.operation = action.name
        attempt = Attempt(action.name, exchange.request_id, exchange.source, "sts")
        await self._succeed(exchange, action, await self._tokens.exchange(attempt, action.parse_input(fields)))

    async def _signed(self, exchange: Exchange, presented: PresentedSignature, body: bytes) -> None:
        attempt = Attempt("-", exchange.request_id, exchange.source, "sts")
        principal = await self._admission.authenticate(attempt, presented, sha256(body).hexdigest())
        fields = fields_of(body)
        action = self._service.match(fields)
        exchange.operation = action.name
        agent = exchange.request.header(b"user-agent")
        attempt = Attempt(action.name, exchange.request_id, exchange.source, "sts", exchange.secure, agent)
        if action.name in OPEN:  # signed by an SDK that had a key at hand: the proof in the body decides alone
            output = await self._tokens.exchange(attempt, action.parse_input(fields))
        elif action.name in SIGNED:
            output = await self._permitted(attempt, principal, action.parse_input(fields))
        else:
            raise OperationNotServed(f"{action.name} is not served by this gateway.")
        await self._succeed(exchange, action, output)

    async def _permitted(self, attempt: Attempt, principal: IamPrincipal, asked: Mapping[str, Any]) -> Document:
        if attempt.action == "GetCallerIdentity":
            await self._tokens.record_who(attempt, principal)
            return self._tokens.who(principal)
        about = asked["RoleArn"] if attempt.action == "AssumeRole" else self._tokens.own_resource(principal)
        resource = await self._admission.authorize(
            attempt, principal, lambda: (about,), context=_keys(attempt.action, asked)
        )
        story = self._tokens.assume_role if attempt.action == "AssumeRole" else self._tokens.web_identity_token
        return await self._admission.answer(attempt, principal, resource, story(principal, asked))

    async def _succeed(self, exchange: Exchange, action: Action, output: Document) -> None:
        body = action.serialise_output(output, exchange.request_id)
        await exchange.answer(200, [_XML, _NO_STORE], body)

    async def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        if exchange.status:  # the head is out, and a cut connection is the honest end
            return
        status, body = error_document(error, self._service.namespace, exchange.request_id)
        await exchange.answer(status, [_XML, _NO_STORE], body)

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


def _keys(action: str, asked: Mapping[str, Any]) -> Context:
    """Return the condition keys that the input gives, and the duration that holds where it gives none.

    Whoever is denied long sessions would otherwise get one by saying nothing. A role may make it shorter.
    """
    said = {"DurationSeconds": DEFAULT_TOKEN if action == "GetWebIdentityToken" else DEFAULT_SESSION, **asked}
    given = {key: said[member] for key, member in _MEMBERS.items() if member in said}
    return {
        key: tuple(str(each) for each in (value if isinstance(value, list) else [value]))
        for key, value in given.items()
    }
