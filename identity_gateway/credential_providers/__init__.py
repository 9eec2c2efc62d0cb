"""Credential providers: clients at vendors and API keys, and where their secrets are.

`control` holds the operations, `configuration` what may be registered and what is shown of it, `sources` where a secret
may stand, `register` the records, `clients` what the rest of the gateway uses to talk to a vendor, `settings` what
AWS has no words for.
"""

from identity_gateway.credential_providers.control import CredentialProviders
from identity_gateway.credential_providers.settings import WEBHOOKS, ProviderSettings
from identity_gateway.credential_providers.sources import arn_of_secret, place_of

__all__ = ["WEBHOOKS", "CredentialProviders", "ProviderSettings", "arn_of_secret", "place_of"]
