"""What a file in `providers/outbound/` may say: a vendor as data.

Requests are data (method, URL, authentication, encoding, parameters) and so are responses (format, paths, rules). There
are no expressions beyond `{name}` and no code. Unknown keys, unknown placeholders, secrets in URLs and URLs that lead
away from `hosts` are errors that name file and key. What the words do is in `protocol.oauth2`; what they mean is
explained in `providers/README.md`. This package reads no file.
"""

from identity_gateway.protocol.descriptor.parsing import Descriptor, parse
from identity_gateway.protocol.descriptor.requests import (
    ApiKey,
    Assertion,
    Authorize,
    ClientRules,
    Endpoint,
    Exchange,
    Introspect,
    Machine,
    Refresh,
    RefreshPolicy,
    Revoke,
    ScopeRules,
    TokenEndpoint,
    UserInfo,
)
from identity_gateway.protocol.descriptor.responses import Issued, Response
from identity_gateway.protocol.descriptor.rules import (
    Authentication,
    Condition,
    DescriptorError,
    Encoding,
    ErrorRule,
    ExpiresUnit,
    Outcome,
    Purpose,
    Variable,
    value_at,
)
from identity_gateway.protocol.descriptor.signals import Challenge, Effect, Signals, Signature
from identity_gateway.protocol.descriptor.templates import ENDPOINTS, PLACEHOLDER, RESERVED, SECRET_NAMES
from identity_gateway.protocol.descriptor.vendor import AgentCore

__all__ = [
    "ENDPOINTS",
    "PLACEHOLDER",
    "RESERVED",
    "SECRET_NAMES",
    "AgentCore",
    "ApiKey",
    "Assertion",
    "Authentication",
    "Authorize",
    "Challenge",
    "ClientRules",
    "Condition",
    "Descriptor",
    "DescriptorError",
    "Effect",
    "Encoding",
    "Endpoint",
    "ErrorRule",
    "Exchange",
    "ExpiresUnit",
    "Introspect",
    "Issued",
    "Machine",
    "Outcome",
    "Purpose",
    "Refresh",
    "RefreshPolicy",
    "Response",
    "Revoke",
    "ScopeRules",
    "Signals",
    "Signature",
    "TokenEndpoint",
    "UserInfo",
    "Variable",
    "parse",
    "value_at",
]
