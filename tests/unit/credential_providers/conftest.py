"""Credential providers on a real database and envelope, with vendors from the catalog."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from identity_gateway import catalog
from identity_gateway.catalog import Catalog
from identity_gateway.credential_providers import CredentialProviders
from identity_gateway.egress import Egress
from identity_gateway.envelope import Envelope
from identity_gateway.external_secrets import SecretsManager
from identity_gateway.key_encryption.local import LocalKey
from identity_gateway.key_encryption.ring import KeyRing
from identity_gateway.model import Realm
from identity_gateway.paging import Paging
from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Sealer
from identity_gateway.server_metadata import ServerMetadata
from tests.fakes.clock import Clock
from tests.fakes.external_secrets import REGION, given_credentials, running_aws, secret_owner
from tests.fakes.issuer import rsa_private
from tests.fakes.private_keys import pem

__all__ = ["given_credentials", "running_aws", "secret_owner"]

ACCOUNT = "000000000000"
KEY = b"k" * 32


@pytest.fixture(scope="session")
def vendors() -> Catalog:
    return catalog.load()


@pytest.fixture
def envelope(records: SqlRecords, clock: Clock) -> Envelope:
    return Envelope(KeyRing(records, LocalKey([KEY], clock=clock), ACCOUNT, services={}), clock=clock)


@pytest.fixture
async def providers(
    records: SqlRecords, envelope: Envelope, vendors: Catalog, clock: Clock, aws: str, aws_credentials: None
) -> AsyncIterator[CredentialProviders]:
    egress = Egress([ip_network("127.0.0.0/8")])
    manager = SecretsManager(REGION, clock=clock, endpoint_url=aws)
    metadata = ServerMetadata(egress, clock=clock)
    yield CredentialProviders(
        records, envelope, vendors, manager, metadata, Paging(Sealer([KEY], "page"), ACCOUNT),
        Realm(ACCOUNT, REGION), base_url="https://gateway.example", clock=clock,
    )  # fmt: skip
    await manager.aclose()
    await metadata.aclose()
    await egress.aclose()


@pytest.fixture(scope="session")
def rsa_pem() -> str:
    return pem(rsa_private())


@pytest.fixture(scope="session")
def ec_pem() -> str:
    return pem(ec.generate_private_key(ec.SECP256R1()))
