"""Keys in AWS KMS, symmetric ones, by their ARN: Encrypt and Decrypt with an encryption context.

Credentials are those of AWS's default chain (environment, profile, web identity, container, instance). The AWS client
blocks, so it runs in threads that belong to this service alone: a KMS that hangs stops nobody else.
"""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from identity_gateway.aws_clients import AwsClients
from identity_gateway.key_encryption.service import KeyLost, KeyRefused, KeyUnavailable
from identity_gateway.sealing import Unsealable

SCHEME = "kms"

# A multi-Region key (`mrk-…`) is one key in several places: AWS does not take it for a token vault either.
_KEY_ARN = re.compile(
    r"arn:(?:aws|aws-cn|aws-us-gov):kms:(?P<region>[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:key/"
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
)

_NOT_OURS = {"InvalidCiphertextException", "IncorrectKeyException"}
_TRANSIENT = {
    "DependencyTimeoutException",
    "InternalFailure",
    "KMSInternalException",
    "KeyUnavailableException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "ThrottlingException",
}

_THREADS = 8
_CONNECT_SECONDS = 2.0
_READ_SECONDS = 3.0
_TOTAL_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class _Key:
    arn: str
    region: str
    service: "AwsKms" = field(repr=False)

    @property
    def reference(self) -> str:
        return f"{SCHEME}:{self.arn}"

    async def wrap(self, data_key: bytes, context: str) -> bytes:
        answer = await self.service.ask(self, "encrypt", context, Plaintext=data_key)
        return bytes(answer["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        answer = await self.service.ask(self, "decrypt", context, CiphertextBlob=wrapped)
        return bytes(answer["Plaintext"])


class AwsKms:
    """The KMS of every region that a key's ARN names.

    `vault_arn` stands in the encryption context, where key policies and CloudTrail can see it, beside the digest of the
    place. `endpoint_url` replaces AWS's own (VPC endpoints have names of their own). Times in seconds; each call is
    tried twice at most within `total`.
    """

    def __init__(
        self,
        vault_arn: str,
        *,
        endpoint_url: str | None = None,
        connect: float = _CONNECT_SECONDS,
        read: float = _READ_SECONDS,
        total: float = _TOTAL_SECONDS,
    ) -> None:
        self._vault_arn = vault_arn
        self._total = total
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aws-kms")
        self._clients = AwsClients("kms", endpoint_url=endpoint_url, connect=connect, read=read, connections=_THREADS)

    def key(self, name: str) -> _Key:
        """Return the key of this ARN. Raises ValueError: aliases, key ids and multi-Region keys are not taken."""
        match = _KEY_ARN.fullmatch(name)
        if match is None:
            raise ValueError("not the ARN of a single-Region KMS key")
        return _Key(name, match["region"], self)

    async def aclose(self) -> None:
        """Begin no call any more. Those under way end within their time, unheard."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._clients.close()

    async def ask(self, key: _Key, operation: str, context: str, **members: Any) -> dict[str, Any]:
        """Make one call about one key. Raises KeyUnavailable, KeyRefused, KeyLost and Unsealable."""
        members["KeyId"] = key.arn
        members["EncryptionContext"] = {"aws:bedrock-agentcore:token-vault": self._vault_arn, "place": context}
        question = partial(self._ask, key.region, operation, members)
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._threads, question)
        except RuntimeError:  # the threads have ended
            raise KeyUnavailable(reason="AWS KMS is no longer asked: the gateway is closing") from None
        try:
            async with asyncio.timeout(self._total):
                return await answer
        except TimeoutError:
            raise KeyUnavailable(reason=f"AWS KMS took longer than {self._total:g} s") from None

    def _ask(self, region: str, operation: str, members: dict[str, Any]) -> dict[str, Any]:
        # Slow to import, and needed only where a key stands in KMS.
        from botocore.exceptions import (  # noqa: PLC0415
            BotoCoreError,
            ClientError,
            CredentialRetrievalError,
            NoCredentialsError,
            PartialCredentialsError,
        )

        try:
            answer: dict[str, Any] = getattr(self._clients.of(region), operation)(**members)
        except ClientError as error:
            raise _named(error.response) from None
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ValueError) as error:
            raise KeyRefused(reason=f"AWS KMS was not asked: {type(error).__name__}") from None
        except BotoCoreError as error:  # its text may name internal addresses
            raise KeyUnavailable(reason=f"AWS KMS did not answer: {type(error).__name__}") from None
        return answer


def _named(response: Any) -> Exception:
    """Return what an error answer of KMS means. Only its code is kept: messages name keys and principals."""
    code = str(response.get("Error", {}).get("Code", ""))[:80]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NOT_OURS:
        return Unsealable()
    reason = f"AWS KMS answered {code or status}"
    if code == "NotFoundException":
        return KeyLost(reason=reason)
    if code in _TRANSIENT or status >= 500 or status == 429:
        return KeyUnavailable(reason=reason)
    return KeyRefused(reason=reason)
