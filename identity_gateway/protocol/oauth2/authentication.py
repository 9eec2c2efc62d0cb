"""How a client proves itself to the vendor (RFC 6749 §2.3, RFC 7521 §4.2), as headers and parameters."""

import base64
from typing import Literal
from urllib.parse import quote_plus

from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import Authentication, Purpose
from identity_gateway.protocol.oauth2.expansion import Words, refuse
from identity_gateway.protocol.oauth2.model import Assertion, Client

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_PUBLIC_CLIENT_SAYS_ITS_ID: tuple[Purpose, ...] = ("token", "refresh", "exchange")

Proof = tuple[list[tuple[str, str]], list[tuple[str, str]]]
"""Headers, and parameters for the body."""


def authentication(client: Client, described: Authentication | None) -> Authentication:
    """Return how the client authenticates at an endpoint that is described so.

    The provider's own choice replaces the vendor's usual one, but nothing that needs a token, and no plain `none`.
    """
    if described in {"bearer_token", "bearer_assertion", "none"}:
        return described
    return client.auth or described or client.descriptor.client.auth


def needs_client_assertion(client: Client, described: Authentication | None) -> bool:
    """Say whether a request to an endpoint that is described so needs `Assertion.client`."""
    return authentication(client, described) == "private_key_jwt"


def prove(
    words: Words,
    purpose: Purpose,
    described: Authentication | None,
    *,
    assertion: Assertion | None = None,
    token: Secret | None = None,
) -> Proof:
    """Return what proves the client. Raises ValidationFailed naming what is missing."""
    client, kind = words.client, authentication(words.client, described)
    match kind:
        case "basic":
            return [("Authorization", _basic(words))], []
        case "post":
            return [], [("client_id", client.id), ("client_secret", words.value("client_secret"))]
        case "none":
            says = described is None or purpose in _PUBLIC_CLIENT_SAYS_ITS_ID
            return [], [("client_id", client.id)] if says else []
        case "private_key_jwt":
            signed = _needed(assertion.client if assertion else None, "client assertion")
            claims = [("client_assertion_type", _ASSERTION_TYPE), ("client_assertion", signed)]
            return [], [("client_id", client.id), *claims]
        case "bearer_token":
            return [_bearer(_needed(token, "access token"))], []
        case "bearer_assertion":
            return [_bearer(_needed(assertion.grant if assertion else None, "assertion"))], []


def _basic(words: Words) -> str:
    rules = words.client.descriptor.client
    user, password = words.text(rules.basic_user), words.text(rules.basic_password)
    if rules.basic_encoding == "rfc6749":
        user, password = quote_plus(user), quote_plus(password)
    if ":" in user:
        raise refuse("client_id", "an id with a colon cannot be sent by Basic authentication (RFC 7617 §2)")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _bearer(token: str) -> tuple[Literal["Authorization"], str]:
    if not token.isascii() or not token.isprintable():
        raise refuse("Authorization", "this token holds a character that headers cannot carry")
    return "Authorization", f"Bearer {token}"


def _needed(secret: Secret | None, name: str) -> str:
    if secret is None:
        raise refuse(name, "needed to authenticate, and not there")
    return secret.reveal()
