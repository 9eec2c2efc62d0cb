"""Secrets that their owners keep in AWS Secrets Manager: read when they are used, kept in memory for five minutes.

It writes nothing there, and does not know what a secret is for. Calls are botocore's, with the credentials that it
finds in its usual places, in a few threads of their own: a service that does not answer slows nobody else.
"""

import asyncio
import functools
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError

from identity_gateway.aws_clients import AwsClients
from identity_gateway.errors import GatewayError, Unavailable, ValidationFailed
from identity_gateway.model import Secret
from identity_gateway.protocol import strictjson

FRESH_FOR = 300.0
"""Seconds after which a secret is read anew: so long may a rotation by its owner go unnoticed."""

_MAX_SECRETS = 1000
_THREADS = 4
_TOTAL_SECONDS = 10.0
_ARN = re.compile(r"arn:[a-z-]+:secretsmanager:([a-z]{2}(?:-[a-z]+)+-[0-9]):[0-9]{12}:secret:\S+", re.ASCII)

_REFUSED: Mapping[str, str] = {
    "ResourceNotFoundException": "does not exist in AWS Secrets Manager",
    "AccessDeniedException": "may not be read by this gateway: AWS denies it access",
    "DecryptionFailure": "cannot be decrypted by AWS Secrets Manager with its KMS key",
    "InvalidRequestException": "cannot be read in its present state: it may be marked for deletion",
    "InvalidParameterException": "has an id that AWS Secrets Manager does not accept",
    "ValidationException": "has an id that AWS Secrets Manager does not accept",
}
"""What AWS's error codes mean for whoever registered the reference. Another code says: not now."""

_CREDENTIALS = frozenset(
    {"UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "InvalidClientTokenId"}
)

_Key = tuple[str, str]


class SecretsManager:
    """Reads secrets of JSON objects. Belongs to one event loop; close it with `aclose`.

    `region` is asked for secrets that are named without an ARN; an ARN names its own. `endpoint_url` replaces AWS's
    endpoints of every region.
    """

    def __init__(self, region: str, *, clock: Callable[[], float], endpoint_url: str | None = None) -> None:
        self._region = region
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[float, Secret]] = OrderedDict()
        self._flights: dict[_Key, asyncio.Task[Secret]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "secrets-manager")
        self._clients = AwsClients("secretsmanager", endpoint_url=endpoint_url, connections=_THREADS)

    async def get(self, secret_id: str, json_key: str) -> Secret:
        """Return the text at `json_key` of the JSON object that the secret holds now, or held in the last five minutes.

        `secret_id` is a name or an ARN. Many callers at once make one call. Raises ValidationFailed when the secret or
        the key is not there, is no text, or may not be read; Unavailable when AWS does not answer. Failures are not
        kept.
        """
        key = (secret_id, json_key)
        read_at, secret = self._kept.get(key, (0.0, None))
        if secret is not None and 0 <= self._clock() - read_at < FRESH_FOR:
            self._kept.move_to_end(key)
            return secret
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.get_running_loop().create_task(self._read(key))
            flight.add_done_callback(functools.partial(self._landed, key))
        # Shielded: one caller that gives up must not take the answer from the others.
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if flight.cancelled():
                raise Unavailable(reason="the way to AWS Secrets Manager was closed") from None
            raise

    def peek(self, secret_id: str, json_key: str) -> Secret | None:
        """Return what `get` would, if it was read in the last five minutes; None where it would ask."""
        read_at, secret = self._kept.get((secret_id, json_key), (0.0, None))
        return secret if secret is not None and 0 <= self._clock() - read_at < FRESH_FOR else None

    async def aclose(self) -> None:
        """Read nothing any more. Calls under way end with their own time limits."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._clients.close()

    async def _read(self, key: _Key) -> Secret:
        secret_id, json_key = key
        began = self._clock()
        try:
            async with asyncio.timeout(_TOTAL_SECONDS):
                answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, secret_id)
        except TimeoutError:
            raise Unavailable(reason=f"AWS Secrets Manager took longer than {_TOTAL_SECONDS:g} s") from None
        except ClientError as error:
            raise _meaning(error, secret_id) from None
        except (NoCredentialsError, CredentialRetrievalError) as error:
            raise _unreadable("cannot be read: this gateway has no AWS credentials", secret_id, str(error)) from None
        except BotoCoreError as error:
            raise Unavailable(reason=f"AWS Secrets Manager does not answer: {type(error).__name__}") from None
        secret = _text_at(json_key, answer.get("SecretString"), secret_id)
        self._kept[key] = (began, secret)
        self._kept.move_to_end(key)
        while len(self._kept) > _MAX_SECRETS:
            self._kept.popitem(last=False)
        return secret

    def _ask(self, secret_id: str) -> dict[str, Any]:
        """Read the secret's current version. Runs in a thread."""
        arn = _ARN.fullmatch(secret_id)
        client = self._clients.of(arn[1] if arn else self._region)
        answer: dict[str, Any] = client.get_secret_value(SecretId=secret_id)
        return answer

    def _landed(self, key: _Key, flight: asyncio.Task[Secret]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # taken note of, even if nobody waits for it any more


def _text_at(json_key: str, document: Any, secret_id: str) -> Secret:
    if not isinstance(document, str):
        raise _unreadable("holds no text but bytes", secret_id)
    try:
        content = strictjson.loads(document.encode("utf-8", "surrogatepass"))
    except ValueError:
        raise _unreadable("is not a JSON object", secret_id) from None
    if not isinstance(content, dict):
        raise _unreadable("is not a JSON object", secret_id)
    value = content.get(json_key)
    if not isinstance(value, str) or not value:
        raise _unreadable("has no text at the registered JSON key", secret_id, f"key {json_key}")
    return Secret(value)


def _meaning(error: ClientError, secret_id: str) -> GatewayError:
    # The texts of AWS are left out: they name principals and keys.
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _REFUSED:
        return _unreadable(_REFUSED[code], secret_id, code)
    if code in _CREDENTIALS:
        return _unreadable("cannot be read: AWS does not accept this gateway's credentials", secret_id, code)
    return Unavailable(reason=f"AWS Secrets Manager refused: {code}")


def _unreadable(problem: str, secret_id: str, detail: str = "") -> ValidationFailed:
    reason = f"secret {secret_id} {problem}" + (f" ({detail})" if detail else "")
    return ValidationFailed(f"The secret that the credential provider refers to {problem}.", reason=reason)
