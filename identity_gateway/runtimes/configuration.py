"""What the configuration of an agent runtime version means to the gateway.

`check` refuses at registration what could not be served or what would guard nothing; `RuntimeConfiguration` is the part
of a stored configuration that an invocation needs. The syntax was checked before, against AWS's model.
"""

import re
from dataclasses import dataclass

from identity_gateway.egress import EgressRefused, check_url
from identity_gateway.errors import FieldError, ValidationFailed
from identity_gateway.identity_providers import IdentityProviders, packaged
from identity_gateway.model import Document
from identity_gateway.protocol import headers
from identity_gateway.upstream import Origin

_IDLE, _LONGEST = 900, 28_800
_MOST_ADDRESSES = 16
_NEXT = re.compile(r", ?(?=https?://)")
_CONTAINER = "agentRuntimeArtifact.containerConfiguration.containerUri"

_CALL_PATH = {"HTTP": b"/invocations", "MCP": b"/mcp", "A2A": b"/", "AGUI": b"/invocations"}
"""Where an agent of each protocol listens for calls (AWS: runtime service contract)."""


@dataclass(frozen=True, slots=True)
class RuntimeConfiguration:
    """Where the agent stands, who may call it, and which headers it sees."""

    origins: tuple[Origin, ...]
    base: bytes  # of every path at the agent, without a slash at its end
    target: bytes  # of calls
    protocol: str
    authorizer: Document | None
    allowlist: frozenset[bytes]
    idle: float = _IDLE
    longest: float = _LONGEST

    @property
    def origin(self) -> Origin:
        """The first address: the only one of most agents."""
        return self.origins[0]

    @classmethod
    def of(cls, configuration: Document) -> "RuntimeConfiguration":
        """Read a stored configuration, which passed `check` when it was registered."""
        origins, base = _places(configuration["agentRuntimeArtifact"]["containerConfiguration"]["containerUri"])
        protocol = configuration.get("protocolConfiguration", {})
        server = protocol.get("serverProtocol", "HTTP")
        path = protocol["path"].encode() if "path" in protocol else _CALL_PATH[server]
        names = configuration.get("requestHeaderConfiguration", {}).get("requestHeaderAllowlist", ())
        lifecycle = _lifecycle(configuration.get("lifecycleConfiguration", {}))
        return cls(
            origins=origins,
            base=base.rstrip(b"/"),
            target=base.rstrip(b"/") + path,
            protocol=server,
            authorizer=configuration.get("authorizerConfiguration", {}).get("customJWTAuthorizer"),
            allowlist=frozenset(name.lower().encode() for name in names),
            idle=float(lifecycle["idleRuntimeSessionTimeout"]),
            longest=float(lifecycle["maxLifetime"]),
        )


def checked(asked: Document, providers: IdentityProviders | None = None) -> Document:
    """Return the configuration of a new version, defaults filled in. Raises ValidationFailed with every fault."""
    authorizer = asked.get("authorizerConfiguration", {}).get("customJWTAuthorizer")
    names = asked.get("requestHeaderConfiguration", {}).get("requestHeaderAllowlist", ())
    lifecycle = _lifecycle(asked.get("lifecycleConfiguration", {}))
    faults = [
        *_check_artifact(asked["agentRuntimeArtifact"], asked.get("protocolConfiguration", {}).get("port")),
        *(_check_authorizer(authorizer, providers or packaged()) if authorizer is not None else ()),
        *headers.check_allowlist(names, bearer=authorizer is not None),
        *_check_lifecycle(lifecycle),
    ]
    if faults:
        raise ValidationFailed(
            "The agent runtime cannot be registered like this: "
            + "; ".join(f"{fault.name} {fault.message}" for fault in faults),
            fields=tuple(faults),
        )
    return asked | {"lifecycleConfiguration": lifecycle}


def _check_artifact(artifact: Document, port: int | None) -> list[FieldError]:
    if "containerConfiguration" not in artifact:
        return [FieldError("agentRuntimeArtifact", "must name a running agent: this gateway does not run code")]
    urls = artifact["containerConfiguration"]["containerUri"]
    if not urls.startswith(("http://", "https://")):
        return [FieldError(_CONTAINER, "must be the http(s) URL of a running agent: this gateway does not run images")]
    try:
        origins, _ = _places(urls)
    except ValueError as error:
        return [FieldError(_CONTAINER, str(error))]
    wrong = [origin.port for origin in origins if port not in (None, origin.port)]
    if wrong:
        return [FieldError("protocolConfiguration.port", f"must be the port of the containerUri, {wrong[0]}")]
    return []


def _places(urls: str) -> tuple[tuple[Origin, ...], bytes]:
    """Return the addresses of an agent and the path they share, from one URL or several separated by commas.

    Raises ValueError. Several addresses are ours: AWS runs as many copies of an image as it likes.
    """
    # A path may hold a comma, too: what begins another URL is one.
    places = [Origin.from_url(url) for url in _NEXT.split(urls)]
    if len(places) > _MOST_ADDRESSES:
        raise ValueError(f"may name at most {_MOST_ADDRESSES} addresses")
    origins, bases = tuple(dict.fromkeys(origin for origin, _ in places)), {base for _, base in places}
    if len(origins) != len(places) or len(bases) > 1:
        raise ValueError("names an address twice, or addresses with different paths")
    return origins, bases.pop()


def _check_authorizer(authorizer: Document, providers: IdentityProviders) -> list[FieldError]:
    faults = providers.check_authorizer(authorizer)
    try:
        check_url(authorizer["discoveryUrl"])
    except EgressRefused as error:
        faults.append(FieldError("authorizerConfiguration.customJWTAuthorizer.discoveryUrl", str(error)))
    return faults


def _lifecycle(given: Document) -> Document:
    """Fill in the defaults (AWS: with only a short `maxLifetime` given, both take that value)."""
    longest = given.get("maxLifetime", max(_LONGEST, given.get("idleRuntimeSessionTimeout", 0)))
    return {"idleRuntimeSessionTimeout": given.get("idleRuntimeSessionTimeout", min(_IDLE, longest))} | {
        "maxLifetime": longest
    }


def _check_lifecycle(lifecycle: Document) -> list[FieldError]:
    if lifecycle["idleRuntimeSessionTimeout"] > lifecycle["maxLifetime"]:
        return [FieldError("lifecycleConfiguration.idleRuntimeSessionTimeout", "must not exceed maxLifetime")]
    return []
