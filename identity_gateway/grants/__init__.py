"""What users gave to agents, for those who look after it: list grants, show one, take one back.

Taking back begins here: from the first moment on no agent is given the grant. Then the vendor is told, the tokens are
destroyed, and the vendor is asked whether they are dead (`revocation`). A vendor that does not answer keeps no grant
alive; its tokens stay sealed until a later RevokeGrant gets through. These operations are the gateway's own
(`models/identity-gateway`): AWS has none. Tokens are never shown.
"""

from identity_gateway.grants.listing import Grants
from identity_gateway.grants.revocation import Revocation

__all__ = ["Grants", "Revocation"]
