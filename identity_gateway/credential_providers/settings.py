"""What a vendor may be told beyond AWS's configuration: variables and secrets that its descriptor names.

These operations are the gateway's own (`models/identity-gateway`). A secret goes in and is never shown again.
"""

from collections.abc import Mapping

from identity_gateway.catalog import Catalog
from identity_gateway.credential_providers.control import CredentialProviders
from identity_gateway.model import CredentialProvider, Document

WEBHOOKS = "/identities/webhooks/"
"""Below it, by the provider's id, vendors may send their webhooks."""


class ProviderSettings:
    """The settings of the OAuth2 providers of one account."""

    def __init__(self, providers: CredentialProviders, catalog: Catalog, *, base_url: str) -> None:
        self._providers = providers
        self._catalog = catalog
        self._base_url = base_url

    async def get_provider_settings(self, asked: Document) -> Document:
        """GetProviderSettings."""
        return self._shown(await self._providers.oauth2(asked["name"]))

    async def put_provider_settings(self, asked: Document) -> Document:
        """PutProviderSettings: what is not named stays, and if one value is wrong, everything does.

        Raises NotFound, and ValidationFailed with every name and value that this vendor does not take.
        """
        variables: Mapping[str, str] = asked.get("variables") or {}
        secrets: Mapping[str, str] = asked.get("secrets") or {}
        if not variables and not secrets:
            return await self.get_provider_settings(asked)
        return self._shown(await self._providers.set_settings(asked["name"], variables=variables, secrets=secrets))

    def _shown(self, provider: CredentialProvider) -> Document:
        descriptor = self._catalog.get(provider.vendor)
        named = sorted(descriptor.client.secrets) if descriptor is not None else []
        present = [name for name in named if name in provider.settings.get("secrets", ())]
        signals = descriptor is not None and descriptor.signals is not None
        return {
            "name": provider.name,
            "vendor": provider.vendor,
            "callbackUrl": self._providers.callback_url(provider),
            "webhookUrl": f"{self._base_url}{WEBHOOKS}{provider.id}" if signals else None,
            "variables": provider.settings.get("variables", {}),
            "secretsSet": present,
            "secretsUnset": [name for name in named if name not in present],
        }
