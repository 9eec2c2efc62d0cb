"""What a key-encryption key can do, and the three ways in which it cannot.

A fourth way, a value that the key did not wrap, is `sealing.Unsealable`. The messages say nothing to callers; the
reasons name the service and its error code, never a value.
"""

from typing import Protocol

from identity_gateway.errors import Unavailable


class KeyUnavailable(Unavailable):
    """The service did not answer, or says that it cannot right now. Nothing is known about the key."""


class KeyRefused(Unavailable):
    """The key is not to be used: disabled, waiting for its deletion, of another kind, or not for this gateway.

    It may come back. Hence nothing that it wrapped is given up.
    """


class KeyLost(Unavailable):
    """The service says that there is no such key. What it wrapped will never open again."""


class KeyEncryptionKey(Protocol):
    """One key. `context` is text that must be the same again to unwrap; it is no secret, and services may log it."""

    @property
    def reference(self) -> str:
        """Where the key stands, as `service:name`: ASCII, 255 characters at most. It is kept with what it wrapped."""
        ...

    async def wrap(self, data_key: bytes, context: str) -> bytes:
        """Return the wrapped key. Raises KeyUnavailable, KeyRefused and KeyLost."""
        ...

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Return what was wrapped. Raises Unsealable too: other key, other context, or changed bytes."""
        ...


class KeyService(Protocol):
    """A place where keys stand."""

    def key(self, name: str) -> KeyEncryptionKey:
        """Return the key of this name; asks nobody whether there is one. Raises ValueError if no key is named so."""
        ...

    async def aclose(self) -> None:
        """Give back threads and connections."""
        ...
