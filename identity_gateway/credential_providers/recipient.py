"""Who receives what a provider sends: which client, at which server. Another one must not get what this one gave."""

import json
from hashlib import sha256

from identity_gateway.credential_providers.configuration import endpoints_of, issuer_of, members_of
from identity_gateway.model import CredentialProvider
from identity_gateway.protocol.descriptor import PLACEHOLDER, Descriptor

_NOT_FOR_USERS = {"machine", "exchange", "variables"}


def recipient_of(provider: CredentialProvider, descriptor: Descriptor | None) -> str:
    """Return what tells clients and servers apart: a SHA-256, hexadecimal, of all that leads to an OAuth2 server.

    That are the client id, the endpoints, the issuer, where the metadata stands, the tenant, and the variables that
    were set. Not: the client secret, how the client authenticates, and a caller's variable that was set and that only
    machines' credentials are asked with. What a server says of itself in its metadata is its own business.
    """
    members = members_of(provider.configuration)
    known = [
        provider.vendor,
        members.get("clientId"),
        sorted(endpoints_of(members).items()),
        issuer_of(members),
        members.get("oauthDiscovery", {}).get("discoveryUrl"),
        members.get("tenantId"),
        sorted((name, value) for name, value in provider.settings["variables"].items() if _counts(name, descriptor)),
    ]
    return sha256(json.dumps(known, separators=(",", ":")).encode()).hexdigest()


def _counts(name: str, descriptor: Descriptor | None) -> bool:
    """Whether a variable may lead what belongs to users somewhere. Of a vendor that nobody knows any more, each may."""
    variable = None if descriptor is None else descriptor.variables.get(name)
    if descriptor is None or variable is None or variable.source != "caller":
        return True
    return name in PLACEHOLDER.findall(descriptor.model_dump_json(exclude=_NOT_FOR_USERS))
