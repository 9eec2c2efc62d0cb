"""What a file in `providers/inbound/` may say: an identity provider as data.

How its discovery URLs are recognised, which claims its tokens use for what, which of its tokens are access tokens, and
what its documents call the issuer. There is no code in it, and unknown keys are errors that name file and key. What the
words do to a token is in `protocol.jwt`; what they mean is explained in `providers/README.md`. This package reads no
file and fetches nothing.
"""

from identity_gateway.protocol.identity_provider.parsing import parse
from identity_gateway.protocol.identity_provider.provider import (
    UNRECOGNISED,
    Addresses,
    IdentityProvider,
    Issuer,
    RefusedAddress,
    Tenant,
    issuer_at,
)
from identity_gateway.protocol.identity_provider.tokens import (
    Accepted,
    ClaimTest,
    Header,
    Kind,
    RefusedHeader,
    RefusedToken,
    ScopeClaim,
    ScopeForm,
)

__all__ = [
    "UNRECOGNISED",
    "Accepted",
    "Addresses",
    "ClaimTest",
    "Header",
    "IdentityProvider",
    "Issuer",
    "Kind",
    "RefusedAddress",
    "RefusedHeader",
    "RefusedToken",
    "ScopeClaim",
    "ScopeForm",
    "Tenant",
    "issuer_at",
    "parse",
]
