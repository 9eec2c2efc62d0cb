"""GetResourceOauth2Token, GetResourceApiKey and CompleteResourceTokenAuth: an agent asks, and is given or told why not.

The workload access token says who asks and for whom; the provider says where. Whether this agent may use this provider
was decided before (policy); nothing here widens it. Every credential leaves as `Vended`: its record comes first.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from secrets import compare_digest
from typing import Any

from identity_gateway.admission import Recorded, Vended
from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.consent import Consents, SessionState
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.errors import AccessDenied, InvalidToken, ValidationFailed
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.inbound import UserTokens
from identity_gateway.model import (
    CredentialKind,
    Document,
    Grant,
    GrantState,
    NamedUser,
    Realm,
    Secret,
    User,
    WorkloadAccess,
    WorkloadIdentity,
)
from identity_gateway.outbound.asking import Asking, canonical, wrong
from identity_gateway.outbound.issued import Issued, IssuedTokens
from identity_gateway.outbound.kept import (
    KeptCredentials,
    api_key_details,
    exchange_key,
    grant_details,
    issued_details,
    machine_key,
    workload_of,
)
from identity_gateway.outbound.refusals import vendor_error
from identity_gateway.protocol.descriptor import Machine
from identity_gateway.protocol.oauth2 import Answered, Refused, Requested, machine_entry
from identity_gateway.records import Records
from identity_gateway.refresh import AdminNeeded, Misconfigured, Refreshing, RetryLater, Usable
from identity_gateway.vault import Holder, Vault
from identity_gateway.workload import WorkloadTokens

_TOKEN_EXCHANGE, _JWT_GRANT = "TOKEN_EXCHANGE", "JWT_AUTHORIZATION_GRANT"
_JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
_ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name (RFC 8693 §3)


class Outbound:
    """The three operations, for one account."""

    def __init__(
        self,
        records: Records,
        tokens: WorkloadTokens,
        user_tokens: UserTokens,
        providers: CredentialProviders,
        vault: Vault,
        refreshing: Refreshing,
        consents: Consents,
        issued: IssuedTokens,
        server: AuthorizationServer,
        fingerprints: Fingerprints,
        realm: Realm,
    ) -> None:
        self._records = records
        self._tokens = tokens
        self._user_tokens = user_tokens
        self._providers = providers
        self._vault = vault
        self._refreshing = refreshing
        self._consents = consents
        self._issued = issued
        self._server = server
        self._fingerprints = fingerprints
        self._realm = realm
        self.kept = KeptCredentials(records, tokens, providers, vault, refreshing, issued, realm)

    def resources(self, kind: CredentialKind) -> Callable[[Realm, Document], tuple[str, ...]]:
        """Return what a caller must be allowed: the agent's identity and the provider, both with what holds them."""

        def of(realm: Realm, asked: Document) -> tuple[str, ...]:
            access = self._tokens.open(asked["workloadIdentityToken"])
            return (
                realm.arn("workload-identity-directory/default"),
                realm.workload_identity_arn(access.workload),
                realm.token_vault_arn(),
                realm.credential_provider_arn(kind, asked["resourceCredentialProviderName"]),
            )

        return of

    async def get_resource_oauth2_token(self, asked: Document) -> Document | Vended:
        """GetResourceOauth2Token."""
        access = self._tokens.open(asked["workloadIdentityToken"])
        workload = await self._workload_of(access)
        provider = await self._providers.oauth2(asked["resourceCredentialProviderName"])
        asking = Asking(asked, access, workload, provider, await self._providers.client_of(provider))
        match asked["oauth2Flow"]:
            case "USER_FEDERATION":
                return await self._for_user(asking)
            case "M2M":
                return self._vended(asking, await self._machine_token(asking, asking.requested))
            case _:
                return self._vended(asking, await self._on_behalf(asking))

    async def get_resource_api_key(self, asked: Document) -> Vended:
        """GetResourceApiKey. An API key belongs to the provider, not to a user (AWS)."""
        access = self._tokens.open(asked["workloadIdentityToken"])
        workload = await self._workload_of(access)
        provider, key = await self._providers.api_key(asked["resourceCredentialProviderName"])
        details = api_key_details(access, workload, provider, self._fingerprints.of(key))
        return Vended({"apiKey": key.reveal()}, details)

    async def complete_resource_token_auth(self, asked: Document) -> Recorded:
        """CompleteResourceTokenAuth: the application says which user came back from the vendor.

        Compared is the user (issuer and subject, or the id), not the token that proves it (AWS compares the token).
        The consent's own records name the agent; the one that is made of this answer names the key that completed it.
        """
        identifier = asked["userIdentifier"]
        if "userToken" in identifier:
            try:
                user: User = await self._user_tokens.user_of(Secret(identifier["userToken"]))
            except InvalidToken as error:
                raise AccessDenied("Invalid or expired session", reason=f"user token: {error.reason}") from None
        else:
            user = NamedUser(identifier["userId"])
        return Recorded({}, await self._consents.complete(asked["sessionUri"], user), "completed")

    # --- For a user, by consent ---------------------------------------------------------------------------------------

    async def _for_user(self, asking: Asking) -> Document | Vended:
        if asking.access.user is None:
            raise wrong("workloadIdentityToken", "stands for no user: USER_FEDERATION needs a token for a user")
        holder, part = asking.holder(asking.access.user), asking.part()
        session = asking.asked.get("sessionUri")
        if session is not None:
            status = await self._consents.status(session, holder)
            if status.state is not SessionState.COMPLETED:
                return _waiting(session, status.state.value, status.authorization_url)
        elif asking.asked.get("forceAuthentication"):
            return await self._ask(asking, holder)
        grant = await self._vault.find(holder, part)
        if grant is None and session is not None:  # to ask again would be to ask for ever
            raise ValidationFailed(
                f"The consent gave no credential {part}. Ask for scopes that {asking.vendor} gives it for.",
                kind="VendorError",
            )
        if grant is None or grant.state == GrantState.REVOKED:
            return await self._ask(asking, holder)
        fresh = await self._refreshing.fresh(grant, asking.client, rejected=await self._stale(asking, grant))
        match fresh:
            case Usable():
                return self._vended_grant(asking, fresh)
            case RetryLater(after=after, refused=refused):
                known = refused.retry_after if refused.retry_after is not None else after
                raise vendor_error(replace(refused, retry_after=known), asking.vendor)
            case Misconfigured(refused=refused):
                raise vendor_error(refused, asking.vendor)
            case AdminNeeded(detail=detail):
                raise AccessDenied(f"An administrator of {asking.vendor} must act: {detail}", reason="needs_admin")
        return await self._ask(asking, holder)

    async def _stale(self, asking: Asking, grant: Grant) -> str | None:
        """Return the stored access token if it is the one that the agent saw refused: an older one is no reason."""
        if asking.rejected is None or grant.state != GrantState.ACTIVE:
            return None
        stored = (await self._vault.open(grant)).access.reveal()
        return stored if compare_digest(sha256(stored.encode()).hexdigest(), asking.rejected) else None

    async def _ask(self, asking: Asking, holder: Holder) -> Document:
        """Begin a consent, and answer with the link to it."""
        return_url = asking.asked.get("resourceOauth2ReturnUrl")
        if return_url is None:
            raise wrong("resourceOauth2ReturnUrl", "is needed: the user has to consent, and must come back somewhere")
        if return_url not in asking.workload.return_urls:
            raise wrong(
                "resourceOauth2ReturnUrl",
                f"is not one of allowedResourceOauth2ReturnUrls of the workload identity {asking.workload.name}",
            )
        started = await self._consents.begin(
            holder,
            asking.client,
            asking.provider,
            return_url=return_url,
            custom_state=asking.asked.get("customState"),
        )
        return _waiting(started.session_uri, SessionState.IN_PROGRESS.value, started.authorization_url)

    # --- For the agent itself -----------------------------------------------------------------------------------------

    async def _machine_token(self, asking: Asking, requested: Requested) -> Issued:
        entry = machine_entry(asking.client, requested)
        if entry is not None and not entry.send_scope and not entry.narrow:
            requested = replace(requested, scopes=())  # they are not sent, so that they tell no tokens apart

        async def mint() -> Answered | Refused:
            return await self._server.machine_token(asking.client, requested)

        key = self._shared_key(asking, entry, requested) or machine_key(asking, requested)
        return _or_raise(await self._issued.get(asking.provider.id, key, mint, rejected=asking.rejected), asking.vendor)

    def _shared_key(self, asking: Asking, entry: Machine | None, requested: Requested) -> tuple[str, ...] | None:
        """Return where a machine token of the whole client lies, of which a second one would kill the first, or None.

        It is shared by every provider with the same client at the same server. The secret is part of the key: naming
        somebody's client id opens nothing.
        """
        client = asking.client
        if entry is None or not entry.one_per_client or client.secret is None:
            return None
        server = client.endpoints.get("token", entry.url)
        variables = json.dumps(sorted(client.variables.items()))
        secret = self._fingerprints.of(client.secret)
        owner = ("client", client.descriptor.id, client.id, secret, server, variables)
        return ("machine", *owner, *canonical(requested))

    # --- On behalf of the user who called -----------------------------------------------------------------------------

    async def _on_behalf(self, asking: Asking) -> Issued:
        subject = asking.access.inbound_token
        if subject is None:
            raise wrong(
                "workloadIdentityToken",
                "carries no token of a user: ON_BEHALF_OF_TOKEN_EXCHANGE needs one that was made from a JWT",
            )
        rules = self._exchange_rules(asking)
        parameters = dict(asking.requested.parameters)
        subject_type = parameters.pop("subject_token_type", _JWT_TYPE)

        async def mint() -> Answered | Refused:
            actor = await self._actor(asking, rules)
            authentication = rules.get("onBehalfOfAuthenticationConfig") or {}
            return await self._server.exchange_token(
                asking.client,
                grant="token_exchange" if rules["grantType"] == _TOKEN_EXCHANGE else "jwt_bearer",
                subject_token=subject,
                subject_token_type=subject_type,
                actor_token=actor,
                actor_token_type=_ACCESS_TOKEN_TYPE if actor else None,
                requested=asking.requested,
                params=parameters,
                authenticate=authentication.get("clientAuthenticationMethod") != "NO_CLIENT",
            )

        key = exchange_key(asking, subject)
        return _or_raise(await self._issued.get(asking.provider.id, key, mint, rejected=asking.rejected), asking.vendor)

    async def _actor(self, asking: Asking, rules: Mapping[str, Any]) -> Secret | None:
        """Return the agent's own token, where the provider wants one beside the user's (RFC 8693 §2.1)."""
        settings = rules.get("tokenExchangeGrantTypeConfig") or {}
        if settings.get("actorTokenContent") != "M2M":
            return None
        wanted = Requested(tuple(dict.fromkeys(settings.get("actorTokenScopes") or ())))
        return (await self._machine_token(asking, wanted)).token

    def _exchange_rules(self, asking: Asking) -> Mapping[str, Any]:
        """Return how this provider exchanges: as registered, or as its vendor is known to."""
        registered = self._providers.on_behalf_of(asking.provider)
        if registered is not None:
            return registered
        known = asking.client.descriptor.exchange
        if known is None:
            raise wrong("oauth2Flow", f"needs onBehalfOfTokenExchangeConfig, which {asking.provider.name} has not")
        return {"grantType": _TOKEN_EXCHANGE if known.grant == "token_exchange" else _JWT_GRANT}

    # --- Shared -------------------------------------------------------------------------------------------------------

    def _vended(self, asking: Asking, issued: Issued) -> Vended:
        return Vended({"accessToken": issued.token.reveal()}, issued_details(asking, issued, self._fingerprints))

    def _vended_grant(self, asking: Asking, fresh: Usable) -> Vended:
        token = fresh.tokens.access
        details = grant_details(asking, fresh.grant, self._fingerprints.of(token))
        return Vended({"accessToken": token.reveal()}, details)

    async def _workload_of(self, access: WorkloadAccess) -> WorkloadIdentity:
        return (await workload_of(self._records, self._realm, access))[0]


def _or_raise(issued: Issued | Refused, vendor: str) -> Issued:
    if isinstance(issued, Refused):
        raise vendor_error(issued, vendor)
    return issued


def _waiting(session_uri: str, state: str, authorization_url: str | None) -> Document:
    return {"authorizationUrl": authorization_url, "sessionUri": session_uri, "sessionStatus": state}
