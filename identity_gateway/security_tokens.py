"""The security token service: who one is, temporary credentials of roles, and JWTs that prove a caller elsewhere.

Three ways lead to a role: a signature of this gateway (AssumeRole), a JWT that the role trusts, and a proof of AWS's
own GetCallerIdentity. No credentials outlive what proved their holder. Signatures are verified by `admission`, which
also keeps the record of signed actions; the exchanges, which nobody signs, keep theirs here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from identity_gateway.admission import Attempt, Vended
from identity_gateway.audit import ALLOWED, DENIED, UNKNOWN, Audit, Decided
from identity_gateway.caller_identity import CallerIdentity
from identity_gateway.errors import (
    AccessDenied,
    GatewayError,
    InvalidToken,
    Unauthenticated,
    Unavailable,
    ValidationFailed,
)
from identity_gateway.inbound import BearerTokens
from identity_gateway.model import Document, IamPrincipal, Realm, Role, Secret
from identity_gateway.protocol import strictjson
from identity_gateway.roles import (
    AWS_PRINCIPALS,
    DEFAULT_SESSION,
    Roles,
    role_id,
    trusts_aws_principal,
    trusts_principal,
    web_identity_of,
)
from identity_gateway.temporary_credentials import Issued, TemporaryCredentials
from identity_gateway.web_identity import ALGORITHMS, WebIdentity

DEFAULT_TOKEN = 300
"""Seconds that a JWT of GetWebIdentityToken lives when its caller does not say (AWS)."""

_NAMESPACE = "https://sts.amazonaws.com/"
_LONGEST_SUBJECT = 255
_NOT_SERVED = (
    *("ExternalId", "PolicyArns", "ProviderId", "ProvidedContexts", "SerialNumber", "SourceIdentity", "Tags"),
    *("TokenCode", "TransitiveTagKeys"),
)
"""Members that change what a session is or who gets it: to ignore them would be to promise it."""


class IdentityTokenRefused(InvalidToken):
    """The proof of a caller without a signature was refused, or the role takes none: both answer alike."""

    code: ClassVar[str] = "InvalidIdentityToken"
    status: ClassVar[int] = 400


class ProofExpired(Unauthenticated):
    """What proved the caller ends now, so that no credentials can be issued for it."""

    code: ClassVar[str] = "ExpiredTokenException"
    status: ClassVar[int] = 400


class IssuerSilent(Unavailable):
    """The issuer of a token, or AWS STS, does not answer. SDKs try again."""

    code: ClassVar[str] = "IDPCommunicationError"
    status: ClassVar[int] = 400


class DurationEscalation(AccessDenied):
    """A token would outlive the credentials that ask for it."""

    code: ClassVar[str] = "SessionDurationEscalationException"


@dataclass(frozen=True, slots=True)
class _Proven:
    """Whom a proof names, until when it lasts (seconds since the epoch, None: for itself), and what to answer of it."""

    principal: str
    until: float | None
    output: Document
    details: Document


class SecurityTokens:
    """Serves the actions of one account."""

    def __init__(
        self,
        roles: Roles,
        temporary: TemporaryCredentials,
        bearer_tokens: BearerTokens,
        callers: CallerIdentity,
        web_identity: WebIdentity,
        audit: Audit,
        realm: Realm,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._roles = roles
        self._temporary = temporary
        self._bearer_tokens = bearer_tokens
        self._callers = callers
        self._web_identity = web_identity
        self._audit = audit
        self._realm = realm
        self._clock = clock

    def who(self, principal: IamPrincipal) -> Document:
        """Serve GetCallerIdentity. It needs no permission: who signed knows who it is."""
        return {"UserId": principal.user_id, "Account": principal.account, "Arn": principal.arn}

    async def record_who(self, attempt: Attempt, principal: IamPrincipal) -> None:
        """Keep the record of GetCallerIdentity, which no policy decides about."""
        await self._keep(attempt, principal.arn, principal.arn, ALLOWED, "needs no permission")

    def own_resource(self, principal: IamPrincipal) -> str:
        """Return what GetWebIdentityToken is about: the role of a session, or the key's user."""
        return principal.names[-1]

    async def assume_role(self, principal: IamPrincipal, asked: Mapping[str, Any]) -> Vended:
        """Serve AssumeRole for a principal who may call it on this role: the role's trust must name them, too.

        The credentials end with those that asked, so that no session prolongs itself.
        """
        _require_served(asked)
        role = await self._role(asked["RoleArn"])
        if role is None or not trusts_principal(role, principal.names):
            raise AccessDenied(
                f"{principal.arn} is not authorized to perform sts:AssumeRole on {asked['RoleArn']}.",
                reason="there is no such role" if role is None else "the trust of the role does not name the principal",
            )
        proven = _Proven(principal.arn, principal.expires_at, {}, {})
        return self._issued(role, asked, proven)

    async def exchange(self, attempt: Attempt, asked: Mapping[str, Any]) -> Document:
        """Serve AssumeRoleWithWebIdentity and AssumeRoleWithCallerIdentity: the proof stands in the input.

        What was decided is on record before this returns. A role that does not exist, or takes no such proof, and a
        proof that is refused answer alike (IdentityTokenRefused).
        """
        prove = {
            "AssumeRoleWithWebIdentity": self._by_web_identity,
            "AssumeRoleWithCallerIdentity": self._by_caller_identity,
        }[attempt.action]
        try:
            _require_served(asked)
            role = await self._role(asked["RoleArn"])
            if role is None:
                raise _refused("there is no such role")
            proven = await prove(role, asked)
            vended = self._issued(role, asked, proven)
        except (Unauthenticated, AccessDenied) as error:
            await self._keep(attempt, UNKNOWN, asked["RoleArn"], DENIED, f"{error.code}: {error.reason}")
            raise
        await self._keep(attempt, proven.principal, asked["RoleArn"], ALLOWED, "vended", vended.details)
        return vended.output

    async def web_identity_token(self, principal: IamPrincipal, asked: Mapping[str, Any]) -> Vended:
        """Serve GetWebIdentityToken for a principal who may call it. `iss` is the public URL of this gateway."""
        if asked["SigningAlgorithm"] not in ALGORITHMS:
            raise ValidationFailed(f"The SigningAlgorithm must be one of {', '.join(ALGORITHMS)}.")
        now = int(self._clock())
        end = now + asked.get("DurationSeconds", DEFAULT_TOKEN)
        if principal.expires_at is not None and end > principal.expires_at:
            raise DurationEscalation("The token would outlive the credentials that ask for it.")
        audience = asked["Audience"]
        about: Document = {"aws_account": self._realm.account, "source_region": self._realm.region}
        if tags := asked.get("Tags"):
            about["request_tags"] = _tags(tags)
        subject = principal.names[-1]
        claims = {
            "sub": subject,
            "aud": audience[0] if len(audience) == 1 else audience,
            "iat": now,
            "exp": end,
            _NAMESPACE: about,
        }
        token = await self._web_identity.sign(claims, asked["SigningAlgorithm"])
        details: Document = {"audience": audience, "subject": subject, "expires": end}
        return Vended({"WebIdentityToken": token.reveal(), "Expiration": datetime.fromtimestamp(end, UTC)}, details)

    async def _by_web_identity(self, role: Role, asked: Mapping[str, Any]) -> _Proven:
        authorizer = web_identity_of(role)
        if authorizer is None:
            raise _refused("the role trusts no web identity")
        token = Secret(asked["WebIdentityToken"])
        try:
            # A namesake of a role begins at revision 1 again, so its time of birth is part of the key.
            cache = f"role/{role.name}/{role.created_at.timestamp()}"
            claims = await self._bearer_tokens.verify(token, authorizer, runtime_id=cache, version=role.revision)
        except (InvalidToken, AccessDenied) as error:
            raise _refused(error.reason) from None
        except Unavailable as error:
            raise IssuerSilent("The issuer of the token does not answer. Try again.", reason=error.reason) from None
        if claims.issuer == self._web_identity.issuer:  # as AWS: its own tokens are for others
            raise _refused("a token of this gateway's own issuer")
        if not claims.subject:
            raise _refused("the token names no subject")
        output = {
            "SubjectFromWebIdentityToken": claims.subject[:_LONGEST_SUBJECT],
            "Provider": claims.issuer,
            "Audience": claims.client_id or (claims.audiences[0] if claims.audiences else None),
        }
        details: Document = {"issuer": claims.issuer, "subject": claims.subject[:_LONGEST_SUBJECT]}
        return _Proven(f"{claims.issuer} {claims.subject}", claims.expires_at, output, details)

    async def _by_caller_identity(self, role: Role, asked: Mapping[str, Any]) -> _Proven:
        if not role.trust.get(AWS_PRINCIPALS):
            raise _refused("the role trusts no AWS principal")
        try:
            caller = await self._callers.verify(Secret(asked["CallerIdentityToken"]))
        except InvalidToken as error:
            raise _refused(error.reason) from None
        except Unavailable as error:
            raise IssuerSilent("AWS STS does not answer. Try again.", reason=error.reason) from None
        if not trusts_aws_principal(role, caller.names):
            raise _refused(f"the trust of the role does not name {caller.arn}")
        return _Proven(caller.arn, None, {"CallerArn": caller.arn}, {"aws": caller.arn, "userId": caller.user_id})

    def _issued(self, role: Role, asked: Mapping[str, Any], proven: _Proven) -> Vended:
        wished = asked.get("DurationSeconds", min(DEFAULT_SESSION, role.max_session_seconds))
        left = wished if proven.until is None else proven.until - self._clock()
        if left < 1:
            raise ProofExpired("The token or the credentials that ask have expired.", reason="the proof ends now")
        session = asked["RoleSessionName"]
        if wished > role.max_session_seconds:
            raise ValidationFailed("The requested DurationSeconds exceeds the longest session of this role.")
        policies = (_policy(asked["Policy"]),) if "Policy" in asked else ()
        issued = self._temporary.issue(
            role, session, session_policies=policies, lifetime=min(wished, left), source=proven.principal
        )
        assumed = {
            "AssumedRoleId": f"{role_id(role)}:{session}",
            "Arn": f"arn:aws:sts::{role.account}:assumed-role/{role.name}/{session}",
        }
        details = proven.details | {"role": role.name, "session": session, "accessKeyId": issued.access_key_id}
        output = {"Credentials": _credentials(issued), "AssumedRoleUser": assumed, **proven.output}
        return Vended(output, details | {"expires": issued.expires_at})

    async def _role(self, arn: str) -> Role | None:
        name = self._roles.name_of(arn)
        return None if name is None else await self._roles.find(name)

    async def _keep(
        self,
        attempt: Attempt,
        principal: str,
        resource: str,
        decision: str,
        reason: str,
        details: Document | None = None,
    ) -> None:
        await self._audit.record(
            Decided(
                principal,
                attempt.action,
                resource,
                decision,
                reason,
                attempt.request_id,
                attempt.source,
                details or {},
            )
        )


def _credentials(issued: Issued) -> Document:
    return {
        "AccessKeyId": issued.access_key_id,
        "SecretAccessKey": issued.secret.reveal(),
        "SessionToken": issued.session_token.reveal(),
        "Expiration": datetime.fromtimestamp(issued.expires_at, UTC),
    }


def _policy(text: str) -> Document:
    try:
        document = strictjson.loads(text.encode("utf-8"))
    except ValueError as error:
        raise _malformed(str(error)) from None
    if not isinstance(document, dict):
        raise _malformed("not a JSON object")
    return document


def _tags(tags: list[Document]) -> Document:
    found = {tag["Key"]: tag["Value"] for tag in tags}
    if len(found) != len(tags):
        raise ValidationFailed("Two Tags have the same Key.")
    return found


def _require_served(asked: Mapping[str, Any]) -> None:
    if refused := [name for name in _NOT_SERVED if asked.get(name)]:
        raise ValidationFailed(f"This gateway does not serve {', '.join(refused)}.")


def _malformed(problem: str) -> GatewayError:
    return ValidationFailed(f"The session policy cannot be read: {problem}.")


def _refused(reason: str) -> IdentityTokenRefused:
    return IdentityTokenRefused("The identity token was refused, or the role does not take it.", reason=reason)
