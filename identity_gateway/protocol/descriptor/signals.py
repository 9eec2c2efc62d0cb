"""What a vendor's webhooks say, and how it signs them. It verifies none."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from identity_gateway.protocol.descriptor.rules import Condition, HeaderName, Name, Part, Path, Seconds


class Signature(Part):
    """How the vendor signs webhooks: HMAC-SHA256 in hexadecimal over `base`.

    `base` knows `{timestamp}` and `{body}`. `secret` is one of `[client.secrets]`. `max_skew` in seconds.
    """

    header: HeaderName
    prefix: str = ""
    base: str = "{body}"
    secret: Name
    timestamp_header: HeaderName | None = None
    max_skew: Seconds = 300

    @model_validator(mode="after")
    def _covers_what_it_proves(self) -> Self:
        if "{body}" not in self.base:
            raise ValueError("a signature that does not cover {body} proves nothing")
        if ("{timestamp}" in self.base) != (self.timestamp_header is not None):
            raise ValueError("{timestamp} in base and timestamp_header belong together")
        return self


class Challenge(Part):
    """The question by which a vendor checks a webhook's URL. `answer` knows `{value}` (at `path`) and `{hmac}`."""

    when: Condition
    path: Path
    answer: Mapping[str, str] = Field(min_length=1)


class Effect(Part):
    """What an event does. A path may lead to a list.

    `revoke` ends the grants of `account` and, if named, of `subject` and `part`; `flush` forgets the machine tokens of
    this provider.
    """

    when: tuple[Condition, ...] = Field(min_length=1)
    action: Literal["revoke", "flush"]
    account: Path | None = None
    subject: Path | None = None
    part: Name | None = None

    @model_validator(mode="after")
    def _names_whom(self) -> Self:
        if self.action == "revoke" and self.account is None and self.subject is None:
            raise ValueError("revoke whose grants? name account or subject")
        return self


class Signals(Part):
    """Webhooks of the vendor. `deduplicate` is a header or, with a leading dot, a path whose value comes once."""

    signature: Signature
    challenge: Challenge | None = None
    deduplicate: str = Field(pattern=r"^\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
    effects: tuple[Effect, ...] = Field(min_length=1)
