"""How a token response is read: which credentials stand in it, and where. It reads none itself."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from identity_gateway.protocol.descriptor.rules import ExpiresUnit, HeaderName, Name, Part, Path, Seconds


class Issued(Part):
    """Where one credential of a response stands. It is there when `access` is; `kind_is` must be what `kind` says.

    Several entries may have one `name`: the first that is there counts. `kind_is` is compared without case.
    """

    name: Name = "default"
    access: Path = "access_token"
    refresh: Path = "refresh_token"
    expires: Path = "expires_in"
    refresh_expires: Path = "refresh_token_expires_in"
    scope: Path = "scope"
    kind: Path = "token_type"
    kind_is: str | None = None
    subject: Path | None = None


class Response(Part):
    """How a token response is read. `account`, `subject` and `label` take the first path that holds a value.

    `format` `auto` goes by the content type and, where that says nothing, by the first character. A lifetime that is
    missing or unreadable is `default_lifetime`; one of 0 or below means expired. `expires_unit` counts for `expires`;
    that of the refresh token is in seconds. `secrets` are kept sealed beside the tokens.
    """

    format: Literal["auto", "json", "form"] = "auto"
    issued: tuple[Issued, ...] = Field(default=(Issued(),), min_length=1)
    expires_unit: ExpiresUnit = "seconds"
    default_lifetime: Seconds | None = None
    account: tuple[Path, ...] = ()
    subject: tuple[Path, ...] = ()
    label: tuple[Path, ...] = ()
    secrets: Mapping[Name, Path] = Field(default_factory=dict)
    error: tuple[Path, ...] = ("error",)
    error_description: tuple[Path, ...] = ("error_description",)
    retry_after: HeaderName = "Retry-After"
