"""The key pair of a client that signs: made once, because that takes longer than most tests."""

from functools import cache

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from identity_gateway.key_signing import SigningFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.oauth2 import Client, Unsigned


@cache
def client_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class KeyService:
    """Signs like a key service does: with a key that it has at hand. Reading a PEM takes far longer than signing."""

    async def sign(self, client: Client, unsigned: Unsigned) -> Secret:
        if unsigned.secret not in client.secrets:
            raise SigningFailed(f"no key called {unsigned.secret}")
        return Secret(jwt.encode(dict(unsigned.claims), client_key(), unsigned.algorithm, dict(unsigned.header)))


@cache
def client_key_pem() -> str:
    return client_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
