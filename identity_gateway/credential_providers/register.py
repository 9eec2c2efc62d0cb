"""The records of credential providers: found, made, changed and deleted.

It seals nothing and checks no configuration.
"""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from identity_gateway.credential_providers.sources import Source
from identity_gateway.errors import Conflict, NotFound
from identity_gateway.model import CredentialKind, CredentialProvider, Document, Grant, Realm
from identity_gateway.paging import Paging
from identity_gateway.records import AlreadyExists, Records, Stale, Transaction
from identity_gateway.records.changes import Watch
from identity_gateway.records.races import settled
from identity_gateway.records.watched import watched
from identity_gateway.tags import drop_tags, put_tags
from identity_gateway.vault import PROVIDER_CHANGED, end_all

Change = Callable[[CredentialProvider], Awaitable[CredentialProvider]]

_ATTEMPTS = 10

_log = structlog.get_logger()


class Register:
    """The credential providers of one account. `recipient_of` says who receives what a provider sends."""

    def __init__(
        self,
        records: Records,
        paging: Paging,
        realm: Realm,
        *,
        recipient_of: Callable[[CredentialProvider], str],
        clock: Callable[[], float],
    ) -> None:
        self._recipient_of = recipient_of
        self._records = records
        self._paging = paging
        self._realm = realm
        self._clock = clock

    def draft(
        self,
        kind: CredentialKind,
        name: str,
        source: Source,
        *,
        vendor: str = "",
        configuration: Document | None = None,
    ) -> CredentialProvider:
        """Return a provider that is not kept yet, with an id that nobody guesses and no other provider ever has."""
        now = self._now()
        return CredentialProvider(
            account=self._realm.account,
            kind=kind.value,
            name=name,
            id=str(uuid.uuid4()),
            vendor=vendor,
            configuration=configuration or {},
            settings={"variables": {}, "secrets": []},
            secret_source=source.kind,
            external=source.reference,
            sealed_secrets=b"",
            created_at=now,
            updated_at=now,
        )

    async def create(self, provider: CredentialProvider, tags: dict[str, str]) -> None:
        """Keep a new provider. Raises Conflict when there is one of this kind and name."""
        try:
            async with self._records.write() as transaction:
                await transaction.create(provider)
                await put_tags(transaction, provider.account, self.arn(provider), tags)
        except AlreadyExists:
            raise Conflict(f"A credential provider named {provider.name} exists already.") from None

    async def find(self, kind: CredentialKind, name: str) -> CredentialProvider:
        """Return the provider of this kind and name, or raise NotFound."""
        return (await self.watched(kind, name))[0]

    async def watched(self, kind: CredentialKind, name: str) -> tuple[CredentialProvider, Watch | None]:
        """Return what `find` does, and what holds until a provider of this kind changes, if that is known."""
        account = self._realm.account
        found, watch = await watched(self._records, CredentialProvider, account=account, kind=kind.value, name=name)
        if found is None:
            raise _unknown(kind, name)
        return found, watch

    async def by_id(self, provider_id: str) -> CredentialProvider | None:
        """Return the provider with this id, or None."""
        async with self._records.read() as transaction:
            rows = await transaction.list(
                CredentialProvider, account=self._realm.account, where={"id": provider_id}, limit=1
            )
        return rows[0] if rows else None

    async def list(
        self, kind: CredentialKind, asked: Document, most: int
    ) -> tuple[list[CredentialProvider], str | None]:
        """Return a page in the order of the names, and the token of the next one."""
        question, limit = f"List:{kind.value}", asked.get("maxResults", most)
        async with self._records.read() as transaction:
            rows = await transaction.list(
                CredentialProvider,
                account=self._realm.account,
                where={"kind": kind.value},
                after=self._paging.after(asked.get("nextToken"), question),
                limit=limit + 1,
            )
        return self._paging.page(rows, limit, ("kind", "name"), question)

    async def change(self, kind: CredentialKind, name: str, change: Change) -> CredentialProvider:
        """Replace the provider by what `change` makes of it, and return it. Raises NotFound, and Conflict.

        When another client or server receives the tokens from now on, every grant waits for a new consent.

        `change` runs outside of the transaction, because it seals, which may ask a key service; and again when another
        request was quicker.
        """
        for _ in range(_ATTEMPTS):
            async with self._records.read() as transaction:
                found = await self._in(transaction, kind, name)
            wanted = replace(await change(found), updated_at=self._now())
            try:
                async with self._records.write() as transaction:
                    if (await self._in(transaction, kind, name)).id != found.id:
                        raise Stale  # a namesake: its first revision looks like that of the other
                    changed = await transaction.update(wanted)
                    ended = await self._end_grants(transaction, found, changed)
            except Stale:
                continue
            if ended:
                _log.warning("grants_need_consent", provider=name, grants=ended, reason=PROVIDER_CHANGED)
            return changed
        raise Conflict("The credential provider is being changed by other requests. Try again.")

    async def _end_grants(self, transaction: Transaction, before: CredentialProvider, after: CredentialProvider) -> int:
        if self._recipient_of(before) == self._recipient_of(after):
            return 0
        return await end_all(transaction, after.account, after.id, after.updated_at)

    async def delete(self, kind: CredentialKind, name: str) -> None:
        """Delete the provider with its tags and with every grant that was given through it. Raises NotFound.

        The vendor is not told: what a grant stood for lives on there until it expires or is revoked. A grant that is
        being stored at this moment may stay behind; nothing finds it again, because the id is never given twice.
        """

        async def effect(transaction: Transaction) -> None:
            found = await self._in(transaction, kind, name)
            account = found.account
            if not await transaction.delete(
                CredentialProvider, account=account, kind=kind.value, name=name, id=found.id
            ):
                raise Stale
            await transaction.delete(Grant, account=account, provider_id=found.id)
            await drop_tags(transaction, account, self.arn(found))

        await settled(self._records, effect)

    def arn(self, provider: CredentialProvider) -> str:
        """Return the ARN of the provider."""
        return self._realm.credential_provider_arn(CredentialKind(provider.kind), provider.name)

    async def _in(self, transaction: Transaction, kind: CredentialKind, name: str) -> CredentialProvider:
        found = await transaction.get(CredentialProvider, account=self._realm.account, kind=kind.value, name=name)
        if found is None:
            raise _unknown(kind, name)
        return found

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


_WORD = {CredentialKind.OAUTH2: "OAuth2", CredentialKind.API_KEY: "API key"}


def _unknown(kind: CredentialKind, name: str) -> NotFound:
    return NotFound(f"There is no {_WORD[kind]} credential provider named {name}.")
