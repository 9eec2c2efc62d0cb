"""Keeps grants alive that die of idleness: at vendors that say so, each is refreshed now and then without being asked.

One replica at a time walks through them. What a refresh is, and that it is safe, is `refresh`'s to know: this module
only asks for what nobody asked for. A round that fails is a round later.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import GatewayError
from identity_gateway.model import CredentialKind, CredentialProvider, Grant, GrantState
from identity_gateway.protocol.descriptor import Refresh
from identity_gateway.protocol.oauth2 import Client
from identity_gateway.records import Records
from identity_gateway.refresh import Refreshing
from identity_gateway.vault import Vault

_EVERY = 900.0
_PAGE = 100

_log = structlog.get_logger()


class Keepalive:
    """Walks through the grants of one account every quarter of an hour."""

    def __init__(
        self,
        records: Records,
        ephemeral: Ephemeral,
        providers: CredentialProviders,
        vault: Vault,
        refreshing: Refreshing,
        account: str,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._ephemeral = ephemeral
        self._providers = providers
        self._vault = vault
        self._refreshing = refreshing
        self._account = account
        self._clock = clock
        self._owner = secrets.token_hex(16)
        self._walker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin: the first round comes after a random part of the interval, so that replicas do not march in step."""
        self._walker = asyncio.create_task(self._walk())

    async def close(self) -> None:
        """Stop. A refresh that is under way goes on to its end."""
        if self._walker is not None:
            self._walker.cancel()
            with suppress(asyncio.CancelledError):
                await self._walker

    async def _walk(self) -> None:
        await asyncio.sleep(_EVERY * secrets.randbelow(1000) / 1000)
        while True:
            try:
                if await self._ephemeral.acquire(f"keepalive:{self._account}", self._owner, ttl=_EVERY * 0.9):
                    await self.round()
            except GatewayError as error:
                _log.warning("keepalive_round_failed", reason=error.reason)
            except Exception as error:  # noqa: BLE001 - one bad round must not be the last
                _log.error("keepalive_round_failed", fault=error.__class__.__name__)
            await asyncio.sleep(_EVERY)

    async def round(self) -> int:
        """Refresh what is due, one after another, and return how many grants were. A vendor that fails is passed by."""
        refreshed = 0
        async for provider in self._every_provider():
            try:
                client = await self._providers.client_of(provider)
            except GatewayError as error:
                _log.warning("keepalive_skips_provider", provider=provider.name, reason=error.reason)
                continue
            rules = client.descriptor.refresh
            if rules.policy.keepalive is not None or rules.how == "access_token":
                refreshed += await self._refresh_due(provider, client)
        return refreshed

    async def _refresh_due(self, provider: CredentialProvider, client: Client) -> int:
        refreshed, after = 0, None
        while True:
            page = await self._vault.list(provider_id=provider.id, state=GrantState.ACTIVE, after=after, limit=_PAGE)
            for grant in page:
                if is_due(grant, client.descriptor.refresh, datetime.fromtimestamp(self._clock(), UTC)):
                    try:
                        # Said to be rejected, or a token that lives for long would be handed out as it is.
                        idle = (await self._vault.open(grant)).access.reveal()
                        await self._refreshing.fresh(grant, client, rejected=idle)
                        refreshed += 1
                    except GatewayError as error:
                        _log.warning("keepalive_skips_grant", grant=grant.id, reason=error.reason)
            if len(page) < _PAGE:
                return refreshed
            after = page[-1].id

    async def _every_provider(self) -> AsyncIterator[CredentialProvider]:
        after: tuple[str, ...] | None = None
        kind = CredentialKind.OAUTH2.value
        while True:
            async with self._records.read() as transaction:
                page = await transaction.list(
                    CredentialProvider, account=self._account, where={"kind": kind}, after=after, limit=_PAGE
                )
            for provider in page:
                yield provider
            if len(page) < _PAGE:
                return
            after = (kind, page[-1].name)


def is_due(grant: Grant, rules: Refresh, now: datetime) -> bool:
    """Whether a grant would die if nobody asked for it.

    Either it has been idle for as long as the vendor allows, or it lives by an access token that must be exchanged
    before it expires.
    """
    idle = rules.policy.keepalive
    if idle is not None and now - grant.updated_at >= timedelta(seconds=idle):
        return True
    if rules.how != "access_token" or grant.expires_at is None:
        return False
    return grant.expires_at - now <= timedelta(seconds=rules.policy.margin)
