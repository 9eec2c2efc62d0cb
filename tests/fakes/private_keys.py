"""Private keys as files hold them."""

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def pem(key: Any) -> str:
    """Return a private key in PEM (PKCS #8), without a password."""
    text: str = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return text
