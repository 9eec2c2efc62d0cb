"""The gateway as a subject: one folder of state is prepared, and each gateway that is measured starts on a copy of it.

It ships as it is: audit, metrics, request log, sessions and policies are on. Only the address of the agents is allowed,
and as many connections to one agent as the streams need.
"""

import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import processes
from tests.bench.issuer import AUDIENCE, Issuer
from tests.bench.servers import Server
from tests.fakes.consenting_vendor import ConsentingVendor, consented
from tests.gateways import RunningGateway, register

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "bedrock-agentcore:InvokeAgentRuntime",
                "bedrock-agentcore:GetWorkloadAccessToken",
                "bedrock-agentcore:GetResourceOauth2Token",
                "bedrock-agentcore:GetResourceApiKey",
            ],
            "Resource": "*",
        }
    ],
}
PEOPLE = 10
"""Users who have consented."""

SETTINGS: dict[str, Any] = {"agent_max_connections": "4000"}


@dataclass(frozen=True)
class Estate:
    """What stands in the prepared state: runtimes by their ARNs, an access key with a policy, workload tokens.

    `access` are those of users whose tokens the vault keeps, `back` is the return URL of their consents.
    """

    folder: Path
    with_jwt: str
    with_signature: str
    agent_with_jwt: str
    agent_with_signature: str
    key: tuple[str, str]
    workload: str
    workload_token: str
    access: tuple[str, ...]
    back: str


def prepare(folder: Path, issuer: Issuer, vendor: ConsentingVendor, upstream: str, agent: str) -> Estate:
    """Make the state: runtimes with and without an authorizer at both upstreams, providers, workloads and a key.

    Some users consent through the pages: what the vault keeps for them is real.
    """
    folder.mkdir()
    gateway = RunningGateway(folder, **SETTINGS)
    gateway.start()
    try:
        authorizer = {"discoveryUrl": f"{issuer.url}/.well-known/openid-configuration", "allowedAudience": [AUDIENCE]}
        guarded = {"authorizerConfiguration": {"customJWTAuthorizer": authorizer}}
        (folder / "policy.json").write_text(json.dumps(POLICY))
        made = gateway.command(
            "access-key", "create", "--name", "bench", "--policy", str(folder / "policy.json"), "--json"
        )
        key = json.loads(made.stdout)
        control = gateway.control
        control.create_workload_identity(name="bench")
        control.create_api_key_credential_provider(name="api-key", apiKey="k" * 40)
        metadata = {
            "issuer": issuer.url,
            "authorizationEndpoint": f"{issuer.url}/authorize",
            "tokenEndpoint": f"{issuer.url}/token",
            "responseTypes": ["code"],
        }
        control.create_oauth2_credential_provider(
            name="vendor",
            credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput={
                "customOauth2ProviderConfig": {
                    "clientId": "bench",
                    "clientSecret": "bench-secret",
                    "oauthDiscovery": {"authorizationServerMetadata": metadata},
                }
            },
        )
        return Estate(
            gateway.data_dir,
            register(gateway, upstream, name="with_jwt", **guarded),
            register(gateway, upstream, name="with_signature"),
            register(gateway, agent, name="agent_with_jwt", **guarded),
            register(gateway, agent, name="agent_with_signature"),
            (key["accessKeyId"], key["secretAccessKey"]),
            "bench",
            gateway.data.get_workload_access_token(workloadName="bench")["workloadAccessToken"],
            _consents(gateway, vendor),
            f"{vendor.url}/return",
        )
    finally:
        gateway.stop()


def _consents(gateway: RunningGateway, vendor: ConsentingVendor) -> tuple[str, ...]:
    control, data = gateway.control, gateway.data
    control.create_oauth2_credential_provider(
        name="people", credentialProviderVendor="CustomOauth2", oauth2ProviderConfigInput=vendor.configuration
    )
    access = []
    for user in (f"user-{number}" for number in range(PEOPLE)):
        consented(control, data, vendor, workload="bench-people", provider="people", user=user)
        found = data.get_workload_access_token_for_user_id(workloadName="bench-people", userId=user)
        access.append(found["workloadAccessToken"])
    return tuple(access)


def start(
    stack: ExitStack, estate: Estate, folder: Path, *, workers: int = 1, certificate: Path | None = None
) -> "Subject":
    """Start a gateway on a copy of the state, on the core of those that are measured."""
    folder.mkdir()
    shutil.copytree(estate.folder, folder / "data")
    tls = {"tls_cert_file": str(certificate), "tls_key_file": str(certificate)} if certificate else {}
    gateway = RunningGateway(folder, workers=workers, **SETTINGS, **tls)
    gateway.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled: none compiles anew
    stack.callback(gateway.kill)
    began = time.monotonic()
    with processes.on_core(processes.GATEWAY_CORE):
        gateway.start(wait=certificate is None)
    assert gateway.process is not None
    if certificate is not None:
        gateway.url = gateway.url.replace("http:", "https:")
        processes.wait_for_port(gateway.port, gateway.process.pid, gateway.log_file)
    return Subject(
        gateway, Server(gateway.process.pid, gateway.port, certificate is not None), time.monotonic() - began
    )


@dataclass(frozen=True)
class Subject:
    """A gateway that runs. `start_seconds` is how long it took until it was ready, or until it listened with TLS."""

    gateway: RunningGateway
    server: Server
    start_seconds: float
