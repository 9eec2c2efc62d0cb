"""The operations on grants, and what is shown of one. What revoking does is `revocation`'s."""

from collections.abc import Mapping
from typing import Any

from identity_gateway.admission import Recorded
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.errors import FieldError, NotFound, ValidationFailed
from identity_gateway.grants.revocation import AtVendor, Revocation
from identity_gateway.model import (
    Document,
    Grant,
    GrantState,
    JwtUser,
    NamedUser,
    Realm,
    User,
    user_from_text,
    user_words,
)
from identity_gateway.paging import Paging
from identity_gateway.vault import Vault

_PAGE = 50
_NOT_A_FILTER = frozenset({"maxResults", "nextToken"})


class Grants:
    """The grants of one account."""

    def __init__(
        self, vault: Vault, providers: CredentialProviders, revocation: Revocation, paging: Paging, realm: Realm
    ) -> None:
        self._vault = vault
        self._providers = providers
        self._revocation = revocation
        self._paging = paging
        self._realm = realm

    async def list_grants(self, asked: Document) -> Document:
        """ListGrants: of a user, of an agent, of a provider, in a state; in the order of their ids.

        Raises NotFound for a provider that there is not, ValidationFailed for half a user and for a state that is none.
        """
        question = ("ListGrants", *(f"{name}={asked[name]}" for name in sorted(asked) if name not in _NOT_A_FILTER))
        limit = asked.get("maxResults", _PAGE)
        provider = asked.get("providerName")
        after = self._paging.after(asked.get("nextToken"), *question)
        rows = await self._vault.list(
            user=_user_asked(asked),
            workload=asked.get("workloadName"),
            provider_id=(await self._providers.oauth2(provider)).id if provider else None,
            state=_state_asked(asked.get("state")),
            after=after[0] if after else None,
            limit=limit + 1,
        )
        rows, token = self._paging.page(rows, limit, ("id",), *question)
        return {"grants": [self._shown(row) for row in rows], "nextToken": token}

    async def get_grant(self, asked: Document) -> Document:
        """GetGrant."""
        return {"grant": self._shown(await self._found(asked["grantId"]))}

    async def revoke_grant(self, asked: Document) -> Recorded:
        """RevokeGrant. Asked again, it tries again what the vendor did not confirm the first time.

        That the vendor did not take it back is an answer (`FAILED`), not an error: here the grant is revoked.
        """
        grant, at_vendor = await self._revocation.revoke(await self._found(asked["grantId"]))
        output = {"grant": self._shown(grant), "vendorRevocation": _outcome(at_vendor)}
        details = {
            "workload": grant.workload,
            "user": user_words(user_from_text(grant.user)),
            "provider": grant.provider,
            "providerId": grant.provider_id,
            "status": at_vendor.status,
            "effect": at_vendor.effect,
            "errorCode": at_vendor.code or None,
            "alsoEnded": list(at_vendor.also),
        }
        return Recorded(output, details, "revoked")

    def arn(self, grant_id: str) -> str:
        """Return the ARN of a grant, whether there is one or not."""
        return self._realm.grant_arn(grant_id)

    async def _found(self, grant_id: str) -> Grant:
        found = await self._vault.get(grant_id)
        if found is None:
            raise NotFound(f"There is no grant {grant_id}.")
        return found

    def _shown(self, grant: Grant) -> Document:
        return {
            "grantId": grant.id,
            "grantArn": self._realm.grant_arn(grant.id),
            "workloadName": grant.workload,
            "user": _user_shown(user_from_text(grant.user)),
            "providerName": grant.provider,
            "credential": grant.part,
            "state": grant.state.upper(),
            "reason": grant.reason or None,
            "scopes": list(grant.scopes),
            "grantedScopes": list(grant.granted_scopes),
            "vendorAccount": grant.vendor_account or None,
            "vendorSubject": grant.vendor_subject or None,
            "label": grant.label or None,
            "expiresTime": grant.expires_at,
            "refreshExpiresTime": grant.refresh_expires_at,
            "obtainedTime": grant.obtained_at,
            "createdTime": grant.created_at,
            "lastUpdatedTime": grant.updated_at,
        }


def _outcome(at_vendor: AtVendor) -> Document:
    return {
        "status": at_vendor.status,
        "effect": at_vendor.effect,
        "errorCode": at_vendor.code or None,
        "errorDescription": at_vendor.description or None,
        "detail": at_vendor.detail or None,
        "alsoEnded": list(at_vendor.also) or None,
    }


def _state_asked(state: str | None) -> GrantState | None:
    try:
        return None if state is None else GrantState(state.lower())
    except ValueError:
        known = ", ".join(each.upper() for each in GrantState)
        raise ValidationFailed(
            "There is no such state.", fields=(FieldError("state", f"is none of {known}"),)
        ) from None


def _user_asked(asked: Mapping[str, Any]) -> User | None:
    """Return the user that a list is about. Issuer and subject belong together, and exclude an id."""
    issuer, subject, named = asked.get("userIssuer"), asked.get("userSubject"), asked.get("userId")
    if (issuer is None) != (subject is None):
        missing, given = ("userSubject", "userIssuer") if subject is None else ("userIssuer", "userSubject")
        raise ValidationFailed(
            "userIssuer and userSubject belong together.", fields=(FieldError(missing, f"goes with {given}"),)
        )
    if issuer is not None and named is not None:
        raise ValidationFailed(
            "Name the user by userId, or by userIssuer and userSubject.",
            fields=(FieldError("userId", "excludes userIssuer and userSubject"),),
        )
    if issuer is not None and subject is not None:
        return JwtUser(issuer, subject)
    return NamedUser(named) if named is not None else None


def _user_shown(user: User | None) -> Document:
    match user:
        case JwtUser(issuer, subject):
            return {"issuer": issuer, "subject": subject}
        case NamedUser(id=named):
            return {"userId": named}
    return {}
