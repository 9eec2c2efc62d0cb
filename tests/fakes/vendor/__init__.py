"""A vendor as its own documents describe it, standing where the network would be.

Strict on purpose: what the vendor would turn away is turned away, so that a wrong descriptor cannot pass.
"""

from tests.fakes.vendor.answers import Answer, Case, Lost, Unreachable
from tests.fakes.vendor.doors import Door, Turned, UserInfo
from tests.fakes.vendor.server import Family, MachineCase, Policy, Vendor
from tests.fakes.vendor.webhooks import Event, Webhooks

__all__ = [
    "Answer",
    "Case",
    "Door",
    "Event",
    "Family",
    "Lost",
    "MachineCase",
    "Policy",
    "Turned",
    "Unreachable",
    "UserInfo",
    "Vendor",
    "Webhooks",
]
