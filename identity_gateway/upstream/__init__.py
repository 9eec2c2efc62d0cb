"""HTTP/1.1 towards agents: a pool of kept connections on which requests and responses stream both ways.

This is the data path, written for what it costs per request. Every other call goes out through `egress`. Nothing here
authenticates, decides which fields an agent may see, or repeats a request.
"""

from identity_gateway.upstream.address import Origin, Resolver, why_forbidden
from identity_gateway.upstream.failure import FailureKind, UpstreamError
from identity_gateway.upstream.heads import Head
from identity_gateway.upstream.pool import Upstream
from identity_gateway.upstream.response import UpstreamResponse
from identity_gateway.upstream.web_sockets import AgentSocket, AgentSockets, Ended, Refused

__all__ = [
    "AgentSocket",
    "AgentSockets",
    "Ended",
    "FailureKind",
    "Head",
    "Origin",
    "Refused",
    "Resolver",
    "Upstream",
    "UpstreamError",
    "UpstreamResponse",
    "why_forbidden",
]
