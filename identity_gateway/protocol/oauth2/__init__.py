"""OAuth 2.0 as values: build the request, read the answer. One pair for each purpose; vendors' habits are data.

Nothing here sends anything, reads a clock or draws a random number. What a vendor does differently stands in its
descriptor (`protocol.descriptor`). Sources: RFC 6749, 7009, 7521, 7523, 7636, 7662, 8693, 8707, 9207.
"""

from identity_gateway.protocol.oauth2.answers import clock_offset, read
from identity_gateway.protocol.oauth2.assertions import client_assertion, grant_assertion
from identity_gateway.protocol.oauth2.authentication import needs_client_assertion
from identity_gateway.protocol.oauth2.authorization import (
    authorization_url,
    check_callback,
    code_challenge,
    known_issuer,
)
from identity_gateway.protocol.oauth2.expansion import described_elsewhere, with_caller_variables
from identity_gateway.protocol.oauth2.machine import machine_entry, machine_request
from identity_gateway.protocol.oauth2.model import (
    Answered,
    Assertion,
    Callback,
    Client,
    Credential,
    Outgoing,
    PrivateKeyJwt,
    Refused,
    Requested,
    SigningAlgorithm,
    Unsigned,
)
from identity_gateway.protocol.oauth2.requests import (
    code_request,
    exchange_request,
    introspect_request,
    refresh_endpoint,
    refresh_request,
    revoke_request,
    userinfo_request,
)

__all__ = [
    "Answered",
    "Assertion",
    "Callback",
    "Client",
    "Credential",
    "Outgoing",
    "PrivateKeyJwt",
    "Refused",
    "Requested",
    "SigningAlgorithm",
    "Unsigned",
    "authorization_url",
    "check_callback",
    "client_assertion",
    "clock_offset",
    "code_challenge",
    "code_request",
    "described_elsewhere",
    "exchange_request",
    "grant_assertion",
    "introspect_request",
    "known_issuer",
    "machine_entry",
    "machine_request",
    "needs_client_assertion",
    "read",
    "refresh_endpoint",
    "refresh_request",
    "revoke_request",
    "userinfo_request",
    "with_caller_variables",
]
