"""May this principal do this? Policies of the identity, of its session, and of the resources that it touches.

Says what the condition keys of a request are, too. Does not authenticate anybody, and keeps no record: whoever asks
does.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from identity_gateway.errors import AccessDenied
from identity_gateway.model import Document, IamPrincipal
from identity_gateway.protocol import policy
from identity_gateway.protocol.jwt import SignedClaims
from identity_gateway.protocol.policy import Context, Decision, Held, Policy, Question, Ruling

_LONGEST_AGENT = 1024
_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to do: one action on all of the resources. `service` is what stands before the colon.

    `proof` verifies the JWT that the request brings and returns what it claims. It is called only where a policy looks
    at claims, and only if the caller could be allowed at all: nobody else makes the gateway fetch an issuer's keys.
    """

    action: str
    resources: tuple[str, ...]
    context: Context = field(default_factory=dict)
    service: str = "bedrock-agentcore"
    proof: Callable[[], Awaitable[Context]] | None = None


class Standing(Protocol):
    """Knows the policies that stand at resources."""

    async def standing_at(self, resources: Sequence[str]) -> Mapping[str, Policy]:
        """Return the policy of each of these resources that has one, by its ARN."""
        ...


class Authorization:
    """Decides for one account in one region."""

    def __init__(self, standing: Standing, *, region: str) -> None:
        self._standing = standing
        self._region = region

    async def permit(self, principal: IamPrincipal | None, asked: Asked) -> str:
        """Return why the principal may do the action on all of the resources, or raise AccessDenied.

        None is the bearer of a token that the authorizer of its runtime accepted: anonymous to policies. A key that is
        neither admin nor has a policy may call nothing but what a policy at a resource allows it.
        """
        ruling = await self.rule(principal, asked)
        if ruling.decision is not Decision.ALLOWED:
            raise _denied(principal, f"{asked.service}:{asked.action}", ruling.reason)
        return ruling.reason

    async def rule(self, principal: IamPrincipal | None, asked: Asked) -> Ruling:
        """Return what `permit` acts on: the decision, and which statement of which policy made it."""
        held = _held(principal, await self._standing.standing_at(asked.resources))
        action = f"{asked.service}:{asked.action}"
        context = self._context(principal, asked.context)
        if asked.proof is not None and not held.keys.isdisjoint(policy.CLAIMS):
            hopeful = policy.rule(held, action, asked.resources, context, unknown=policy.CLAIMS)
            if hopeful.decision is not Decision.ALLOWED:
                return hopeful
            context = {**await asked.proof(), **context}
        return policy.rule(held, action, asked.resources, context)

    def asks_nothing(self, principal: IamPrincipal) -> bool:
        """Say whether the policies that the principal brings decide by caller, action and resource alone.

        Then they decide alike about every request for the same, whenever and from wherever it comes.
        """
        brought = (principal.policy, *principal.session_policies)
        return principal.admin or all(document is None or not _read(document).keys for document in brought)

    async def permit_elsewhere(
        self, principal: IamPrincipal, action: str, names: tuple[str, ...], context: Context | None = None
    ) -> None:
        """Raise AccessDenied unless the principal may have the gateway do this action of another service for them.

        `action` has its prefix; `names` are those that policies may write for the one resource. No policy of a resource
        is asked: the gateway has none of other services.
        """
        if principal.admin:
            return
        if principal.policy is None:
            raise _denied(principal, action, policy.NO_POLICY, names[0])
        known = self._context(principal, context or {})
        for place, document in enumerate((principal.policy, *principal.session_policies)):
            verdict = _read(document).judge_any([Question(action, name, known) for name in names])
            if verdict.decision is not Decision.ALLOWED:
                cause = policy.Cause("session policy" if place else "identity policy", names[0], verdict)
                raise _denied(principal, action, Ruling(verdict.decision, (cause,)).reason, names[0])

    def _context(self, principal: IamPrincipal | None, context: Context) -> Context:
        return {**context, "aws:requestedregion": (self._region,), **principal_context(principal)}


def request_context(
    source: str,
    now: float,
    secure: bool = False,
    user_agent: str | bytes | None = None,
    extra: Context | None = None,
) -> Context:
    """Return the condition keys that every request has.

    `source` is the address it came from: what is none (a Unix socket) gives no key, and an IPv4 address within IPv6 is
    an IPv4 address. `now` is in seconds since the epoch. Nobody signs the user agent: it proves nothing, and of a long
    one only the beginning is compared.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    context: dict[str, tuple[str, ...]] = {
        "aws:currenttime": (moment,),
        "aws:epochtime": (str(int(now)),),
        "aws:securetransport": ("true" if secure else "false",),
        "aws:sourceip": _address(source),
    }
    if user_agent:
        agent = user_agent.decode("latin-1") if isinstance(user_agent, bytes) else user_agent
        context["aws:useragent"] = (agent[:_LONGEST_AGENT],)
    return {**context, **(extra or {})}


def principal_context(principal: IamPrincipal | None) -> Context:
    """Return the condition keys of who asks. A session has no user name (AWS)."""
    if principal is None:
        return {"aws:principaltype": ("Anonymous",)}
    context = {
        "aws:principalaccount": (principal.account,),
        "aws:principalarn": (principal.names[-1],),  # of a session, its role: as AWS has it
        "aws:principaltype": ("User" if principal.session is None else "AssumedRole",),
    }
    if principal.session is None:
        context["aws:username"] = (principal.name,)
    if principal.user_id is not None:
        context["aws:userid"] = (principal.user_id,)
    return context


def claims_context(claims: SignedClaims) -> Context:
    """Return the condition keys of a token whose issuer's signature was verified (AWS: InboundJwtClaim)."""
    found = {
        "iss": (claims.issuer,),
        "sub": () if claims.subject is None else (claims.subject,),
        "aud": claims.audiences,
        "scope": claims.scopes,
        "client_id": () if claims.client_id is None else (claims.client_id,),
    }
    return {f"bedrock-agentcore:inboundjwtclaim/{name}": values for name, values in found.items()}


def _address(source: str) -> tuple[str, ...]:
    try:
        address = ip_address(source)
    except ValueError:
        return ()
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return (str(address),)


def _held(principal: IamPrincipal | None, standing: Mapping[str, Policy]) -> Held:
    if principal is None:
        return Held(standing=standing)
    return Held(
        policy.Caller(principal.names, principal.account),
        admin=principal.admin,
        identity=None if principal.policy is None else _read(principal.policy),
        sessions=tuple(_read(document) for document in principal.session_policies),
        standing=standing,
    )


def _read(document: Document) -> Policy:
    known = _seen.get(id(document))
    if known is not None and known[0] is document:
        return known[1]
    policy_read = _parsed(json.dumps(document))
    _seen[id(document)] = document, policy_read  # which keeps its id from being another's
    if len(_seen) > _REMEMBERED:
        del _seen[next(iter(_seen))]
    return policy_read


_seen: dict[int, tuple[Document, Policy]] = {}
"""Documents that were read, themselves: those of records are never changed, only replaced."""


@lru_cache(maxsize=512)
def _parsed(document: str) -> Policy:
    return policy.parse(json.loads(document))


def _denied(principal: IamPrincipal | None, action: str, reason: str, resource: str = "this resource") -> AccessDenied:
    who = "The bearer of this token" if principal is None else principal.arn
    return AccessDenied(f"{who} is not authorized to perform {action} on {resource}.", reason=reason)
