"""One consent, as the rows that it becomes: what is in the answer, what was asked, and what was there before.

Seals nothing and keeps nothing.
"""

from dataclasses import dataclass
from datetime import datetime

from identity_gateway.model import Grant, GrantState, user_text
from identity_gateway.protocol.oauth2 import Answered, Credential
from identity_gateway.vault.holder import Holder, lookup_of, request_of
from identity_gateway.vault.tokens import Tokens, later, refresh_expiry, time_of


@dataclass(frozen=True, slots=True)
class Consent:
    """What a user granted, whose it is, when the call for it began, and who gave it (`Client.recipient`).

    `refresh_lifetime` (seconds) counts when the answer does not say.
    """

    account: str
    holder: Holder
    answered: Answered
    began: float
    refresh_lifetime: float | None
    recipient: str

    def tokens(self, credential: Credential) -> Tokens:
        """Return what is sealed of one credential."""
        answered = self.answered
        return Tokens(
            credential.access, credential.refresh, credential.kind, dict(answered.variables), dict(answered.secrets)
        )

    def draft(
        self, credential: Credential, present: Grant | None, *, refresh_digest: str, new_id: str, now: datetime
    ) -> Grant:
        """Return the row of one credential, not sealed yet: a new one, or the next generation of the one present."""
        holder, answered = self.holder, self.answered
        scopes = tuple(sorted({*holder.requested.scopes}))
        return Grant(
            account=self.account,
            id=new_id if present is None else present.id,
            lookup=lookup_of(self.account, holder, credential.part),
            workload=holder.workload,
            user=user_text(holder.user),
            provider=holder.provider,
            provider_id=holder.provider_id,
            part=credential.part,
            scopes=scopes,
            granted_scopes=scopes if credential.scopes is None else credential.scopes,
            request=request_of(holder, self.began, self.recipient),
            state=GrantState.ACTIVE,
            reason="",
            vendor_account=answered.account,
            vendor_subject=credential.subject or answered.subject,
            label=answered.label,
            generation=1 if present is None else present.generation + 1,
            expires_at=later(self.began, credential.lifetime),
            refresh_expires_at=refresh_expiry(credential, self.began, self.refresh_lifetime, None),
            sealed=b"",
            refresh_digest=refresh_digest,
            intent_owner=None,
            intent_at=None,
            intent_digest=None,
            failures=0,
            retry_at=None,
            obtained_at=time_of(self.began),
            created_at=now if present is None else present.created_at,
            updated_at=now,
            revision=1 if present is None else present.revision,
        )
