"""The parts of a gateway that know who signed, put together as the application puts them together."""

from datetime import timedelta

from identity_gateway.access_keys import AccessKeys
from identity_gateway.identity_providers import packaged
from identity_gateway.inbound import Signatures
from identity_gateway.model import Realm
from identity_gateway.protocol.sigv4 import Scope
from identity_gateway.records import Records
from identity_gateway.roles import Roles
from identity_gateway.sealing import Sealer
from identity_gateway.temporary_credentials import SEALING_PERIOD, TemporaryCredentials
from tests.fakes.clock import Clock
from tests.fakes.sigv4_client import SCOPE

ACCOUNT = "000000000000"
REALM = Realm(ACCOUNT, "us-east-1")


def temporary_credentials(clock: Clock, master_key: bytes = b"k" * 32, account: str = ACCOUNT) -> TemporaryCredentials:
    sealer = Sealer([master_key], "temporary-credentials", period_seconds=SEALING_PERIOD)
    return TemporaryCredentials(sealer, account, clock=clock)


def signatures_of(keys: AccessKeys, records: Records, clock: Clock, scope: Scope = SCOPE) -> Signatures:
    """Return what verifies signatures for a scope, with a window of five minutes."""
    roles = Roles(records, REALM, packaged(), clock=clock)
    return Signatures(keys, temporary_credentials(clock), roles, scope, clock=clock, max_skew=timedelta(minutes=5))
