"""Seal and open secrets: AES-256-GCM, bound to the place where they are kept.

A sealed value opens only under the same purpose, the same place (account, table, row, field …) and a master key that
the gateway holds: a ciphertext moved elsewhere does not open. Keys for each purpose are derived from the master key by
HKDF (RFC 5869). This module stores nothing and does not decide who may open what.
"""

import base64
import binascii
import os
import secrets
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = 1
_HEAD = struct.Struct(">B4sI")  # version, id of the master key, period
_NONCE = 12
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Unsealable(Exception):
    """The value does not open: other key, other place, or changed bytes. Says nothing more on purpose."""


class Sealer:
    """Seals and opens for one purpose. The first master key seals, all of them open (rotation).

    `period_seconds` derives a fresh key for each period: random 96-bit nonces are safe for 2**32 messages per key
    (NIST SP 800-38D §8.3), which values minted per request would reach.
    """

    def __init__(self, master_keys: Sequence[bytes], purpose: str, *, period_seconds: int = 0) -> None:
        if not master_keys or any(len(key) != 32 for key in master_keys):
            message = "a master key has 32 bytes"
            raise ValueError(message)
        self._purpose = purpose.encode()
        self._period_seconds = period_seconds
        self._masters = {_key_id(key): key for key in reversed(master_keys)}
        self._sealing_id = _key_id(master_keys[0])
        self._cipher = lru_cache(maxsize=16)(self._derive)

    def __repr__(self) -> str:
        return f"Sealer({self._purpose.decode()!r})"

    def seal(self, plaintext: bytes, *, place: tuple[str, ...], now: float = 0.0) -> bytes:
        """Return version, key id, period, nonce and ciphertext. `now` (epoch seconds) chooses the period, if any."""
        period = int(now // self._period_seconds) if self._period_seconds else 0
        head = _HEAD.pack(_VERSION, self._sealing_id, period)
        nonce = os.urandom(_NONCE)
        ciphertext = self._cipher(self._sealing_id, period).encrypt(nonce, plaintext, _bound_to(head, place))
        return head + nonce + ciphertext

    def open(self, sealed: bytes, *, place: tuple[str, ...]) -> bytes:
        """Return the plaintext, or raise Unsealable. Does not check age: what was sealed carries its own expiry."""
        if len(sealed) < _HEAD.size + _NONCE + 16:
            raise Unsealable
        head, nonce = sealed[: _HEAD.size], sealed[_HEAD.size : _HEAD.size + _NONCE]
        version, key_id, period = _HEAD.unpack(head)
        if version != _VERSION or key_id not in self._masters or (period and not self._period_seconds):
            raise Unsealable
        try:
            return self._cipher(key_id, period).decrypt(nonce, sealed[_HEAD.size + _NONCE :], _bound_to(head, place))
        except InvalidTag:
            raise Unsealable from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first master key sealed this. What another one sealed is sealed anew before that one goes."""
        return len(sealed) > _HEAD.size and _HEAD.unpack(sealed[: _HEAD.size])[1] == self._sealing_id

    def _derive(self, key_id: bytes, period: int) -> AESGCM:
        info = b"identity-gateway/" + self._purpose + struct.pack(">I", period)
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(self._masters[key_id]))


def _key_id(master_key: bytes) -> bytes:
    return sha256(b"identity-gateway/key-id" + master_key).digest()[:4]


@lru_cache(maxsize=256)
def _bound_to(head: bytes, place: tuple[str, ...]) -> bytes:
    """Return the additional data: length-prefixed, so that no two places share an encoding."""
    parts = [part.encode() for part in place]
    return head + b"".join(struct.pack(">I", len(part)) + part for part in parts)


def to_text(sealed: bytes, *, padded: bool = True) -> str:
    """Return a sealed value in base64url (RFC 4648 §5), for callers to carry about."""
    text = binascii.b2a_base64(sealed, newline=False).translate(_URL_SAFE).decode()
    return text if padded else text.rstrip("=")


def from_text(text: str, *, padded: bool = True) -> bytes:
    """Return the sealed value that `to_text` wrote so, or raise Unsealable.

    A value has one text: others that a decoder takes for it (bits behind the last byte, RFC 4648 §3.5) are refused.
    """
    try:
        sealed = base64.b64decode(text + ("" if padded else "=" * (-len(text) % 4)), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Unsealable from None
    if to_text(sealed, padded=padded) != text:
        raise Unsealable
    return sealed


def load_or_create_secret_file(path: Path, make: bytes) -> bytes:
    """Return the content of the file; if there is none, create it with mode 0600 and the content `make`.

    Safe when several processes start at once: the file appears whole or not at all, and the first one wins.
    """
    if not path.exists():
        with _drafted(path, make) as draft, suppress(FileExistsError):
            os.link(draft, path)
    return path.read_bytes()


def write_secret_file(path: Path, content: bytes) -> None:
    """Let the file hold this content, with mode 0600. What it held before is replaced whole or not at all."""
    if not (path.exists() and path.read_bytes() == content):
        with _drafted(path, content) as draft:
            draft.replace(path)


@contextmanager
def _drafted(path: Path, content: bytes) -> Iterator[Path]:
    """Write a file beside the path, on disk and for its owner alone, and remove it if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
