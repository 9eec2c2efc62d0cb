"""The condition keys that this gateway has, and no others: a condition on a key that is never there is a mistake.

Which of them a request has is the business of whoever asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """A condition key as it is written. Several values at once need `ForAnyValue` or `ForAllValues`."""

    name: str
    several: bool = False


_CLAIM = "bedrock-agentcore:InboundJwtClaim/"

_ALL = (
    Key("aws:CurrentTime"),
    Key("aws:EpochTime"),
    Key("aws:PrincipalAccount"),
    Key("aws:PrincipalArn"),
    Key("aws:PrincipalType"),
    Key("aws:RequestedRegion"),
    Key("aws:SecureTransport"),
    Key("aws:SourceIp"),
    Key("aws:UserAgent"),
    Key("aws:userid"),
    Key("aws:username"),
    Key("bedrock-agentcore:DiscoveryUrl"),
    Key("bedrock-agentcore:RuntimeAuthorizerType"),
    Key("bedrock-agentcore:userid"),
    Key(f"{_CLAIM}aud", several=True),
    Key(f"{_CLAIM}client_id"),
    Key(f"{_CLAIM}iss"),
    Key(f"{_CLAIM}scope", several=True),
    Key(f"{_CLAIM}sub"),
    Key("sts:DurationSeconds"),
    Key("sts:IdentityTokenAudience", several=True),
    Key("sts:RoleSessionName"),
    Key("sts:SigningAlgorithm"),
)

KEYS: Mapping[str, Key] = {key.name.lower(): key for key in _ALL}
"""By their names in lower case: policies may write them in any case."""

CLAIMS = frozenset(name for name in KEYS if name.startswith(_CLAIM.lower()))
"""Keys that have no value before a JWT was verified."""
