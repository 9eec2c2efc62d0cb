"""Admit the caller of an AWS operation: authenticate, authorise, and keep the record of both.

The order is fixed: nothing of the input is looked at before the signature was verified, and no story runs before the
record of the decision is committed. Invocations of agents have their own story (`invocation`).
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from identity_gateway import telemetry
from identity_gateway.audit import ALLOWED, DENIED, UNKNOWN, Audit, Decided
from identity_gateway.authorization import Asked, Authorization, request_context
from identity_gateway.errors import AccessDenied, GatewayError, Unauthenticated
from identity_gateway.inbound import Scheme, Signatures
from identity_gateway.model import Document, IamPrincipal
from identity_gateway.protocol.policy import Context
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4 import PresentedSignature


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

        The record of it is committed first. Naming the resources may itself refuse: one that only a token names.
        `context` are the condition keys of this operation; `proof` gives those of a JWT that it brings, verified.
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
        details = {"demanded": [demand.to_json() for demand in demands]} if demands else None
        await self._keep(attempt, principal.arn, resources[-1], ALLOWED, reason, details)
        return resources[-1]

    async def answer(
        self, attempt: Attempt, principal: IamPrincipal, resource: str, story: Awaitable[Document | Vended | Recorded]
    ) -> Document:
        """Return what the story answers; what it refuses, and what it vends, is on record first."""
        async with self._refusals_kept(attempt, principal.arn, resource):
            answered = await story
        if isinstance(answered, Vended):
            await self._keep(attempt, principal.arn, resource, ALLOWED, "vended", answered.details)
            return answered.output
        if isinstance(answered, Recorded):
            await self._keep(attempt, principal.arn, resource, ALLOWED, answered.reason, answered.details)
            return answered.output
        return answered

    @asynccontextmanager
    async def _refusals_kept(
        self, attempt: Attempt, principal: str = UNKNOWN, resource: str = "-", details: Document | None = None
    ) -> AsyncIterator[None]:
        try:
            yield
        except (Unauthenticated, AccessDenied) as error:
            await self._keep(attempt, principal, resource, DENIED, _why(error), details)
            raise

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


def _why(error: GatewayError) -> str:
    return f"{error.code}: {error.reason}"
