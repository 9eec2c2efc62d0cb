"""May this principal do this? Identity policies of the principal and resource policies of what it touches.

Does not authenticate anybody, and keeps no record: whoever asks does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from identity_gateway.errors import AccessDenied
from identity_gateway.model import IamPrincipal
from identity_gateway.protocol import policy

Context = Mapping[str, tuple[str, ...]]
"""Condition keys of a request, in lower case, and their values: what policies may compare."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to do: one action on all of the resources. `service` is what stands before the colon."""

    action: str
    resources: tuple[str, ...]
    context: Context = field(default_factory=dict)
    service: str = "bedrock-agentcore"


class Authorization:
    """Decides for one account."""

    async def permit(self, principal: IamPrincipal | None, asked: Asked) -> str:
        """Return why the principal may do the action on all of the resources, or raise AccessDenied.

        None is the bearer of a token that the authorizer of its runtime accepted: anonymous to policies. A key that is
        neither admin nor has a policy may call nothing.
        """
        if principal is None:
            return "token accepted by the authorizer"
        action = f"{asked.service}:{asked.action}"
        if principal.admin:
            return "admin key"
        if principal.policy is None:
            raise _denied(principal, action, "the key has no policy")
        decision = policy.parse(principal.policy).decide_all(action, asked.resources)
        if decision is not policy.Decision.ALLOWED:
            raise _denied(principal, action, decision.value)
        for narrowed in principal.session_policies:
            decision = policy.parse(narrowed).decide_all(action, asked.resources)
            if decision is not policy.Decision.ALLOWED:
                raise _denied(principal, action, f"session policy: {decision.value}")
        return "identity policy"

    async def permit_elsewhere(self, principal: IamPrincipal, action: str, names: tuple[str, ...]) -> None:
        """Raise AccessDenied unless the principal may have the gateway do this action of another service for them.

        `action` has its prefix; `names` are those that policies may write for the one resource.
        """
        if principal.admin:
            return
        if principal.policy is None:
            raise _denied(principal, action, "the key has no policy", names[0])
        for document in (principal.policy, *principal.session_policies):
            decision = policy.parse(document).decide_any(action, names)
            if decision is not policy.Decision.ALLOWED:
                raise _denied(principal, action, decision.value, names[0])


def _denied(principal: IamPrincipal, action: str, reason: str, resource: str = "this resource") -> AccessDenied:
    return AccessDenied(f"{principal.arn} is not authorized to perform {action} on {resource}.", reason=reason)
