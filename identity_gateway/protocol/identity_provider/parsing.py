"""From a parsed TOML document to an identity provider, or an error that names file and key."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from identity_gateway.protocol.descriptor.parsing import faults_of, tuples
from identity_gateway.protocol.descriptor.rules import DescriptorError
from identity_gateway.protocol.identity_provider.provider import IdentityProvider


def parse(document: Mapping[str, Any], *, file: str) -> IdentityProvider:
    """Return the provider that a parsed TOML document describes. Raises DescriptorError naming file and key.

    Does not check that the provider exists or behaves as described.
    """
    try:
        return IdentityProvider.model_validate(tuples(document))
    except ValidationError as error:
        raise DescriptorError(faults_of(error, file)) from None
