"""Whose grant it is: everything that a request must share with a consent, and the key that this becomes.

Keeps and finds nothing; that a key is the only way to a grant is the vault's doing.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from identity_gateway.model import Document, Grant, GrantState, User, user_text
from identity_gateway.protocol.oauth2 import Requested

SUPERSEDED = "superseded"
"""The reason of a grant that a newer consent ended. A refresh that was under way does not bring it back."""

PROVIDER_CHANGED = "provider_changed"
"""The reason of a grant whose tokens would be sent to another server or client than the one that gave them."""

_CONSENTED_AT = "consentedAt"
_RECIPIENT = "recipient"
_NOT_ASKED = frozenset({_CONSENTED_AT, _RECIPIENT})
_NEWER_FOR = 120.0
"""Seconds. Of two consents that end in the wrong order the later one stays; clocks that differ by more do not count."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose grant: which agent, for which user, at which provider, and what it asks for.

    `since` is when the workload identity was made, and `provider_id` never comes again: a namesake of a deleted agent
    or provider is another one.
    """

    workload: str
    since: datetime
    user: User
    provider: str
    provider_id: str
    requested: Requested


def lookup_of(account: str, holder: Holder, part: str) -> str:
    """Return the key of a grant: a SHA-256 in hexadecimal of all that tells one grant from another.

    Every text is preceded by its length and every list by its count, so that no two holders share an encoding. Scopes,
    resources and audiences are sets; parameters are pairs in the order of their names.
    """
    requested = holder.requested
    pairs = [text for pair in sorted(requested.parameters.items()) for text in pair]
    asked = (sorted({*requested.scopes}), pairs, sorted({*requested.resources}), sorted({*requested.audiences}))
    whose = [holder.workload, _moment(holder.since), user_text(holder.user), holder.provider, holder.provider_id]
    digest = sha256()
    for texts in (["grant/1", account, *whose, part], *asked):
        digest.update(struct.pack(">I", len(texts)))
        for text in texts:
            encoded = text.encode(errors="surrogatepass")
            digest.update(struct.pack(">I", len(encoded)) + encoded)
    return digest.hexdigest()


def request_of(holder: Holder, consented_at: float, recipient: str) -> Document:
    """Return what a grant remembers of the request beside its columns, when the user consented, and who gave it."""
    known = {_RECIPIENT: recipient} if recipient else {}
    return {**_asked(holder), _CONSENTED_AT: consented_at, **known}


def _asked(holder: Holder) -> Document:
    requested = holder.requested
    return {
        "workloadSince": _moment(holder.since),
        "parameters": dict(sorted(requested.parameters.items())),
        "resources": sorted({*requested.resources}),
        "audiences": sorted({*requested.audiences}),
    }


def belongs_to(grant: Grant, holder: Holder, part: str) -> bool:
    """Whether the columns of a grant say what its key says. The key alone decides who gets it; this is the lock."""
    asked = {name: value for name, value in grant.request.items() if name not in _NOT_ASKED}
    return (
        (grant.workload, grant.user, grant.provider, grant.provider_id, grant.part)
        == (holder.workload, user_text(holder.user), holder.provider, holder.provider_id, part)
        and grant.scopes == tuple(sorted({*holder.requested.scopes}))
        and asked == _asked(holder)
    )


def is_over(grant: Grant) -> bool:
    """Whether somebody ended the grant on purpose: no refresh brings it back, only a consent does."""
    ended = {SUPERSEDED, PROVIDER_CHANGED}
    return grant.state == GrantState.REVOKED or (grant.state == GrantState.NEEDS_CONSENT and grant.reason in ended)


def may_be_sent(grant: Grant, recipient: str) -> bool:
    """Whether the tokens of a grant may go to this recipient (`Client.recipient`): it is the one that gave them.

    The state of the grant says so, too, but its row may have been read before the provider was changed, and the client
    made after that, or the other way round. What does not know its recipient is not held back.
    """
    given_by = grant.request.get(_RECIPIENT, "")
    return "" in {given_by, recipient} or given_by == recipient


def consented_at(grant: Grant) -> float:
    """Return when the consent that the grant stands for began, in seconds since the epoch."""
    found: float = grant.request.get(_CONSENTED_AT, 0.0)
    return found


def is_newer(grant: Grant, began: float) -> bool:
    """Whether a usable grant is of a consent that began shortly after this time."""
    return grant.state == GrantState.ACTIVE and began < consented_at(grant) <= began + _NEWER_FOR


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")
