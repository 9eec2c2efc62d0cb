"""What kind of credentials a request shows. Nothing is believed here."""

from enum import StrEnum

from identity_gateway.protocol import bearer
from identity_gateway.protocol.request import Request


class Scheme(StrEnum):
    """What kind of credentials a request shows."""

    NONE = "none"
    SIGNATURE = "sigv4"
    BEARER = "jwt"
    OTHER = "other"


def scheme_of(request: Request) -> Scheme:
    """Say what credentials a request shows, without believing them."""
    authorization = request.header(b"authorization")
    if authorization is None:
        return Scheme.NONE
    if authorization.startswith((b"AWS4-", b"AWS ")):
        return Scheme.SIGNATURE
    return Scheme.BEARER if bearer.is_bearer(authorization) else Scheme.OTHER
