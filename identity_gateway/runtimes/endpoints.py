"""Endpoints of agent runtimes: the names that callers give as `qualifier` (AWS control plane operations).

DEFAULT is made with the runtime and follows its newest version; it can be neither moved nor deleted. The others stay at
the version they were put to.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from identity_gateway.errors import Conflict, NotFound
from identity_gateway.idempotency import Idempotency
from identity_gateway.model import AgentRuntimeEndpoint, Document, Realm
from identity_gateway.paging import Paging
from identity_gateway.records import AlreadyExists, Records, Transaction
from identity_gateway.resource_policies import drop_policy
from identity_gateway.runtimes.control import DEFAULT, DELETING, READY, found, found_version, held, new_id
from identity_gateway.tags import drop_tags, put_tags

_PAGE = 100


class RuntimeEndpoints:
    """The endpoints of the agent runtimes of one account."""

    def __init__(
        self,
        records: Records,
        idempotency: Idempotency,
        paging: Paging,
        realm: Realm,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._idempotency = idempotency
        self._paging = paging
        self._realm = realm
        self._clock = clock

    async def create_agent_runtime_endpoint(self, asked: Document) -> Document:
        """CreateAgentRuntimeEndpoint, at the version asked for or the newest."""

        async def effect(transaction: Transaction) -> Document:
            runtime = await held(transaction, self._realm.account, asked["agentRuntimeId"])
            version = await found_version(transaction, runtime, int(asked.get("agentRuntimeVersion", runtime.version)))
            now, name = self._now(), asked["name"]
            endpoint = AgentRuntimeEndpoint(
                runtime.account, runtime.id, name, new_id(name), version.version, asked.get("description"), now, now
            )
            try:
                await transaction.create(endpoint)
            except AlreadyExists:
                raise Conflict(f"The agent runtime has an endpoint named {name} already.") from None
            await put_tags(transaction, runtime.account, self._arn(endpoint), asked.get("tags", {}))
            return self._named(endpoint) | {
                "agentRuntimeId": runtime.id,
                "endpointName": name,
                "targetVersion": str(endpoint.version),
                "createdAt": now,
            }

        return await self._idempotency.run("CreateAgentRuntimeEndpoint", asked, effect)

    async def get_agent_runtime_endpoint(self, asked: Document) -> Document:
        """GetAgentRuntimeEndpoint."""
        async with self._records.read() as transaction:
            endpoint = await self._found(transaction, asked)
        return self._shown(endpoint)

    async def update_agent_runtime_endpoint(self, asked: Document) -> Document:
        """UpdateAgentRuntimeEndpoint: what is not given stays."""

        async def effect(transaction: Transaction) -> Document:
            runtime = await held(transaction, self._realm.account, asked["agentRuntimeId"])
            endpoint = await self._found(transaction, asked)
            number = int(asked.get("agentRuntimeVersion", endpoint.version))
            if endpoint.name == DEFAULT and number != endpoint.version:
                raise Conflict(f"The endpoint {DEFAULT} follows the newest version and cannot be moved.")
            await found_version(transaction, runtime, number)
            description = asked.get("description", endpoint.description)
            endpoint = await transaction.update(
                replace(endpoint, version=number, description=description, updated_at=self._now())
            )
            return self._named(endpoint) | _versions(endpoint) | _times(endpoint)

        return await self._idempotency.run("UpdateAgentRuntimeEndpoint", asked, effect)

    async def delete_agent_runtime_endpoint(self, asked: Document) -> Document:
        """DeleteAgentRuntimeEndpoint."""

        async def effect(transaction: Transaction) -> Document:
            endpoint = await self._found(transaction, asked)
            if endpoint.name == DEFAULT:
                raise Conflict(f"The endpoint {DEFAULT} is deleted with its agent runtime, not before.")
            await transaction.delete(
                AgentRuntimeEndpoint,
                account=endpoint.account,
                runtime_id=endpoint.runtime_id,
                name=endpoint.name,
            )
            await drop_tags(transaction, endpoint.account, self._arn(endpoint))
            await drop_policy(transaction, endpoint.account, self._arn(endpoint))
            return {"status": DELETING, "agentRuntimeId": endpoint.runtime_id, "endpointName": endpoint.name}

        return await self._idempotency.run("DeleteAgentRuntimeEndpoint", asked, effect)

    async def list_agent_runtime_endpoints(self, asked: Document) -> Document:
        """ListAgentRuntimeEndpoints, in the order of the names."""
        question = ("ListAgentRuntimeEndpoints", asked["agentRuntimeId"])
        limit = asked.get("maxResults", _PAGE)
        async with self._records.read() as transaction:
            runtime = await found(transaction, self._realm.account, asked["agentRuntimeId"])
            endpoints = await transaction.list(
                AgentRuntimeEndpoint,
                account=self._realm.account,
                where={"runtime_id": runtime.id},
                after=self._paging.after(asked.get("nextToken"), *question),
                limit=limit + 1,
            )
        endpoints, token = self._paging.page(endpoints, limit, ("runtime_id", "name"), *question)
        return {"runtimeEndpoints": [self._shown(endpoint) for endpoint in endpoints], "nextToken": token}

    async def _found(self, transaction: Transaction, asked: Document) -> AgentRuntimeEndpoint:
        endpoint = await transaction.get(
            AgentRuntimeEndpoint,
            account=self._realm.account,
            runtime_id=asked["agentRuntimeId"],
            name=asked["endpointName"],
        )
        if endpoint is None:
            raise NotFound(f"The agent runtime {asked['agentRuntimeId']} has no endpoint {asked['endpointName']}.")
        return endpoint

    def _arn(self, endpoint: AgentRuntimeEndpoint) -> str:
        return self._realm.endpoint_arn(endpoint.runtime_id, endpoint.name)

    def _named(self, endpoint: AgentRuntimeEndpoint) -> Document:
        return {
            "agentRuntimeEndpointArn": self._arn(endpoint),
            "agentRuntimeArn": self._realm.runtime_arn(endpoint.runtime_id),
            "status": READY,
        }

    def _shown(self, endpoint: AgentRuntimeEndpoint) -> Document:
        return (
            self._named(endpoint)
            | _versions(endpoint)
            | _times(endpoint)
            | {"name": endpoint.name, "id": endpoint.id, "description": endpoint.description}
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _versions(endpoint: AgentRuntimeEndpoint) -> Document:
    return {"liveVersion": str(endpoint.version), "targetVersion": str(endpoint.version)}


def _times(endpoint: AgentRuntimeEndpoint) -> Document:
    return {"createdAt": endpoint.created_at, "lastUpdatedAt": endpoint.updated_at}
