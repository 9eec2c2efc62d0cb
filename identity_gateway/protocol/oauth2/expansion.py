"""Turns templates into text and URLs. Strict: a name without a value, or a value that does not match, is refused.

It decides which hosts a request may go to (those of the descriptor, or those that the provider's own configuration
named); whether an address may be reached is decided where requests leave.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from identity_gateway.errors import FieldError, ValidationFailed
from identity_gateway.protocol.descriptor import ENDPOINTS, PLACEHOLDER
from identity_gateway.protocol.oauth2.model import Client

_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(?:[/?][\x21\x22\x24-\x5b\x5d-\x7e]*)?", re.ASCII | re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MAX_PARAMETER = 2048


def refuse(name: str, what: str) -> ValidationFailed:
    """Return the error that names a variable or parameter."""
    return ValidationFailed(f"{name}: {what}", fields=(FieldError(name, what),))


@dataclass(frozen=True, slots=True)
class Words:
    """What placeholders stand for: what the purpose brings, then variables, then what the client is and keeps."""

    client: Client
    brought: Mapping[str, str | None] = field(default_factory=dict, repr=False)

    def value(self, name: str) -> str:
        """Return what a placeholder stands for. Raises ValidationFailed naming it; never quotes the value."""
        found = self._find(name)
        if found is None:
            raise refuse(name, "this value is needed here, and was not given")
        variable = self.client.descriptor.variables.get(name)
        if variable is not None and not variable.accepts(found):
            raise refuse(name, "this value does not have the form that the vendor's values have")
        return found

    def _find(self, name: str) -> str | None:
        if name in self.brought:
            return self.brought[name]
        if (variable := self.client.descriptor.variables.get(name)) is not None:
            given = self.client.variables.get(name)
            if given is None and variable.source == "issuer":
                given = self.client.issuer
            return given if given is not None else variable.default
        if name == "client_id":
            return self.client.id
        secret = self.client.secret if name == "client_secret" else self.client.secrets.get(name)
        return secret.reveal() if secret is not None else None

    def text(self, template: str) -> str:
        """Return the template with its placeholders replaced."""
        return PLACEHOLDER.sub(lambda found: self.value(found[1]), template)

    def header(self, name: str, template: str) -> str:
        """Return a header's value: visible ASCII and blanks only."""
        value = self.text(template)
        if not value.isascii() or not value.isprintable():
            raise refuse(name, "a value of this header holds a character that headers cannot carry")
        return value

    def pairs(self, params: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return parameters in their order."""
        return [(name, self.text(template)) for name, template in params.items()]

    def url(self, template: str) -> str:
        """Return where a template leads. Raises ValidationFailed when that is none of the vendor's hosts.

        A variable that begins the URL is taken as it is, in a host it is taken as it is, and elsewhere it is one path
        segment or query value: percent-encoded, and never `.` or `..`.
        """
        start = PLACEHOLDER.match(template)
        begin = ""
        if start is not None:
            begin, template = self.value(start[1]), template[start.end() :]
            begin = begin.rstrip("/") if template.startswith("/") else begin
        elif (authority := re.match(r"https://[^/?#]*", template)) is not None:
            begin, template = self.text(authority[0]), template[authority.end() :]
        url = begin + PLACEHOLDER.sub(lambda found: self._segment(found[1]), template)
        _check_destination(self, url)
        return url

    def _segment(self, name: str) -> str:
        value = self.value(name)
        if value in {".", "..", ""}:
            raise refuse(name, "this value cannot be a part of a URL")
        return quote(value, safe="")


def endpoint_url(words: Words, template: str) -> str:
    """Return the URL of an endpoint: the provider's own where its configuration names one, or the descriptor's.

    Raises ValidationFailed when nobody says, or when it leads to a foreign host.
    """
    client = words.client
    key = described_elsewhere(template)
    if key is None and template == client.descriptor.token.url:
        key = "token" if "token" in client.endpoints else None
    authorize = client.descriptor.authorize
    if key is None and authorize is not None and template == authorize.url:
        key = "authorize" if "authorize" in client.endpoints else None
    if key is None:
        return words.url(template)
    url = client.endpoints.get(key)
    if url is None:
        raise refuse(f"{key} endpoint", "the provider's configuration does not say where it is")
    if _URL.fullmatch(url) is None:
        raise refuse(f"{key} endpoint", "not an http(s) URL without user info and fragment")
    return url


def described_elsewhere(template: str) -> str | None:
    """Return the key of `Client.endpoints` when the template is a whole endpoint of the provider's configuration."""
    return ENDPOINTS.get(template[1:-1]) if template.startswith("{") and template.endswith("}") else None


def _check_destination(words: Words, url: str) -> None:
    if _URL.fullmatch(url) is None:
        raise refuse("url", "the variables do not make a URL")
    origin = _origin(url)
    if origin in _own_origins(words):
        return
    scheme, host, port = origin
    if scheme != "https" or port != 443 or not words.client.descriptor.may_receive(host):
        raise refuse("url", f"leads to {host}, which is none of the vendor's hosts")


def _own_origins(words: Words) -> set[tuple[str, str, int]]:
    client = words.client
    named = [*client.endpoints.values(), client.issuer or ""]
    named += [
        client.variables.get(name) or variable.default or ""
        for name, variable in client.descriptor.variables.items()
        if variable.source == "issuer"
    ]
    return {_origin(url) for url in named if _URL.fullmatch(url)}


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise refuse("url", "the port is not a number") from None
    return parts.scheme.lower(), (parts.hostname or "").lower(), port


def check_parameter(name: str, value: str) -> None:
    """Raise ValidationFailed for a parameter value that no vendor means: too long, or with invisible characters."""
    if len(value) > _MAX_PARAMETER or _CONTROLS.search(value):
        raise refuse(name, f"at most {_MAX_PARAMETER} characters, none of them a control character")


def with_caller_variables(client: Client, parameters: Mapping[str, str]) -> tuple[Client, dict[str, str]]:
    """Return the client that knows the caller's variables, and the parameters that are none. ValidationFailed names.

    What the operator has set is not the caller's to replace.
    """
    rest = dict(parameters)
    taken: dict[str, str] = {}
    for name, variable in client.descriptor.variables.items():
        value = rest.pop(variable.origin or name, None) if variable.source == "caller" else None
        if value is None:
            continue
        if not variable.accepts(value):
            raise refuse(variable.origin or name, "this value does not have the form that the vendor's values have")
        if client.variables.get(name, value) != value:
            raise refuse(variable.origin or name, "the provider's configuration has set this value")
        taken[name] = value
    return client.with_variables(taken), rest
