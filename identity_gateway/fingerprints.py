"""Short digests of secrets, for audit records and for noticing races. They need the master key: nobody guesses back.

A fingerprint proves nothing and opens nothing. Sealing secrets is `sealing`'s and `envelope`'s business.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from identity_gateway.model import Secret

LENGTH = 16
"""Hexadecimal characters: 64 bits, enough to tell the secrets of one grant apart, too few to search for one."""


class Fingerprints:
    """Makes fingerprints under the first master key, and recognises those that the other ones made (rotation)."""

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        if not master_keys or any(len(key) != 32 for key in master_keys):
            raise ValueError("a master key has 32 bytes")
        self._keys = tuple(
            HKDF(SHA256(), 32, salt=None, info=b"identity-gateway/fingerprint").derive(key) for key in master_keys
        )

    def of(self, secret: Secret) -> str:
        """Return the first 16 hexadecimal characters of an HMAC-SHA256 of the secret."""
        return _of(self._keys[0], secret)

    def matches(self, fingerprint: str, secret: Secret) -> bool:
        """Whether the fingerprint is that of the secret, under any of the master keys. Takes the same time for all."""
        given = fingerprint.encode(errors="surrogatepass")
        found = False
        for key in self._keys:
            found |= hmac.compare_digest(given, _of(key, secret).encode())
        return found


def _of(key: bytes, secret: Secret) -> str:
    return hmac.new(key, secret.reveal().encode(errors="surrogatepass"), sha256).hexdigest()[:LENGTH]
