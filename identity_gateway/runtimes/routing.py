"""Find the runtime version that an invocation is for, from what stands in its path.

An unknown or foreign name is None, so that the front door can authenticate before it says what exists.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass

from identity_gateway.errors import ValidationFailed
from identity_gateway.model import AgentRuntimeEndpoint, AgentRuntimeVersion, Document, Realm, ResourcePolicy
from identity_gateway.records import Records
from identity_gateway.records.changes import Changed
from identity_gateway.records.current import names_of
from identity_gateway.records.tables import table_of
from identity_gateway.runtimes.configuration import RuntimeConfiguration
from identity_gateway.runtimes.control import DEFAULT

_ID = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,47}-[a-zA-Z0-9]{10}")
_ENDPOINT = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,47}")
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Name:
    """An agent runtime and one of its endpoints as a caller named them. Neither needs to exist."""

    runtime_id: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Route:
    """Where an invocation goes."""

    name: Name
    arn: str
    endpoint_arn: str
    version: int
    workload: str
    configuration: RuntimeConfiguration


class Routes:
    """Looks up routes of one account. Only immutable things are remembered: versions never change."""

    def __init__(self, records: Records, realm: Realm) -> None:
        self._records = records
        self._realm = realm
        self._arn = re.compile(
            re.escape(realm.arn("runtime/")) + f"({_ID.pattern})(?:/runtime-endpoint/({_ENDPOINT.pattern}))?"
        )
        self._versions: OrderedDict[tuple[str, int], RuntimeConfiguration] = OrderedDict()

    def name(self, identifier: str, *, account: str | None, qualifier: str | None) -> Name | None:
        """Read the name in a path: a runtime ARN, an endpoint ARN, or a bare id with the account beside it.

        None if the name is well-formed but cannot be one of this realm. Raises ValidationFailed otherwise.
        """
        if qualifier is not None and not _ENDPOINT.fullmatch(qualifier):
            raise ValidationFailed("The qualifier cannot be the name of an endpoint.")
        if not identifier.startswith("arn:"):
            return self._bare(identifier, account, qualifier or DEFAULT)
        match = self._arn.fullmatch(identifier)
        if match is None or account not in {None, self._realm.account}:
            return None
        if match[2] is not None and qualifier not in {None, match[2]}:
            raise ValidationFailed("The qualifier names another endpoint than the ARN.")
        return Name(match[1], match[2] or qualifier or DEFAULT)

    def _bare(self, identifier: str, account: str | None, qualifier: str) -> Name | None:
        if account is None:
            raise ValidationFailed("accountId is required when the path holds an id instead of an ARN.")
        if account != self._realm.account or not _ID.fullmatch(identifier):
            return None
        return Name(identifier, qualifier)

    def watched(self, name: Name) -> tuple[Changed, ...]:
        """Return what changes when the name leads elsewhere, or when other policies stand there."""
        arns = self._realm.runtime_arn(name.runtime_id), self._realm.endpoint_arn(name.runtime_id, name.endpoint)
        return (
            *names_of(AgentRuntimeEndpoint, {"runtime_id": name.runtime_id}),
            *(each for arn in arns for each in names_of(ResourcePolicy, {"resource": arn})),
            *((table_of(kind).name,) for kind in (AgentRuntimeEndpoint, ResourcePolicy)),
        )

    def named(self, asked: Document) -> Name | None:
        """Return the name in the members of an InvokeAgentRuntime request, as `name` does."""
        return self.name(asked["agentRuntimeArn"], account=asked.get("accountId"), qualifier=asked.get("qualifier"))

    async def asked_for(self, asked: Document) -> Route | None:
        """Return the route that the members of an InvokeAgentRuntime request name, or None."""
        name = self.named(asked)
        return await self.find(name) if name else None

    async def find(self, name: Name) -> Route | None:
        """Return the route, or None if there is no such runtime or endpoint."""
        account = self._realm.account
        endpoint = await self._records.current(
            AgentRuntimeEndpoint, account=account, runtime_id=name.runtime_id, name=name.endpoint
        )
        if endpoint is None:
            return None
        key = (name.runtime_id, endpoint.version)
        configuration = self._versions.get(key)
        if configuration is None:
            async with self._records.read() as transaction:
                version = await transaction.get(
                    AgentRuntimeVersion, account=account, runtime_id=name.runtime_id, version=endpoint.version
                )
            if version is None:
                return None
            configuration = self._remember(key, RuntimeConfiguration.of(version.configuration))
        return Route(
            name=name,
            arn=self._realm.runtime_arn(name.runtime_id),
            endpoint_arn=self._realm.endpoint_arn(name.runtime_id, name.endpoint),
            version=endpoint.version,
            workload=name.runtime_id,
            configuration=configuration,
        )

    async def at_version(self, route: Route, version: int) -> RuntimeConfiguration | None:
        """Return the configuration of another version of the route's runtime, or None when it is gone."""
        key = (route.name.runtime_id, version)
        if key in self._versions:
            return self._versions[key]
        async with self._records.read() as transaction:
            found = await transaction.get(
                AgentRuntimeVersion, account=self._realm.account, runtime_id=route.name.runtime_id, version=version
            )
        return self._remember(key, RuntimeConfiguration.of(found.configuration)) if found else None

    def _remember(self, key: tuple[str, int], configuration: RuntimeConfiguration) -> RuntimeConfiguration:
        self._versions[key] = configuration
        if len(self._versions) > _REMEMBERED:
            self._versions.popitem(last=False)
        return configuration
