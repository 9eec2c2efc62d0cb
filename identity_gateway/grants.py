"""What users gave to agents, for those who look after it: list grants, show one, take one back.

Taking back goes to the vendor first, then destroys the tokens here, then asks the vendor whether they are dead. A
vendor that does not answer does not keep a grant alive: from the first moment on, no agent is given it. These
operations are the gateway's own (`models/identity-gateway`): AWS has none. Tokens are never shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.errors import FieldError, NotFound, ValidationFailed
from identity_gateway.model import (
    CredentialProvider,
    Document,
    Grant,
    GrantState,
    JwtUser,
    NamedUser,
    Realm,
    User,
    user_from_text,
)
from identity_gateway.paging import Paging
from identity_gateway.protocol.oauth2 import Client
from identity_gateway.vault import Tokens, Vault

_PAGE = 50
_PENDING = "vendor_revocation_pending"
_WIDE = frozenset({"user_client", "installation"})


@dataclass(frozen=True, slots=True)
class _AtVendor:
    """What became of a grant at its vendor."""

    status: str
    effect: str | None = None
    detail: str | None = None


class Grants:
    """The grants of one account."""

    def __init__(
        self,
        vault: Vault,
        providers: CredentialProviders,
        server: AuthorizationServer,
        paging: Paging,
        realm: Realm,
    ) -> None:
        self._vault = vault
        self._providers = providers
        self._server = server
        self._paging = paging
        self._realm = realm

    async def list_grants(self, asked: Document) -> Document:
        """ListGrants: of a user, of an agent, of a provider, in a state; in the order of their ids."""
        question = ("ListGrants", *(f"{name}={asked[name]}" for name in sorted(asked) if name not in _NOT_A_FILTER))
        limit = asked.get("maxResults", _PAGE)
        provider = asked.get("providerName")
        state = asked.get("state")
        after = self._paging.after(asked.get("nextToken"), *question)
        rows = await self._vault.list(
            user=_user_asked(asked),
            workload=asked.get("workloadName"),
            provider_id=(await self._providers.oauth2(provider)).id if provider else None,
            state=GrantState(state.lower()) if state else None,
            after=after[0] if after else None,
            limit=limit + 1,
        )
        rows, token = self._paging.page(rows, limit, ("id",), *question)
        return {"grants": [self._shown(row) for row in rows], "nextToken": token}

    async def get_grant(self, asked: Document) -> Document:
        """GetGrant."""
        return {"grant": self._shown(await self._found(asked["grantId"]))}

    async def revoke_grant(self, asked: Document) -> Document:
        """RevokeGrant. Asked again, it tries again what the vendor did not confirm the first time."""
        grant = await self._found(asked["grantId"])
        if not grant.sealed:
            return {"grant": self._shown(grant), "vendorRevocation": {"status": "REVOKED"}}
        provider = await self._providers.by_id(grant.provider_id)
        tokens = await self._vault.open(grant)
        grant = await self._vault.change_state(grant, GrantState.REVOKED, _PENDING)
        also: list[str] = []
        if provider is None:
            ended = _AtVendor("FAILED", detail="the credential provider was deleted: its client is unknown")
        else:
            client = (await self._providers.client_of(provider)).with_variables(tokens.variables)
            ended, also = await self._at_vendor(grant, provider, client, tokens)
        if ended.status != "FAILED":
            grant = await self._vault.shred(grant, "revoked")
        outcome = {"status": ended.status, "effect": ended.effect, "detail": ended.detail, "alsoEnded": also or None}
        return {"grant": self._shown(grant), "vendorRevocation": outcome}

    async def _at_vendor(
        self, grant: Grant, provider: CredentialProvider, client: Client, tokens: Tokens
    ) -> tuple[_AtVendor, list[str]]:
        """Revoke at the vendor, sparing what else the same person gave to the same client where the vendor can."""
        if not client.descriptor.revoke:
            return _AtVendor("NOT_SUPPORTED"), []
        siblings = [
            each
            for each in await self._vault.of_vendor_account(provider.id, grant.vendor_account, grant.vendor_subject)
            if each.id != grant.id and each.state == GrantState.ACTIVE
        ]
        ways = {entry.effect for entry in client.descriptor.revoke}
        narrow = ways - _WIDE
        revoked = await self._server.revoke(
            client, access=tokens.access, refresh=tokens.refresh, effects=narrow if siblings and narrow else ways
        )
        if revoked.effect is None:
            said = "; ".join(f"{each.code} {each.description}".strip() for each in revoked.failures)
            return _AtVendor("FAILED", detail=said or None), []
        also: list[str] = []
        if revoked.effect in _WIDE:
            for each in siblings:
                await self._vault.shred(each, "revoked_with_another")
                also.append(each.id)
        return _AtVendor("VERIFIED" if revoked.verified else "REVOKED", effect=revoked.effect), also

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


_NOT_A_FILTER = {"maxResults", "nextToken"}


def _user_asked(asked: Mapping[str, Any]) -> User | None:
    """Return the user that a list is about. Issuer and subject belong together, and exclude an id."""
    issuer, subject, named = asked.get("userIssuer"), asked.get("userSubject"), asked.get("userId")
    if (issuer is None) != (subject is None):
        raise ValidationFailed(
            "userIssuer and userSubject belong together.", fields=(FieldError("userSubject", "goes with userIssuer"),)
        )
    if issuer is not None and named is not None:
        raise ValidationFailed("Name the user by userId, or by userIssuer and userSubject.")
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
