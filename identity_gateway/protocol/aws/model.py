"""The service models that botocore ships, and our own, read and linked into shapes.

`RELAXATIONS` says where we depart from them. It does not read requests or write responses, and checks no value:
`values`, `rest_json` and `outputs` do.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from botocore.loaders import Loader

OUR_MODELS = str(files("identity_gateway") / "models")
"""The folder of the gateway's own service model, in the form that botocore reads."""

PATTERNED_LENGTH = 4096
"""Longest string held against a pattern when the model sets no maximum: a match may cost the square of the length."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """A trait of a shape that differs from AWS's model: `value` replaces it, or is accepted `as_well`.

    `value` is a regular expression where the trait is a pattern, or an enum to which it adds.
    """

    value: Any
    reason: str
    as_well: bool = False


_AGENT_URL = (
    r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)(?::[0-9]{1,5})?"
    r"(?:/[A-Za-z0-9._~!$&'()*+;=:@%/-]*)?"
)

RELAXATIONS: Mapping[tuple[str, str], Relaxation] = {
    ("RuntimeContainerUri", "pattern"): Relaxation(
        rf"{_AGENT_URL}(?:, ?{_AGENT_URL}){{0,15}}",
        "A self-hosted agent is not an image in a registry but a server that runs somewhere: "
        "http(s)://host[:port][/path], without user information, query, fragment or comma; or several of these.",
        as_well=True,
    ),
    ("UserTokenType", "pattern"): Relaxation(
        r"[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+",
        "Stricter than the model, whose unescaped dots match any character and cost the square of the length to "
        "refuse 128 KiB of letters. The dots of a JSON Web Token are dots (RFC 7515 §7.1).",
    ),
    ("CredentialProviderVendorType", "enum"): Relaxation(
        r"[A-Za-z0-9]{1,40}Oauth2",
        "A vendor is a file in the catalog, and there are more of them than AWS lists. Whether the catalog knows the "
        "vendor is checked where its provider is made.",
        as_well=True,
    ),
    ("TaggableResourcesArn", "pattern"): Relaxation(
        r"arn:[^:]*:bedrock-agentcore:[a-z0-9-]+:[0-9]{12}:token-vault/[^/]+/oauth2credentialprovider/[^/]+",
        "AWS's pattern has no digits before a name, and so refuses the ARN of an OAuth2 credential provider, although "
        "one is created with tags.",
        as_well=True,
    ),
    ("DefaultClientSecretType", "max"): Relaxation(
        8192,
        "The private key of private_key_jwt (RFC 7523) may stand here as PEM: AWS takes one from KMS only, which not "
        "everybody has. An RSA key of 4096 bits has some 3300 characters; 2048 stay the limit for other secrets.",
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A type of the model.

    `kind` is string, integer, long, float, double, boolean, timestamp, blob, list, map, structure, union (exactly one
    member), document (any JSON) or eventstream. `minimum` and `maximum` bound a number, else the length: code points,
    bytes or entries. `members` belong to structures and unions; `element` to lists and maps, `key` to maps.
    """

    name: str
    kind: str
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    enum: tuple[str, ...] = ()
    sensitive: bool = False
    payload: str | None = None
    timestamp_format: str | None = None
    members: dict[str, "Member"] = field(default_factory=dict, repr=False)
    parts: dict[str, "Shape"] = field(default_factory=dict, repr=False)

    @property
    def element(self) -> "Shape":
        """Return the shape of a list's elements or of a map's values."""
        return self.parts["element"]

    @property
    def key(self) -> "Shape":
        """Return the shape of a map's keys."""
        return self.parts["key"]


@dataclass(frozen=True, slots=True)
class Member:
    """A named part of a structure; `wire` is its name on the wire.

    `location` is body, uri, querystring, header or statusCode. It means something in the input or output of an
    operation only.
    """

    name: str
    wire: str
    shape: Shape
    location: str = "body"
    required: bool = False
    idempotency_token: bool = False


def load_model(service: str) -> Mapping[str, Any]:
    """Return botocore's newest model of the service, for example `bedrock-agentcore`.

    Only files that came with botocore or with this package are read: the operator's `~/.aws/models` and
    `AWS_DATA_PATH` cannot change the wire. Raises botocore's UnknownServiceError.
    """
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH, OUR_MODELS], include_default_search_paths=False)
    model: Mapping[str, Any] = loader.load_service_model(service, "service-2")
    return model


def link_shapes(raw: Mapping[str, Any]) -> dict[str, Shape]:
    """Return the shapes of a model, linked to one another. Their documentation is left behind."""
    shapes = {name: _shape(name, traits) for name, traits in raw.items()}
    for name, traits in raw.items():
        shape = shapes[name]
        required = frozenset(traits.get("required", ()))
        for member, reference in traits.get("members", {}).items():
            shape.members[member] = _member(member, reference, shapes, required=member in required)
        for part, wire_name in (("element", "member"), ("key", "key"), ("element", "value")):
            if wire_name in traits:
                shape.parts[part] = shapes[traits[wire_name]["shape"]]
    return shapes


def reachable(shape: Shape) -> Iterator[Shape]:
    """Yield the shape and every shape that a value of it may hold, each once."""
    seen: set[str] = set()
    waiting = [shape]
    while waiting:
        current = waiting.pop()
        if current.name in seen:
            continue
        seen.add(current.name)
        yield current
        waiting.extend(current.parts.values())
        waiting.extend(member.shape for member in current.members.values())


def _shape(name: str, traits: Mapping[str, Any]) -> Shape:
    pattern = _trait(name, traits, "pattern")
    maximum = _trait(name, traits, "max")
    enum = tuple(traits.get("enum") or ())
    if more := RELAXATIONS.get((name, "enum")):
        # Values with others beside them are a pattern like any other.
        pattern, enum = "|".join([*(re.escape(value) for value in enum), f"(?:{more.value})"]), ()
    return Shape(
        name=name,
        kind=_kind(traits),
        minimum=_trait(name, traits, "min"),
        maximum=PATTERNED_LENGTH if pattern is not None and maximum is None else maximum,
        pattern=pattern,
        enum=enum,
        sensitive=bool(traits.get("sensitive")),
        payload=traits.get("payload"),
        timestamp_format=traits.get("timestampFormat"),
    )


def _kind(traits: Mapping[str, Any]) -> str:
    for marker in ("eventstream", "document", "union"):
        if traits.get(marker):
            return marker
    kind: str = traits["type"]
    return "string" if kind == "character" else kind


def _trait(name: str, traits: Mapping[str, Any], trait: str) -> Any:
    modelled = traits.get(trait)
    relaxation = RELAXATIONS.get((name, trait))
    if relaxation is None:
        return modelled
    if not relaxation.as_well or modelled is None:
        return relaxation.value
    return f"(?:{modelled})|(?:{relaxation.value})"


def _member(name: str, reference: Mapping[str, Any], shapes: Mapping[str, Shape], *, required: bool) -> Member:
    return Member(
        name=name,
        wire=reference.get("locationName", name),
        shape=shapes[reference["shape"]],
        location=reference.get("location", "body"),
        required=required,
        idempotency_token=bool(reference.get("idempotencyToken")),
    )
