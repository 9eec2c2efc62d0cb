"""Tags of runtimes, endpoints, workload identities and credential providers (TagResource and its siblings).

Tags carry no rights here: no policy reads them.
"""

from identity_gateway.errors import FieldError, NotFound, QuotaExceeded, ValidationFailed
from identity_gateway.model import (
    AgentRuntime,
    AgentRuntimeEndpoint,
    CredentialKind,
    CredentialProvider,
    Document,
    Realm,
    Tag,
    WorkloadIdentity,
)
from identity_gateway.records import Records, Transaction
from identity_gateway.records.races import settled

Tagged = AgentRuntime | AgentRuntimeEndpoint | WorkloadIdentity | CredentialProvider

_PROVIDERS = {f"{kind.value}credentialprovider": kind for kind in CredentialKind}

_MOST = 50


class Tags:
    """The tags of one account."""

    def __init__(self, records: Records, realm: Realm) -> None:
        self._records = records
        self._realm = realm

    async def tag_resource(self, asked: Document) -> Document:
        """Add tags or change their values."""

        async def effect(transaction: Transaction) -> None:
            # Writing the resource makes others wait who tag it too: the limit is counted on what they left.
            await transaction.update(await self._found(transaction, asked["resourceArn"]))
            await put_tags(transaction, self._realm.account, asked["resourceArn"], asked["tags"])

        await settled(self._records, effect)
        return {}

    async def untag_resource(self, asked: Document) -> Document:
        """Remove tags by key; keys that are not there are no error."""
        async with self._records.write() as transaction:
            await self._found(transaction, asked["resourceArn"])
            for key in asked["tagKeys"]:
                await transaction.delete(Tag, account=self._realm.account, resource=asked["resourceArn"], key=key)
        return {}

    async def list_tags_for_resource(self, asked: Document) -> Document:
        """Return all tags of a resource."""
        async with self._records.read() as transaction:
            await self._found(transaction, asked["resourceArn"])
            tags = await _tags_of(transaction, self._realm.account, asked["resourceArn"])
        return {"tags": tags}

    async def _found(self, transaction: Transaction, arn: str) -> Tagged:
        """Return the record that an ARN names, or raise NotFound."""
        found = await self._find(transaction, arn)
        if found is None:
            raise NotFound(f"There is no resource {arn}.")
        return found

    async def _find(self, transaction: Transaction, arn: str) -> Tagged | None:
        account = self._realm.account
        prefix = self._realm.arn("")
        if not arn.startswith(prefix):
            return None
        match arn.removeprefix(prefix).split("/"):
            case ["runtime", runtime_id]:
                return await transaction.get(AgentRuntime, account=account, id=runtime_id)
            case ["runtime", runtime_id, "runtime-endpoint", name]:
                return await transaction.get(AgentRuntimeEndpoint, account=account, runtime_id=runtime_id, name=name)
            case ["workload-identity-directory", "default", "workload-identity", name]:
                return await transaction.get(WorkloadIdentity, account=account, name=name)
            case ["token-vault", "default", kind, name] if kind in _PROVIDERS:
                return await transaction.get(CredentialProvider, account=account, kind=_PROVIDERS[kind], name=name)
        return None


async def put_tags(transaction: Transaction, account: str, arn: str, tags: dict[str, str]) -> None:
    """Add or change the tags of a resource that exists. Raises QuotaExceeded above 50, ValidationFailed for `aws:`."""
    if reserved := sorted(key for key in tags if key.lower().startswith("aws:")):
        raise ValidationFailed(
            "Tag keys must not start with aws:",
            fields=tuple(FieldError(f"tags.{key}", "starts with aws:") for key in reserved),
        )
    present = await _tags_of(transaction, account, arn)
    if len(present | tags) > _MOST:
        raise QuotaExceeded(f"A resource has at most {_MOST} tags.")
    for key in present.keys() & tags.keys():
        await transaction.delete(Tag, account=account, resource=arn, key=key)
    await transaction.create(*(Tag(account, arn, key, value) for key, value in tags.items()))


async def drop_tags(transaction: Transaction, account: str, arn: str) -> None:
    """Remove every tag of a resource that is being deleted."""
    await transaction.delete(Tag, account=account, resource=arn)


async def _tags_of(transaction: Transaction, account: str, arn: str) -> dict[str, str]:
    rows = await transaction.list(Tag, account=account, where={"resource": arn})
    return {row.key: row.value for row in rows}
