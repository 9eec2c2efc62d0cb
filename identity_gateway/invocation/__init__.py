"""InvokeAgentRuntime: authenticate by the runtime's own scheme, then let the agent answer.

`story` tells a call from end to end; `proof` says who calls, `forwarding` what the agent sees and answers, `discovery`
how a client learns which token to bring.
"""

from identity_gateway.invocation.addresses import Addresses
from identity_gateway.invocation.discovery import Discovery
from identity_gateway.invocation.forwarding import Answer, Forwarding, Opened, Timeouts
from identity_gateway.invocation.placement import Placement
from identity_gateway.invocation.proof import MAX_BODY, Call, Callers
from identity_gateway.invocation.story import Invocations

__all__ = [
    "MAX_BODY",
    "Addresses",
    "Answer",
    "Call",
    "Callers",
    "Discovery",
    "Forwarding",
    "Invocations",
    "Opened",
    "Placement",
    "Timeouts",
]
