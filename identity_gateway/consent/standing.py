"""Whether what a consent was begun for still stands: the agent, the provider, and who receives code and tokens."""

from identity_gateway.consent.session import Ending, EndKind, Session
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.errors import ValidationFailed
from identity_gateway.model import CredentialProvider, WorkloadIdentity
from identity_gateway.records import Transaction


class Overtaken(ValidationFailed):
    """What the consent was for was changed or deleted meanwhile. `ending` is how the session ends."""

    def __init__(self, message: str, kind: EndKind) -> None:
        super().__init__(message, reason=f"consent overtaken: {kind.value}")
        self.ending = Ending(kind, "invalid_client", message)


def changed(session: Session) -> Overtaken:
    """Return the error for a code that would go to another client or server than the one that gave it."""
    name = session.holder.provider
    return Overtaken(
        f"The credential provider {name} was changed after this consent had begun. Begin another one.", EndKind.CHANGED
    )


async def demand_standing(transaction: Transaction, account: str, session: Session, known: CredentialProviders) -> None:
    """Raise Overtaken when the grant would belong to an agent or provider that is gone, or to another server."""
    holder = session.holder
    providers = await transaction.list(CredentialProvider, account=account, where={"id": holder.provider_id}, limit=1)
    if not providers:
        raise Overtaken(f"The credential provider {holder.provider} was deleted.", EndKind.REMOVED)
    if known.recipient_of(providers[0]) != session.recipient:
        raise changed(session)
    workload = await transaction.get(WorkloadIdentity, account=account, name=holder.workload)
    if workload is None or workload.created_at != holder.since:
        raise Overtaken(f"The workload identity {holder.workload} was deleted.", EndKind.REMOVED)
