"""The token vault as a whole: which key it is under, and the re-wrapping of everything that lies in it.

GetTokenVault, SetTokenVaultCMK and ResetTokenVaultKeyMaterial, and what `identity-gateway vault` does. This module
seals nothing and opens nothing: it has data keys wrapped anew, and gives up what no key opens any more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from identity_gateway.envelope import Envelope, key_reference
from identity_gateway.errors import Conflict, FieldError, NotFound, Unavailable, ValidationFailed
from identity_gateway.key_encryption import KeyLost, KeyRefused, KeyRing
from identity_gateway.key_encryption.ring import CUSTOMER_MANAGED, SERVICE_MANAGED, VAULT, customer_key
from identity_gateway.model import CredentialProvider, Document, Grant, GrantState, Realm, TokenVault
from identity_gateway.records import AlreadyExists, Records, Stale
from identity_gateway.records.tables import key_of
from identity_gateway.sealing import Unsealable

_log = structlog.get_logger()

KEY_LOST = "key_lost"
"""Why a grant needs consent again after a reset."""

_PAGE = 100
_WRITES = 20
_AT_ONCE = 8
_PASSES = 60
_PAUSE_SECONDS = 1.0
# A refresh takes a few seconds. What has been going on for longer was cut off, and nobody stores its result.
_REFRESH = timedelta(minutes=2)


@dataclass(slots=True)
class Rotated:
    """How far a rotation came. `values` were seen in the last pass; `rewrapped` counts all passes.

    `refreshing` were left alone because a refresh was under way to the end; `unopened` are under a key that is gone or
    refused, or were changed. Both still need the keys that they needed before.
    """

    values: int = 0
    rewrapped: int = 0
    refreshing: int = 0
    unopened: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything is under the present keys, so that older ones can be given up."""
        return not self.refreshing and not self.unopened


Progress = Callable[[Rotated], None]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of sealed values: where each lies, and what becomes of a record that loses its value."""

    kind: type[Any]
    name: str
    place: Callable[[Any], tuple[str, ...]]
    shred: Callable[[Any, datetime], Any]

    def value(self, record: Any) -> bytes:
        return bytes(getattr(record, self.name))

    def key(self, record: Any) -> tuple[Any, ...]:
        return tuple(getattr(record, part) for part in key_of(self.kind)[1:])


class TokenVaults:
    """The token vault of one account. It has the one vault `default`, which nobody has to create.

    `grant_place` and `provider_place` say to which place the stories that own those records seal them.
    """

    def __init__(
        self,
        records: Records,
        keys: KeyRing,
        envelope: Envelope,
        realm: Realm,
        *,
        grant_place: Callable[[Grant], tuple[str, ...]],
        provider_place: Callable[[CredentialProvider], tuple[str, ...]],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._records = records
        self._keys = keys
        self._envelope = envelope
        self._account = realm.account
        self._clock = clock
        self._sleep = sleep
        self._columns = (
            _Column(Grant, "sealed", grant_place, _grant_without_tokens),
            _Column(CredentialProvider, "sealed_secrets", provider_place, _provider_without_secrets),
        )

    # --- The operations -----------------------------------------------------------------------------------------------

    async def get_token_vault(self, asked: Document) -> Document:
        """GetTokenVault."""
        return _shown(await self._vault(asked))

    async def set_token_vault_cmk(self, asked: Document) -> Document:
        """SetTokenVaultCMK: new values are under this key from now on. `rotate` brings the others under it.

        Tries the key before it is taken. Raises ValidationFailed when it does not work, Unavailable when nobody can
        say, and Conflict when somebody else changed the vault meanwhile.
        """
        found = await self._vault(asked)
        key_type, arn = _wanted(asked["kmsConfiguration"])
        if arn is not None:
            await self._try(arn)
        return _shown(await self._stored(replace(found, key_type=key_type, kms_key_arn=arn, modified_at=self._now())))

    async def reset_token_vault_key_material(self, asked: Document) -> Document:
        """ResetTokenVaultKeyMaterial: give up for good what is under customer managed keys that do not exist any more.

        Grants lose their tokens and need consent again; providers lose the secrets that are kept here, and nothing
        else. Then the service-managed key is present, unless the present key still exists. Raises ValidationFailed
        when no key is lost: one that is disabled or waits for its deletion may come back.
        """
        found = await self._vault(asked)
        lost = await self._lost_keys(found)
        if not lost:
            raise ValidationFailed(
                "The key material can be reset only when the customer managed key of the token vault was deleted. "
                "A key that is disabled or scheduled for deletion can be enabled again."
            )
        shredded = [await self._shred(column, lost) for column in self._columns]
        self._envelope.forget()
        _log.warning("token vault reset", keys=sorted(lost), grants=shredded[0], credential_providers=shredded[1])
        if found.key_type == CUSTOMER_MANAGED and customer_key(found.kms_key_arn or "") in lost:
            found = await self._stored(
                replace(found, key_type=SERVICE_MANAGED, kms_key_arn=None, modified_at=self._now())
            )
        return _shown(found)

    # --- What the command line does -----------------------------------------------------------------------------------

    async def status(self) -> Document:
        """Return which key is present, whether it works, and how many values lie under which key.

        `stale` are those that `rotate` would wrap anew, because of their key or because of an older master key.
        """
        found = await self._vault({})
        under: Counter[str] = Counter()
        stale = 0
        for column in self._columns:
            async for page in self._pages(column):
                under.update(_reference(column.value(record)) for record in page)
                stale += len(await self._stale(column, page))
        works, reason = True, ""
        try:
            await self._keys.probe((await self._keys.current()).reference)
        except Unavailable as error:
            works, reason = False, error.reason
        shown = _shown(found)["kmsConfiguration"]
        return {
            "kmsConfiguration": shown,
            "works": works,
            "reason": reason,
            "values": under.total(),
            "stale": stale,
            "keys": dict(sorted(under.items())),
        }

    async def rotate(self, progress: Progress = lambda _: None) -> Rotated:
        """Wrap anew every data key that is not under the present keys, while everything goes on.

        It may be cut off at any time and begun again, and several may run at once. A value that changes meanwhile is
        left to the next pass, and a grant whose refresh is under way is waited for. Raises Unavailable when the
        present key does not work, or a key service stops answering: what was done is done.
        """
        await self._keys.probe((await self._keys.current()).reference)
        counts = Rotated()
        for _ in range(_PASSES):
            changed = await self._pass(counts, progress)
            if not changed and not counts.refreshing:
                break
            if not changed:
                await self._sleep(_PAUSE_SECONDS)
        return counts

    async def _pass(self, counts: Rotated, progress: Progress) -> bool:
        """Go through everything once. Say whether a value was found that had to be wrapped anew and could be."""
        counts.values = counts.refreshing = counts.unopened = 0
        changed = False
        for column in self._columns:
            async for page in self._pages(column):
                counts.values += len(page)
                stale = await self._stale(column, page)
                for first in range(0, len(stale), _WRITES):
                    changed |= await self._rewrap(column, stale[first : first + _WRITES], counts)
                progress(counts)
        return changed

    async def _rewrap(self, column: _Column, stale: Sequence[Any], counts: Rotated) -> bool:
        ready = [record for record in stale if not self._is_refreshing(record)]
        counts.refreshing += len(stale) - len(ready)
        turns = asyncio.Semaphore(_AT_ONCE)

        async def anew(record: Any) -> Any:
            async with turns:
                try:
                    sealed = await self._envelope.rewrap(column.value(record), place=column.place(record))
                except (Unsealable, KeyLost, KeyRefused) as error:
                    reason = getattr(error, "reason", "it was changed or moved, or its master key is gone")
                    _log.error("a sealed value does not open", kind=column.kind.__name__, reason=reason)
                    return None
                return replace(record, **{column.name: sealed})

        answers = await asyncio.gather(*(anew(record) for record in ready), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        rewrapped = [answer for answer in answers if answer is not None]
        counts.unopened += len(ready) - len(rewrapped)
        counts.rewrapped += await self._updated(rewrapped)
        return bool(rewrapped)

    async def _stale(self, column: _Column, page: Sequence[Any]) -> list[Any]:
        present = (await self._keys.current()).reference
        return [record for record in page if not self._envelope.is_under(column.value(record), present)]

    def _is_refreshing(self, record: Any) -> bool:
        # A rotated refresh token is about to be stored over this very revision: it must not meet another one.
        return (
            isinstance(record, Grant)
            and record.intent_at is not None
            and abs(self._now() - record.intent_at) < _REFRESH
        )

    # --- Giving up ----------------------------------------------------------------------------------------------------

    async def _lost_keys(self, found: TokenVault) -> set[str]:
        customers = customer_key("")
        asked = {customer_key(found.kms_key_arn or "")} if found.key_type == CUSTOMER_MANAGED else set()
        for column in self._columns:
            async for page in self._pages(column):
                asked |= {_reference(column.value(record)) for record in page}
        return {key for key in sorted(asked) if key.startswith(customers) and await self._is_lost(key)}

    async def _is_lost(self, reference: str) -> bool:
        try:
            return await self._keys.is_lost(reference)
        except ValueError:  # somebody wrote this into the database: no service was asked
            return False

    async def _shred(self, column: _Column, lost: set[str]) -> int:
        count, left = 0, True
        while left:  # what changed meanwhile is looked at again; nothing new comes under a lost key
            left = False
            async for page in self._pages(column):
                gone = [record for record in page if _reference(column.value(record)) in lost]
                for first in range(0, len(gone), _WRITES):
                    batch = [column.shred(record, self._now()) for record in gone[first : first + _WRITES]]
                    done = await self._updated(batch)
                    count += done
                    left |= done < len(batch)
        return count

    # --- Records ------------------------------------------------------------------------------------------------------

    async def _pages(self, column: _Column) -> AsyncIterator[list[Any]]:
        """Yield the records that hold a sealed value, page by page. No transaction is open meanwhile."""
        after = None
        while True:
            async with self._records.read() as transaction:
                page = await transaction.list(column.kind, account=self._account, after=after, limit=_PAGE)
            yield [record for record in page if column.value(record)]
            if len(page) < _PAGE:
                return
            after = column.key(page[-1])

    async def _updated(self, records: Sequence[Any]) -> int:
        """Store what nobody else has changed, in one transaction; return how many those are."""
        count = 0
        if records:
            async with self._records.write() as transaction:
                for record in records:
                    try:
                        await transaction.update(record)
                    except Stale:
                        continue
                    count += 1
        return count

    async def _vault(self, asked: Document) -> TokenVault:
        """Return the vault that is asked for. Its record is made when it is first looked at."""
        name = asked.get("tokenVaultId", VAULT)
        if name != VAULT:
            raise NotFound(f"There is no token vault {name}. The one of this account is {VAULT}.")
        async with self._records.read() as transaction:
            found = await transaction.get(TokenVault, account=self._account, id=VAULT)
        if found is not None:
            return found
        made = TokenVault(self._account, VAULT, SERVICE_MANAGED, None, self._now())
        try:
            async with self._records.write() as transaction:
                await transaction.create(made)
        except AlreadyExists:
            return await self._vault(asked)
        return made

    async def _stored(self, vault: TokenVault) -> TokenVault:
        try:
            async with self._records.write() as transaction:
                return await transaction.update(vault)
        except Stale:
            raise Conflict("The token vault was changed by another request. Look at it again.") from None

    async def _try(self, arn: str) -> None:
        member = "kmsConfiguration.kmsKeyArn"
        try:
            await self._keys.probe(customer_key(arn))
        except ValueError as error:
            raise _refused(member, f"Must be the ARN of a symmetric, single-Region KMS key: {error}.") from None
        except KeyLost as error:
            raise _refused(member, "The KMS key does not exist.", error.reason) from None
        except KeyRefused as error:
            said = "The KMS key cannot be used: it is disabled, waits for its deletion or is of another kind, or the "
            raise _refused(member, said + "gateway may not encrypt and decrypt with it.", error.reason) from None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _wanted(configuration: Document) -> tuple[str, str | None]:
    key_type, arn = configuration["keyType"], configuration.get("kmsKeyArn")
    if key_type == CUSTOMER_MANAGED and arn is None:
        raise _refused("kmsConfiguration.kmsKeyArn", "A customer managed key needs the ARN of its KMS key.")
    if key_type == SERVICE_MANAGED and arn is not None:
        raise _refused("kmsConfiguration.kmsKeyArn", "A service managed key has no ARN.")
    if key_type not in {CUSTOMER_MANAGED, SERVICE_MANAGED}:
        raise _refused("kmsConfiguration.keyType", f"Must be {CUSTOMER_MANAGED} or {SERVICE_MANAGED}.")
    return key_type, arn


def _refused(member: str, message: str, reason: str = "") -> ValidationFailed:
    return ValidationFailed(message, fields=(FieldError(member, message),), reason=reason)


def _shown(vault: TokenVault) -> Document:
    configuration = {"keyType": vault.key_type}
    if vault.kms_key_arn is not None:
        configuration["kmsKeyArn"] = vault.kms_key_arn
    return {"tokenVaultId": vault.id, "kmsConfiguration": configuration, "lastModifiedDate": vault.modified_at}


def _reference(sealed: bytes) -> str:
    try:
        return key_reference(sealed)
    except Unsealable:
        return "unreadable"


def _grant_without_tokens(grant: Grant, now: datetime) -> Grant:
    return replace(
        grant,
        state=GrantState.NEEDS_CONSENT.value,
        reason=KEY_LOST,
        sealed=b"",
        refresh_digest="",
        intent_owner=None,
        intent_at=None,
        intent_digest=None,
        updated_at=now,
    )


def _provider_without_secrets(provider: CredentialProvider, now: datetime) -> CredentialProvider:
    return replace(provider, sealed_secrets=b"", updated_at=now)
