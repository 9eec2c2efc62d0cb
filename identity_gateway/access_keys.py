"""The gateway's own SigV4 access keys: make, find, disable and delete them. Secrets are sealed at rest.

Nobody can verify signatures of real IAM keys without AWS's secrets; these keys are the gateway's own, as MinIO's are.
This module does not verify signatures and does not evaluate policies.
"""

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from identity_gateway.errors import Conflict, NotFound, Unavailable, ValidationFailed
from identity_gateway.model import AccessKey, Document, Secret
from identity_gateway.protocol import policy as policies
from identity_gateway.records import AlreadyExists, Records, Stale, Transaction
from identity_gateway.records.changes import Watch
from identity_gateway.records.races import settled
from identity_gateway.sealing import Sealer, Unsealable, write_secret_file

ROOT = "root"
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_PREFIX = "IGAK"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True)
class NewAccessKey:
    """A key as it is shown once, when it is made."""

    id: str
    secret: Secret
    name: str


class AccessKeys:
    """All access keys of one account."""

    def __init__(self, records: Records, sealer: Sealer, account: str, *, clock: Callable[[], float]) -> None:
        self._records = records
        self._sealer = sealer
        self._account = account
        self._clock = clock
        self._given_root: tuple[AccessKey, Secret] | None = None

    def use_root(self, key_id: str, secret: Secret) -> None:
        """Take the root key from the settings: it lives in memory alone."""
        record = AccessKey(self._account, key_id, ROOT, b"", admin=True, policy=None, created_at=self._now())
        self._given_root = (record, secret)

    async def create(
        self, name: str, *, admin: bool = False, policy: Document | None = None, lifetime: timedelta | None = None
    ) -> NewAccessKey:
        """Make a key. A key that is neither `admin` nor has a `policy` may call nothing; one is never both.

        Without a `lifetime` it works until it is disabled or deleted.
        """
        if name == ROOT:
            raise ValidationFailed(f"The name {ROOT} is that of the key which the gateway makes itself.")
        if admin and policy is not None:
            raise ValidationFailed("A key is either an admin key or has a policy: a policy would not restrain it.")
        if lifetime is not None and lifetime <= timedelta():
            raise ValidationFailed("The lifetime of an access key must be longer than nothing.")
        return await self._create(name, admin=admin, policy=policy, lifetime=lifetime)

    async def _create(
        self, name: str, *, admin: bool, policy: Document | None, lifetime: timedelta | None = None
    ) -> NewAccessKey:
        if not _NAME.fullmatch(name):
            raise ValidationFailed("The name of an access key has 1 to 64 letters, digits or the characters _ . @ -")
        if policy is not None and (faults := policies.check(policy)):
            raise ValidationFailed("The policy is not served by this gateway.", fields=tuple(faults))
        made = NewAccessKey(key_id(_PREFIX), Secret(secrets.token_urlsafe(30)), name)
        now = self._now()
        record = AccessKey(
            self._account,
            made.id,
            name,
            self._seal(made.id, made.secret),
            admin,
            policy,
            created_at=now,
            expires_at=now + lifetime if lifetime is not None else None,
        )
        try:
            async with self._records.write() as transaction:
                await transaction.create(record)
        except AlreadyExists:
            raise Conflict(f"An access key named {name} exists already.") from None
        return made

    async def ensure_root(self, path: Path) -> None:
        """Make the root key at the first start, and write it to `path` (mode 0600) for the operator to find.

        The database is the truth: replicas that share it share the key, and a file that holds another key is replaced.
        """
        if self._given_root is not None:
            return
        try:
            made = await self._create(ROOT, admin=True, policy=None)
        except Conflict:
            async with self._records.read() as transaction:
                found = await transaction.list(AccessKey, account=self._account, where={"name": ROOT}, limit=1)
            if not found:
                raise Unavailable(reason="the root key was deleted while the gateway started") from None
            made = NewAccessKey(found[0].id, self._unseal(found[0]), ROOT)
        content = {"accessKeyId": made.id, "secretAccessKey": made.secret.reveal()}
        write_secret_file(path, json.dumps(content).encode() + b"\n")

    async def find(self, key_id: str) -> tuple[AccessKey, Secret] | None:
        """Return the key and its secret, or None if there is no such key. Does not check that it may still be used."""
        if self._given_root is not None and secrets.compare_digest(key_id, self._given_root[0].id):
            return self._given_root
        record = await self._records.current(AccessKey, account=self._account, id=key_id)
        if record is None or (self._given_root is not None and record.name == ROOT):
            return None  # a root key from the settings replaces the one that was made at the first start
        return record, self._unseal(record)

    def peek(self, key_id: str) -> tuple[AccessKey, Secret, Watch | None] | None:
        """Return what `find` would, and what holds as long as it would again, where that is known without waiting.

        None says: call `find`. Nothing changes the key of the settings: it needs no watch.
        """
        if self._given_root is not None and secrets.compare_digest(key_id, self._given_root[0].id):
            return *self._given_root, None
        known = self._records.current_at_once(AccessKey, account=self._account, id=key_id)
        if known is None or known[1] is None or (self._given_root is not None and known[1].name == ROOT):
            return None
        try:
            return known[1], self._unseal(known[1]), known[0]
        except Unavailable:
            return None

    async def list(self) -> list[AccessKey]:
        """Return all keys that are kept, in the order of their ids."""
        async with self._records.read() as transaction:
            return await transaction.list(AccessKey, account=self._account)

    async def delete(self, key_id: str) -> None:
        """Delete a key; from then on it signs nothing."""
        async with self._records.write() as transaction:
            if not await transaction.delete(AccessKey, account=self._account, id=key_id):
                raise NotFound(f"There is no access key {key_id}.")

    async def disable(self, key_id: str) -> AccessKey:
        """Let a key sign nothing from now on, until it is enabled. The key of the settings cannot be disabled."""
        return await self._set_disabled(key_id, self._now())

    async def enable(self, key_id: str) -> AccessKey:
        """Let a key sign again. What has expired stays expired."""
        return await self._set_disabled(key_id, None)

    async def _set_disabled(self, key_id: str, disabled_at: datetime | None) -> AccessKey:
        async def effect(transaction: Transaction) -> AccessKey:
            found = await transaction.get(AccessKey, account=self._account, id=key_id)
            if found is None:
                raise NotFound(f"There is no access key {key_id}.")
            if (found.disabled_at is None) is (disabled_at is None):
                return found
            changed = replace(found, disabled_at=disabled_at)
            await _put(transaction, found, changed)
            return changed

        return await settled(self._records, effect)

    async def reseal(self) -> None:
        """Seal anew, under the first master key, what another one sealed: then that one can be given up."""

        async def effect(transaction: Transaction) -> None:
            for record in await transaction.list(AccessKey, account=self._account):
                if not self._sealer.is_current(record.sealed_secret):
                    sealed = self._seal(record.id, self._unseal(record))
                    await _put(transaction, record, replace(record, sealed_secret=sealed))

        await settled(self._records, effect)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _place(self, key_id: str) -> tuple[str, ...]:
        return (self._account, "access_key", key_id, "sealed_secret")

    def _seal(self, key_id: str, secret: Secret) -> bytes:
        return self._sealer.seal(secret.reveal().encode(), place=self._place(key_id))

    def _unseal(self, record: AccessKey) -> Secret:
        try:
            return Secret(self._sealer.open(record.sealed_secret, place=self._place(record.id)).decode())
        except Unsealable:
            raise Unavailable(reason=f"access key {record.id} does not open: wrong master key or moved row") from None


def key_id(prefix: str) -> str:
    """Return a new, unguessable id of an access key: the prefix and 16 letters or digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(16))


async def _put(transaction: Transaction, found: AccessKey, changed: AccessKey) -> None:
    """Replace a key that is still as it was found. Raises Stale: somebody else disabled, sealed or deleted it."""
    same = {"id": found.id, "disabled_at": found.disabled_at, "sealed_secret": found.sealed_secret}
    if not await transaction.delete(AccessKey, account=found.account, **same):
        raise Stale
    await transaction.create(changed)
