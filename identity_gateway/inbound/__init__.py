"""Inbound authentication: from a request to a principal that was proven.

An agent runtime accepts one scheme only, so there is no chain to walk: the runtime says which of the classes here is
asked. Nothing but a matching signature or a verified token yields a principal. What the principal may do is decided by
`authorization`.
"""

from identity_gateway.inbound.bearer_tokens import BearerTokens, Explanation
from identity_gateway.inbound.scheme import Scheme, scheme_of
from identity_gateway.inbound.signatures import Signatures
from identity_gateway.inbound.user_tokens import UserTokens

__all__ = [
    "BearerTokens",
    "Explanation",
    "Scheme",
    "Signatures",
    "UserTokens",
    "scheme_of",
]
