"""The doors of an agent: which operation a call is, and what its caller must be allowed."""

from enum import StrEnum


class Door(StrEnum):
    """An operation that reaches an agent. Its value is its action in policies (AWS: SAR)."""

    INVOKE = "InvokeAgentRuntime"
    STREAM = "InvokeAgentRuntimeWithWebSocketStream"
    CARD = "GetAgentCard"
    STOP = "StopRuntimeSession"

    @property
    def for_user(self) -> str | None:
        """The further action of a caller who names a user (AWS: `…ForUser`), where there is one."""
        return f"{self.value}ForUser" if self in {Door.INVOKE, Door.STREAM} else None
