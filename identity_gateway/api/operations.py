"""AWS operation name -> the story that serves it, and the resources that its caller must be allowed.

The list of supported operations in the README is checked against `SERVED`. What stands in AWS's models but not here is
answered with a clear error that names the operation.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from identity_gateway.admission import Demand, Kept, Recorded, Vended
from identity_gateway.api import contexts, demands
from identity_gateway.credential_providers import CredentialProviders, ProviderSettings
from identity_gateway.grants import Grants
from identity_gateway.inbound import UserTokens
from identity_gateway.model import CredentialKind, Document, Realm
from identity_gateway.outbound import Outbound
from identity_gateway.protocol.policy import Context
from identity_gateway.resource_policies import ResourcePolicies
from identity_gateway.runtimes import RuntimeEndpoints, Runtimes
from identity_gateway.tags import Tags
from identity_gateway.token_vault import TokenVaults
from identity_gateway.workload import Workloads

Story = Callable[[Document], Awaitable[Document | Vended | Recorded]]
Resources = Callable[[Realm, Document], tuple[str, ...]]
Demands = Callable[[Realm, Document], tuple[Demand, ...]]
Keys = Callable[[Document], Context]
Proof = Callable[[UserTokens, Document], Awaitable[Context]]
Keeper = Callable[[Document], Awaitable[Kept | None]]


@dataclass(frozen=True, slots=True)
class Stories:
    """What serves the operations of one gateway."""

    runtimes: Runtimes
    endpoints: RuntimeEndpoints
    workloads: Workloads
    tags: Tags
    providers: CredentialProviders
    vaults: TokenVaults
    outbound: Outbound
    grants: Grants
    provider_settings: ProviderSettings
    resource_policies: ResourcePolicies
    user_tokens: UserTokens


@dataclass(frozen=True, slots=True)
class Served:
    """How one operation is served: by which story, and what its caller must be allowed, here and at other services.

    `keys` are condition keys that the input gives; `proof` verifies the JWT that the input brings, for those it gives.
    `kept` finds a credential that can be handed out without the story.
    """

    story: Callable[[Stories], Story]
    resources: Callable[[Stories], Resources]
    demands: Demands = demands.nothing
    keys: Keys = contexts.nothing
    proof: Proof | None = None
    kept: Callable[[Stories], Keeper] | None = None


def _always(resources: Resources) -> Callable[[Stories], Resources]:
    """Name resources from the input alone."""
    return lambda _stories: resources


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


def _named(_realm: Realm, asked: Document) -> tuple[str, ...]:
    return (asked["resourceArn"],)


def _vault(realm: Realm, asked: Document) -> tuple[str, ...]:
    return (realm.token_vault_arn(asked.get("tokenVaultId") or "default"),)


def _provider(kind: CredentialKind) -> Resources:
    def of(realm: Realm, asked: Document) -> tuple[str, ...]:
        return (realm.token_vault_arn(), realm.credential_provider_arn(kind, asked["name"]))

    return of


def _grant(realm: Realm, asked: Document) -> tuple[str, ...]:
    return (realm.token_vault_arn(), realm.grant_arn(asked.get("grantId", "*")))


_RUNTIMES, _RUNTIME, _ENDPOINT = _always(_all_runtimes), _always(_runtime), _always(_endpoint)
_DIRECTORY, _WORKLOAD, _NAMED, _VAULT = _always(_directory), _always(_workload), _always(_named), _always(_vault)
_OAUTH2 = _always(_provider(CredentialKind.OAUTH2))
_API_KEY = _always(_provider(CredentialKind.API_KEY))
_GRANT = _always(_grant)

SERVED: Mapping[str, Served] = {
    "CreateAgentRuntime": Served(lambda s: s.runtimes.create_agent_runtime, _RUNTIMES, keys=contexts.of_authorizer),
    "GetAgentRuntime": Served(lambda s: s.runtimes.get_agent_runtime, _RUNTIME),
    "UpdateAgentRuntime": Served(lambda s: s.runtimes.update_agent_runtime, _RUNTIME, keys=contexts.of_authorizer),
    "DeleteAgentRuntime": Served(lambda s: s.runtimes.delete_agent_runtime, _RUNTIME),
    "ListAgentRuntimes": Served(lambda s: s.runtimes.list_agent_runtimes, _RUNTIMES),
    "ListAgentRuntimeVersions": Served(lambda s: s.runtimes.list_agent_runtime_versions, _RUNTIME),
    "CreateAgentRuntimeEndpoint": Served(lambda s: s.endpoints.create_agent_runtime_endpoint, _ENDPOINT),
    "GetAgentRuntimeEndpoint": Served(lambda s: s.endpoints.get_agent_runtime_endpoint, _ENDPOINT),
    "UpdateAgentRuntimeEndpoint": Served(lambda s: s.endpoints.update_agent_runtime_endpoint, _ENDPOINT),
    "DeleteAgentRuntimeEndpoint": Served(lambda s: s.endpoints.delete_agent_runtime_endpoint, _ENDPOINT),
    "ListAgentRuntimeEndpoints": Served(lambda s: s.endpoints.list_agent_runtime_endpoints, _RUNTIME),
    "CreateWorkloadIdentity": Served(lambda s: s.workloads.create_workload_identity, _WORKLOAD),
    "GetWorkloadIdentity": Served(lambda s: s.workloads.get_workload_identity, _WORKLOAD),
    "UpdateWorkloadIdentity": Served(lambda s: s.workloads.update_workload_identity, _WORKLOAD),
    "DeleteWorkloadIdentity": Served(lambda s: s.workloads.delete_workload_identity, _WORKLOAD),
    "ListWorkloadIdentities": Served(lambda s: s.workloads.list_workload_identities, _DIRECTORY),
    "GetWorkloadAccessToken": Served(
        lambda s: s.workloads.get_workload_access_token, _WORKLOAD, kept=lambda s: s.workloads.kept
    ),
    "GetWorkloadAccessTokenForJWT": Served(
        lambda s: s.workloads.get_workload_access_token_for_jwt, _WORKLOAD, proof=contexts.claims_of_user_token
    ),
    "GetWorkloadAccessTokenForUserId": Served(
        lambda s: s.workloads.get_workload_access_token_for_user_id,
        _WORKLOAD,
        keys=contexts.of_user_id,
        kept=lambda s: s.workloads.kept,
    ),
    "TagResource": Served(lambda s: s.tags.tag_resource, _NAMED),
    "UntagResource": Served(lambda s: s.tags.untag_resource, _NAMED),
    "ListTagsForResource": Served(lambda s: s.tags.list_tags_for_resource, _NAMED),
    "CreateOauth2CredentialProvider": Served(
        lambda s: s.providers.create_oauth2_credential_provider, _OAUTH2, demands.of_provider
    ),
    "GetOauth2CredentialProvider": Served(lambda s: s.providers.get_oauth2_credential_provider, _OAUTH2),
    "UpdateOauth2CredentialProvider": Served(
        lambda s: s.providers.update_oauth2_credential_provider, _OAUTH2, demands.of_provider
    ),
    "DeleteOauth2CredentialProvider": Served(lambda s: s.providers.delete_oauth2_credential_provider, _OAUTH2),
    "ListOauth2CredentialProviders": Served(lambda s: s.providers.list_oauth2_credential_providers, _VAULT),
    "CreateApiKeyCredentialProvider": Served(
        lambda s: s.providers.create_api_key_credential_provider, _API_KEY, demands.of_provider
    ),
    "GetApiKeyCredentialProvider": Served(lambda s: s.providers.get_api_key_credential_provider, _API_KEY),
    "UpdateApiKeyCredentialProvider": Served(
        lambda s: s.providers.update_api_key_credential_provider, _API_KEY, demands.of_provider
    ),
    "DeleteApiKeyCredentialProvider": Served(lambda s: s.providers.delete_api_key_credential_provider, _API_KEY),
    "ListApiKeyCredentialProviders": Served(lambda s: s.providers.list_api_key_credential_providers, _VAULT),
    "GetTokenVault": Served(lambda s: s.vaults.get_token_vault, _VAULT),
    "SetTokenVaultCMK": Served(lambda s: s.vaults.set_token_vault_cmk, _VAULT, demands.of_vault_key),
    "ResetTokenVaultKeyMaterial": Served(lambda s: s.vaults.reset_token_vault_key_material, _VAULT),
    "GetResourceOauth2Token": Served(
        lambda s: s.outbound.get_resource_oauth2_token,
        lambda s: s.outbound.resources(CredentialKind.OAUTH2),
        kept=lambda s: s.outbound.kept.oauth2,
    ),
    "GetResourceApiKey": Served(
        lambda s: s.outbound.get_resource_api_key,
        lambda s: s.outbound.resources(CredentialKind.API_KEY),
        kept=lambda s: s.outbound.kept.api_key,
    ),
    # AWS names no resource for it; the vault is what it changes.
    "CompleteResourceTokenAuth": Served(
        lambda s: s.outbound.complete_resource_token_auth,
        _VAULT,
        keys=contexts.of_completion,
        proof=contexts.claims_of_completion,
    ),
    "PutResourcePolicy": Served(lambda s: s.resource_policies.put_resource_policy, _NAMED),
    "GetResourcePolicy": Served(lambda s: s.resource_policies.get_resource_policy, _NAMED),
    "DeleteResourcePolicy": Served(lambda s: s.resource_policies.delete_resource_policy, _NAMED),
    # The gateway's own.
    "ListGrants": Served(lambda s: s.grants.list_grants, _GRANT),
    "GetGrant": Served(lambda s: s.grants.get_grant, _GRANT),
    "RevokeGrant": Served(lambda s: s.grants.revoke_grant, _GRANT),
    "GetProviderSettings": Served(lambda s: s.provider_settings.get_provider_settings, _OAUTH2),
    "PutProviderSettings": Served(lambda s: s.provider_settings.put_provider_settings, _OAUTH2),
}

INVOKE = "InvokeAgentRuntime"
"""Served by `front`, because its body is not read before its caller is known."""
