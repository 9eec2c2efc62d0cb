"""The actions of one service that speaks the query protocol, by name. It does not decide which of them are served."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from identity_gateway.errors import UnknownOperation, ValidationFailed
from identity_gateway.protocol.aws.model import Shape, link_shapes, load_model
from identity_gateway.protocol.aws.query.form import read_form
from identity_gateway.protocol.aws.query.xml import result_document


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """One action, for example `AssumeRole` of `sts`. `signed` says whether the model asks for a signature."""

    name: str
    service: str
    namespace: str
    wrapper: str
    signed: bool
    input: Shape = field(repr=False)
    output: Shape = field(repr=False)

    def parse_input(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """Return the checked input by member name. Raises ValidationFailed, which repeats no value."""
        return read_form(self.input, fields)

    def serialise_output(self, output: Mapping[str, Any], request_id: str) -> bytes:
        """Return the XML of an output given by member name. Faults of the code are TypeErrors."""
        return result_document(self.name, self.wrapper, self.namespace, self.output, output, request_id)


class QueryService:
    """Every action of the loaded services, which have one version in common."""

    def __init__(self, actions: Mapping[str, Action], version: str, namespace: str) -> None:
        self.actions: Mapping[str, Action] = MappingProxyType(dict(actions))
        self.namespace = namespace
        self._version = version

    def match(self, fields: Mapping[str, str]) -> Action:
        """Return the action that a form names. Raises UnknownOperation, or ValidationFailed for another version."""
        action = self.actions.get(fields.get("Action", ""))
        if action is None:
            raise UnknownOperation("The action is not one of this service.")
        if fields.get("Version") != self._version:
            raise ValidationFailed(f"The Version must be {self._version}.", kind="UnknownOperation")
        return action


def load_query_service(*names: str) -> QueryService:
    """Read and compile the models of these services; the first one names version and namespace.

    Raises ValueError when two have an action of one name, or one has another protocol or version.
    """
    actions: dict[str, Action] = {}
    metadata: Mapping[str, Any] = {}
    for name in names:
        model = load_model(name)
        metadata = metadata or model["metadata"]
        if model["metadata"]["protocol"] != "query" or model["metadata"]["apiVersion"] != metadata["apiVersion"]:
            raise ValueError(f"{name} does not speak this version of the query protocol")
        shapes = link_shapes(model["shapes"])
        for traits in model["operations"].values():
            action = _action(name, traits, shapes, model["metadata"]["xmlNamespace"])
            if actions.setdefault(action.name, action) is not action:
                raise ValueError(f"two actions have the name {action.name}")
    return QueryService(actions, metadata["apiVersion"], metadata["xmlNamespace"])


def _action(service: str, traits: Mapping[str, Any], shapes: Mapping[str, Shape], namespace: str) -> Action:
    nothing = Shape("Unit", "structure")
    given = traits.get("output")
    return Action(
        name=traits["name"],
        service=service,
        namespace=namespace,
        wrapper=(given or {}).get("resultWrapper", f"{traits['name']}Result"),
        signed=traits.get("authtype") != "none",
        input=shapes[traits["input"]["shape"]] if "input" in traits else nothing,
        output=shapes[given["shape"]] if given else nothing,
    )
