"""The error tree. Each class knows its AWS error code, its HTTP status, and a message that is safe to show.

GatewayError                     500 InternalServerException
├─ ValidationFailed              400 ValidationException, with the fields that failed
├─ UnknownOperation              404 UnknownOperationException: no such method and path
├─ OperationNotServed            501 UnsupportedOperationException: AWS has it, this gateway does not
├─ Unauthenticated               the caller is not known
│  ├─ MissingAuthentication      403 MissingAuthenticationTokenException
│  ├─ IncompleteSignature        403 IncompleteSignatureException: not a well-formed AWS Signature Version 4
│  ├─ InvalidSignature           403 InvalidSignatureException: wrong key, wrong signature, or wrong time
│  ├─ ExpiredCredentials         403 ExpiredTokenException: good once, told to who has the secret
│  ├─ UselessCredentials         403 UnrecognizedClientException: disabled, or the role is gone; told to the same
│  └─ InvalidToken               401 UnauthorizedException: the bearer token is missing or was refused
├─ AccessDenied                  403 AccessDeniedException: known, but not allowed
│  └─ InsufficientScope          403 AccessDeniedException: a valid token without a needed scope (RFC 6750 §3.1)
├─ NotFound                      404 ResourceNotFoundException
├─ Conflict                      409 ConflictException
├─ QuotaExceeded                 402 ServiceQuotaExceededException
├─ Throttled                     429 ThrottlingException
├─ AgentFailed                   424 RuntimeClientError: the agent behind the gateway failed
└─ Unavailable                   503 ServiceUnavailableException: a part the gateway depends on is down

Two audiences: `str(error)` goes to the caller, `error.reason` goes to the log and the audit record only.
Codes and statuses are those of botocore's AgentCore models and of AWS's common errors.
"""

from dataclasses import dataclass
from typing import ClassVar


class GatewayError(Exception):
    """An answer other than success. `message` is shown to the caller; `reason` only to operators."""

    code: ClassVar[str] = "InternalServerException"
    status: ClassVar[int] = 500

    def __init__(self, message: str = "An internal error occurred.", *, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or message


@dataclass(frozen=True, slots=True)
class FieldError:
    """One member of the input that failed validation: its path (`a.b[0].c`) and what is wrong with it."""

    name: str
    message: str


class ValidationFailed(GatewayError):
    """The request is malformed. `fields` becomes the `fieldList` of ValidationException, `kind` its `reason`."""

    code = "ValidationException"
    status = 400

    def __init__(
        self,
        message: str,
        *,
        fields: tuple[FieldError, ...] = (),
        kind: str = "FieldValidationFailed",
        reason: str = "",
    ) -> None:
        super().__init__(message, reason=reason)
        self.fields = fields
        self.kind = kind


class UnknownOperation(GatewayError):
    """No operation has this method and path."""

    code = "UnknownOperationException"
    status = 404


class OperationNotServed(GatewayError):
    """AWS has this operation, this gateway does not serve it."""

    code = "UnsupportedOperationException"
    status = 501


class Unauthenticated(GatewayError):
    """The caller did not prove who it is."""

    code = "MissingAuthenticationTokenException"
    status = 403


class MissingAuthentication(Unauthenticated):
    """The request carries no credentials."""

    def __init__(self, message: str = "Missing Authentication Token", *, reason: str = "no credentials") -> None:
        super().__init__(message, reason=reason)


class IncompleteSignature(Unauthenticated):
    """The request is not signed the way AWS Signature Version 4 prescribes."""

    code = "IncompleteSignatureException"


class InvalidSignature(Unauthenticated):
    """The signature does not prove the caller: unknown key, wrong secret, changed request, or wrong time."""

    code = "InvalidSignatureException"


class ExpiredCredentials(Unauthenticated):
    """The credentials were good and have come to their end. Said only to who signed with their secret."""

    code = "ExpiredTokenException"


class UselessCredentials(Unauthenticated):
    """The key is disabled, or its role is gone. Said only to who signed with its secret."""

    code = "UnrecognizedClientException"


class InvalidToken(Unauthenticated):
    """The bearer token is missing or was refused. The reason is never told to the caller."""

    code = "UnauthorizedException"
    status = 401

    def __init__(self, message: str = "The bearer token is missing or not valid.", *, reason: str = "") -> None:
        super().__init__(message, reason=reason)


class AccessDenied(GatewayError):
    """The caller is known but may not do this."""

    code = "AccessDeniedException"
    status = 403


class InsufficientScope(AccessDenied):
    """The token is valid but carries none of the scopes this runtime asks for."""

    def __init__(self, scopes: tuple[str, ...], *, reason: str = "") -> None:
        super().__init__("The token does not carry a scope that this agent runtime asks for.", reason=reason)
        self.scopes = scopes


class NotFound(GatewayError):
    """The resource does not exist, or the caller may not know that it does."""

    code = "ResourceNotFoundException"
    status = 404


class Conflict(GatewayError):
    """The request does not fit the present state of the resource."""

    code = "ConflictException"
    status = 409


class QuotaExceeded(GatewayError):
    """A limit on the number of resources was reached."""

    code = "ServiceQuotaExceededException"
    status = 402


class Throttled(GatewayError):
    """Too many requests at once."""

    code = "ThrottlingException"
    status = 429


class AgentFailed(GatewayError):
    """The agent refused, failed, or did not answer in time. SDKs do not retry 424, so the agent runs once."""

    code = "RuntimeClientError"
    status = 424


class Unavailable(GatewayError):
    """A part that the gateway depends on does not answer. Nothing was decided; the caller may retry."""

    code = "ServiceUnavailableException"
    status = 503

    def __init__(
        self, message: str = "The service is not available right now. Try again.", *, reason: str = ""
    ) -> None:
        super().__init__(message, reason=reason)
