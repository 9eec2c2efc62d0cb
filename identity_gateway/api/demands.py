"""What a caller must be allowed at other services, because the gateway would do it with its own AWS role.

Whoever registers another team's secret or key would otherwise use it through the gateway, which may read and sign with
all of them. AWS asks the caller's own permissions here, too. Looks at the input alone, and decides nothing.
"""

from collections.abc import Iterator
from typing import Any

from identity_gateway.admission import Demand
from identity_gateway.credential_providers import arn_of_secret
from identity_gateway.model import Document, Realm

_ANY_SUFFIX = "-??????"


def nothing(_realm: Realm, _asked: Document) -> tuple[Demand, ...]:
    """Return no demand: what most operations touch is the gateway's own."""
    return ()


def of_provider(realm: Realm, asked: Document) -> tuple[Demand, ...]:
    """Return the demands of a credential provider: to read its EXTERNAL secret, to sign with its KMS key.

    References are found wherever they stand, also where they will be refused.
    """
    secrets = [_secret(arn_of_secret(realm, found)) for found in _named("secretId", asked)]
    return (*secrets, *(Demand("kms", "Sign", (found,)) for found in _named("kmsKeyArn", asked)))


def of_vault_key(_realm: Realm, asked: Document) -> tuple[Demand, ...]:
    """Return the demands of a key that shall encrypt the token vault.

    This is our reading: AWS asks for kms:DescribeKey and kms:CreateGrant, because it works by grants of the key; this
    gateway encrypts and decrypts.
    """
    return tuple(
        Demand("kms", action, (found,)) for found in _named("kmsKeyArn", asked) for action in ("Encrypt", "Decrypt")
    )


def _secret(arn: str) -> Demand:
    # The ARN of a secret ends in six characters that its name does not say, and policies write them as `-??????`.
    return Demand("secretsmanager", "GetSecretValue", (arn, arn + _ANY_SUFFIX))


def _named(name: str, document: Any) -> Iterator[str]:
    """Find the texts of this name, however deep."""
    if isinstance(document, list):
        for each in document:
            yield from _named(name, each)
    elif isinstance(document, dict):
        for key, value in document.items():
            if key == name and isinstance(value, str):
                yield value
            else:
                yield from _named(name, value)
