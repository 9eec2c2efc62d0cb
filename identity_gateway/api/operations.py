"""AWS operation name -> the story that serves it, and the resources that its caller must be allowed.

The list of supported operations in the README is checked against `SERVED`. What stands in AWS's models but not here is
answered with a clear error that names the operation.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from identity_gateway.admission import Vended
from identity_gateway.model import Document, Realm
from identity_gateway.runtimes import RuntimeEndpoints, Runtimes
from identity_gateway.tags import Tags
from identity_gateway.workload import Workloads

Story = Callable[[Document], Awaitable[Document | Vended]]
Resources = Callable[[Realm, Document], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Stories:
    """What serves the operations of one gateway."""

    runtimes: Runtimes
    endpoints: RuntimeEndpoints
    workloads: Workloads
    tags: Tags


@dataclass(frozen=True, slots=True)
class Served:
    """How one operation is served."""

    story: Callable[[Stories], Story]
    resources: Resources


def _all_runtimes(realm: Realm, _asked: Document) -> tuple[str, ...]:
    return (realm.runtime_arn("*"),)


def _runtime(realm: Realm, asked: Document) -> tuple[str, ...]:
    return (realm.runtime_arn(asked["agentRuntimeId"]),)


def _endpoint(realm: Realm, asked: Document) -> tuple[str, ...]:
    name = asked.get("endpointName", asked.get("name"))
    return (*_runtime(realm, asked), realm.endpoint_arn(asked["agentRuntimeId"], name or "*"))


def _directory(realm: Realm, _asked: Document) -> tuple[str, ...]:
    return (realm.arn("workload-identity-directory/default"),)


def _workload(realm: Realm, asked: Document) -> tuple[str, ...]:
    name = asked.get("name", asked.get("workloadName"))
    return (*_directory(realm, asked), realm.workload_identity_arn(name or "*"))


def _tagged(_realm: Realm, asked: Document) -> tuple[str, ...]:
    return (asked["resourceArn"],)


SERVED: Mapping[str, Served] = {
    "CreateAgentRuntime": Served(lambda s: s.runtimes.create_agent_runtime, _all_runtimes),
    "GetAgentRuntime": Served(lambda s: s.runtimes.get_agent_runtime, _runtime),
    "UpdateAgentRuntime": Served(lambda s: s.runtimes.update_agent_runtime, _runtime),
    "DeleteAgentRuntime": Served(lambda s: s.runtimes.delete_agent_runtime, _runtime),
    "ListAgentRuntimes": Served(lambda s: s.runtimes.list_agent_runtimes, _all_runtimes),
    "ListAgentRuntimeVersions": Served(lambda s: s.runtimes.list_agent_runtime_versions, _runtime),
    "CreateAgentRuntimeEndpoint": Served(lambda s: s.endpoints.create_agent_runtime_endpoint, _endpoint),
    "GetAgentRuntimeEndpoint": Served(lambda s: s.endpoints.get_agent_runtime_endpoint, _endpoint),
    "UpdateAgentRuntimeEndpoint": Served(lambda s: s.endpoints.update_agent_runtime_endpoint, _endpoint),
    "DeleteAgentRuntimeEndpoint": Served(lambda s: s.endpoints.delete_agent_runtime_endpoint, _endpoint),
    "ListAgentRuntimeEndpoints": Served(lambda s: s.endpoints.list_agent_runtime_endpoints, _runtime),
    "CreateWorkloadIdentity": Served(lambda s: s.workloads.create_workload_identity, _workload),
    "GetWorkloadIdentity": Served(lambda s: s.workloads.get_workload_identity, _workload),
    "UpdateWorkloadIdentity": Served(lambda s: s.workloads.update_workload_identity, _workload),
    "DeleteWorkloadIdentity": Served(lambda s: s.workloads.delete_workload_identity, _workload),
    "ListWorkloadIdentities": Served(lambda s: s.workloads.list_workload_identities, _directory),
    "GetWorkloadAccessToken": Served(lambda s: s.workloads.get_workload_access_token, _workload),
    "GetWorkloadAccessTokenForJWT": Served(lambda s: s.workloads.get_workload_access_token_for_jwt, _workload),
    "GetWorkloadAccessTokenForUserId": Served(lambda s: s.workloads.get_workload_access_token_for_user_id, _workload),
    "TagResource": Served(lambda s: s.tags.tag_resource, _tagged),
    "UntagResource": Served(lambda s: s.tags.untag_resource, _tagged),
    "ListTagsForResource": Served(lambda s: s.tags.list_tags_for_resource, _tagged),
}

INVOKE = "InvokeAgentRuntime"
"""Served by `front`, because its body is not read before its caller is known."""
