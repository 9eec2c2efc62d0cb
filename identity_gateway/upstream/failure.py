"""The one way in which talking to an agent fails: a kind to act on, and a message for the log.

Nothing here says what the caller of the gateway is told: that is decided by those who render errors.
"""

from enum import StrEnum


class FailureKind(StrEnum):
    """What went wrong on the way to an agent or back."""

    REFUSED = "refused"
    """Every address refused the connection: nothing listens there."""
    UNREACHABLE = "unreachable"
    """The name has no address, or no address has a route."""
    TLS = "tls"
    """No trusted TLS connection came about."""
    TIMEOUT = "timeout"
    """No connection, or no response head, in the time allowed."""
    CLOSED = "closed"
    """The connection ended before the response did."""
    PROTOCOL = "protocol"
    """What came back is not an HTTP/1.1 response that can be relayed."""
    BUSY = "busy"
    """All connections are in use, and so is the queue for them or the time to wait in it."""
    FORBIDDEN_ADDRESS = "forbidden_address"
    """The agent would stand on an address where no agent may stand."""
    TOO_LARGE = "too_large"
    """The response head exceeds its bounds."""


class UpstreamError(Exception):
    """The agent gave no answer, or only a part of one. The message holds no header, body or credential.

    `unsent` says that no connection came about: the agent heard nothing, and another may be asked.
    """

    def __init__(self, kind: FailureKind, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.unsent = unsent
