"""A token, whom it is shown to, and what the front door answers: signed by keys of our own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from identity_gateway.errors import InsufficientScope, InvalidToken
from identity_gateway.identity_providers import packaged
from identity_gateway.protocol import jwt
from identity_gateway.protocol.jwt import KeySet
from tests.fakes.issuer import SigningKey

NOW = 1_800_000_000.0
KEY = SigningKey.make("RS256", "key-1")

Claims = dict[str, Any]
NO_TYPE = {"typ": None}


def custom(name: str, *values: str, operator: str = "EQUALS") -> Claims:
    """Return one entry of customClaims."""
    several = operator == "CONTAINS_ANY"
    return {
        "inboundTokenClaimName": name,
        "inboundTokenClaimValueType": "STRING" if operator == "EQUALS" else "STRING_ARRAY",
        "authorizingClaimMatchValue": {
            "claimMatchValue": {"matchValueStringList": list(values)} if several else {"matchValueString": values[0]},
            "claimMatchOperator": operator,
        },
    }


@dataclass(frozen=True)
class Case:
    """A token, the authorizer that it is shown to (without its discovery URL), and the answer."""

    what: str
    rules: Mapping[str, Any]
    claims: Claims
    refused: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    key_issuer: str | None = None


@dataclass(frozen=True)
class Table:
    """A provider: its discovery URL, the issuer that the document there names, and tokens."""

    name: str
    provider: str
    discovery_url: str
    issuer: str
    cases: tuple[Case, ...]


def verdict(table: Table, case: Case) -> str:
    """Return the first word of the refusal, or nothing for a token that is let in."""
    keys = KeySet.from_jwks({"keys": [KEY.jwk(issuer=case.key_issuer)]})
    token = KEY.token({"exp": NOW + 3600, "iat": NOW} | case.claims, case.header)
    try:
        policy = packaged().policy_of({"discoveryUrl": table.discovery_url, **case.rules}, table.issuer)
        jwt.verify(jwt.parse(token), keys, policy, now=NOW)
    except (InvalidToken, InsufficientScope) as refusal:
        return refusal.reason.partition(":")[0]
    return ""


def without(claims: Claims, *names: str) -> Claims:
    return {name: value for name, value in claims.items() if name not in names}
