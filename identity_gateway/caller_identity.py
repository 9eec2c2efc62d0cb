"""Asks AWS STS who signed a presigned `GetCallerIdentity`: the only way to verify a signature of AWS's own keys.

What is sent is built here (`protocol.caller_identity` says of what). Decides nothing about what the principal may do.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from identity_gateway.egress import Egress, EgressFailed, EgressRefused
from identity_gateway.errors import InvalidToken, Throttled, Unavailable
from identity_gateway.model import Secret
from identity_gateway.protocol import caller_identity
from identity_gateway.protocol.caller_identity import BINDING_HEADER, AwsPrincipal

ANSWER_SECONDS = 10.0
ANSWER_BYTES = 64 * 1024
"""What the `egress` given should allow: AWS answers in some milliseconds and a kilobyte."""

_AT_ONCE = 8
_FIRST_SERVER_FAULT = 500
_THROTTLED = 429
_OK = 200


class CallerIdentity:
    """Verifies who AWS principals are.

    `server_id` is the value that clients must have signed as `x-identity-gateway-server-id`: the public URL.
    `endpoint_url` replaces AWS's own endpoints, for tests; only an address of the loopback network is taken there.
    """

    def __init__(
        self, egress: Egress, *, server_id: str, clock: Callable[[], float], endpoint_url: str | None = None
    ) -> None:
        self._egress = egress
        self._server_id = server_id
        self._clock = clock
        self._endpoint_url = endpoint_url
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def verify(self, token: Secret) -> AwsPrincipal:
        """Return who signed. Raises InvalidToken, Throttled when too many ask at once, Unavailable when AWS is silent.

        A token may be shown again until it ends, 15 minutes after it was made at the latest.
        """
        presigned = caller_identity.parse(token.reveal(), now=datetime.fromtimestamp(self._clock(), UTC))
        if self._places.locked():
            raise Throttled("Too many proofs of AWS callers are being verified. Try again.")
        origin = self._endpoint_url or f"https://{presigned.host}"
        async with self._places:
            try:
                answer = await self._egress.fetch(
                    f"{origin.rstrip('/')}/?{presigned.query}",
                    headers=[("Accept", "application/json"), (BINDING_HEADER, self._server_id)],
                )
            except (EgressFailed, EgressRefused) as error:
                raise Unavailable(reason=f"AWS STS was not asked or did not answer: {error}") from None
        if answer.status >= _FIRST_SERVER_FAULT or answer.status == _THROTTLED:
            raise Unavailable(reason=f"AWS STS answered {answer.status}")
        if answer.status != _OK:
            raise _refused(f"AWS STS answered {answer.status}")
        if answer.header("content-type") != "application/json":
            raise _refused("AWS STS answered something other than JSON")
        return caller_identity.read_answer(answer.body, presigned.partition)


def _refused(reason: str) -> InvalidToken:
    return InvalidToken("The proof of the AWS caller's identity was refused.", reason=reason)
