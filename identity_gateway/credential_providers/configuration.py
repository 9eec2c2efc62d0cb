"""What an OAuth2 credential provider may be configured with, and what is shown of it: AWS's member names, our rules.

A vendor's own rules stand in its descriptor. Nothing here is fetched: whether a server answers at a URL, and whether
the operator allows its address, turns out when it is first used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from identity_gateway.credential_providers.sources import Source, SourceNames, check_private_key, read_source, refuse
from identity_gateway.egress import EgressRefused, check_url
from identity_gateway.errors import FieldError
from identity_gateway.model import Document
from identity_gateway.protocol.descriptor import PLACEHOLDER, Descriptor, Variable

INPUT = "oauth2ProviderConfigInput"
CUSTOM = "customOauth2ProviderConfig"
ON_BEHALF_OF = "onBehalfOfTokenExchangeConfig"
PRIVATE_KEY_JWT = "PRIVATE_KEY_JWT"

_SECRET_MEMBERS = frozenset({"clientSecret", "clientSecretConfig", "clientSecretSource"})
_MAX_SECRET = 2048
_NOT_IN_HEADER = frozenset({"alg", "typ", "crit", "b64"})
_NOT_IN_PAYLOAD = frozenset({"iss", "sub", "jti", "iat", "nbf", "exp"})
_NO_VPC = "cannot be served: this gateway reaches private addresses itself, where its operator allows them"
_NO_STS = "cannot be AWS_IAM_ID_TOKEN_JWT: no AWS service issues identity tokens to this gateway"
_UNSERVED = {
    "privateEndpoint": _NO_VPC,
    "privateEndpointOverrides": _NO_VPC,
    "certificateConfigurations": "cannot be served: the operator names further authorities in the gateway's settings",
}
_METHODS = {"client_secret_basic": "CLIENT_SECRET_BASIC", "client_secret_post": "CLIENT_SECRET_POST"}

Faults = Iterator[FieldError]


@dataclass(frozen=True, slots=True)
class Registered:
    """A configuration that was checked: what is kept in the open, and where the secret stands."""

    configuration: Document
    source: Source


def check(descriptor: Descriptor, given: Document) -> Registered:
    """Return what to keep of an `oauth2ProviderConfigInput`. Raises ValidationFailed with every field that is wrong."""
    ((key, members),) = given.items()
    path = f"{INPUT}.{key}."
    wanted = descriptor.agentcore.config
    if key != wanted:
        refuse([FieldError(path[:-1], f"is not for {descriptor.agentcore.vendor}: give {wanted}")])
    names = SourceNames("clientSecret", "clientSecretConfig", "clientSecretSource", path)
    source, faults = read_source(members, names, needed=_needs_secret(descriptor, members))
    faults += [FieldError(path + name, why) for name, why in _UNSERVED.items() if members.get(name)]
    faults += _check_custom(members, path) if key == CUSTOM else _check_included(descriptor, members, path)
    faults += _check_secret(descriptor, members, source, path)
    refuse(faults)
    kept = {name: value for name, value in members.items() if name not in _SECRET_MEMBERS | _UNSERVED.keys()}
    return Registered({key: kept}, source)


def members_of(configuration: Document) -> Document:
    """Return the members of a kept configuration, whichever vendor's it is."""
    ((_, members),) = configuration.items()
    return dict(members)


def method_of(members: Document) -> str | None:
    """Return the client authentication that a custom configuration asks for, as one of AWS's four words.

    None for a vendor of the catalog: its descriptor says. Of two `tokenEndpointAuthMethods` Basic is taken, as it is
    when nothing is said (AWS's default).
    """
    if "oauthDiscovery" not in members:
        return None
    asked: str | None = members.get("clientAuthenticationMethod")
    listed = _metadata(members).get("tokenEndpointAuthMethods", ())
    return asked or (_METHODS["client_secret_post"] if listed == ["client_secret_post"] else "CLIENT_SECRET_BASIC")


def kms_key_of(members: Document) -> str | None:
    """Return the ARN of the KMS key that signs client assertions, if one was registered."""
    source = members.get("privateKeyJwtConfig", {}).get("privateKeySource", {})
    return source.get("kmsKeySource", {}).get("kmsKeyArn")  # type: ignore[no-any-return]  # JSON


def endpoints_of(members: Document) -> dict[str, str]:
    """Return the endpoints that the configuration names itself: `authorize`, `token`."""
    named = {**members, **_metadata(members)}
    known = {"authorize": named.get("authorizationEndpoint"), "token": named.get("tokenEndpoint")}
    return {name: url for name, url in known.items() if url}


def issuer_of(members: Document) -> str | None:
    """Return the issuer that the configuration names itself, as it was written."""
    return {**members, **_metadata(members)}.get("issuer") or None


def variables_of(
    descriptor: Descriptor, members: Document, operator: Mapping[str, str], issuer: str | None
) -> dict[str, str]:
    """Return the descriptor's variables from operator, issuer and tenant that have a value or a default.

    Those of callers are among them where the operator has set them, without their default: what is not set, the caller
    says. What is set is not theirs to replace.
    An issuer loses its slash at the end, because a descriptor writes the one that follows. Where the descriptor says
    how the token endpoint ends (`from`), what stands before that counts: an issuer is not always where endpoints are.
    Not checked: the form of what was given. A default never takes the place of a value that has another one.
    """
    found: dict[str, str] = {}
    for name, variable in descriptor.variables.items():
        value: str | None
        if variable.source == "issuer":
            value = _base_of(variable, members) or (issuer or "").rstrip("/")
        elif variable.source in {"tenant", "operator", "caller"}:
            value = members.get("tenantId") if variable.source == "tenant" else operator.get(name)
        else:
            continue
        value = value or (None if variable.source == "caller" else variable.default)
        if value is not None:
            found[name] = value
    return found


def _base_of(variable: Variable, members: Document) -> str:
    """Return what stands before the end of the token endpoint that the variable names, if that makes a good value."""
    token, end = endpoints_of(members).get("token", ""), variable.origin or ""
    base = token.removesuffix(end)
    return base if end and base != token and variable.accepts(base) else ""


def shown(descriptor: Descriptor | None, configuration: Document, settings: Document) -> Document:
    """Return the `oauth2ProviderConfigOutput`. There is no secret in it, because there is none in what it is made of.

    AWS wants a discovery of every vendor. Where no issuer is known, the origin of the token endpoint stands for it; a
    variable that was not set yet is shown as its name in braces.
    """
    ((key, members),) = configuration.items()
    client = {"clientId": members["clientId"]} if members.get("clientId") else {}
    if key == CUSTOM:
        return {key: {name: value for name, value in members.items() if name != "clientId"} | client}
    known = {} if descriptor is None else variables_of(descriptor, members, settings["variables"], issuer_of(members))
    endpoints = _templates(descriptor) | endpoints_of(members)
    authorize, token = (
        PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), endpoints.get(name, ""))
        for name in ("authorize", "token")
    )
    issuer = issuer_of(members) or known.get("issuer") or "{0.scheme}://{0.netloc}".format(urlsplit(token))
    metadata = {"issuer": issuer, "authorizationEndpoint": authorize, "tokenEndpoint": token}
    return {key: {"oauthDiscovery": {"authorizationServerMetadata": metadata}} | client}


def _templates(descriptor: Descriptor | None) -> dict[str, str]:
    """Return the vendor's own endpoints; of a vendor that is no longer in the catalog, none."""
    if descriptor is None:
        return {}
    authorize = {"authorize": descriptor.authorize.url} if descriptor.authorize else {}
    return authorize | {"token": descriptor.token.url}


def _metadata(members: Document) -> dict[str, Any]:
    return members.get("oauthDiscovery", {}).get("authorizationServerMetadata", {})  # type: ignore[no-any-return]  # JSON


# --- The secret -------------------------------------------------------------------------------------------------------


def _needs_secret(descriptor: Descriptor, members: Document) -> bool:
    method = method_of(members)
    if method is None:
        return descriptor.client.auth != "none"
    return not _without_client(members) and kms_key_of(members) is None and method != "AWS_IAM_ID_TOKEN_JWT"


def _without_client(members: Document) -> bool:
    """Say whether all that the provider does is done without authenticating: on behalf of users, with NO_CLIENT."""
    asked = members.get(ON_BEHALF_OF, {})
    actor = asked.get("tokenExchangeGrantTypeConfig", {}).get("actorTokenContent")
    return "onBehalfOfAuthenticationConfig" in asked and actor != "M2M"


def _check_secret(descriptor: Descriptor, members: Document, source: Source, path: str) -> Faults:
    method = method_of(members)
    signs = method == PRIVATE_KEY_JWT or (method is None and descriptor.client.auth == "private_key_jwt")
    given = source.value is not None or source.kind == "EXTERNAL"
    if signs and kms_key_of(members) is not None:
        if given:
            yield FieldError(path + "clientSecret", "must not be given beside a KMS key: only one of the two signs")
    elif signs and source.value is not None:
        algorithm = members.get("privateKeyJwtConfig", {}).get("signingAlgorithm")
        if why := check_private_key(source.value.reveal(), algorithm):
            yield FieldError(path + "clientSecret", why)
    elif source.value is not None and len(source.value.reveal()) > _MAX_SECRET:
        yield FieldError(path + "clientSecret", f"must have at most {_MAX_SECRET} characters")


# --- Vendors of the catalog -------------------------------------------------------------------------------------------


def _check_included(descriptor: Descriptor, members: Document, path: str) -> Faults:
    yield from _check_urls(members, path)
    given = variables_of(descriptor, members, {}, issuer_of(members))
    wrong = {name for name, value in given.items() if not descriptor.variables[name].accepts(value)}
    for name in sorted(wrong):
        yield FieldError(path + _member_of(descriptor, name), f"must be: {descriptor.variables[name].description}")
    for name in sorted(_needed(descriptor, members) - given.keys() - wrong):
        yield from _missing(descriptor, name, path)


def _needed(descriptor: Descriptor, members: Document) -> set[str]:
    """Return what stands in braces in the endpoints that the provider does not name itself."""
    named = endpoints_of(members)
    urls = [url for name, url in _templates(descriptor).items() if name not in named]
    return {name for url in urls for name in PLACEHOLDER.findall(url)}


def _missing(descriptor: Descriptor, name: str, path: str) -> Faults:
    variable = descriptor.variables.get(name)
    if variable is None:  # no variable: a whole endpoint that only the provider can name
        member = {"authorization_endpoint": "authorizationEndpoint", "token_endpoint": "tokenEndpoint"}.get(name, name)
        yield FieldError(path + member, f"is needed for {descriptor.name}")
    elif variable.source in {"issuer", "tenant"}:  # the operator's are set on a provider that exists already
        yield FieldError(
            path + _member_of(descriptor, name),
            f"is needed for {descriptor.name}, or else authorizationEndpoint and tokenEndpoint: {variable.description}",
        )


def _member_of(descriptor: Descriptor, name: str) -> str:
    return {"issuer": "issuer", "tenant": "tenantId"}.get(descriptor.variables[name].source, name)


def _check_urls(given: Document, path: str) -> Faults:
    for name in ("issuer", "authorizationEndpoint", "tokenEndpoint"):
        if name in given:
            yield from _check_url(given[name], path + name)
    if _has_query(given.get("issuer", "")):
        yield FieldError(path + "issuer", "must have no query (RFC 8414 §2)")
    insecure = str(given.get("authorizationEndpoint", "")).lower().startswith("http:")
    if insecure and not str(given.get("tokenEndpoint", "")).lower().startswith("http:"):
        # Whether plain http is allowed is decided at the token endpoint, by its address; a browser asks nobody.
        yield FieldError(path + "authorizationEndpoint", "must be https where the token endpoint is")


def _check_url(url: str, path: str) -> Faults:
    try:
        check_url(url)
    except EgressRefused as error:
        yield FieldError(path, f"cannot be used: {error}")


def _has_query(url: str) -> bool:
    return "?" in url


# --- Any other server -------------------------------------------------------------------------------------------------


def _check_custom(members: Document, path: str) -> Faults:
    discovery = members["oauthDiscovery"]
    if "discoveryUrl" in discovery:
        yield from _check_url(discovery["discoveryUrl"], path + "oauthDiscovery.discoveryUrl")
    else:
        place = path + "oauthDiscovery.authorizationServerMetadata."
        yield from _check_urls(_metadata(members), place)
        if "tokenEndpointAuthMethods" in _metadata(members) and "clientAuthenticationMethod" in members:
            yield FieldError(place + "tokenEndpointAuthMethods", "must not be given with clientAuthenticationMethod")
    if not members.get("clientId") and not _without_client(members):
        yield FieldError(path + "clientId", "is needed, and must not be empty")
    yield from _check_method(members, path)
    yield from _check_on_behalf_of(members.get(ON_BEHALF_OF, {}), f"{path}{ON_BEHALF_OF}.")


def _check_method(members: Document, path: str) -> Faults:
    method, signing = method_of(members), members.get("privateKeyJwtConfig")
    if method == "AWS_IAM_ID_TOKEN_JWT":
        yield FieldError(path + "clientAuthenticationMethod", _NO_STS)
    if signing is None:
        return
    if method != PRIVATE_KEY_JWT:
        yield FieldError(path + "privateKeyJwtConfig", "is only for clientAuthenticationMethod PRIVATE_KEY_JWT")
    for member, reserved in (("additionalHeaderClaims", _NOT_IN_HEADER), ("additionalPayloadClaims", _NOT_IN_PAYLOAD)):
        if taken := sorted(reserved & signing.get(member, {}).keys()):
            yield FieldError(f"{path}privateKeyJwtConfig.{member}", f"must not name {', '.join(taken)}")


def _check_on_behalf_of(asked: Document, path: str) -> Faults:
    exchange = asked.get("tokenExchangeGrantTypeConfig")
    if exchange is None:
        return
    place = path + "tokenExchangeGrantTypeConfig"
    if asked["grantType"] != "TOKEN_EXCHANGE":
        yield FieldError(place, "is only for grantType TOKEN_EXCHANGE")
    if exchange["actorTokenContent"] == "AWS_IAM_ID_TOKEN_JWT":
        yield FieldError(f"{place}.actorTokenContent", _NO_STS)
    if exchange.get("actorTokenScopes") and exchange["actorTokenContent"] != "M2M":
        yield FieldError(f"{place}.actorTokenScopes", "is only for actorTokenContent M2M")
