"""Who calls: an invocation is proven by the scheme of its runtime, AWS Signature Version 4 or a JWT, never by both.

Nothing is recorded and nothing is forwarded here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from identity_gateway.authorization import Asked, Authorization, claims_context, request_context
from identity_gateway.errors import (
    AccessDenied,
    IncompleteSignature,
    InvalidToken,
    MissingAuthentication,
    ValidationFailed,
)
from identity_gateway.inbound import BearerTokens, Scheme, Signatures
from identity_gateway.invocation.doors import Door
from identity_gateway.model import (
    Document,
    IamPrincipal,
    JwtUser,
    NamedUser,
    Realm,
    Secret,
    User,
    WorkloadAccess,
    user_text,
    user_words,
)
from identity_gateway.protocol import bearer, headers, jwt, sigv4
from identity_gateway.protocol.headers import Headers
from identity_gateway.protocol.jwt import SignedClaims
from identity_gateway.protocol.policy import Context
from identity_gateway.protocol.request import EMPTY_SHA256, Request, SignedRequest
from identity_gateway.protocol.sigv4 import PresentedSignature
from identity_gateway.runtimes import Route
from identity_gateway.spool import Spool, SpooledBody
from identity_gateway.workload import WorkloadTokens

MAX_BODY = 100_000_000
"""Bytes of an invocation's payload (AWS: InvokeAgentRuntime)."""

_MOST_ACTORS = 10
"""Agents through which a call may come: a circle of agents ends here."""

_USER_ID, _AUTHORIZER_TYPE = "bedrock-agentcore:userid", "bedrock-agentcore:runtimeauthorizertype"
_DISCOVERY_URL = "bedrock-agentcore:discoveryurl"

_SMALL = 65_536
"""Bytes that a stranger may make the gateway keep for a moment: less than looking its key up first would cost."""

_MISMATCH = (
    "Authorization method mismatch. The agent is configured for a different authorization method than what was used in "
    "your request. Check the agent's authorization configuration and ensure your request uses the matching method "
    "(OAuth or SigV4)"
)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


_NOTHING = _pieces()


@dataclass(frozen=True, slots=True)
class Call:
    """An invocation as it arrived. `asked` holds the modelled members of the request head; nothing is proven."""

    request: Request
    asked: Document
    body: AsyncIterator[bytes]
    request_id: str
    source: str
    door: Door = Door.INVOKE
    method: bytes = b"POST"
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Proven:
    """Who calls, for whom, and what the agent may see of it. `signer` is None for the bearer of a token."""

    principal: str
    signer: IamPrincipal | None
    user: User | None
    inbound_token: Secret | None
    headers: Headers = field(repr=False)  # an allow-listed Authorization may be among them
    body: SpooledBody | AsyncIterator[bytes]
    length: int | None
    expires_at: float | None = None
    actors: tuple[str, ...] = ()
    claims: Context = field(default_factory=dict)

    def alone(self) -> "Proven":
        """Return the same caller, without anything of this one request."""
        return replace(self, inbound_token=None, headers=(), body=_NOTHING, length=0, claims={})

    @property
    def holder(self) -> str:
        """Whose session a call is in: the user's, or the caller's own where there is none."""
        if self.user is not None:
            return f"user:{user_text(self.user)}"
        if self.signer is None:
            return f"principal:{self.principal}"
        person = self.signer.web_identity  # people may share a role, each with credentials for their own token
        return f"principal:{self.signer.names[-1]}" + (f" {person}" if person is not None else "")


class Callers:
    """Proves the callers of invocations."""

    def __init__(
        self,
        signatures: Signatures,
        bearer_tokens: BearerTokens,
        authorization: Authorization,
        workload_tokens: WorkloadTokens,
        spool: Spool,
        realm: Realm,
        *,
        clock: Callable[[], float],
        body_timeout: float,
    ) -> None:
        self._signatures = signatures
        self._bearer_tokens = bearer_tokens
        self._authorization = authorization
        self._workload_tokens = workload_tokens
        self._spool = spool
        self._realm = realm
        self._clock = clock
        self._body_timeout = body_timeout

    async def prove(self, call: Call, scheme: Scheme, route: Route | None) -> Proven:
        """Return who calls. An unknown runtime is authenticated like a known one before anybody says that it is not.

        Raises Unauthenticated or AccessDenied. The body of a signed request has been read then, that of a bearer
        request has not. Does not say whether a signer may call this runtime: `permit` does.
        """
        guarded = route is not None and route.configuration.authorizer is not None
        presigned = call.door is Door.STREAM and sigv4.is_presigned(call.request)
        if presigned and scheme is Scheme.NONE:
            scheme = Scheme.SIGNATURE
        if scheme is Scheme.NONE:
            raise InvalidToken(reason="no bearer token") if guarded else MissingAuthentication()
        if scheme is Scheme.BEARER:
            return self._on_behalf(call, await self._proven_by_token(call, route), route)
        if guarded and scheme is Scheme.SIGNATURE:
            raise AccessDenied(_MISMATCH, reason="signature on a runtime with a JWT authorizer")
        if guarded:
            raise InvalidToken(reason="the Authorization header names a scheme that is not served")
        proven = await self._proven_by_signature(call, route)
        try:
            return self._on_behalf(call, proven, route)
        except BaseException:
            if isinstance(proven.body, SpooledBody):
                proven.body.close()
            raise

    def _on_behalf(self, call: Call, proven: Proven, route: Route | None) -> Proven:
        """Return the caller together with the agents through which the call came, if an agent calls.

        An agent shows its own workload access token, which this gateway sealed; a signature must cover it, or be absent
        because a bearer token stands in its place. The user of that token is the user of this call, unless the bearer's
        own token names one, or the door has none. Whether a signer may bring a user, `permit` says. Raises AccessDenied
        when the authorizer does not let this agent in.
        """
        if call.request.count(headers.IDENTITY_WAT) > 1:
            raise ValidationFailed("The workload access token stands more than once.", kind="CannotParse")
        shown = call.request.header(headers.IDENTITY_WAT)
        access = self._workload_tokens.open(shown.decode("latin-1").strip()) if shown is not None else None
        authorizer = route.configuration.authorizer if route else None
        allowed = jwt.allowed_workloads(authorizer) if authorizer is not None else None
        if allowed is not None and not self._lets_in(allowed, access):
            raise AccessDenied(
                "The agent runtime does not take calls of this workload.",
                reason=f"allowedWorkloadConfiguration: {access.workload if access else 'no workload access token'}",
            )
        if access is None:
            return proven
        actors = (*access.actors, access.workload)
        if len(actors) > _MOST_ACTORS:
            raise AccessDenied("The call has come through too many agents.", reason=f"more than {_MOST_ACTORS} actors")
        if proven.signer is None:
            return replace(proven, actors=actors)
        if proven.user is not None and proven.user != access.user:
            raise AccessDenied(
                "The request names another user than the workload access token of the calling agent.",
                reason="runtimeUserId differs from the user of the calling agent's token",
            )
        if call.door.for_user is None:
            return replace(proven, actors=actors)
        return replace(proven, actors=actors, user=access.user, inbound_token=access.inbound_token)

    def _lets_in(self, allowed: jwt.AllowedWorkloads, access: WorkloadAccess | None) -> bool:
        if access is None:
            return False
        if access.workload in allowed.workload_identities:
            return True
        # An identity of one's own may have any name: that a runtime hosts the agent, only the token says.
        return access.hosted and self._realm.runtime_arn(access.workload) in allowed.hosting_environments

    async def permit(self, call: Call, proven: Proven, route: Route | None) -> str:
        """Return why the caller may enter by the door of this call, or raise AccessDenied."""
        resources = (route.arn, route.endpoint_arn) if route else (self._realm.runtime_arn("*"),)
        extra = {**proven.claims, **_authorizer_context(route)}
        brought = None if proven.signer is None else proven.user  # nobody proved that user to this runtime
        if brought is not None:
            extra[_USER_ID] = (_user_id(brought),)
        agent = call.request.header(b"user-agent")
        context = request_context(call.source, self._clock(), call.secure, agent, extra)
        # An agent's token is no leave to act for its user elsewhere: whoever may mint one for an agent of their own, or
        # run an agent that others call, would be anybody at every agent that they may call.
        if brought is not None and call.door.for_user is not None:
            await self._authorization.permit(proven.signer, Asked(call.door.for_user, resources, context))
        return await self._authorization.permit(proven.signer, Asked(call.door.value, resources, context))

    async def _proven_by_token(self, call: Call, route: Route | None) -> Proven:
        token = Secret(bearer.token(call.request))
        if route is None:
            raise InvalidToken(reason="bearer token for an unknown agent runtime")
        configuration = route.configuration
        if configuration.authorizer is None:
            raise AccessDenied(_MISMATCH, reason="bearer token on a runtime without a JWT authorizer")
        claims = await self._bearer_tokens.verify(
            token, configuration.authorizer, runtime_id=route.name.runtime_id, version=route.version
        )
        principal, user = bearer_of(claims)
        return Proven(
            principal=principal,
            signer=None,
            user=user,
            inbound_token=token,
            headers=_allowed(call.request.headers, configuration.allowlist),
            body=_bounded(call.body),
            length=_content_length(call.request),
            expires_at=claims.expires_at,
            claims=claims_context(claims),
        )

    async def _proven_by_signature(self, call: Call, route: Route | None) -> Proven:
        if call.door is Door.STREAM:
            return await self._stream_proven_by_signature(call, route)
        presented = self._signatures.present(call.request)
        length = _content_length(call.request)
        body = await self._received(call, presented, small=length is not None and length <= _SMALL)
        try:
            principal, signed = await self._signatures.verify(presented, body.sha256)
            user_id = call.asked.get("runtimeUserId")
            allowlist = route.configuration.allowlist if route else frozenset()
            return Proven(
                principal=principal.arn,
                signer=principal,
                user=NamedUser(user_id) if user_id is not None else None,
                inbound_token=None,
                headers=_signed_only(_allowed(call.request.headers, allowlist), signed),
                body=body,
                length=body.length,
                expires_at=principal.expires_at,
            )
        except BaseException:
            body.close()
            raise

    async def _stream_proven_by_signature(self, call: Call, route: Route | None) -> Proven:
        """Return who signed a handshake: in its headers, or in its query string. It has no body.

        The official SDK leaves the session id of a handshake unsigned; the name of a user never is.
        """
        if sigv4.is_presigned(call.request):
            presented = self._signatures.present_query(call.request)
            if call.request.header(headers.USER_ID) is not None:
                raise IncompleteSignature("The name of the user must be signed: put it into the query string.")
        else:
            presented = self._signatures.present(call.request)
        principal, signed = await self._signatures.verify(presented, EMPTY_SHA256)
        user_id = call.asked.get("runtimeUserId")
        allowlist = route.configuration.allowlist if route else frozenset()
        return Proven(
            principal=principal.arn,
            signer=principal,
            user=NamedUser(user_id) if user_id is not None else None,
            inbound_token=None,
            headers=_signed_only(_allowed(call.request.headers, allowlist), signed),
            body=call.body,
            length=0,
            expires_at=principal.expires_at,
        )

    async def _received(self, call: Call, presented: PresentedSignature, *, small: bool) -> SpooledBody:
        try:
            async with asyncio.timeout(self._body_timeout):
                if not small:
                    await self._signatures.refuse_stranger(
                        presented, lambda: Spool.digest(call.body, max_bytes=MAX_BODY)
                    )
                return await self._spool.receive(call.body, max_bytes=MAX_BODY)
        except TimeoutError:
            raise ValidationFailed("The request body did not arrive in time.", kind="CannotParse") from None


def bearer_of(claims: SignedClaims) -> tuple[str, JwtUser | None]:
    """Return who brings a token with these claims: the name in records, and the user that it proves."""
    user = JwtUser(claims.issuer, claims.subject) if claims.subject else None
    return f"{claims.issuer}#{claims.subject or claims.client_id or ''}", user


def details_of(scheme: Scheme, version: int | None, proven: Proven | None) -> Document:
    """Return what records of a call say besides who, what and where: how it was proven, for whom, through whom."""
    details: Document = {"scheme": scheme.value}
    if version is not None:
        details["version"] = version
    if proven is not None and isinstance(proven.user, NamedUser):
        details["userId"] = proven.user.id
    elif proven is not None and proven.signer is not None and proven.user is not None:
        details["user"] = user_words(proven.user)  # of an agent's token; a bearer's own is the principal
    if proven is not None and proven.actors:
        details["actors"] = list(proven.actors)
    return details


def _user_id(user: User) -> str:
    """Return a user as policies compare it: the name that was given, or issuer and subject of the JWT behind it."""
    return user.id if isinstance(user, NamedUser) else f"{user.issuer}#{user.subject}"


def _authorizer_context(route: Route | None) -> dict[str, tuple[str, ...]]:
    """Return what policies may ask about the guard of a runtime (AWS: condition keys of AgentCore)."""
    if route is None:
        return {}
    authorizer = route.configuration.authorizer
    if authorizer is None:
        return {_AUTHORIZER_TYPE: ("AWS_IAM",)}
    return {_AUTHORIZER_TYPE: ("CUSTOM_JWT",), _DISCOVERY_URL: (authorizer["discoveryUrl"],)}


def _content_length(request: Request) -> int | None:
    """Return the declared length of the body, or None when it is chunked. Refuses early what is too large."""
    value = request.header(b"content-length")
    if value is None:
        return None if request.header(b"transfer-encoding") else 0
    if request.count(b"content-length") != 1 or not value.isdigit() or len(value) > 19:
        raise ValidationFailed("Content-Length is not a number.", kind="CannotParse")
    if int(value) > MAX_BODY:
        raise ValidationFailed(f"The request body is larger than {MAX_BODY} bytes.", kind="CannotParse")
    return int(value)


async def _bounded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass chunks on until there are too many of them: the agent then sees a cut request, never a complete one."""
    length = 0
    async for chunk in chunks:
        length += len(chunk)
        if length > MAX_BODY:
            raise ValidationFailed(f"The request body is larger than {MAX_BODY} bytes.", kind="CannotParse")
        yield chunk


def _allowed(received: Headers, allowlist: frozenset[bytes]) -> Headers:
    passed = headers.forwarded(received, allowlist)
    for name, value in passed:
        if name in allowlist and len(value) > headers.MAX_VALUE:
            raise ValidationFailed(f"The header {name.decode('latin-1')} is longer than {headers.MAX_VALUE} bytes.")
    return tuple((name, value.strip()) for name, value in passed)


def _signed_only(passed: Headers, signed: SignedRequest) -> Headers:
    """Refuse an allow-listed header that the signature does not cover: it could have been added on the way."""
    for name, _ in passed:
        if name not in headers.ALWAYS_FORWARDED and signed.header(name) is None:
            raise IncompleteSignature(
                f"The header {name.decode('latin-1')} is forwarded to the agent and must be signed."
            )
    return passed
