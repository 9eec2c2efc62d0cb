"""AWS's wire, compiled from botocore's own service models: routes, input parsing and checking, output and error bytes.

It does not authenticate, authorise or serve anything, and it knows no operation by name: what AWS adds to its models
works here after an upgrade of botocore. Everything is pure once `load_services` has read the models.

Decisions that the models leave open:

- A member that is JSON `null` is absent. An unknown member, query parameter or header is ignored.
- A body sent to an operation that has none is ignored, and so is a query string where the operation has no parameter.
- An absent idempotency token (`clientToken`) stays absent: nothing is made up on the caller's behalf.
- U+0000 and lone surrogates are refused in every string: no database or log of ours can hold them.
- The content type of a JSON body is not checked: what is not strict JSON is refused whatever it is called.
"""

from identity_gateway.protocol.aws.model import RELAXATIONS, Member, Relaxation, Shape
from identity_gateway.protocol.aws.operations import SERVICES, Match, Operation, Services, load_services
from identity_gateway.protocol.aws.outputs import error_response

__all__ = [
    "RELAXATIONS",
    "SERVICES",
    "Match",
    "Member",
    "Operation",
    "Relaxation",
    "Services",
    "Shape",
    "error_response",
    "load_services",
]
