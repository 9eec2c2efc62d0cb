"""Whether the sections of a descriptor fit each other: every name known, no secret in a URL, every URL at home.

Found at load, so that no request has to discover it. Each fault begins with its key.
"""

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from identity_gateway.protocol.descriptor import templates
from identity_gateway.protocol.descriptor.requests import Endpoint, Machine
from identity_gateway.protocol.descriptor.rules import Authentication
from identity_gateway.protocol.descriptor.templates import ENDPOINTS, PLACEHOLDER, SECRET_NAMES, placeholders
from identity_gateway.protocol.descriptor.vendor import Vendor

_LATER: dict[str, tuple[str, ...]] = {
    "authorize": ("callback", "response"),
    "token": ("response",),
    "machine": ("callback", "response"),
    "client": ("caller", "callback", "response"),
}
"""Sources of variables that say nothing yet when the request of a section is made; with a default they may be named."""

_WITH_A_TOKEN = ("revoke", "introspect", "userinfo", "refresh")


def faults(vendor: Vendor) -> Iterator[str]:
    """Yield what is wrong between the sections of a descriptor, each with its key."""
    yield from _parts(vendor)
    yield from _keys(vendor)
    for key, template, allowed in _templates(vendor):
        yield from _names(vendor, key, template, allowed)
    for key, url in vendor.urls():
        yield from _url(vendor, key, url)
    for key, endpoint in _endpoints(vendor):
        yield from _authentication(vendor, key, endpoint)
        yield from _encoding(vendor, key, endpoint)
    yield from _purposes(vendor)


def _parts(vendor: Vendor) -> Iterator[str]:
    known = {issued.name for issued in vendor.token.response.issued}
    for parameter, part in vendor.scopes.sets.items():
        if part not in known:
            yield f"scopes.sets.{parameter}: {part} is no credential that token.response.issued names"
    for index, issued in enumerate(vendor.refresh.issued):
        if issued.name not in known:
            yield f"refresh.issued.{index}.name: {issued.name} is no credential that token.response.issued names"


def _keys(vendor: Vendor) -> Iterator[str]:
    for index, machine in enumerate(vendor.machine):
        if machine.assertion is not None and machine.assertion.key not in vendor.client.secrets:
            yield f"machine.{index}.assertion.key: {machine.assertion.key} is not in client.secrets"
    if vendor.signals is not None and vendor.signals.signature.secret not in vendor.client.secrets:
        yield f"signals.signature.secret: {vendor.signals.signature.secret} is not in client.secrets"
    for name in vendor.variables:
        if name in vendor.client.secrets or name in SECRET_NAMES or name in ENDPOINTS or name == "client_id":
            yield f"variables.{name}: the name means something else already"


def _endpoints(vendor: Vendor) -> Iterator[tuple[str, Endpoint]]:
    yield "token", vendor.token
    if vendor.refresh.how != "never":
        yield "refresh", _refresh(vendor)
    if vendor.introspect is not None:
        yield "introspect", vendor.introspect
    if vendor.userinfo is not None:
        yield "userinfo", vendor.userinfo
    for index, revoke in enumerate(vendor.revoke):
        yield f"revoke.{index}", revoke
    for index, machine in enumerate(vendor.machine):
        yield f"machine.{index}", machine


def _refresh(vendor: Vendor) -> Endpoint:
    refresh, token = vendor.refresh, vendor.token
    return Endpoint(
        url=refresh.url or token.url,
        method=refresh.method,
        auth=refresh.auth or token.auth,
        encoding=refresh.encoding or token.encoding,
        headers=token.headers,
        params=refresh.params,
    )


_BROUGHT = {
    "token": templates.TOKEN,
    "refresh": templates.REFRESH,
    "introspect": templates.INSPECT,
    "userinfo": templates.INSPECT,
    "revoke": templates.REVOKE,
    "machine": templates.MACHINE,
}


def _templates(vendor: Vendor) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield every template with its key and the names that its purpose brings."""
    for key, endpoint in _endpoints(vendor):
        section = key.partition(".")[0]
        allowed = _BROUGHT[section]
        if isinstance(endpoint, Machine) and endpoint.assertion is not None:
            allowed = allowed | {"assertion"}
            for name, claim in (*endpoint.assertion.claims.items(), *endpoint.assertion.headers.items()):
                yield f"{key}.assertion.{name}", claim, templates.ASSERTION
        if section != "refresh":
            yield from ((f"{key}.headers.{name}", value, allowed) for name, value in endpoint.headers.items())
        yield from ((f"{key}.params.{name}", value, allowed) for name, value in endpoint.params.items())
    if vendor.authorize is not None:
        params = {**vendor.authorize.params, "issuer": vendor.authorize.issuer or ""}
        yield from ((f"authorize.params.{name}", value, templates.AUTHORIZE) for name, value in params.items())
    if vendor.exchange is not None:
        params = dict(vendor.exchange.params)
        yield from ((f"exchange.params.{name}", value, templates.EXCHANGE) for name, value in params.items())
    yield "client.basic_user", vendor.client.basic_user, templates.BASIC
    yield "client.basic_password", vendor.client.basic_password, templates.BASIC
    if vendor.api_key is not None:
        yield from (
            (f"api_key.headers.{name}", each, templates.API_KEY) for name, each in vendor.api_key.headers.items()
        )


def _names(vendor: Vendor, key: str, template: str, allowed: Iterable[str]) -> Iterator[str]:
    try:
        names = placeholders(template)
    except ValueError as error:
        yield f"{key}: {error}"
        return
    for name in names:
        if name in vendor.variables:
            yield from _in_time(vendor, key, name)
        elif name in vendor.client.secrets:
            if key.startswith("authorize") or ".assertion." in key:
                yield f"{key}: {name} is a secret, and this is not sealed"
        elif name not in allowed:
            yield f"{key}: no variable declares {name}"


def _in_time(vendor: Vendor, key: str, name: str) -> Iterator[str]:
    variable = vendor.variables[name]
    if variable.default is None and variable.source in _LATER.get(key.partition(".")[0], ()):
        yield f"{key}: {name} comes from the {variable.source}, which is later than this; give it a default"


def _url(vendor: Vendor, key: str, url: str) -> Iterator[str]:
    allowed = {"client_id"} | ({"redirect_uri", "scope"} if key == "authorize.url" else set())
    if url.startswith("{") and url.endswith("}") and url[1:-1] in ENDPOINTS:
        return
    try:
        names = placeholders(url)
    except ValueError as error:
        yield f"{key}: {error}"
        return
    for name in names:
        if name in SECRET_NAMES or name in vendor.client.secrets:
            yield f"{key}: {name} is a secret, which no URL may carry"
    yield from _names(vendor, key, url, allowed | SECRET_NAMES)
    if url.startswith("{") and names:
        variable = vendor.variables.get(names[0])
        if variable is not None and not variable.is_url:
            yield f"{key}: begins with {names[0]}, whose pattern does not begin with https://"
        return
    yield from _home(vendor, key, url)


def _home(vendor: Vendor, key: str, url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.netloc or "@" in parts.netloc or parts.fragment:
        yield f"{key}: not an https URL"
    elif "{" not in parts.netloc and not vendor.may_receive(parts.netloc):
        yield f"{key}: leads to {parts.netloc}, which `hosts` does not name"


def _authentication(vendor: Vendor, key: str, endpoint: Endpoint) -> Iterator[str]:
    section, auth = key.partition(".")[0], endpoint.auth or vendor.client.auth
    if auth == "bearer_assertion" and not (isinstance(endpoint, Machine) and endpoint.assertion is not None):
        yield f"{key}.auth: bearer_assertion needs an assertion, which only a machine entry signs"
    if auth == "bearer_token" and section not in _WITH_A_TOKEN:
        yield f"{key}.auth: bearer_token needs a token, and there is none yet"
    if auth == "private_key_jwt" and "private_key" not in vendor.client.secrets:
        yield f"{key}.auth: private_key_jwt needs a key: name private_key in client.secrets"


def _encoding(vendor: Vendor, key: str, endpoint: Endpoint) -> Iterator[str]:
    auth: Authentication = endpoint.auth or vendor.client.auth
    if endpoint.method == "GET" and endpoint.encoding != "query" and endpoint.params:
        yield f'{key}.encoding: GET has no body: its parameters need encoding = "query"'
    if endpoint.encoding != "query":
        return
    if auth in {"post", "private_key_jwt"}:
        yield f"{key}.auth: {auth} would put the client's credentials into the URL"
    for name, template in endpoint.params.items():
        for each in PLACEHOLDER.findall(template):
            if each in SECRET_NAMES or each in vendor.client.secrets:
                yield f"{key}.params.{name}: {each} is a secret, which no URL may carry"


def _purposes(vendor: Vendor) -> Iterator[str]:
    """Yield the endpoints that never send what they are for: they cannot work."""
    if "{code}" not in vendor.token.params.values() and vendor.authorize is not None:
        yield "token.params: never sends {code}"
    how = vendor.refresh.how
    if how != "never" and f"{{{how}}}" not in vendor.refresh.params.values() and vendor.refresh.auth != "bearer_token":
        yield f"refresh.params: never sends {{{how}}}"
    for index, machine in enumerate(vendor.machine):
        for name in machine.needs:
            if name not in vendor.variables and name not in machine.narrow:
                yield f"machine.{index}.needs: no variable declares {name}"
        for name in machine.narrow:
            if name in vendor.variables:
                yield f"machine.{index}.narrow.{name}: is a variable already"
