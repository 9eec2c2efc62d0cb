"""Consents as agents and applications see them: begin one, ask how it goes, complete it.

`begin` hands out a link. The application that the browser comes back to says who its user is; only if that is the user
who began is the vendor's code exchanged, once, and the grant stored. Whether a session is needed at all, whether the
return URL is registered, and what a completed one gives, is decided by the caller.
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import quote, urlsplit

import structlog

from identity_gateway.audit import Audit
from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.consent.front_channel import FrontChannel, asked_scopes, clean, pkce_verifier, vendor_url
from identity_gateway.consent.session import LIFETIME, Ending, EndKind, Session, Sessions, VendorAnswer, new_uri
from identity_gateway.consent.standing import Overtaken, changed, demand_standing
from identity_gateway.consent.trail import Trail, details
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import AccessDenied, FieldError, NotFound, Throttled, Unavailable, ValidationFailed
from identity_gateway.model import CredentialProvider, Document, Realm, User, user_text, user_words
from identity_gateway.protocol.oauth2 import Answered, Client, Refused
from identity_gateway.sealing import Sealer
from identity_gateway.vault import Holder, Vault, lookup_of

MOST_BEGUN = 50
"""Sessions that one agent may begin for one user at one provider in ten minutes: more is a loop, not a person."""

_INVALID = "Invalid or expired session"
_NEVER_RETURN_TO = frozenset({"javascript", "data", "vbscript", "blob", "file", "about", "view-source"})
_RETURN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+")

_log = structlog.get_logger()


class SessionState(StrEnum):
    """How far a consent is. The first two are AWS's words (`sessionStatus`)."""

    IN_PROGRESS = "IN_PROGRESS"
    FAILED = "FAILED"
    COMPLETED = "COMPLETED"


@dataclass(frozen=True, slots=True)
class Started:
    """A new session: the link for the user, and the id by which agent and application speak of it."""

    authorization_url: str = field(repr=False)
    session_uri: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Status:
    """How far a session is. `authorization_url` while it is in progress; `code` and `description` once it failed."""

    state: SessionState
    authorization_url: str | None = field(default=None, repr=False)
    code: str = ""
    description: str = ""


class Consents:
    """The consents of one account. `front_channel` is their browsers' side."""

    def __init__(
        self,
        ephemeral: Ephemeral,
        sealer: Sealer,
        vault: Vault,
        providers: CredentialProviders,
        server: AuthorizationServer,
        realm: Realm,
        *,
        base_url: str,
        clock: Callable[[], float],
        audit: Audit,
    ) -> None:
        self._sessions = Sessions(ephemeral, sealer, realm.account, clock=clock)
        self._vault = vault
        self._providers = providers
        self._server = server
        self._account = realm.account
        self._base_url = base_url
        self._clock = clock
        self._trail = Trail(audit, realm)
        self.front_channel = FrontChannel(self._sessions, providers, self._trail, realm, base_url=base_url)

    async def begin(
        self,
        holder: Holder,
        client: Client,
        provider: CredentialProvider,
        *,
        return_url: str,
        custom_state: str | None,
    ) -> Started:
        """Return the link to a new consent. It lives ten minutes.

        Raises ValidationFailed for what could not be asked of the vendor, and Throttled when one agent begins too many
        for one user. Does NOT check that the return URL is one of the workload identity's: that is the caller's.
        """
        _check_return_url(return_url)
        redirect_uri = self._providers.callback_url(provider)
        # Raised here, to the agent, rather than on the user's page.
        asked = urlsplit(vendor_url(client, redirect_uri, holder.requested, "state", pkce_verifier(client)))
        owner = (holder.workload, holder.since.isoformat(), user_text(holder.user), provider.id)
        if await self._sessions.count_begun(*owner) > MOST_BEGUN:
            raise Throttled("This agent has begun too many consents for this user. Finish one, or wait ten minutes.")
        session = Session(
            uri=new_uri(),
            link=new_uri(),
            holder=holder,
            vendor=client.descriptor.name,
            vendor_host=asked.hostname or "",
            vendor_scheme=asked.scheme,
            return_url=return_url,
            custom_state=custom_state,
            expires=self._clock() + LIFETIME,
            recipient=client.recipient,
        )
        await self._sessions.create(session)
        await self._trail.allowed(session, "begun")
        return Started(self._link(session), session.uri)

    async def status(self, session_uri: str, holder: Holder) -> Status:
        """Return how far a session of this holder is.

        A failure is told as FAILED once; from then on it is raised, as AccessDenied in the vendor's words, because
        AWS's own poller does not look at FAILED and would go on asking for ten minutes. Raises AccessDenied for a
        session that is unknown, expired or another holder's.
        """
        session = await self._sessions.find(session_uri)
        if session is None or not self._is_of(session, holder):
            raise AccessDenied(_INVALID, reason="no such session" if session is None else "another holder's session")
        ending = await self._sessions.ending(session)
        if ending is None:
            if self._sessions.has_expired(session):
                raise AccessDenied(_INVALID, reason="session expired")
            return Status(SessionState.IN_PROGRESS, self._link(session))
        if ending.kind is EndKind.COMPLETED:
            return Status(SessionState.COMPLETED)
        if await self._sessions.count_told(session) > 1:
            raise AccessDenied(_failure(session, ending), reason=f"consent failed: {ending.kind.value}")
        return Status(SessionState.FAILED, code=ending.code, description=ending.description)

    async def complete(self, session_uri: str, user: User) -> Document:
        """CompleteResourceTokenAuth: exchange the code and store the grant, if this is the user who began.

        Returns whose consent it was and for what, for the record of who completed it.
        Raises AccessDenied when there is nothing to complete, or the user is another one: then the session is over and
        the code is never used. Raises ValidationFailed (`VendorError`) with the vendor's words when it refuses,
        ValidationFailed and nothing is stored when provider or agent were changed or deleted meanwhile, and Unavailable
        when a store or the key service is down: mostly nothing was spent then, and it can be asked again.
        """
        session = await self._sessions.find(session_uri)
        if session is None or self._sessions.has_expired(session):
            raise AccessDenied(_INVALID, reason="no such session" if session is None else "session expired")
        if await self._sessions.ending(session) is not None:
            raise AccessDenied(_INVALID, reason="the session has ended")
        if not _is_same(user, session.holder.user):
            await self._refuse_other(session, user)
        if not await self._sessions.has_code(session):
            raise AccessDenied(_INVALID, reason="the vendor has not answered, or another call completes the session")
        await self._vault.check_keys()  # what can be repeated fails before the code is taken
        answer = await self._sessions.claim(session)
        if answer is None:
            raise AccessDenied(_INVALID, reason="another call completes the session")
        try:
            await self._exchange(session, answer)
        except Exception as error:
            await self._fail(session, error)
            raise
        try:
            await self._sessions.end(session, Ending(EndKind.COMPLETED))
        except Unavailable as error:  # the grant is there, and that is what counts: the poller asks once more
            _log.warning("a completed consent could not be marked so", reason=error.reason)
        return details(session)

    # --- Completing --------------------------------------------------------------------------------------------------

    async def _refuse_other(self, session: Session, user: User) -> None:
        """Burn the session: what somebody else consented to must never become this user's, nor the other way round."""
        if await self._sessions.burn(session):
            await self._sessions.end(session, _OTHER_USER)
            await self._trail.denied(session, "refused: wrong_user", completedAs=user_words(user))
        raise AccessDenied(_INVALID, reason="the user is not the one who began")

    async def _exchange(self, session: Session, answer: VendorAnswer) -> None:
        provider = await self._providers.by_id(session.holder.provider_id)
        if provider is None:
            raise NotFound(f"The credential provider {session.holder.provider} was deleted.")
        # From here on it is this client, whatever becomes of the provider: the code goes to whoever gave it.
        client = (await self._providers.client_of(provider)).with_variables(answer.variables)
        if client.recipient != session.recipient:
            raise changed(session)
        began = self._clock()
        answered = await self._server.exchange_code(
            client,
            code=answer.code,
            redirect_uri=self._providers.callback_url(provider),
            code_verifier=answer.verifier,
            requested=session.holder.requested,
        )
        if isinstance(answered, Refused):
            raise _refused(session, answered)
        answered = await self._identified(session, client, answered)
        # Before it is stored: a consent that cannot be put on record is not given.
        await self._trail.allowed(session, "completed", **await self._compared(session, client, answered))
        described = client.descriptor
        await self._vault.store_consent(
            session.holder,
            answered,
            began=began,
            refresh_lifetime=described.refresh.policy.lifetime,
            supersedes=described.reconsent_supersedes,
            recipient=client.recipient,
            demand=lambda transaction: demand_standing(transaction, self._account, session, self._providers),
        )

    async def _identified(self, session: Session, client: Client, answered: Answered) -> Answered:
        """Return the answer with whose account it opens, asking the vendor where its answer does not say."""
        named = answered.subject or all(credential.subject for credential in answered.credentials)
        if named or client.descriptor.userinfo is None:
            return answered
        access = answered.credentials[0].access
        told = await self._server.userinfo(client.with_variables(answered.variables), access)
        if isinstance(told, Refused):  # no reason to throw away what the user gave
            _log.warning("the vendor did not say whose account it is", provider=session.holder.provider, code=told.code)
            return answered
        return replace(
            answered,
            account=answered.account or told.account,
            subject=told.subject,
            label=answered.label or told.label,
        )

    async def _compared(self, session: Session, client: Client, answered: Answered) -> Document:
        """Return what was granted beside what was asked, and whether the vendor's account is another than before."""
        asked = set(asked_scopes(client, session))
        granted: set[str] = set()
        for credential in answered.credentials:
            granted |= asked if credential.scopes is None else {*credential.scopes}
        found: Document = {"granted": sorted(granted)}
        if client.descriptor.scopes.compare:
            found |= {"missing": sorted(asked - granted), "extra": sorted(granted - asked)}
        for credential in answered.credentials:
            subject = credential.subject or answered.subject
            before = await self._vault.find(session.holder, credential.part)
            if before is not None and before.vendor_subject and subject and before.vendor_subject != subject:
                # Allowed: people have several accounts, and the newest consent is what they want now.
                _log.warning(
                    "consent by another account than before", provider=session.holder.provider, part=before.part
                )
                found["otherVendorAccount"] = True
        return found

    async def _fail(self, session: Session, error: Exception) -> None:
        ending = Ending(EndKind.NOT_KEPT, "server_error", "The gateway could not finish.")
        if isinstance(error, _VendorRefused):
            ending = Ending(EndKind.VENDOR_ERROR, error.vendor_code, error.vendor_description)
        elif isinstance(error, Overtaken):
            ending = error.ending
        await self._sessions.end(session, ending)
        await self._trail.denied(session, f"refused: {ending.kind.value}", error=ending.code)

    # --- Words -------------------------------------------------------------------------------------------------------

    def _is_of(self, session: Session, holder: Holder) -> bool:
        mine, theirs = (lookup_of(self._account, each, "") for each in (session.holder, holder))
        return hmac.compare_digest(mine, theirs)

    def _link(self, session: Session) -> str:
        return f"{self._base_url}/identities/oauth2/authorize?request_uri={quote(session.link, safe='')}"


_OTHER_USER = Ending(EndKind.WRONG_USER, "wrong_user", "Another user came back than the one who began.")


class _VendorRefused(ValidationFailed):
    """The vendor did not exchange the code."""

    def __init__(self, message: str, refused: Refused) -> None:
        super().__init__(message, kind="VendorError", reason=f"{refused.outcome}: {refused.code}")
        self.vendor_code = clean(refused.code)
        self.vendor_description = clean(refused.description)


def _refused(session: Session, refused: Refused) -> _VendorRefused:
    words = ": ".join(part for part in (clean(refused.code), clean(refused.description)) if part)
    advice = f" {refused.advice}" if refused.advice else ""
    said = words.removesuffix(".")
    return _VendorRefused(f"{session.vendor} did not exchange the authorization code: {said}.{advice}", refused)


def _failure(session: Session, ending: Ending) -> str:
    words = ": ".join(part for part in (ending.code, ending.description) if part)
    if ending.kind in {EndKind.DENIED, EndKind.VENDOR_ERROR}:
        return f"{session.vendor} refused the consent: {words}"
    return f"The consent failed: {words}"


def _is_same(one: User, other: User) -> bool:
    first, second = (user_text(user).encode(errors="surrogatepass") for user in (one, other))
    return hmac.compare_digest(first, second)


def _check_return_url(url: str) -> None:
    """Refuse what must not stand in a link or a Location, even if an administrator registered it."""
    if not _RETURN_URL.fullmatch(url) or url.partition(":")[0].lower() in _NEVER_RETURN_TO:
        wrong = FieldError("resourceOauth2ReturnUrl", "must be an absolute URL in ASCII that a browser can go to")
        raise ValidationFailed(f"{wrong.name} {wrong.message}.", fields=(wrong,))
