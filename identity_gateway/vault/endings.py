"""How all grants of a provider end at once, when what their tokens would be sent to is another than it was.

Runs in the transaction of whoever changes the provider. Revokes nothing at a vendor, and destroys no token.
"""

from datetime import datetime

from identity_gateway.model import Grant, GrantState
from identity_gateway.records import Stale, Transaction
from identity_gateway.vault.holder import PROVIDER_CHANGED
from identity_gateway.vault.tokens import settled

_PAGE = 500
_ATTEMPTS = 10


async def end_all(transaction: Transaction, account: str, provider_id: str, now: datetime) -> int:
    """Let every grant of the provider wait for a new consent, and return how many did not before.

    Those that waited for one already are marked as well, because a refresh under way might bring them back. Tokens
    stay sealed. Raises Stale when others keep changing one of the grants.
    """
    ended, after = 0, None
    while True:
        page = await transaction.list(
            Grant, account=account, where={"provider_id": provider_id}, after=after, limit=_PAGE
        )
        for grant in page:
            ended += await _end(transaction, grant, now)
        if len(page) < _PAGE:
            return ended
        after = (page[-1].id,)


async def _end(transaction: Transaction, grant: Grant, now: datetime) -> bool:
    """End one grant. Refreshes change grants all the time: one of many must not undo what was done to the others."""
    found: Grant | None = grant
    for _ in range(_ATTEMPTS):
        if found is None or found.state == GrantState.REVOKED or found.reason == PROVIDER_CHANGED:
            return False
        try:
            await transaction.update(settled(found, GrantState.NEEDS_CONSENT, PROVIDER_CHANGED, now))
        except Stale:
            found = await transaction.get(Grant, account=grant.account, id=grant.id)
        else:
            return found.state != GrantState.NEEDS_CONSENT
    raise Stale
