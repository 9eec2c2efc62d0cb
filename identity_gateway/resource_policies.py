"""Policies that stand at agent runtimes and their endpoints: who may do what to this one.

Puts, shows and removes them, and tells `authorization` which stand where. Does not decide anything.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from identity_gateway.admission import Recorded
from identity_gateway.errors import NotFound, ValidationFailed
from identity_gateway.model import AgentRuntime, AgentRuntimeEndpoint, Document, Realm, ResourcePolicy
from identity_gateway.protocol import policy, strictjson
from identity_gateway.protocol.policy import Kind, Policy
from identity_gateway.records import Records, Transaction
from identity_gateway.records.races import settled

_REMEMBERED = 4096


class ResourcePolicies:
    """The policies of one account's runtimes and endpoints."""

    def __init__(self, records: Records, realm: Realm, *, clock: Callable[[], float]) -> None:
        self._records = records
        self._realm = realm
        self._clock = clock
        self._known: dict[str, tuple[ResourcePolicy, Policy]] = {}

    async def put_resource_policy(self, asked: Document) -> Recorded:
        """PutResourcePolicy: replaces what stood there. Each statement must name the resource by its whole ARN."""
        arn, document = asked["resourceArn"], _document(asked["policy"])
        if faults := policy.check(document, kind=Kind.RESOURCE, resource=arn):
            raise ValidationFailed("The policy is not served by this gateway.", fields=tuple(faults))

        async def effect(transaction: Transaction) -> ResourcePolicy:
            # Writing the resource makes its deletion wait, or fail: no policy outlives what it stands at.
            await transaction.update(await self._resource(transaction, arn))
            found, now = await self._found(transaction, arn), datetime.fromtimestamp(self._clock(), UTC)
            if found is not None:
                return await transaction.update(replace(found, document=document, updated_at=now))
            made = ResourcePolicy(self._realm.account, arn, document, created_at=now, updated_at=now)
            await transaction.create(made)
            return made

        put = await settled(self._records, effect)
        return Recorded({"policy": _text(put.document)}, {"policy": put.document}, "policy put")

    async def get_resource_policy(self, asked: Document) -> Document:
        """GetResourcePolicy. Answers without a policy where none stands, as the official SDK has it."""
        async with self._records.read() as transaction:
            await self._resource(transaction, asked["resourceArn"])
            found = await self._found(transaction, asked["resourceArn"])
        return {} if found is None else {"policy": _text(found.document)}

    async def delete_resource_policy(self, asked: Document) -> Recorded:
        """DeleteResourcePolicy. Raises NotFound where none stands."""
        arn = asked["resourceArn"]
        async with self._records.write() as transaction:
            await self._resource(transaction, arn)
            if not await transaction.delete(ResourcePolicy, account=self._realm.account, resource=arn):
                raise NotFound(f"No resource policy stands at {arn}.")
        return Recorded({}, {}, "policy removed")

    async def standing_at(self, resources: Sequence[str]) -> dict[str, Policy]:
        """Return the policies of those of the resources that have one, as they are now (`Records.current`)."""
        prefix, standing = self._realm.arn("runtime/"), {}
        for arn in resources:
            if not arn.startswith(prefix) or "*" in arn:
                continue
            record = await self._records.current(ResourcePolicy, account=self._realm.account, resource=arn)
            if record is not None:
                standing[arn] = self._parsed(record)
        return standing

    def _parsed(self, record: ResourcePolicy) -> Policy:
        known = self._known.get(record.resource)
        if known is not None and known[0] is record:
            return known[1]
        parsed = policy.parse(record.document, kind=Kind.RESOURCE)
        self._known[record.resource] = record, parsed
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return parsed

    async def _found(self, transaction: Transaction, arn: str) -> ResourcePolicy | None:
        return await transaction.get(ResourcePolicy, account=self._realm.account, resource=arn)

    async def _resource(self, transaction: Transaction, arn: str) -> AgentRuntime | AgentRuntimeEndpoint:
        """Return the record that an ARN names, or raise NotFound."""
        account, prefix = self._realm.account, self._realm.arn("")
        found: AgentRuntime | AgentRuntimeEndpoint | None = None
        match arn.removeprefix(prefix).split("/") if arn.startswith(prefix) else []:
            case ["runtime", runtime_id]:
                found = await transaction.get(AgentRuntime, account=account, id=runtime_id)
            case ["runtime", runtime_id, "runtime-endpoint", name]:
                found = await transaction.get(AgentRuntimeEndpoint, account=account, runtime_id=runtime_id, name=name)
        if found is None:
            raise NotFound(f"There is no agent runtime or endpoint {arn}.")
        return found


async def drop_policy(transaction: Transaction, account: str, arn: str) -> None:
    """Remove the policy of a resource that is being deleted: a namesake begins without one."""
    await transaction.delete(ResourcePolicy, account=account, resource=arn)


def _document(text: str) -> Document:
    try:
        document = strictjson.loads(text.encode("utf-8"))
    except ValueError as error:
        raise ValidationFailed(f"The policy cannot be read: {error}.") from None
    if not isinstance(document, dict):
        raise ValidationFailed("The policy is not a JSON object.")
    return document


def _text(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
