"""From a kept provider to an OAuth client that can be used: the descriptor, and what the provider adds to it.

It opens no secret, and fetches nothing: it is given both.
"""

from collections.abc import Mapping

from identity_gateway.credential_providers.configuration import (
    PRIVATE_KEY_JWT,
    endpoints_of,
    issuer_of,
    kms_key_of,
    members_of,
    method_of,
    variables_of,
)
from identity_gateway.credential_providers.recipient import recipient_of
from identity_gateway.credential_providers.sources import CLIENT_SECRET, algorithm_of
from identity_gateway.errors import ValidationFailed
from identity_gateway.model import CredentialProvider, Document, Secret
from identity_gateway.protocol.descriptor import PLACEHOLDER, Authentication, Descriptor
from identity_gateway.protocol.oauth2 import Client, PrivateKeyJwt, SigningAlgorithm, described_elsewhere
from identity_gateway.server_metadata import Metadata

PRIVATE_KEY = "private_key"  # what `private_key_jwt` signs with, by the name that descriptors use

_AUTHENTICATION: Mapping[str, Authentication] = {
    "CLIENT_SECRET_BASIC": "basic",
    "CLIENT_SECRET_POST": "post",
    PRIVATE_KEY_JWT: "private_key_jwt",
}


def discovery_url_of(provider: CredentialProvider) -> str | None:
    """Return where the provider's authorization server publishes its metadata, if that is how it was registered."""
    url: str | None = members_of(provider.configuration).get("oauthDiscovery", {}).get("discoveryUrl")
    return url


def build(
    provider: CredentialProvider,
    descriptor: Descriptor,
    secrets: Mapping[str, Secret],
    metadata: Metadata | None,
) -> Client:
    """Return the client. `secrets` holds the client secret, wherever it came from, and those of `[client.secrets]`.

    Raises ValidationFailed naming the variables that an administrator has to set before this vendor has endpoints.
    """
    members = members_of(provider.configuration)
    endpoints, issuer = endpoints_of(members), issuer_of(members)
    if metadata is not None:
        endpoints, issuer = _published(metadata), metadata.issuer
        descriptor = _with_iss(descriptor) if metadata.iss_parameter_supported else descriptor
    if (
        described_elsewhere(descriptor.token.url) is not None
    ):  # it describes a protocol: people know the provider's name
        descriptor = descriptor.model_copy(update={"name": provider.name})
    variables = variables_of(descriptor, members, provider.settings["variables"], issuer)
    _demand(descriptor, variables, endpoints, provider.name)
    others = dict(secrets)
    secret = others.pop(CLIENT_SECRET, None)
    method = method_of(members)
    auth = _AUTHENTICATION[method] if method else None
    signs = (auth or descriptor.client.auth) == "private_key_jwt"
    if signs and secret is not None:
        # The secret of such a client is its key, unless it was given another: it signs, and is never sent.
        others.setdefault(PRIVATE_KEY, secret)
        secret = None
    return Client(
        descriptor=descriptor,
        id=members.get("clientId", ""),
        secret=secret,
        auth=auth,
        endpoints=endpoints,
        variables=variables,
        secrets=others,
        issuer=issuer,
        private_key_jwt=_signing(members, others) if signs else None,
        public_only=metadata is not None and metadata.public_only,
        recipient=recipient_of(provider, descriptor),
    )


def outline(provider: CredentialProvider, descriptor: Descriptor) -> Client:
    """Return what is known of the client without its secrets, and without what its server says of itself.

    That is enough to tell which credentials are its own. Nobody is asked anything with it.
    """
    members = members_of(provider.configuration)
    return Client(
        descriptor=descriptor,
        id=members.get("clientId", ""),
        secret=None,
        variables=variables_of(descriptor, members, provider.settings["variables"], issuer_of(members)),
        recipient=recipient_of(provider, descriptor),
    )


def _signing(members: Document, secrets: Mapping[str, Secret]) -> PrivateKeyJwt:
    """Return how the client signs. Raises ValidationFailed when there is no key, or none that can sign."""
    asked, kms_key, key = members.get("privateKeyJwtConfig", {}), kms_key_of(members), secrets.get(PRIVATE_KEY)
    if kms_key is None and key is None:
        raise ValidationFailed("The credential provider has no private key. An administrator must set one.")
    algorithm: SigningAlgorithm = "RS256" if key is None else algorithm_of(key)
    return PrivateKeyJwt(
        algorithm=asked.get("signingAlgorithm", algorithm),
        secret=PRIVATE_KEY,
        kms_key=kms_key,
        headers=asked.get("additionalHeaderClaims", {}),
        claims=asked.get("additionalPayloadClaims", {}),
    )


def _published(metadata: Metadata) -> dict[str, str]:
    found = {
        "authorize": metadata.authorization_endpoint,
        "token": metadata.token_endpoint,
        "revoke": metadata.revocation_endpoint,
        "introspect": metadata.introspection_endpoint,
        "userinfo": metadata.userinfo_endpoint,
    }
    return {name: url for name, url in found.items() if url is not None}


def _with_iss(descriptor: Descriptor) -> Descriptor:
    """Return the descriptor of a vendor that says of itself that it always sends `iss` (RFC 9207 §3)."""
    if descriptor.authorize is None:
        return descriptor
    return descriptor.model_copy(
        update={"authorize": descriptor.authorize.model_copy(update={"issuer_required": True})}
    )


def _demand(
    descriptor: Descriptor, variables: Mapping[str, str], endpoints: Mapping[str, str], provider_name: str
) -> None:
    """Refuse a client of whose token endpoint a part is unknown. What other requests lack, they say themselves."""
    url = "" if "token" in endpoints else descriptor.token.url
    wanted = {name for name in PLACEHOLDER.findall(url) if name in descriptor.variables}
    missing = sorted(
        name
        for name in wanted - variables.keys()
        if descriptor.variables[name].source in {"operator", "issuer", "tenant"}
    )
    if missing:
        raise ValidationFailed(
            f"The credential provider {provider_name} cannot be used yet. An administrator must set: "
            + "; ".join(f"{name} ({descriptor.variables[name].description})" for name in missing)
        )
