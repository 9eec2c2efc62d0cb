"""Agent runtimes: where an invocation goes, and which authorizer guards it.

`control` serves the runtime and version operations of the AWS API, `endpoints` the endpoint operations, `configuration`
says what a version's configuration means here, and `routing` finds the version that an invocation is for.
"""

from identity_gateway.runtimes.configuration import RuntimeConfiguration
from identity_gateway.runtimes.control import Runtimes
from identity_gateway.runtimes.endpoints import RuntimeEndpoints
from identity_gateway.runtimes.routing import Route, Routes

__all__ = ["Route", "Routes", "RuntimeConfiguration", "RuntimeEndpoints", "Runtimes"]
