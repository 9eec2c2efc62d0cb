"""Envelope encryption: each value under a data key of its own, each data key wrapped by a key-encryption key.

A sealed value says which key wrapped its data key, and is bound to its place (account, table, row, column, generation)
twice: in the wrap and in the ciphertext. Moved elsewhere, it does not open. This module stores nothing, and knows no
key-encryption key: `key_encryption` does.

Format, version 1: version, length of the reference (1 byte each), reference, length of the wrapped key (2 bytes),
wrapped key, nonce (12), ciphertext with tag (AES-256-GCM). The ciphertext does not depend on what stands before it but
for the version, so that a data key is wrapped anew without opening the value.
"""

import asyncio
import secrets
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from identity_gateway.key_encryption.ring import KeyRing
from identity_gateway.sealing import Unsealable

_VERSION = 1
_HEAD = struct.Struct(">BB")
_LENGTH = struct.Struct(">H")
_NONCE = 12
_TAG = 16
_DATA_KEY = 32

_REMEMBERED = 10_000
_REMEMBERED_SECONDS = 300.0


class Envelope:
    """Seals and opens the values of one key ring. `clock` tells seconds.

    Data keys that were unwrapped are remembered for five minutes, 10,000 of them, in memory alone: what is used stays
    open when the key service is down for a moment. A key that was withdrawn keeps opening as long.
    """

    def __init__(self, keys: KeyRing, *, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock
        self._remembered = _DataKeys(clock)

    async def seal(self, plaintext: bytes, *, place: tuple[str, ...]) -> bytes:
        """Return the sealed value. Raises Unavailable when the key service does not wrap, ValueError for no place."""
        return (await self.prepare(place=place))(plaintext)

    async def prepare(self, *, place: tuple[str, ...]) -> Callable[[bytes], bytes]:
        """Wrap a data key now, and return what seals with it later: that needs no service, and cannot fail.

        For what would be lost if it could not be kept, like a refresh token that a vendor is about to hand out once.
        """
        context = _context(place)
        data_key = secrets.token_bytes(_DATA_KEY)
        reference, wrapped = await self._keys.wrap(data_key, context)
        self._remembered.put(_Sealed(reference, wrapped, b"", b"").identity(context), data_key)

        def seal(plaintext: bytes) -> bytes:
            nonce = secrets.token_bytes(_NONCE)
            ciphertext = AESGCM(data_key).encrypt(nonce, plaintext, _bound_to(context))
            return _Sealed(reference, wrapped, nonce, ciphertext).encode()

        return seal

    async def open(self, sealed: bytes, *, place: tuple[str, ...]) -> bytes:
        """Return the plaintext. Raises Unsealable (other place, other key, changed bytes), Unavailable (no service)."""
        parts, context = _Sealed.decode(sealed), _context(place)
        data_key = await self._data_key(parts, context)
        try:
            return AESGCM(data_key).decrypt(parts.nonce, parts.ciphertext, _bound_to(context))
        except InvalidTag:
            raise Unsealable from None

    def opener(self, sealed: bytes, *, place: tuple[str, ...]) -> Callable[[], bytes | None]:
        """Return what opens this value at once, as often as it is called, while its data key is remembered.

        It returns None otherwise, also for what does not open: `open` says why. It keeps no plaintext and no key.
        """
        parts, context = _Sealed.decode(sealed), _context(place)
        identity, bound = parts.identity(context), _bound_to(context)
        nonce, ciphertext = parts.nonce, parts.ciphertext

        def opened() -> bytes | None:
            data_key = self._remembered.peek(identity)
            try:
                return None if data_key is None else AESGCM(data_key).decrypt(nonce, ciphertext, bound)
            except InvalidTag:
                return None

        return opened

    async def is_current(self, sealed: bytes) -> bool:
        """Whether the present keys wrapped this. Does not say whether it opens."""
        return self.is_under(sealed, (await self._keys.current()).reference)

    def is_under(self, sealed: bytes, reference: str) -> bool:
        """Whether the key of this reference, and the first master key, wrapped this. False for other bytes."""
        try:
            parts = _Sealed.decode(sealed)
        except Unsealable:
            return False
        return parts.reference == reference and self._keys.is_under_first_master_key(parts.wrapped)

    async def rewrap(self, sealed: bytes, *, place: tuple[str, ...]) -> bytes:
        """Return the value with its data key wrapped by the present key. Never sees the plaintext.

        Raises Unsealable when the data key does not belong to this place. Does not check the ciphertext.
        """
        parts, context = _Sealed.decode(sealed), _context(place)
        data_key = await self._data_key(parts, context)
        reference, wrapped = await self._keys.wrap(data_key, context)
        anew = _Sealed(reference, wrapped, parts.nonce, parts.ciphertext)
        self._remembered.put(anew.identity(context), data_key)
        return anew.encode()

    def forget(self) -> None:
        """Forget every data key."""
        self._remembered = _DataKeys(self._clock)

    async def _data_key(self, parts: "_Sealed", context: str) -> bytes:
        async def unwrap() -> bytes:
            data_key = await self._keys.unwrap(parts.reference, parts.wrapped, context)
            if len(data_key) != _DATA_KEY:
                raise Unsealable
            return data_key

        return await self._remembered.get(parts.identity(context), unwrap)


def key_reference(sealed: bytes) -> str:
    """Return the reference of the key that is said to have wrapped this; nothing proves it. Raises Unsealable."""
    return _Sealed.decode(sealed).reference


@dataclass(frozen=True, slots=True)
class _Sealed:
    reference: str
    wrapped: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)

    @classmethod
    def decode(cls, sealed: bytes) -> "_Sealed":
        try:
            version, length = _HEAD.unpack_from(sealed)
            reference_end = _HEAD.size + length
            (wrapped_length,) = _LENGTH.unpack_from(sealed, reference_end)
            reference = sealed[_HEAD.size : reference_end].decode("ascii")
        except (struct.error, UnicodeDecodeError):
            raise Unsealable from None
        wrapped_end = reference_end + _LENGTH.size + wrapped_length
        if version != _VERSION or len(sealed) < wrapped_end + _NONCE + _TAG:
            raise Unsealable
        wrapped = sealed[reference_end + _LENGTH.size : wrapped_end]
        return cls(reference, wrapped, sealed[wrapped_end : wrapped_end + _NONCE], sealed[wrapped_end + _NONCE :])

    def encode(self) -> bytes:
        head = _HEAD.pack(_VERSION, len(self.reference)) + self.reference.encode("ascii")
        return head + _LENGTH.pack(len(self.wrapped)) + self.wrapped + self.nonce + self.ciphertext

    def identity(self, context: str) -> bytes:
        """Return what tells this wrapped key, in this place, from every other."""
        return sha256(f"{self.reference} {context} ".encode() + self.wrapped).digest()


class _DataKeys:
    """Data keys in memory: a bounded number, for a bounded time. Those who ask for one at once wait for one answer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Task[bytes]] = {}

    def put(self, identity: bytes, data_key: bytes) -> None:
        self._kept[identity] = (self._clock(), data_key)
        self._kept.move_to_end(identity)
        while len(self._kept) > _REMEMBERED:
            self._kept.popitem(last=False)

    def peek(self, identity: bytes) -> bytes | None:
        since, data_key = self._kept.get(identity, (0.0, b""))
        if data_key and 0 <= self._clock() - since < _REMEMBERED_SECONDS:
            self._kept.move_to_end(identity)
            return data_key
        self._kept.pop(identity, None)
        return None

    async def get(self, identity: bytes, unwrap: Callable[[], Awaitable[bytes]]) -> bytes:
        data_key = self.peek(identity)
        if data_key is not None:
            return data_key
        task = self._asked.get(identity)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(identity, unwrap))
            self._asked[identity] = task
            task.add_done_callback(lambda done: self._answered(identity, done))
        return await asyncio.shield(task)  # one who gives up must not take the answer from the others

    async def _ask(self, identity: bytes, unwrap: Callable[[], Awaitable[bytes]]) -> bytes:
        data_key = await unwrap()
        self.put(identity, data_key)
        return data_key

    def _answered(self, identity: bytes, task: asyncio.Task[bytes]) -> None:
        self._asked.pop(identity, None)
        if not task.cancelled():
            task.exception()  # heard, even if everybody who asked has left


def _context(place: tuple[str, ...]) -> str:
    """Return the digest of a place: length-prefixed, so that no two places share an encoding."""
    if not place:
        raise ValueError("a value is sealed to a place")
    digest = sha256(b"identity-gateway/place")
    for part in place:
        encoded = part.encode()
        digest.update(struct.pack(">I", len(encoded)) + encoded)
    return digest.hexdigest()


def _bound_to(context: str) -> bytes:
    return bytes([_VERSION]) + context.encode()
