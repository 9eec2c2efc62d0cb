"""The part of a gateway that decides by policies, put together as the application puts it together."""

from identity_gateway.authorization import Authorization
from identity_gateway.model import Realm
from identity_gateway.records import Records
from identity_gateway.resource_policies import ResourcePolicies
from tests.fakes.clock import Clock

REALM = Realm("000000000000", "us-east-1")


def authorization_of(records: Records, clock: Clock) -> Authorization:
    """Return what decides by the policies of callers, and by those that are kept for resources."""
    return Authorization(ResourcePolicies(records, REALM, clock=clock), region=REALM.region)
