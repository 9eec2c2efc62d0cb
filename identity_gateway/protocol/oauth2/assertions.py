"""What a client says in the JWTs that it signs (RFC 7521 §5, RFC 7523 §3). It signs none."""

from typing import Any

from identity_gateway.protocol.descriptor import Machine
from identity_gateway.protocol.oauth2 import scopes
from identity_gateway.protocol.oauth2.expansion import Words, endpoint_url, refuse, with_caller_variables
from identity_gateway.protocol.oauth2.model import Client, PrivateKeyJwt, Requested, Unsigned

_CLIENT_LIFETIME = 300
_OURS = frozenset({"iss", "sub", "jti", "iat", "nbf", "exp"})


def client_assertion(client: Client, *, now: float, jti: str) -> Unsigned:
    """Return the assertion that proves the client (`private_key_jwt`), five minutes long.

    `aud` is the token endpoint unless the provider's own configuration says otherwise. Raises ValidationFailed when
    that configuration replaces what the gateway sets.
    """
    how = client.private_key_jwt or PrivateKeyJwt()
    for name in how.headers:
        if name in {"alg", "typ", "crit", "b64"}:
            raise refuse(f"additionalHeaderClaims.{name}", "only the gateway sets this member")
    for name in how.claims:
        if name in _OURS:
            raise refuse(f"additionalPayloadClaims.{name}", "only the gateway sets this claim")
    issued = int(now)
    claims: dict[str, Any] = {
        "aud": endpoint_url(Words(client), client.descriptor.token.url) if "aud" not in how.claims else None,
        **how.claims,
        "iss": client.id,
        "sub": client.id,
        "jti": jti,
        "iat": issued,
        "nbf": issued,
        "exp": issued + _CLIENT_LIFETIME,
    }
    return Unsigned(how.algorithm, how.secret, how.kms_key, dict(how.headers), claims)


def grant_assertion(client: Client, machine: Machine, requested: Requested, *, now: float, jti: str) -> Unsigned:
    """Return the assertion that a machine entry is asked with. `now` may be the vendor's clock instead of ours."""
    rule = machine.assertion
    if rule is None:
        raise refuse("assertion", "this vendor's machine credential has none")
    client, _ = with_caller_variables(client, requested.parameters)
    words = Words(client, {"scope": scopes.join(client.descriptor.scopes, requested.scopes), "jti": jti})
    claims: dict[str, Any] = {name: words.text(template) for name, template in rule.claims.items()}
    claims |= {"iat": int(now) - rule.backdate, "exp": int(now) + rule.lifetime}
    header = {name: words.text(template) for name, template in rule.headers.items()}
    return Unsigned(rule.algorithm, rule.key, None, header, claims)
