"""The token vault, wired: providers, consents, grants, their rotation, and the ways out to vendors and key services."""

import random
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from identity_gateway import catalog
from identity_gateway.app.state import Parts, secret_of, tls_of, using
from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.aws_clients import AwsClients
from identity_gateway.consent import Consents
from identity_gateway.credential_providers import CredentialProviders, ProviderSettings, place_of
from identity_gateway.egress import Egress
from identity_gateway.envelope import Envelope
from identity_gateway.external_secrets import SecretsManager
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.grants import Grants, Revocation
from identity_gateway.keepalive import Keepalive
from identity_gateway.key_encryption import AwsKms, KeyRing, KeyService, LocalKey, Transit, token_file
from identity_gateway.key_signing import KmsSigning
from identity_gateway.model import Secret
from identity_gateway.outbound import IssuedTokens, Outbound
from identity_gateway.refresh import Refreshing
from identity_gateway.sealing import Sealer
from identity_gateway.server_metadata import ServerMetadata
from identity_gateway.settings import Settings
from identity_gateway.signals import Signals
from identity_gateway.token_vault import TokenVaults
from identity_gateway.vault import Vault

_VENDOR_SECONDS = 15.0
_VENDOR_CONNECT_SECONDS = 5.0
_VENDOR_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """What serves third-party credentials."""

    providers: CredentialProviders
    provider_settings: ProviderSettings
    vaults: TokenVaults
    outbound: Outbound
    grants: Grants
    consents: Consents
    signals: Signals


def open_credentials(stack: AsyncExitStack, parts: Parts) -> Credentials:
    """Build every part of the token vault; the stack gives them back. Raises SettingsError."""
    state, clock, base_url = parts.state, parts.clock, parts.settings.base_url
    records, realm, ephemeral, account = state.records, state.realm, parts.ephemeral, state.realm.account
    with using("a descriptor of a vendor"):
        own = parts.settings.providers_dir
        vendors = catalog.load(*([own] if own else []))
    keys = _keys(stack, parts)
    envelope = Envelope(keys, clock=clock)
    egress = _egress(stack, parts.settings)
    providers = _providers(stack, parts, envelope, vendors, egress)
    fingerprints = Fingerprints(state.master_keys)
    vault = Vault(records, envelope, fingerprints, account, clock=clock)
    signing_keys = AwsClients("kms", endpoint_url=parts.settings.kms_endpoint_url)
    stack.callback(signing_keys.close)
    server = AuthorizationServer(egress, clock=clock, signing=KmsSigning(signing_keys.of))
    sealer = Sealer(state.master_keys, "consent")
    consents = Consents(
        ephemeral, sealer, vault, providers, server, realm, base_url=base_url, clock=clock, audit=parts.audit
    )
    issued_sealer = Sealer(state.master_keys, "issued-tokens")
    issued = IssuedTokens(ephemeral, issued_sealer, account, clock=clock, changes=records.changes)
    refreshing = Refreshing(
        vault, ephemeral, server, clock=clock, jitter=random.SystemRandom().random, owner=secrets.token_hex(16)
    )
    stack.push_async_callback(refreshing.aclose)
    keepalive = Keepalive(records, ephemeral, providers, vault, refreshing, account, clock=clock)
    keepalive.start()
    stack.push_async_callback(keepalive.close)
    return Credentials(
        providers=providers,
        provider_settings=ProviderSettings(providers, vendors, base_url=base_url),
        vaults=TokenVaults(
            records, keys, envelope, realm, grant_place=vault.place_of, provider_place=place_of, clock=clock
        ),
        outbound=Outbound(
            records,
            parts.tokens,
            parts.user_tokens,
            providers,
            vault,
            refreshing,
            consents,
            issued,
            server,
            fingerprints,
            realm,
        ),
        grants=Grants(vault, providers, Revocation(vault, providers, server, clock=clock), parts.paging, realm),
        consents=consents,
        signals=Signals(providers, vault, issued, ephemeral, parts.audit, realm, clock=clock),
    )


def _providers(
    stack: AsyncExitStack, parts: Parts, envelope: Envelope, vendors: catalog.Catalog, egress: Egress
) -> CredentialProviders:
    state, clock, settings = parts.state, parts.clock, parts.settings
    external = SecretsManager(state.realm.region, clock=clock, endpoint_url=settings.secrets_manager_endpoint_url)
    stack.push_async_callback(external.aclose)
    metadata = ServerMetadata(egress, clock=clock)
    stack.push_async_callback(metadata.aclose)
    return CredentialProviders(
        state.records,
        envelope,
        vendors,
        external,
        metadata,
        parts.paging,
        state.realm,
        base_url=settings.base_url,
        clock=clock,
    )


def _keys(stack: AsyncExitStack, parts: Parts) -> KeyRing:
    """Return the keys that wrap what the vault keeps, and the services that hold some of them."""
    settings, state = parts.settings, parts.state
    vault_arn = state.realm.token_vault_arn()
    services: dict[str, KeyService] = {"kms": AwsKms(vault_arn, endpoint_url=settings.kms_endpoint_url)}
    if settings.transit_address is not None:  # not only if it is the default: what it wrapped must open later, too
        egress = Egress(settings.egress_allow, ssl_context=tls_of(settings.egress_ca_file))
        stack.push_async_callback(egress.aclose)
        with using("TRANSIT_ADDRESS"):
            services["transit"] = Transit(
                egress,
                settings.transit_address,
                _transit_token(settings),
                vault_arn,
                namespace=settings.transit_namespace,
            )
    default = f"transit:{settings.transit_key}" if settings.key_provider == "transit" else LocalKey.reference
    local = LocalKey(state.master_keys, clock=parts.clock)
    with using("TRANSIT_KEY"):
        keys = KeyRing(state.records, local, state.realm.account, services=services, default=default)
    stack.push_async_callback(keys.aclose)
    return keys


def _egress(stack: AsyncExitStack, settings: Settings) -> Egress:
    """Return the way out to vendors: slower than key sets may be, because what was sent may be spent."""
    egress = Egress(
        settings.egress_allow,
        connect=_VENDOR_CONNECT_SECONDS,
        total=_VENDOR_SECONDS,
        max_bytes=_VENDOR_BYTES,
        ssl_context=tls_of(settings.egress_ca_file),
    )
    stack.push_async_callback(egress.aclose)
    return egress


def _transit_token(settings: Settings) -> Callable[[], Secret]:
    """Return where the token comes from: a file is read at each call, because it is renewed."""
    if settings.transit_token_path is not None:
        return token_file(settings.transit_token_path)
    token = secret_of(settings.transit_token)
    assert token is not None
    return lambda: token
