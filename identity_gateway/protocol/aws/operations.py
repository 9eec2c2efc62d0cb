"""The operations of AWS's service models, by name and by method and path.

It does not decide which of them are served: `api.operations` does. The query protocol, whose actions have no route,
has its own reader (`query`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

from identity_gateway.protocol.aws.model import Shape, link_shapes, load_model, reachable
from identity_gateway.protocol.aws.rest_json import RestJson
from identity_gateway.protocol.aws.routes import RouteTable

SERVICES = ("bedrock-agentcore", "bedrock-agentcore-control", "identity-gateway")
"""The two planes of AgentCore, as botocore names them, and our own operations. One signing name, one listener."""


class Wire(Protocol):
    """How one operation reads its requests and writes its responses: one class per protocol of AWS.

    `routed` tells whether method and path say which operation is meant, or something in the request does.
    """

    @property
    def routed(self) -> bool:
        """Return whether `Services.match` finds the operation."""
        ...

    @property
    def body_kind(self) -> str:
        """Return `json`, `blob payload` or `none`."""
        ...

    def parse(
        self, labels: Mapping[str, str], raw_query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> dict[str, Any]:
        """Return the checked input by member name, or raise ValidationFailed."""
        ...

    def serialise(self, output: Mapping[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return status, headers and body of an output."""
        ...


WIRES: Mapping[str, Callable[[Shape, Shape, int], Wire]] = {"rest-json": RestJson}
"""The class that speaks a protocol, by the protocol's name in the models."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of one service, for example `CreateAgentRuntime` of `bedrock-agentcore-control`.

    `uri` is the path template of the model, `errors` the error codes that the operation declares, and
    `idempotency_token` the name of the member that makes a repeated call the same call, if there is one.
    """

    name: str
    service: str
    method: str
    uri: str
    success_status: int
    errors: frozenset[str]
    idempotency_token: str | None
    input: Shape = field(repr=False)
    output: Shape = field(repr=False)
    wire: Wire = field(repr=False)

    def __str__(self) -> str:
        return f"{self.service}:{self.name}"

    @property
    def policy_prefix(self) -> str:
        """Return what stands before the colon where IAM policies name this action. AWS's planes share theirs."""
        return self.service.removesuffix("-control")

    @property
    def body_kind(self) -> str:
        """Return what the body of a request is: `json`, `blob payload` (one member, as it stands) or `none`."""
        return self.wire.body_kind

    @cached_property
    def sensitive_members(self) -> frozenset[str]:
        """Return the names of the input's own members that are or may hold something AWS marks as sensitive."""
        return frozenset(
            name
            for name, member in self.input.members.items()
            if any(shape.sensitive for shape in reachable(member.shape))
        )

    def parse_input(
        self, labels: Mapping[str, str], raw_query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> dict[str, Any]:
        """Return the input that a request carries, by member name, in Python types and checked against the model.

        `labels` come from `Services.match`. A repeated query parameter or header of a single value is refused; a plus
        in the query is a plus. Timestamps are datetimes in UTC, blobs bytes. A blob payload is always present: to
        stream it instead, give an empty body and forward the stream. Absent members are absent from the result.

        Raises ValidationFailed: with every field that failed (20 at most) and no value repeated, or of kind CannotParse
        for a body or query that cannot be read. Not checked: sizes of query, headers and body (bound them first),
        the content type, and whether the resources named exist.
        """
        return self.wire.parse(labels, raw_query, headers, body)

    def serialise_output(self, output: Mapping[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return status, headers (lower-case names) and body for an output given by member name.

        None is an absent member. A name that the output does not have is a TypeError, and so is a value of another type
        or a datetime without a time zone: these are faults of the code. Inside nested structures, members that the
        output's shape lacks are left out, so that a stored configuration can be passed on with members that only inputs
        have. Required members, lengths, patterns and enums are not checked. Event streams are a TypeError.
        """
        return self.wire.serialise(output)


@dataclass(frozen=True, slots=True)
class Match:
    """The operation that a request line means, and the decoded labels of its path by their wire names."""

    operation: Operation
    labels: dict[str, str]


class Services:
    """Every operation of the loaded services."""

    def __init__(self, operations: Sequence[Operation], error_statuses: Mapping[str, int]) -> None:
        """Index the operations. Raises ValueError if two have one name, or one method and path."""
        named: dict[str, Operation] = {}
        self._routes = RouteTable[Operation]()
        for operation in operations:
            if named.setdefault(operation.name, operation) is not operation:
                raise ValueError(f"{operation} and {named[operation.name]} have the same name")
            if operation.wire.routed:
                self._routes.add(operation.method, operation.uri, operation)
        self.operations: Mapping[str, Operation] = MappingProxyType(named)
        self.error_statuses: Mapping[str, int] = MappingProxyType(dict(error_statuses))

    def match(self, method: str, raw_path: bytes) -> Match:
        """Return the operation with this method and path, and the labels that the path carries.

        `raw_path` is the path of the wire: still escaped, without the query string. It is split at `/`, trailing
        slashes count, and each label is decoded once. Raises UnknownOperation, or ValidationFailed for a malformed
        path: a broken escape, an empty or dot segment, a control character, literal or decoded.
        """
        operation, labels = self._routes.match(method, raw_path)
        return Match(operation, labels)


def load_services(names: Sequence[str] = SERVICES) -> Services:
    """Read and compile the models of these services. Takes a tenth of a second; do it once, at start.

    Raises ValueError if the models contradict one another or use what is not understood here.
    """
    operations: list[Operation] = []
    statuses: dict[str, int] = {}
    for service in names:
        model = load_model(service)
        shapes = link_shapes(model["shapes"])
        codes = _error_codes(model["shapes"])
        statuses.update({code: model["shapes"][name]["error"]["httpStatusCode"] for name, code in codes.items()})
        wire = WIRES[model["metadata"]["protocol"]]
        operations.extend(_operation(service, traits, shapes, codes, wire) for traits in model["operations"].values())
    return Services(operations, statuses)


def _error_codes(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the code on the wire of every error shape, by the shape's name."""
    return {name: traits["error"].get("code", name) for name, traits in raw.items() if "error" in traits}


def _operation(
    service: str,
    traits: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    codes: Mapping[str, str],
    wire: Callable[[Shape, Shape, int], Wire],
) -> Operation:
    nothing = Shape("Unit", "structure")
    taken = shapes[traits["input"]["shape"]] if "input" in traits else nothing
    given = shapes[traits["output"]["shape"]] if "output" in traits else nothing
    status = traits["http"].get("responseCode", 200)
    tokens = [member.name for member in taken.members.values() if member.idempotency_token]
    return Operation(
        name=traits["name"],
        service=service,
        method=traits["http"]["method"],
        uri=traits["http"]["requestUri"],
        success_status=status,
        errors=frozenset(codes.get(error["shape"], error["shape"]) for error in traits.get("errors", ())),
        idempotency_token=tokens[0] if tokens else None,
        input=taken,
        output=given,
        wire=wire(taken, given, status),
    )
