"""Where a provider's secret stands: sealed in its record (MANAGED), or with its owner (EXTERNAL).

It checks what is registered and seals what is kept. It does not know what a secret is good for.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from identity_gateway.envelope import Envelope
from identity_gateway.errors import FieldError, Unavailable, ValidationFailed
from identity_gateway.model import CredentialProvider, Document, Realm, Secret
from identity_gateway.protocol.oauth2.model import SigningAlgorithm
from identity_gateway.sealing import Unsealable

MANAGED = "MANAGED"
EXTERNAL = "EXTERNAL"
CLIENT_SECRET = "client_secret"  # noqa: S105 - the name of one
API_KEY = "api_key"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Source:
    """Where the client secret or API key of a provider stands: `value` here, or `reference` (secretId, jsonKey)."""

    kind: str
    value: Secret | None = field(repr=False, default=None)
    reference: Document | None = None


@dataclass(frozen=True, slots=True)
class SourceNames:
    """What AWS calls the members that say where a secret stands. `prefix` is the path of the structure, with a dot."""

    value: str
    reference: str
    source: str
    prefix: str = ""


def read_source(given: Document, names: SourceNames, *, needed: bool = True) -> tuple[Source, list[FieldError]]:
    """Return where the secret stands, and what contradicts itself. An empty secret is none.

    Exactly one of a value and a reference is wanted, and the source must be that of the one given. (AWS does not say
    what it does with a reference beside MANAGED; here nobody has to guess which of the two counts.)
    """
    value, reference, kind = given.get(names.value), given.get(names.reference), given.get(names.source, MANAGED)
    if kind == EXTERNAL:
        faults = []
        if value:
            faults.append(FieldError(names.prefix + names.value, f"must not be given when {names.source} is EXTERNAL"))
        if reference is None:
            faults.append(FieldError(names.prefix + names.reference, f"is needed when {names.source} is EXTERNAL"))
        return Source(EXTERNAL, reference=reference), faults
    if reference is not None:
        return Source(MANAGED), [
            FieldError(names.prefix + names.reference, f"is only for {names.source} EXTERNAL, which was not given")
        ]
    if not value and needed:
        return Source(MANAGED), [FieldError(names.prefix + names.value, "is needed, and must not be empty")]
    return Source(MANAGED, Secret(value) if value else None), []


def check_private_key(pem: str, algorithm: str | None) -> str:
    """Return why this is no key to sign with, or nothing. Without an algorithm any of the three will do."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "must be a private key in PEM, without a password"
    if isinstance(key, rsa.RSAPrivateKey):
        if not 2048 <= key.key_size <= 4096:
            return "must be an RSA key of 2048 to 4096 bits"
        return "" if algorithm in {None, "RS256", "PS256"} else f"is an RSA key, which cannot sign {algorithm}"
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "" if algorithm in {None, "ES256"} else f"is a key on P-256, which cannot sign {algorithm}"
    return "must be an RSA key, or one on the curve P-256"


def algorithm_of(pem: Secret) -> SigningAlgorithm:
    """Return the algorithm that a key signs with when nothing else is said. Raises ValidationFailed for no such key."""
    try:
        # Nothing is signed here: whether the numbers of the key fit each other is found out by whoever does.
        key = load_pem_private_key(pem.reveal().encode(), password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValidationFailed("The private key of the credential provider is no private key in PEM.") from None
    return "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"


def secret_arn(realm: Realm, provider: CredentialProvider, word: str) -> str:
    """Return the ARN that AWS's clients are shown for the secret: that of the owner's, or a stable one of our own.

    A MANAGED secret has the name that AWS gives it. There is no Secrets Manager behind it, and nothing to read there.
    """
    if provider.external is None:
        return arn_of_secret(realm, f"bedrock-agentcore-identity!default/{word}/{provider.name}")
    return arn_of_secret(realm, provider.external["secretId"])


def arn_of_secret(realm: Realm, secret_id: str) -> str:
    """Return the ARN that a `secretId` means: it is one, or a name in the account and region of this gateway.

    Of a name only so much is known: the six characters that AWS adds to it are missing.
    """
    if secret_id.startswith("arn:"):
        return secret_id
    return f"arn:{realm.partition}:secretsmanager:{realm.region}:{realm.account}:secret:{secret_id}"


class SealedSecrets:
    """Seals the secrets of providers, each record for itself, and opens them. `settings.secrets` lists their names."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope

    async def put(self, provider: CredentialProvider, secrets: Mapping[str, Secret]) -> CredentialProvider:
        """Return the provider with these secrets by name, and no others. Raises Unavailable."""
        settings = provider.settings | {"secrets": sorted(secrets)}
        if not secrets:
            return replace(provider, settings=settings, sealed_secrets=b"")
        plain = json.dumps({name: secret.reveal() for name, secret in secrets.items()}).encode()
        sealed = await self._envelope.seal(plain, place=place_of(provider))
        return replace(provider, settings=settings, sealed_secrets=sealed)

    async def open(self, provider: CredentialProvider) -> dict[str, Secret]:
        """Return the secrets by name.

        Raises ValidationFailed when they went with the key of the token vault (ResetTokenVaultKeyMaterial), and
        Unavailable when they cannot be opened, also because they were changed or sealed for another record.
        """
        if not provider.settings["secrets"]:
            return {}
        if not provider.sealed_secrets:
            raise ValidationFailed(
                f"The secrets of the credential provider {provider.name} were lost with the key of the token vault. "
                "An administrator must update it with its secret."
            )
        try:
            return await self._open(provider)
        except Unsealable:
            _log.error("credential_provider.unsealable", kind=provider.kind, name=provider.name, id=provider.id)
            raise Unavailable(reason=f"the secrets of credential provider {provider.name} do not open") from None

    def opener(self, provider: CredentialProvider, name: str) -> Callable[[], Secret | None]:
        """Return what opens one of the secrets anew, at once, or returns None: then ask `open`."""
        if not provider.sealed_secrets or name not in provider.settings["secrets"]:
            return lambda: None
        opened = self._envelope.opener(provider.sealed_secrets, place=place_of(provider))

        def secret() -> Secret | None:
            plain = opened()
            return None if plain is None else Secret(json.loads(plain)[name])

        return secret

    def openable(self, provider: CredentialProvider) -> Callable[[], bool]:
        """Return what says, as often as it is called, whether `open` would give the secrets without a key service."""
        if not provider.settings["secrets"]:
            return lambda: True
        if not provider.sealed_secrets:
            return lambda: False
        opened = self._envelope.opener(provider.sealed_secrets, place=place_of(provider))
        return lambda: opened() is not None

    async def remaining(self, provider: CredentialProvider) -> dict[str, Secret]:
        """Return the secrets by name; none when they are lost, because what replaces them heals the provider.

        Raises Unavailable when the key service does not answer: then they are not lost.
        """
        if not provider.sealed_secrets:
            return {}
        try:
            return await self._open(provider)
        except Unsealable:
            _log.error("credential_provider.secrets_lost", kind=provider.kind, name=provider.name, id=provider.id)
            return {}

    async def _open(self, provider: CredentialProvider) -> dict[str, Secret]:
        plain = await self._envelope.open(provider.sealed_secrets, place=place_of(provider))
        return {name: Secret(value) for name, value in json.loads(plain).items()}


def place_of(provider: CredentialProvider) -> tuple[str, ...]:
    """Return the place that the secrets of a provider are sealed for: of another record they do not open."""
    return (provider.account, "credential_provider", provider.id, "sealed_secrets")


def refuse(faults: Iterable[FieldError]) -> None:
    """Raise ValidationFailed if there are any faults."""
    found = tuple(faults)
    if found:
        raise ValidationFailed(
            "The credential provider cannot be registered like this: "
            + "; ".join(f"{fault.name} {fault.message}" for fault in found),
            fields=found,
        )
