"""Admit the caller of an AWS operation: authenticate, authorise, and keep the record of both.

The order is fixed: nothing of the input is looked at before the signature was verified, and no story runs before the
record of the decision is committed. Invocations of agents have their own story (`invocation`).
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from identity_gateway import telemetry
from identity_gateway.audit import ALLOWED, DENIED, UNKNOWN, Audit, Decided, Entry
from identity_gateway.authorization import Asked, Authorization, request_context
from identity_gateway.errors import AccessDenied, GatewayError, Unauthenticated
from identity_gateway.inbound import Scheme, Signatures
from identity_gateway.model import Document, IamPrincipal, Secret
from identity_gateway.protocol.policy import Context
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4 import PresentedSignature
from identity_gateway.records.changes import Watch

VENDED = "vended"
"""The reason of the record that a credential leaves."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody asks for an operation. `service` is what stands before the colon where policies name the action.

    `secure` and `user_agent` are what policies may compare of the request, besides its source.
    """

    action: str
    request_id: str
    source: str
    service: str = "bedrock-agentcore"
    secure: bool = False
    user_agent: bytes | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What else the caller must be allowed, at another service: the gateway would do it for them.

    `names` are the ways in which policies may write the one resource: one must be allowed, and none denied.
    """

    service: str
    action: str
    names: tuple[str, ...]

    def to_json(self) -> Document:
        """Return the demand as audit records show it."""
        return {"action": f"{self.service}:{self.action}", "resource": self.names[0]}


@dataclass(frozen=True, slots=True)
class Vended:
    """A credential that a story made, and for whom. Nobody gets it before the record of it is committed."""

    output: Document = field(repr=False)
    details: Document


@dataclass(frozen=True, slots=True)
class Kept:
    """A credential that is handed out as it is kept, without asking anybody for it.

    `member` names it in the answer, `reveal` opens it anew, or returns None where that cannot be done at once any more.
    `details` are those of its record. It is the same until `until` (seconds since the epoch) while all `watches` hold;
    without any of them nothing says when it changes, and it is good for this one call.
    """

    member: str
    details: Document
    reveal: Callable[[], Secret | None]
    until: float
    watches: tuple[Watch, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a story answers after it did something of which more must be on record than that it was allowed."""

    output: Document = field(repr=False)
    details: Document
    reason: str


class Admission:
    """Stands before every AWS JSON operation."""

    def __init__(
        self,
        signatures: Signatures,
        authorization: Authorization,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signatures = signatures
        self._authorization = authorization
        self._audit = audit
        self._clock = clock

    async def refuse_stranger(
        self, attempt: Attempt, presented: PresentedSignature, digest: Callable[[], Awaitable[str]]
    ) -> None:
        """Refuse an unknown key before its body is kept; see `Signatures.refuse_stranger`."""
        async with self._refusals_kept(attempt):
            await self._signatures.refuse_stranger(presented, digest)

    def authenticate_at_once(self, request: Request, body_sha256: str) -> IamPrincipal | None:
        """Return who signed the request and its body, if that can be said at once; else None, for whatever reason."""
        found = self._signatures.at_once(request, body_sha256)
        return None if found is None else found[0]

    async def present(self, attempt: Attempt, request: Request) -> PresentedSignature:
        """Refuse what can be refused before the body is read."""
        async with self._refusals_kept(attempt):
            return self._signatures.present(request)

    async def authenticate(self, attempt: Attempt, presented: PresentedSignature, body_sha256: str) -> IamPrincipal:
        """Return who signed the request and its body."""
        async with self._refusals_kept(attempt):
            principal, _ = await self._signatures.verify(presented, body_sha256)
        return principal

    async def authorize(
        self,
        attempt: Attempt,
        principal: IamPrincipal,
        name_resources: Callable[[], tuple[str, ...]],
        demands: Sequence[Demand] = (),
        *,
        context: Context | None = None,
        proof: Callable[[], Awaitable[Context]] | None = None,
    ) -> str:
        """Return the resource of the operation if the principal may do this to all that it touches, and the demands.

        The record of it is committed first. See `permit`.
        """
        resource, reason = await self.permit(attempt, principal, name_resources, demands, context=context, proof=proof)
        await self.admit(attempt, principal, resource, reason, demands)
        return resource

    async def admit(
        self, attempt: Attempt, principal: IamPrincipal, resource: str, reason: str, demands: Sequence[Demand] = ()
    ) -> None:
        """Keep the record of what was permitted: no story that changes or asks anything runs before it is committed."""
        details = {"demanded": [demand.to_json() for demand in demands]} if demands else None
        await self._keep(attempt, principal.arn, resource, ALLOWED, reason, details)

    async def permit(
        self,
        attempt: Attempt,
        principal: IamPrincipal,
        name_resources: Callable[[], tuple[str, ...]],
        demands: Sequence[Demand] = (),
        *,
        context: Context | None = None,
        proof: Callable[[], Awaitable[Context]] | None = None,
    ) -> tuple[str, str]:
        """Return the resource of the operation, and why the principal may do this to all that it touches.

        A refusal is on record; what is permitted is not yet (`admit`, `vend`). Naming the resources may itself refuse:
        one that only a token names. `context` are the condition keys of this operation; `proof` gives those of a JWT
        that it brings, verified.
        """
        known = request_context(attempt.source, self._clock(), attempt.secure, attempt.user_agent, context)
        async with self._refusals_kept(attempt, principal.arn):
            resources = name_resources()
        async with self._refusals_kept(attempt, principal.arn, resources[-1]):
            asked = Asked(attempt.action, resources, known, attempt.service, proof)
            reason = await self._authorization.permit(principal, asked)
        for demand in demands:
            async with self._refusals_kept(attempt, principal.arn, resources[-1], {"demanded": demand.to_json()}):
                action = f"{demand.service}:{demand.action}"
                await self._authorization.permit_elsewhere(principal, action, demand.names, known)
        return resources[-1], reason

    def permits_alike(self, principal: IamPrincipal) -> bool:
        """Say whether the same request of this principal is permitted again, as long as it brings the same policies.

        For operations at whose resources no policies stand.
        """
        return self._authorization.asks_nothing(principal)

    async def vend(
        self, attempt: Attempt, principal: IamPrincipal, resource: str, reason: str, details: Document
    ) -> Entry:
        """Keep the one record of a call that is given what was kept: why it was let in, and what it is given.

        Returns it as it is kept, for the same call when it comes again (`Audit.repeat_durably`).
        """
        telemetry.DECISIONS.labels(Scheme.SIGNATURE.value, ALLOWED).inc()
        entry = self._audit.written(
            Decided(
                principal.arn,
                attempt.action,
                resource,
                ALLOWED,
                VENDED,
                attempt.request_id,
                attempt.source,
                {**details, "permitted": reason},
            )
        )
        await self._audit.keep(entry)
        return entry

    async def answer(
        self, attempt: Attempt, principal: IamPrincipal, resource: str, story: Awaitable[Document | Vended | Recorded]
    ) -> Document:
        """Return what the story answers; what it refuses, and what it vends, is on record first."""
        async with self._refusals_kept(attempt, principal.arn, resource):
            answered = await story
        if isinstance(answered, Vended):
            await self._keep(attempt, principal.arn, resource, ALLOWED, VENDED, answered.details)
            return answered.output
        if isinstance(answered, Recorded):
            await self._keep(attempt, principal.arn, resource, ALLOWED, answered.reason, answered.details)
            return answered.output
        return answered

    def _refusals_kept(
        self, attempt: Attempt, principal: str = UNKNOWN, resource: str = "-", details: Document | None = None
    ) -> "_RefusalsKept":
        return _RefusalsKept(partial(self._keep, attempt, principal, resource, DENIED), details)

    async def _keep(
        self,
        attempt: Attempt,
        principal: str,
        resource: str,
        decision: str,
        reason: str,
        details: Document | None = None,
    ) -> None:
        telemetry.DECISIONS.labels(Scheme.SIGNATURE.value, decision).inc()
        await self._audit.record(
            Decided(
                principal,
                attempt.action,
                resource,
                decision,
                reason,
                attempt.request_id,
                attempt.source,
                details or {},
            )
        )


class _RefusalsKept:
    """A block of which no refusal leaves before it is on record. Contexts of generators cost three times as much."""

    __slots__ = ("_details", "_keep")

    def __init__(self, keep: Callable[[str, Document | None], Awaitable[None]], details: Document | None) -> None:
        self._keep = keep
        self._details = details

    async def __aenter__(self) -> None:
        """Begin."""

    async def __aexit__(self, kind: object, error: BaseException | None, _traceback: object) -> None:
        """Keep the record of a refusal; it goes on."""
        if isinstance(error, Unauthenticated | AccessDenied):
            await self._keep(_why(error), self._details)


def _why(error: GatewayError) -> str:
    return f"{error.code}: {error.reason}"
