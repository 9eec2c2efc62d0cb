"""A token vault with its records, its keys and its envelope, and values in it, for tests that need more than one part.

Nothing of the product is replaced: only the places are the tests' own, because who keeps a record says where it lies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from identity_gateway.envelope import Envelope
from identity_gateway.key_encryption import KeyRing, KeyService, LocalKey
from identity_gateway.model import CredentialProvider, Document, Grant, GrantState, Realm
from identity_gateway.records import Records, Transaction
from identity_gateway.records.races import settled
from identity_gateway.token_vault import TokenVaults

REALM = Realm("000000000000", "us-east-1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULT = {"tokenVaultId": "default"}


def grant_place(grant: Grant) -> tuple[str, ...]:
    return (grant.account, "grant_", grant.id, "sealed", str(grant.generation), grant.provider_id)


def provider_place(provider: CredentialProvider) -> tuple[str, ...]:
    return (provider.account, "credential_provider", provider.id, "sealed_secrets")


def a_grant(name: str, **changes: Any) -> Grant:
    made = Grant(
        REALM.account, name, f"lookup-{name}", "agent", '["id","ada"]', "slack", "id-slack", "", (), (), {},
        GrantState.ACTIVE.value, "", "", "", "", 1, None, None, b"", "digest", None, None, None, 0, None, NOW, NOW, NOW,
    )  # fmt: skip
    return replace(made, **changes)


def customer_managed(arn: str) -> Document:
    """Return what SetTokenVaultCMK is asked."""
    return {"kmsConfiguration": {"keyType": "CustomerManagedKey", "kmsKeyArn": arn}}


class World:
    """What one process holds of the token vault. Several may share the records."""

    def __init__(
        self,
        records: Records,
        clock: Callable[[], float],
        master_keys: Sequence[bytes],
        services: Mapping[str, KeyService],
    ) -> None:
        self.records = records
        self.keys = KeyRing(records, LocalKey(master_keys, clock=clock), REALM.account, services=services)
        self.envelope = Envelope(self.keys, clock=clock)
        self.slept: list[float] = []
        self.while_asleep: Callable[[], Any] | None = None
        self.vaults = TokenVaults(
            records,
            self.keys,
            self.envelope,
            REALM,
            grant_place=grant_place,
            provider_place=provider_place,
            clock=clock,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.while_asleep is not None:
            await self.while_asleep()

    async def put(self, *names: str, **changes: Any) -> Grant:
        """Keep grants whose sealed value is their name; return the last."""
        made = [a_grant(name, **changes) for name in names]
        sealed = [
            replace(each, sealed=await self.envelope.seal(each.id.encode(), place=grant_place(each))) for each in made
        ]
        async with self.records.write() as transaction:
            await transaction.create(*sealed)
        return sealed[-1]

    async def put_provider(self, name: str) -> CredentialProvider:
        """Keep a provider whose sealed value is its name."""
        made = CredentialProvider(
            REALM.account, "oauth2", name, f"id-{name}", "CustomOauth2", {}, {}, "MANAGED", None, b"", NOW, NOW
        )
        made = replace(made, sealed_secrets=await self.envelope.seal(name.encode(), place=provider_place(made)))
        async with self.records.write() as transaction:
            await transaction.create(made)
        return made

    async def grant(self, name: str) -> Grant:
        async with self.records.read() as transaction:
            found = await transaction.get(Grant, account=REALM.account, id=name)
        assert found is not None
        return found

    async def provider(self, name: str) -> CredentialProvider:
        async with self.records.read() as transaction:
            found = await transaction.get(CredentialProvider, account=REALM.account, kind="oauth2", name=name)
        assert found is not None
        return found

    async def opened(self, name: str) -> bytes:
        """Open the sealed value of a grant."""
        found = await self.grant(name)
        return await self.envelope.open(found.sealed, place=grant_place(found))

    async def renew(self, name: str) -> bytes:
        """Seal a new value for a grant, as a refresh does, over whatever is there; return it."""
        token = f"renewed-{name}".encode()
        found = await self.grant(name)
        renewed = replace(found, generation=found.generation + 1, intent_owner=None, intent_at=None)
        sealed = await self.envelope.seal(token, place=grant_place(renewed))

        async def effect(transaction: Transaction) -> None:
            stored = await transaction.get(Grant, account=REALM.account, id=name)
            assert stored is not None
            await transaction.update(replace(renewed, sealed=sealed, revision=stored.revision))

        await settled(self.records, effect)  # a rotation may have written in between
        return token
