"""Which `{name}` may stand where. What the purpose brings is listed here with the reason; it expands nothing.

A placeholder is a declared variable, one of `[client.secrets]`, or a name that the purpose brings.
"""

import re
from collections.abc import Mapping

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_BRACE = re.compile(r"[{}]")

RESERVED = frozenset(
    {
        *("client_id", "client_secret", "client_assertion", "client_assertion_type", "redirect_uri", "response_type"),
        *("state", "nonce", "code", "code_verifier", "code_challenge", "code_challenge_method", "grant_type"),
        *("request", "request_uri", "refresh_token", "access_token", "assertion"),
        *("subject_token", "subject_token_type", "actor_token", "actor_token_type"),
    }
)
"""Parameters that the gateway alone sets: neither callers nor `[authorize.params]` may name them."""

SECRET_NAMES = frozenset(
    {"client_secret", "refresh_token", "access_token", "token", "code_verifier", "assertion", "api_key"}
)
"""What never stands in a URL: URLs are logged by everybody on the way (RFC 9700 §4.3.2)."""

ENDPOINTS: Mapping[str, str] = {
    "authorization_endpoint": "authorize",
    "token_endpoint": "token",
    "revocation_endpoint": "revoke",
    "introspection_endpoint": "introspect",
    "userinfo_endpoint": "userinfo",
}
"""Words of RFC 8414 that may be a whole URL, and the key of `Client.endpoints` that holds what they stand for."""

_CLIENT = frozenset({"client_id", "client_secret"})

AUTHORIZE = frozenset({"client_id", "redirect_uri", "scope"})
"""What a browser may carry. `state` and the PKCE challenge are added by the gateway, never by a template."""

TOKEN = _CLIENT | {"code", "code_verifier", "redirect_uri", "scope"}
"""What was asked in the authorization request, and what came back (RFC 6749 §4.1.3, RFC 7636 §4.5)."""

REFRESH = _CLIENT | {"refresh_token", "access_token", "scope"}
"""What the grant holds (RFC 6749 §6); `access_token` where a living one is exchanged for a longer one."""

MACHINE = _CLIENT | {"scope"}
"""What the client itself has. `assertion` joins where the entry signs one."""

ASSERTION = frozenset({"client_id", "scope", "jti"})
"""Claims are public to the vendor and to every log of it: no secret may be one."""

EXCHANGE = _CLIENT
"""Parameters added to those of RFC 8693 and RFC 7523, which the gateway sets."""

REVOKE = _CLIENT | {"access_token", "refresh_token", "token"}
"""RFC 7009 sends the token; `token` is the one that the entry needs."""

INSPECT = _CLIENT | {"access_token"}
"""RFC 7662 and user information ask about an access token."""

BASIC = _CLIENT
"""Both halves of a Basic credential."""

API_KEY = frozenset({"api_key"})
SIGNATURE = frozenset({"timestamp", "body"})
CHALLENGE = frozenset({"value", "hmac"})


def placeholders(template: str) -> list[str]:
    """Return the names in a template, in order. Raises ValueError for a brace that belongs to none."""
    if _BRACE.search(PLACEHOLDER.sub("", template)):
        raise ValueError("a brace that belongs to no {name}")
    return PLACEHOLDER.findall(template)
