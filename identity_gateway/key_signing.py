"""Signs the JWTs that clients prove themselves with: by a key of the vault, or by one that never leaves AWS KMS.

What the JWTs say is `protocol.oauth2`'s to decide.
"""

import asyncio
import base64
import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol

import jwt
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from identity_gateway.model import Secret
from identity_gateway.protocol.oauth2 import Client, Unsigned

_KMS_ALGORITHMS = {
    "RS256": "RSASSA_PKCS1_V1_5_SHA_256",
    "PS256": "RSASSA_PSS_SHA_256",
    "ES256": "ECDSA_SHA_256",
}
_KMS_LONGEST = 4096
_KEY_ARN = re.compile(
    r"arn:(?:aws|aws-cn|aws-us-gov):kms:([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:key/[A-Za-z0-9-]+", re.ASCII
)
_KMS_LATER = {
    *("KMSInternalException", "DependencyTimeoutException", "ThrottlingException", "LimitExceededException"),
    *("ServiceUnavailable", "KeyUnavailableException", "InternalFailure"),
}


class SigningFailed(Exception):
    """A JWT could not be signed. The text holds no key. `transient`: the key service may answer later."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class Signing(Protocol):
    """Whoever can sign for a client."""

    async def sign(self, client: Client, unsigned: Unsigned) -> Secret:
        """Return the JWT in compact form (RFC 7515 §3.1). Raises SigningFailed."""
        ...


class LocalSigning:
    """Signs with a PEM private key out of the client's own secrets."""

    async def sign(self, client: Client, unsigned: Unsigned) -> Secret:
        """Return the JWT in compact form. Raises SigningFailed when there is no such key, or it cannot sign so."""
        key = client.secrets.get(unsigned.secret)
        if unsigned.kms_key is not None or key is None:
            raise SigningFailed(f"the provider has no key called {unsigned.secret}")
        return await asyncio.to_thread(_signed, key, unsigned)


def _signed(key: Secret, unsigned: Unsigned) -> Secret:
    try:
        return Secret(jwt.encode(dict(unsigned.claims), key.reveal(), unsigned.algorithm, dict(unsigned.header)))
    except Exception as error:  # noqa: BLE001 - libraries raise a dozen kinds; their texts may quote the key
        raise SigningFailed(f"the key cannot sign with {unsigned.algorithm}: {type(error).__name__}") from None


class KmsSigning:
    """Signs with keys of AWS KMS (`kms:Sign`), and with local keys where no ARN is named.

    `connect` returns a botocore KMS client for a region; it is called in a thread.
    """

    def __init__(self, connect: Callable[[str], Any]) -> None:
        self._connect = connect
        self._local = LocalSigning()

    async def sign(self, client: Client, unsigned: Unsigned) -> Secret:
        """Return the JWT in compact form. Raises SigningFailed; a service that does not answer is `transient`."""
        if unsigned.kms_key is None:
            return await self._local.sign(client, unsigned)
        return await asyncio.to_thread(self._sign, unsigned, unsigned.kms_key)

    def _sign(self, unsigned: Unsigned, arn: str) -> Secret:
        header = {**unsigned.header, "alg": unsigned.algorithm, "typ": "JWT"}
        text = f"{_encoded(header)}.{_encoded(unsigned.claims)}"
        try:
            answered = self._client(arn).sign(
                KeyId=arn,
                **_message(text.encode("ascii")),
                SigningAlgorithm=_KMS_ALGORITHMS[unsigned.algorithm],
            )
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise SigningFailed(f"AWS KMS refused to sign: {code}", transient=code in _KMS_LATER) from None
        except BotoCoreError as error:
            raise SigningFailed(f"AWS KMS did not answer: {type(error).__name__}", transient=True) from None
        signature: bytes = answered["Signature"]
        raw = _raw(signature) if unsigned.algorithm == "ES256" else signature
        return Secret(f"{text}.{_base64url(raw)}")

    def _client(self, arn: str) -> Any:
        named = _KEY_ARN.fullmatch(arn)
        if named is None:  # the region becomes a part of the host that is asked
            raise SigningFailed("the signing key is not named by an ARN of AWS KMS")
        return self._connect(named[1])


def _message(text: bytes) -> dict[str, Any]:
    """Return what KMS is to sign: the text itself as far as it takes one, or its digest. The signature is the same."""
    if len(text) <= _KMS_LONGEST:
        return {"Message": text, "MessageType": "RAW"}
    return {"Message": sha256(text).digest(), "MessageType": "DIGEST"}


def _raw(der: bytes) -> bytes:
    """Return r and s side by side (RFC 7518 §3.4): KMS gives them in DER."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _encoded(value: Any) -> str:
    return _base64url(json.dumps(dict(value), separators=(",", ":")).encode("utf-8"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
