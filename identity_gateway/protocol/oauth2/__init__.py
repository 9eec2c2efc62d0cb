"""OAuth 2.0 as values: build the request, read the answer. One pair for each purpose; vendors' habits are data.

Nothing here sends anything, reads a clock or draws a random number. What a vendor does differently stands in its
descriptor (`protocol.descriptor`). Sources: RFC 6749, 7009, 7521, 7523, 7636, 7662, 8693, 8707, 9207.
"""

from identity_gateway.protocol.oauth2.model import Answered, Client, Credential, Outgoing, Refused, Requested

__all__ = ["Answered", "Client", "Credential", "Outgoing", "Refused", "Requested"]
