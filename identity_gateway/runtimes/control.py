"""Create, get, update, delete and list agent runtimes and their versions (AWS control plane operations).

Each create and update cuts an immutable version; DEFAULT follows the newest; update replaces the whole configuration.
A runtime is born with its own workload identity, which lives and dies with it. Agents run elsewhere: a runtime is READY
as soon as it is registered.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from identity_gateway import workload
from identity_gateway.errors import Conflict, NotFound, QuotaExceeded
from identity_gateway.idempotency import Idempotency
from identity_gateway.identity_providers import IdentityProviders
from identity_gateway.model import AgentRuntime, AgentRuntimeEndpoint, AgentRuntimeVersion, Document, Realm
from identity_gateway.paging import Paging
from identity_gateway.records import AlreadyExists, Records, Transaction
from identity_gateway.resource_policies import drop_policy
from identity_gateway.runtimes.configuration import checked
from identity_gateway.tags import drop_tags, put_tags

DEFAULT = "DEFAULT"
READY = "READY"
DELETING = "DELETING"

_NOT_CONFIGURATION = frozenset({"agentRuntimeName", "agentRuntimeId", "clientToken", "tags"})
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PAGE = 100
_LAST_VERSION = 99_999


def new_id(name: str) -> str:
    """Return a resource id as AWS forms it: the name and ten random letters or digits."""
    return f"{name}-" + "".join(secrets.choice(_ALPHABET) for _ in range(10))


class Runtimes:
    """The agent runtimes of one account."""

    def __init__(
        self,
        records: Records,
        idempotency: Idempotency,
        paging: Paging,
        realm: Realm,
        providers: IdentityProviders,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._providers = providers
        self._records = records
        self._idempotency = idempotency
        self._paging = paging
        self._realm = realm
        self._clock = clock

    async def create_agent_runtime(self, asked: Document) -> Document:
        """CreateAgentRuntime."""
        configuration = _configuration(asked, self._providers)

        async def effect(transaction: Transaction) -> Document:
            try:
                return await self._create(transaction, asked, configuration)
            except AlreadyExists:
                raise Conflict(f"An agent runtime named {asked['agentRuntimeName']} exists already.") from None

        return await self._idempotency.run("CreateAgentRuntime", asked, effect)

    async def _create(self, transaction: Transaction, asked: Document, configuration: Document) -> Document:
        account, now = self._realm.account, self._now()
        name = asked["agentRuntimeName"]
        runtime = AgentRuntime(account, new_id(name), name, version=1, created_at=now, updated_at=now)
        await transaction.create(runtime)
        await transaction.create(
            AgentRuntimeVersion(account, runtime.id, 1, configuration, created_at=now),
            AgentRuntimeEndpoint(account, runtime.id, DEFAULT, new_id(DEFAULT), 1, None, now, now),
        )
        arn = self._realm.runtime_arn(runtime.id)
        await workload.create(transaction, account, runtime.id, now=now, managed_by=arn)
        await put_tags(transaction, account, arn, asked.get("tags", {}))
        return self._named(runtime) | {"createdAt": now, "status": READY}

    async def get_agent_runtime(self, asked: Document) -> Document:
        """GetAgentRuntime: the newest version, or the one asked for."""
        async with self._records.read() as transaction:
            runtime = await found(transaction, self._realm.account, asked["agentRuntimeId"])
            number = int(asked.get("agentRuntimeVersion", runtime.version))
            version = await found_version(transaction, runtime, number)
        return (
            version.configuration
            | self._named(runtime)
            | {
                "agentRuntimeName": runtime.name,
                "agentRuntimeVersion": str(version.version),
                "createdAt": runtime.created_at,
                "lastUpdatedAt": version.created_at,
                "status": READY,
            }
        )

    async def update_agent_runtime(self, asked: Document) -> Document:
        """UpdateAgentRuntime: cuts the next version from the whole given configuration; what is omitted is gone."""
        configuration = _configuration(asked, self._providers)

        async def effect(transaction: Transaction) -> Document:
            return await self._update(transaction, asked["agentRuntimeId"], configuration)

        return await self._idempotency.run("UpdateAgentRuntime", asked, effect)

    async def _update(self, transaction: Transaction, runtime_id: str, configuration: Document) -> Document:
        account, now = self._realm.account, self._now()
        runtime = await found(transaction, account, runtime_id)
        if runtime.version >= _LAST_VERSION:
            raise QuotaExceeded(f"An agent runtime has at most {_LAST_VERSION} versions.")
        runtime = await transaction.update(replace(runtime, version=runtime.version + 1, updated_at=now))
        await transaction.create(
            AgentRuntimeVersion(account, runtime.id, runtime.version, configuration, created_at=now)
        )
        default = await transaction.get(AgentRuntimeEndpoint, account=account, runtime_id=runtime.id, name=DEFAULT)
        if default is not None:
            await transaction.update(replace(default, version=runtime.version, updated_at=now))
        return self._named(runtime) | {"createdAt": runtime.created_at, "lastUpdatedAt": now, "status": READY}

    async def delete_agent_runtime(self, asked: Document) -> Document:
        """DeleteAgentRuntime: the runtime with all its versions, or the one version asked for."""

        async def effect(transaction: Transaction) -> Document:
            runtime = await held(transaction, self._realm.account, asked["agentRuntimeId"])
            if "agentRuntimeVersion" in asked:
                return await self._delete_version(transaction, runtime, int(asked["agentRuntimeVersion"]))
            return await self._delete(transaction, runtime)

        return await self._idempotency.run("DeleteAgentRuntime", asked, effect)

    async def _delete(self, transaction: Transaction, runtime: AgentRuntime) -> Document:
        account = self._realm.account
        endpoints = await transaction.list(AgentRuntimeEndpoint, account=account, where={"runtime_id": runtime.id})
        if named := [endpoint.name for endpoint in endpoints if endpoint.name != DEFAULT]:
            raise Conflict(f"The agent runtime still has endpoints: {', '.join(named)}. Delete them first.")
        await transaction.delete(AgentRuntimeEndpoint, account=account, runtime_id=runtime.id)
        await transaction.delete(AgentRuntimeVersion, account=account, runtime_id=runtime.id)
        await transaction.delete(AgentRuntime, account=account, id=runtime.id)
        await drop_tags(transaction, account, self._realm.runtime_arn(runtime.id))
        await drop_tags(transaction, account, self._realm.endpoint_arn(runtime.id, DEFAULT))
        await drop_policy(transaction, account, self._realm.runtime_arn(runtime.id))
        await drop_policy(transaction, account, self._realm.endpoint_arn(runtime.id, DEFAULT))
        await workload.delete(transaction, self._realm, runtime.id)
        return {"status": DELETING, "agentRuntimeId": runtime.id}

    async def _delete_version(self, transaction: Transaction, runtime: AgentRuntime, number: int) -> Document:
        version = await found_version(transaction, runtime, number)
        users = await transaction.list(
            AgentRuntimeEndpoint,
            account=runtime.account,
            where={"runtime_id": runtime.id, "version": version.version},
        )
        if users or version.version == runtime.version:
            names = ", ".join(endpoint.name for endpoint in users) or DEFAULT
            raise Conflict(f"Version {number} is in use by the endpoint {names}.")
        await transaction.delete(
            AgentRuntimeVersion, account=runtime.account, runtime_id=runtime.id, version=version.version
        )
        return {"status": DELETING, "agentRuntimeId": runtime.id, "agentRuntimeVersion": str(number)}

    async def list_agent_runtimes(self, asked: Document) -> Document:
        """ListAgentRuntimes, in the order of the ids, each with its newest version."""
        question = ("ListAgentRuntimes",)
        limit = asked.get("maxResults", _PAGE)
        async with self._records.read() as transaction:
            runtimes = await transaction.list(
                AgentRuntime,
                account=self._realm.account,
                after=self._paging.after(asked.get("nextToken"), *question),
                limit=limit + 1,
            )
            runtimes, token = self._paging.page(runtimes, limit, ("id",), *question)
            shown = [
                self._listed(runtime, await found_version(transaction, runtime, runtime.version))
                for runtime in runtimes
            ]
        return {"agentRuntimes": shown, "nextToken": token}

    async def list_agent_runtime_versions(self, asked: Document) -> Document:
        """ListAgentRuntimeVersions, oldest first."""
        question = ("ListAgentRuntimeVersions", asked["agentRuntimeId"])
        limit = asked.get("maxResults", _PAGE)
        async with self._records.read() as transaction:
            runtime = await found(transaction, self._realm.account, asked["agentRuntimeId"])
            versions = await transaction.list(
                AgentRuntimeVersion,
                account=self._realm.account,
                where={"runtime_id": runtime.id},
                after=self._paging.after(asked.get("nextToken"), *question),
                limit=limit + 1,
            )
        versions, token = self._paging.page(versions, limit, ("runtime_id", "version"), *question)
        return {"agentRuntimes": [self._listed(runtime, version) for version in versions], "nextToken": token}

    def _listed(self, runtime: AgentRuntime, version: AgentRuntimeVersion) -> Document:
        return {
            "agentRuntimeArn": self._realm.runtime_arn(runtime.id),
            "agentRuntimeId": runtime.id,
            "agentRuntimeName": runtime.name,
            "agentRuntimeVersion": str(version.version),
            "description": version.configuration.get("description", ""),
            "lastUpdatedAt": version.created_at,
            "status": READY,
        }

    def _named(self, runtime: AgentRuntime) -> Document:
        return {
            "agentRuntimeArn": self._realm.runtime_arn(runtime.id),
            "agentRuntimeId": runtime.id,
            "agentRuntimeVersion": str(runtime.version),
            "workloadIdentityDetails": {"workloadIdentityArn": self._realm.workload_identity_arn(runtime.id)},
        }

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


async def found(transaction: Transaction, account: str, runtime_id: str) -> AgentRuntime:
    """Return the runtime, or raise NotFound."""
    runtime = await transaction.get(AgentRuntime, account=account, id=runtime_id)
    if runtime is None:
        raise NotFound(f"There is no agent runtime {runtime_id}.")
    return runtime


async def held(transaction: Transaction, account: str, runtime_id: str) -> AgentRuntime:
    """Return the runtime and keep other requests from changing what belongs to it until the transaction ends.

    Raises NotFound, or Stale when another request was quicker. Endpoints name versions: whoever makes the one or
    deletes the other must hold their runtime.
    """
    return await transaction.update(await found(transaction, account, runtime_id))


async def found_version(transaction: Transaction, runtime: AgentRuntime, number: int) -> AgentRuntimeVersion:
    """Return one version of the runtime, or raise NotFound."""
    version = await transaction.get(AgentRuntimeVersion, account=runtime.account, runtime_id=runtime.id, version=number)
    if version is None:
        raise NotFound(f"The agent runtime {runtime.id} has no version {number}.")
    return version


def _configuration(asked: Document, providers: IdentityProviders) -> dict[str, Any]:
    return checked({name: value for name, value in asked.items() if name not in _NOT_CONFIGURATION}, providers)
