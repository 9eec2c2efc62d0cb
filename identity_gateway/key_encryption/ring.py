"""Which key an account's vault wraps with at present, and which key wrapped a value.

What a key service wrapped is wrapped once more with the master key. Hence nothing opens without the master key,
whoever holds the database and may use the service; and a reference that somebody wrote into the database is refused
before any service hears of it. This module does not change which key is present: `token_vault` does.
"""

import secrets
from collections.abc import Mapping

from identity_gateway.key_encryption import aws_kms
from identity_gateway.key_encryption.local import LocalKey
from identity_gateway.key_encryption.service import KeyEncryptionKey, KeyLost, KeyRefused, KeyService
from identity_gateway.model import TokenVault
from identity_gateway.records import Records
from identity_gateway.sealing import Unsealable

VAULT = "default"
CUSTOMER_MANAGED = "CustomerManagedKey"
SERVICE_MANAGED = "ServiceManagedKey"


class KeyRing:
    """The keys of one account. `services` are by their scheme; `default` is the service-managed key's reference.

    Reads the account's record each time something is wrapped: what another process changed counts at once. Do not wrap
    inside a transaction.
    """

    def __init__(
        self,
        records: Records,
        local: LocalKey,
        account: str,
        *,
        services: Mapping[str, KeyService],
        default: str = LocalKey.reference,
    ) -> None:
        self._records = records
        self._local = local
        self._account = account
        self._services = dict(services)
        self._default = self.find(default)

    async def aclose(self) -> None:
        """Close every service."""
        for service in self._services.values():
            await service.aclose()

    async def current(self) -> KeyEncryptionKey:
        """Return the key that wraps from now on. Raises KeyRefused when this process cannot reach such keys."""
        async with self._records.read() as transaction:
            vault = await transaction.get(TokenVault, account=self._account, id=VAULT)
        if vault is None or vault.key_type != CUSTOMER_MANAGED:
            return self._default
        try:
            return self.find(customer_key(vault.kms_key_arn or ""))
        except ValueError as error:
            raise KeyRefused(reason=f"the key of the token vault: {error}") from None

    def find(self, reference: str) -> KeyEncryptionKey:
        """Return the key of a reference. Raises KeyRefused for a service that is not set up, ValueError for none."""
        if reference == self._local.reference:
            return self._local
        scheme, _, name = reference.partition(":")
        if scheme not in self._services:
            raise KeyRefused(reason=f"there is no key service {scheme[:16]!r} in the settings")
        return self._services[scheme].key(name)

    async def wrap(self, data_key: bytes, context: str) -> tuple[str, bytes]:
        """Return the reference of the present key, and the data key as it wrapped it."""
        key = await self.current()
        wrapped = await key.wrap(data_key, context)
        if key is not self._local:
            wrapped = await self._local.wrap(wrapped, _outer(key.reference, context))
        return key.reference, wrapped

    async def unwrap(self, reference: str, wrapped: bytes, context: str) -> bytes:
        """Return the data key. Raises Unsealable, and what the service of the key raises."""
        if reference == self._local.reference:
            return await self._local.unwrap(wrapped, context)
        inner = await self._local.unwrap(wrapped, _outer(reference, context))
        try:
            key = self.find(reference)
        except ValueError:
            raise Unsealable from None
        return await key.unwrap(inner, context)

    def is_under_first_master_key(self, wrapped: bytes) -> bool:
        """Whether the first master key wrapped this, alone or around another key."""
        return self._local.is_current(wrapped)

    async def probe(self, reference: str) -> None:
        """Wrap and unwrap once with a key. Raises KeyUnavailable, KeyRefused, KeyLost; ValueError for no reference."""
        key, sample = self.find(reference), secrets.token_bytes(32)
        try:
            works = secrets.compare_digest(await key.unwrap(await key.wrap(sample, "probe"), "probe"), sample)
        except Unsealable:
            works = False
        if not works:
            raise KeyRefused(reason="the key does not unwrap what it wrapped")

    async def is_lost(self, reference: str) -> bool:
        """Whether the service says that there is no such key any more. Raises KeyUnavailable when it says nothing."""
        try:
            await self.probe(reference)
        except KeyLost:
            return True
        except KeyRefused:
            return False
        return False


def customer_key(arn: str) -> str:
    """Return the reference of a customer managed key."""
    return f"{aws_kms.SCHEME}:{arn}"


def _outer(reference: str, context: str) -> str:
    return f"{reference} {context}"
