"""The operations on credential providers, and what the stories that use providers ask of them.

Secrets go in and never come out: no answer holds one. Who may call is decided before, and what a client is used for
is `outbound`'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from identity_gateway.catalog import Catalog
from identity_gateway.credential_providers import clients, configuration
from identity_gateway.credential_providers.configuration import INPUT, ON_BEHALF_OF, Registered
from identity_gateway.credential_providers.recipient import recipient_of
from identity_gateway.credential_providers.register import Register
from identity_gateway.credential_providers.sources import (
    API_KEY,
    CLIENT_SECRET,
    SealedSecrets,
    Source,
    SourceNames,
    check_private_key,
    read_source,
    refuse,
    secret_arn,
)
from identity_gateway.envelope import Envelope
from identity_gateway.errors import FieldError, ValidationFailed
from identity_gateway.external_secrets import SecretsManager
from identity_gateway.model import CredentialKind, CredentialProvider, Document, Realm, Secret
from identity_gateway.paging import Paging
from identity_gateway.protocol.descriptor import Descriptor, Signals
from identity_gateway.protocol.oauth2 import Client
from identity_gateway.records import Records
from identity_gateway.records.changes import Watch
from identity_gateway.server_metadata import ServerMetadata

READY = "READY"

_SETTABLE = frozenset({"operator", "caller"})
_OAUTH2_PAGE = 20
_API_KEY_PAGE = 100
_OUTLINES = 1000
_API_KEY_NAMES = SourceNames("apiKey", "apiKeySecretConfig", "apiKeySecretSource")


class CredentialProviders:
    """The credential providers of one account. `base_url` is the gateway's own, without a slash at the end."""

    def __init__(
        self,
        records: Records,
        envelope: Envelope,
        catalog: Catalog,
        secrets_manager: SecretsManager,
        metadata: ServerMetadata,
        paging: Paging,
        realm: Realm,
        *,
        base_url: str,
        clock: Callable[[], float],
    ) -> None:
        self._register = Register(records, paging, realm, recipient_of=self.recipient_of, clock=clock)
        self._sealed = SealedSecrets(envelope)
        self._catalog = catalog
        self._secrets_manager = secrets_manager
        self._metadata = metadata
        self._realm = realm
        self._base_url = base_url
        self._outlines: dict[str, tuple[CredentialProvider, Client | None]] = {}

    # --- OAuth2: the operations of AWS --------------------------------------------------------------------------------

    async def create_oauth2_credential_provider(self, asked: Document) -> Document:
        """CreateOauth2CredentialProvider. Nothing is fetched: a vendor that is not there yet may be registered."""
        vendor = asked["credentialProviderVendor"]
        registered = configuration.check(self._known(vendor), asked[INPUT])
        draft = self._register.draft(
            CredentialKind.OAUTH2,
            asked["name"],
            registered.source,
            vendor=vendor,
            configuration=registered.configuration,
        )
        made = await self._sealed.put(draft, _named(CLIENT_SECRET, registered.source))
        await self._register.create(made, asked.get("tags", {}))
        return self._shown(made)

    async def get_oauth2_credential_provider(self, asked: Document) -> Document:
        """GetOauth2CredentialProvider."""
        return self._dated(await self.oauth2(asked["name"]))

    async def update_oauth2_credential_provider(self, asked: Document) -> Document:
        """UpdateOauth2CredentialProvider: replaces the whole configuration; what `set_…` has set stays.

        Id, and so callback URL and grants, stay as well; but when another client or server would receive their tokens,
        grants wait for a new consent, and consents under way come to nothing. AWS does not say whether the vendor may
        change; here it may not, because the grants are the old vendor's.
        """
        vendor = asked["credentialProviderVendor"]
        registered = configuration.check(self._known(vendor), asked[INPUT])

        async def change(found: CredentialProvider) -> CredentialProvider:
            if found.vendor != vendor:
                refuse([FieldError("credentialProviderVendor", f"must stay {found.vendor}: make another provider")])
            return await self._reconfigured(found, registered)

        return self._dated(await self._register.change(CredentialKind.OAUTH2, asked["name"], change))

    async def delete_oauth2_credential_provider(self, asked: Document) -> Document:
        """DeleteOauth2CredentialProvider: with it go its grants. To revoke them at the vendor is a step before this."""
        await self._register.delete(CredentialKind.OAUTH2, asked["name"])
        return {}

    async def list_oauth2_credential_providers(self, asked: Document) -> Document:
        """ListOauth2CredentialProviders, in the order of the names."""
        rows, token = await self._register.list(CredentialKind.OAUTH2, asked, _OAUTH2_PAGE)
        shown = [self._listed(row) | {"credentialProviderVendor": row.vendor} for row in rows]
        return {"credentialProviders": shown, "nextToken": token}

    # --- API keys: the operations of AWS ------------------------------------------------------------------------------

    async def create_api_key_credential_provider(self, asked: Document) -> Document:
        """CreateApiKeyCredentialProvider."""
        source = _api_key_source(asked)
        draft = self._register.draft(CredentialKind.API_KEY, asked["name"], source)
        made = await self._sealed.put(draft, _named(API_KEY, source))
        await self._register.create(made, asked.get("tags", {}))
        return self._shown_key(made)

    async def get_api_key_credential_provider(self, asked: Document) -> Document:
        """GetApiKeyCredentialProvider."""
        found = await self._register.find(CredentialKind.API_KEY, asked["name"])
        return self._shown_key(found) | _times(found)

    async def update_api_key_credential_provider(self, asked: Document) -> Document:
        """UpdateApiKeyCredentialProvider: another key, or another place of it."""
        source = _api_key_source(asked)

        async def change(found: CredentialProvider) -> CredentialProvider:
            moved = replace(found, secret_source=source.kind, external=source.reference)
            return await self._sealed.put(moved, _named(API_KEY, source))

        changed = await self._register.change(CredentialKind.API_KEY, asked["name"], change)
        return self._shown_key(changed) | _times(changed)

    async def delete_api_key_credential_provider(self, asked: Document) -> Document:
        """DeleteApiKeyCredentialProvider."""
        await self._register.delete(CredentialKind.API_KEY, asked["name"])
        return {}

    async def list_api_key_credential_providers(self, asked: Document) -> Document:
        """ListApiKeyCredentialProviders, in the order of the names."""
        rows, token = await self._register.list(CredentialKind.API_KEY, asked, _API_KEY_PAGE)
        return {"credentialProviders": [self._listed(row) for row in rows], "nextToken": token}

    # --- What AWS has no operation for --------------------------------------------------------------------------------

    async def set_settings(
        self, name: str, *, variables: Mapping[str, str | None], secrets: Mapping[str, str | None]
    ) -> CredentialProvider:
        """Set variables that the descriptor leaves to the operator and secrets of its `[client.secrets]`, or neither.

        A variable that it leaves to callers may be set, too: then they cannot choose it any more. None removes one;
        the others stay. Changed variables lead elsewhere, so that grants wait for a new consent. Raises NotFound, and
        ValidationFailed for a name that the vendor does not have, a value of another form, or a key that cannot sign.
        """

        async def change(found: CredentialProvider) -> CredentialProvider:
            descriptor = self._known(found.vendor)
            refuse(_faults_of_variables(descriptor, variables) + _faults_of_secrets(descriptor, secrets))
            if variables:
                wanted = {**found.settings["variables"], **variables}
                kept = {key: value for key, value in wanted.items() if value is not None}
                found = replace(found, settings=found.settings | {"variables": kept})
            return await self._with_secrets(found, secrets) if secrets else found

        return await self._register.change(CredentialKind.OAUTH2, name, change)

    async def set_secrets(self, name: str, secrets: Mapping[str, str | None]) -> CredentialProvider:
        """Set secrets alone; see `set_settings`."""
        return await self.set_settings(name, variables={}, secrets=secrets)

    async def set_variables(self, name: str, variables: Mapping[str, str | None]) -> CredentialProvider:
        """Set variables alone; see `set_settings`."""
        return await self.set_settings(name, variables=variables, secrets={})

    async def signals_of(self, provider: CredentialProvider) -> tuple[Signals, Secret | None] | None:
        """Return how the vendor signs its webhooks, and the secret for it if it was set; None: it sends none.

        Asks nobody: a webhook must not wait for the vendor's metadata. Raises Unavailable when the key service is down.
        """
        descriptor = self._catalog.get(provider.vendor)
        if descriptor is None or descriptor.signals is None:
            return None
        return descriptor.signals, (await self._sealed.open(provider)).get(descriptor.signals.signature.secret)

    async def oauth2(self, name: str) -> CredentialProvider:
        """Return the OAuth2 provider of this name. Raises NotFound."""
        return await self._register.find(CredentialKind.OAUTH2, name)

    async def watched(self, kind: CredentialKind, name: str) -> tuple[CredentialProvider, Watch | None]:
        """Return the provider, and what holds until it changes, if that is known. Raises NotFound."""
        return await self._register.watched(kind, name)

    def outline_of(self, provider: CredentialProvider) -> Client | None:
        """Return what an OAuth2 provider's client is known by, which opens nothing and asks nobody.

        None where `client_of` refuses it for good, because its vendor or its secrets are gone, and where a part of its
        variables is its server's to say.
        """
        known, made = self._outlines.get(provider.id, (None, None))
        if known is provider or known == provider:
            return made
        descriptor = self._catalog.get(provider.vendor)
        lost = bool(provider.settings["secrets"]) and not provider.sealed_secrets
        outline = None if descriptor is None or lost else clients.outline(provider, descriptor)
        self._outlines[provider.id] = provider, outline
        if len(self._outlines) > _OUTLINES:
            del self._outlines[next(iter(self._outlines))]
        return outline

    def api_key_opener(self, provider: CredentialProvider) -> Callable[[], Secret | None]:
        """Return what gives the key at once, as often as it is called, or returns None: then ask `api_key`."""
        if provider.external is None:
            return self._sealed.opener(provider, API_KEY)
        return partial(self._secrets_manager.peek, provider.external["secretId"], provider.external["jsonKey"])

    def openable(self, provider: CredentialProvider) -> Callable[[], bool]:
        """Return what says, as often as it is called, whether `client_of` would ask nobody for the client's secrets."""
        sealed = self._sealed.openable(provider)
        if provider.external is None:
            return sealed
        peek = partial(self._secrets_manager.peek, provider.external["secretId"], provider.external["jsonKey"])
        return lambda: peek() is not None and sealed()

    async def by_id(self, provider_id: str) -> CredentialProvider | None:
        """Return the provider with this id, of either kind, or None."""
        return await self._register.by_id(provider_id)

    async def client_of(self, provider: CredentialProvider) -> Client:
        """Return the client that an OAuth2 provider stands for, with its secrets opened and its endpoints known.

        Raises ValidationFailed when something that an administrator has to do is missing, Unavailable when the key
        service, AWS Secrets Manager or the authorization server's metadata cannot be reached.
        """
        descriptor = self._known(provider.vendor)
        secrets = await self._sealed.open(provider)
        if provider.external is not None:
            secrets[CLIENT_SECRET] = await self._external(provider.external)
        url = clients.discovery_url_of(provider)
        return clients.build(provider, descriptor, secrets, await self._metadata.get(url) if url else None)

    async def api_key(self, name: str) -> tuple[CredentialProvider, Secret]:
        """Return the API-key provider of this name and its key. Raises NotFound, and what `client_of` raises."""
        found = await self._register.find(CredentialKind.API_KEY, name)
        if found.external is not None:
            return found, await self._external(found.external)
        return found, (await self._sealed.open(found))[API_KEY]

    def recipient_of(self, provider: CredentialProvider) -> str:
        """Return what stands for client and server of an OAuth2 provider (`Client.recipient`); "" for an API key."""
        if provider.kind != CredentialKind.OAUTH2.value:
            return ""
        return recipient_of(provider, self._catalog.get(provider.vendor))

    def callback_url(self, provider: CredentialProvider) -> str:
        """Return the redirect URI to register at the vendor: one for each provider, so that no code goes astray."""
        return f"{self._base_url}/identities/oauth2/callback/{provider.id}"

    def on_behalf_of(self, provider: CredentialProvider) -> Document | None:
        """Return the `onBehalfOfTokenExchangeConfig` as it was registered; None where the descriptor has to say."""
        asked: Document | None = configuration.members_of(provider.configuration).get(ON_BEHALF_OF)
        return asked

    # ------------------------------------------------------------------------------------------------------------------

    def _known(self, vendor: str) -> Descriptor:
        descriptor = self._catalog.get(vendor)
        if descriptor is None:
            problem = f"{vendor} is not in the catalog of this gateway"
            raise ValidationFailed(f"{problem}.", fields=(FieldError("credentialProviderVendor", problem),))
        return descriptor

    async def _reconfigured(self, found: CredentialProvider, registered: Registered) -> CredentialProvider:
        source = registered.source
        moved = replace(
            found,
            configuration=registered.configuration,
            secret_source=source.kind,
            external=source.reference,
        )
        others = {
            name: secret for name, secret in (await self._sealed.remaining(found)).items() if name != CLIENT_SECRET
        }
        return await self._sealed.put(moved, others | _named(CLIENT_SECRET, source))

    async def _with_secrets(self, found: CredentialProvider, secrets: Mapping[str, str | None]) -> CredentialProvider:
        present = await self._sealed.open(found)
        present |= {key: Secret(value) for key, value in secrets.items() if value}
        kept = {key: secret for key, secret in present.items() if secrets.get(key, secret) is not None}
        return await self._sealed.put(found, kept)

    async def _external(self, reference: Document) -> Secret:
        return await self._secrets_manager.get(reference["secretId"], reference["jsonKey"])

    def _shown(self, provider: CredentialProvider) -> Document:
        descriptor = self._catalog.get(provider.vendor)
        return {
            "name": provider.name,
            "credentialProviderArn": self._register.arn(provider),
            "clientSecretArn": {"secretArn": secret_arn(self._realm, provider, "oauth2")},
            "clientSecretJsonKey": (provider.external or {}).get("jsonKey"),
            "clientSecretSource": provider.secret_source,
            "callbackUrl": self.callback_url(provider),
            "oauth2ProviderConfigOutput": configuration.shown(descriptor, provider.configuration, provider.settings),
            "status": READY,
        }

    def _dated(self, provider: CredentialProvider) -> Document:
        return self._shown(provider) | {"credentialProviderVendor": provider.vendor} | _times(provider)

    def _shown_key(self, provider: CredentialProvider) -> Document:
        return {
            "name": provider.name,
            "credentialProviderArn": self._register.arn(provider),
            "apiKeySecretArn": {"secretArn": secret_arn(self._realm, provider, "apikey")},
            "apiKeySecretJsonKey": (provider.external or {}).get("jsonKey"),
            "apiKeySecretSource": provider.secret_source,
        }

    def _listed(self, provider: CredentialProvider) -> Document:
        return {"name": provider.name, "credentialProviderArn": self._register.arn(provider)} | _times(provider)


def _times(provider: CredentialProvider) -> Document:
    return {"createdTime": provider.created_at, "lastUpdatedTime": provider.updated_at}


def _named(name: str, source: Source) -> dict[str, Secret]:
    return {} if source.value is None else {name: source.value}


def _api_key_source(asked: Document) -> Source:
    source, faults = read_source(asked, _API_KEY_NAMES)
    refuse(faults)
    return source


def _faults_of_secrets(descriptor: Descriptor, secrets: Mapping[str, str | None]) -> list[FieldError]:
    known = descriptor.client.secrets
    faults = [
        FieldError(name, f"is no secret of {descriptor.name}; it has: {', '.join(known) or 'none'}")
        for name in secrets
        if name not in known or name == CLIENT_SECRET
    ]
    signing = {
        machine.assertion.key: machine.assertion.algorithm for machine in descriptor.machine if machine.assertion
    }
    for name, algorithm in signing.items():
        if (pem := secrets.get(name)) and (why := check_private_key(pem, algorithm)):
            faults.append(FieldError(name, why))
    return faults + [FieldError(name, "must not be empty") for name, value in secrets.items() if value == ""]


def _faults_of_variables(descriptor: Descriptor, variables: Mapping[str, str | None]) -> list[FieldError]:
    known = {name: each for name, each in descriptor.variables.items() if each.source in _SETTABLE}
    return [
        FieldError(name, f"is no setting of {descriptor.name}; it has: {', '.join(known) or 'none'}")
        for name in variables
        if name not in known
    ] + [
        FieldError(name, f"is not {known[name].description}")
        for name, value in variables.items()
        if name in known and value is not None and not known[name].accepts(value)
    ]
