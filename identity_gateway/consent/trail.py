"""The audit records of a consent: begun, opened, denied, completed, refused. No code, no state, no session id."""

from typing import Any

from identity_gateway.audit import ALLOWED, DENIED, Audit, Decided
from identity_gateway.consent.session import Session
from identity_gateway.model import CredentialKind, Document, Realm, user_words


class Trail:
    """Records what becomes of the consents of one account. Raises Unavailable when a record cannot be kept."""

    def __init__(self, audit: Audit, realm: Realm) -> None:
        self._audit = audit
        self._realm = realm

    async def allowed(self, session: Session, reason: str, *, source: str = "", **details: Any) -> None:
        """Return once it is on record that the consent went one step further."""
        await self._keep(session, ALLOWED, reason, source, details)

    async def denied(self, session: Session, reason: str, *, source: str = "", **details: Any) -> None:
        """Return once it is on record that the consent came to nothing."""
        await self._keep(session, DENIED, reason, source, details)

    async def _keep(self, session: Session, decision: str, reason: str, source: str, more: Document) -> None:
        holder = session.holder
        await self._audit.record(
            Decided(
                principal=self._realm.workload_identity_arn(holder.workload),
                action="Consent",
                resource=self._realm.credential_provider_arn(CredentialKind.OAUTH2, holder.provider),
                decision=decision,
                reason=reason,
                source=source,
                details={**details(session), **more},
            )
        )


def details(session: Session) -> Document:
    """Return whose consent it is, and what was asked for: what every record of it says."""
    holder = session.holder
    return {
        "user": user_words(holder.user),
        "workload": holder.workload,
        "provider": holder.provider,
        "providerId": holder.provider_id,
        "scopes": list(holder.requested.scopes),
        "session": session.digest[:16],
    }
