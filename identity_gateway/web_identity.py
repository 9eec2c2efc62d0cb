"""The gateway as an issuer of JWTs: its signing keys, its key set, and the tokens of `sts:GetWebIdentityToken`.

The issuer is the public URL. Keys are made at first use, kept sealed, and shared by all replicas. A retired key signs
no more, and stays in the key set until the last token that it signed has ended. Decides nobody's right to a token.
"""

import asyncio
import base64
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from identity_gateway.errors import Unavailable
from identity_gateway.model import Document, Secret, SigningKey
from identity_gateway.records import Records, Stale, Transaction
from identity_gateway.records.races import settled
from identity_gateway.sealing import Sealer, Unsealable

PURPOSE = "web-identity"
"""What the `sealer` of the keys is for."""

ALGORITHMS = ("RS256", "ES384")
LONGEST_TOKEN = 3600
"""Seconds."""

DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/.well-known/jwks.json"
KEYS_MAX_AGE = 300
"""Seconds for which others may keep the key set: an unknown key id makes them look again."""

_PUBLISHED_AFTER = timedelta(seconds=2 * LONGEST_TOKEN)
_READ_AGAIN = 5.0
_RSA_BITS = 2048


class WebIdentity:
    """Signs and publishes for one account. `issuer` is the public URL, without a slash at the end."""

    def __init__(
        self, records: Records, sealer: Sealer, account: str, *, issuer: str, clock: Callable[[], float]
    ) -> None:
        self.issuer = issuer
        self._records = records
        self._sealer = sealer
        self._account = account
        self._clock = clock
        self._lock = asyncio.Lock()
        self._known: list[SigningKey] = []
        self._read_at = float("-inf")

    async def sign(self, claims: Mapping[str, Any], algorithm: str) -> Secret:
        """Return a JWT (RFC 7519) with these claims, `iss` and `jti`. Raises Unavailable when the key does not open."""
        key = _newest(await self._keys(), algorithm)
        whole = {"iss": self.issuer, "jti": secrets.token_urlsafe(16), **claims}
        return Secret(await asyncio.to_thread(_signed, self._opened(key), key, whole))

    async def key_set(self) -> Document:
        """Return the JWK Set (RFC 7517 §5) of what may still be in use."""
        oldest = self._now() - _PUBLISHED_AFTER
        keys = await self._keys()
        return {"keys": [key.public for key in keys if key.retired_at is None or key.retired_at > oldest]}

    def discovery(self) -> Document:
        """Return the discovery document (OpenID Connect Discovery 1.0 §3). There is no authorization endpoint."""
        return {
            "issuer": self.issuer,
            "jwks_uri": self.issuer + KEYS_PATH,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(ALGORITHMS),
            "claims_supported": ["iss", "sub", "aud", "iat", "exp", "jti"],
        }

    async def rotate(self) -> list[SigningKey]:
        """Make new keys, retire those before, and forget those that nobody needs. Return the new ones."""
        made = [await asyncio.to_thread(self._made, algorithm) for algorithm in ALGORITHMS]
        now = self._now()

        async def effect(transaction: Transaction) -> None:
            for key in await transaction.list(SigningKey, account=self._account):
                if key.retired_at is None:
                    await self._put(transaction, key, replace(key, retired_at=now))
                elif key.retired_at + _PUBLISHED_AFTER < now:
                    await transaction.delete(SigningKey, account=self._account, id=key.id)
            await transaction.create(*made)

        await settled(self._records, effect)
        self._read_at = float("-inf")
        return made

    async def reseal(self) -> None:
        """Seal anew, under the first master key, what another one sealed: then that one can be given up."""

        async def effect(transaction: Transaction) -> None:
            for key in await transaction.list(SigningKey, account=self._account):
                if not self._sealer.is_current(key.sealed_private):
                    sealed = self._sealer.seal(self._opened(key).reveal().encode(), place=self._place(key.id))
                    await self._put(transaction, key, replace(key, sealed_private=sealed))

        await settled(self._records, effect)

    async def _keys(self) -> list[SigningKey]:
        async with self._lock:
            if self._clock() - self._read_at >= _READ_AGAIN or self._clock() < self._read_at:
                found, read_at = await self._read(), self._clock()
                if not found:  # read again, now and at the next call: others may make theirs at this moment
                    await self._first()
                    found, read_at = await self._read(), float("-inf")
                self._known, self._read_at = found, read_at
            return self._known

    async def _read(self) -> list[SigningKey]:
        async with self._records.read() as transaction:
            found = await transaction.list(SigningKey, account=self._account)
        return found if {key.algorithm for key in found if key.retired_at is None} >= set(ALGORITHMS) else []

    async def _first(self) -> None:
        """Make the first keys. Replicas that do it at once may make two of a kind: all are published, one signs."""
        made = [await asyncio.to_thread(self._made, algorithm) for algorithm in ALGORITHMS]

        async def effect(transaction: Transaction) -> None:
            found = await transaction.list(SigningKey, account=self._account)
            present = {key.algorithm for key in found if key.retired_at is None}
            await transaction.create(*(key for key in made if key.algorithm not in present))

        await settled(self._records, effect)

    def _made(self, algorithm: str) -> SigningKey:
        private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
        if algorithm == "RS256":
            private = rsa.generate_private_key(65537, _RSA_BITS)
            public: Document = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        else:
            private = ec.generate_private_key(ec.SECP384R1())
            public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        public = {name: public[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in public}
        key_id = _thumbprint(public)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        sealed = self._sealer.seal(pem, place=self._place(key_id))
        published = {**public, "kid": key_id, "alg": algorithm, "use": "sig"}
        return SigningKey(self._account, key_id, algorithm, sealed, published, self._now())

    async def _put(self, transaction: Transaction, found: SigningKey, changed: SigningKey) -> None:
        """Replace a key that is still as it was found. Raises Stale: to seal it anew must not undo its retirement."""
        same = {"id": found.id, "retired_at": found.retired_at, "sealed_private": found.sealed_private}
        if not await transaction.delete(SigningKey, account=self._account, **same):
            raise Stale
        await transaction.create(changed)

    def _opened(self, key: SigningKey) -> Secret:
        try:
            return Secret(self._sealer.open(key.sealed_private, place=self._place(key.id)).decode())
        except Unsealable:
            raise Unavailable(reason=f"signing key {key.id} does not open: wrong master key or moved row") from None

    def _place(self, key_id: str) -> tuple[str, ...]:
        return (self._account, "signing_key", key_id, "sealed_private")

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _newest(keys: Sequence[SigningKey], algorithm: str) -> SigningKey:
    """Return the key that signs: of those that are not retired the newest, so that all replicas choose the same."""
    usable = [key for key in keys if key.algorithm == algorithm and key.retired_at is None]
    return max(usable, key=lambda key: (key.created_at, key.id))


def _signed(private: Secret, key: SigningKey, claims: Document) -> str:
    return jwt.encode(claims, private.reveal(), key.algorithm, {"kid": key.id, "typ": "JWT"})


def _thumbprint(public: Document) -> str:
    """Return the JWK thumbprint (RFC 7638) of the public members, which are all that it is made of."""
    text = json.dumps(public, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()
