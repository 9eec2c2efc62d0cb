"""Threat: a vendor's public discovery document names endpoints in a network that the operator allowed for other things.

The gateway would send a client's credentials there, and repeat what the inner server says of them.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_network

import httpcore2
import pytest

from identity_gateway import catalog
from identity_gateway.authorization_server import AuthorizationServer
from identity_gateway.credential_providers.clients import build
from identity_gateway.egress import Egress, Fetched
from identity_gateway.key_signing import LocalSigning
from identity_gateway.model import CredentialProvider, Secret
from identity_gateway.protocol.oauth2 import Answered, Client, Refused, Requested
from identity_gateway.server_metadata import ServerMetadata
from tests.fakes.clock import Clock

PUBLIC, INNER, WIKI = "93.184.216.34", "10.9.9.9", "10.1.2.3"
TOKEN = json.dumps({"access_token": "access", "token_type": "Bearer"}).encode()
BORN = datetime(2026, 1, 1, tzinfo=UTC)


class Wire(Egress):
    """The way out with a wire of its own at its end: `names` are looked up in turn, `heard` is whoever was called."""

    def __init__(self, names: dict[str, list[str]], document: dict[str, str]) -> None:
        async def resolver(host: str, port: int) -> Sequence[str]:
            return names[host]

        super().__init__([ip_network("10.0.0.0/8")], resolver=resolver)
        self.document = json.dumps(document).encode()
        self.heard: list[str] = []

    async def _exchange(self, target, addresses: list, request: httpcore2.Request) -> Fetched:
        self.heard.append(target.host)
        body = self.document if ".well-known" in target.path_and_query else TOKEN
        return Fetched(200, (("content-type", "application/json"),), body)


def document(scheme: str, **endpoints: str) -> dict[str, str]:
    base = f"{scheme}://id.vendor.example"
    named = {name: base + "/" + name for name in ("issuer", "authorization_endpoint", "token_endpoint")}
    return named | endpoints


async def discovered(wire: Wire, scheme: str = "https") -> Client:
    """Return the client of a provider that was registered with a discovery URL."""
    url = f"{scheme}://id.vendor.example/.well-known/openid-configuration"
    configuration = {"customOauth2ProviderConfig": {"oauthDiscovery": {"discoveryUrl": url}, "clientId": "client-1"}}
    provider = CredentialProvider(
        "000000000000", "oauth2", "made", "id-1", "CustomOauth2", configuration, {"variables": {}}, "MANAGED", None,
        b"", BORN, BORN,
    )  # fmt: skip
    metadata = await ServerMetadata(wire, clock=Clock()).get(url)
    descriptor = catalog.load().get("CustomOauth2")
    assert descriptor is not None
    return build(provider, descriptor, {"client_secret": Secret("hush-hush-hush")}, metadata)


async def asked(wire: Wire, client: Client) -> Answered | Refused:
    server = AuthorizationServer(wire, clock=Clock(), signing=LocalSigning())
    return await server.machine_token(client, Requested())


@pytest.mark.parametrize("own", [[PUBLIC], [PUBLIC, INNER], [INNER, PUBLIC]], ids=["public", "mixed", "mixed too"])
async def test_a_public_document_leads_into_no_allowed_network(own: list[str]):
    wiki = "https://wiki.intranet.example/admin/delete?all=1"
    wire = Wire({"id.vendor.example": own, "wiki.intranet.example": [WIKI]}, document("https", token_endpoint=wiki))
    refused = await asked(wire, await discovered(wire))
    assert isinstance(refused, Refused)
    assert (refused.outcome, refused.code, wire.heard) == ("operator_config", "egress_refused", ["id.vendor.example"])


@pytest.mark.parametrize("endpoint", ["revocation_endpoint", "introspection_endpoint"])
async def test_no_endpoint_of_a_public_document_is_called_inside(endpoint: str):
    wire = Wire(
        {"id.vendor.example": [PUBLIC], "wiki.intranet.example": [WIKI]},
        document("https", **{endpoint: "https://wiki.intranet.example/"}),
    )
    server, client = AuthorizationServer(wire, clock=Clock(), signing=LocalSigning()), await discovered(wire)
    await server.revoke(client, access=Secret("access"), refresh=Secret("refresh"))
    await server.introspect(client, Secret("access"))
    assert "wiki.intranet.example" not in wire.heard


async def test_a_public_name_that_moves_inside_after_its_document_was_read_is_not_followed():
    names = {"id.vendor.example": [PUBLIC]}
    wire = Wire(names, document("https"))
    client = await discovered(wire)
    names["id.vendor.example"] = [WIKI]
    assert isinstance(await asked(wire, client), Refused)


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_document_from_an_allowed_network_may_name_endpoints_there(scheme: str):
    elsewhere = f"{scheme}://tokens.intranet.example/token"
    wire = Wire(
        {"id.vendor.example": [INNER], "tokens.intranet.example": [WIKI]},
        document(scheme, token_endpoint=elsewhere),
    )
    answered = await asked(wire, await discovered(wire, scheme))
    assert isinstance(answered, Answered)
    assert wire.heard == ["id.vendor.example", "tokens.intranet.example"]


async def test_a_public_document_may_name_public_endpoints_on_other_hosts():
    wire = Wire(
        {"id.vendor.example": [PUBLIC], "tokens.vendor.example": [PUBLIC]},
        document("https", token_endpoint="https://tokens.vendor.example/token"),
    )
    assert isinstance(await asked(wire, await discovered(wire)), Answered)
