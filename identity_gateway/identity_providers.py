"""The identity providers that this gateway knows: every file of the project's folder and of the operator's own.

Read once, at start: a file that is wrong stops the gateway, with the file and the key. This module does not say what
the words of a file mean, and asks no provider anything.
"""

import functools
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from identity_gateway.errors import FieldError
from identity_gateway.model import Document
from identity_gateway.protocol import jwt
from identity_gateway.protocol.descriptor import DescriptorError
from identity_gateway.protocol.identity_provider import IdentityProvider, parse

_PACKAGED = Path(__file__).parent / "providers"
_IN_THE_TREE = Path(__file__).parent.parent / "providers"
_LAST = "generic"


class IdentityProviders:
    """The providers in the order in which they are asked whether an address is theirs: the generic one comes last."""

    def __init__(self, providers: Iterable[IdentityProvider]) -> None:
        """Take the providers; later ones replace earlier ones of the same id, and are asked before them."""
        by_id: dict[str, IdentityProvider] = {}
        for provider in providers:
            by_id.pop(provider.id, None)
            by_id[provider.id] = provider
        if _LAST not in by_id:
            raise DescriptorError(f"there is no {_LAST}.toml, which every other issuer is read by")
        self._last = by_id.pop(_LAST)
        self._known = tuple(reversed(by_id.values()))

    def __iter__(self) -> Iterator[IdentityProvider]:
        yield from (*self._known, self._last)

    def recognise(self, discovery_url: str, issuer: str | None = None) -> IdentityProvider:
        """Return the provider whose address this is; any other address is one of the issuer that its document names.

        So an emulator, which an administrator named, is read as what it emulates: issuers are called as their provider
        calls them. Whoever answers at the address chose keys and issuer anyway, and gains nothing by the name.
        """
        found = (provider for provider in self._known if provider.recognises(discovery_url))
        named = (provider for provider in self._known if issuer is not None and provider.is_named(issuer))
        return next(found, None) or next(named, None) or self._last

    def check_authorizer(self, authorizer: Document) -> list[FieldError]:
        """Say what is wrong with the value of `customJWTAuthorizer` at registration, by the rules of its provider."""
        return jwt.check_authorizer(authorizer, self.recognise(str(authorizer.get("discoveryUrl"))))

    def policy_of(self, authorizer: Document, issuer: str) -> jwt.JwtPolicy:
        """Return what tokens are held against, once the discovery document has named the issuer.

        Raises InvalidToken where the provider refuses the address, or its document names an issuer of somebody else.
        """
        url = str(authorizer["discoveryUrl"])
        provider = self.recognise(url, issuer)
        fault = provider.refusal_of(url)
        if fault is None and provider.recognises(url):
            fault = provider.issuer_fault(url, issuer)
        if fault is not None:
            raise jwt.refused(jwt.Refusal.WRONG_ISSUER, fault)
        return jwt.JwtPolicy.from_configuration(authorizer, issuer, provider)


def load(*more: Path) -> IdentityProviders:
    """Read the project's files and those of further folders. Raises DescriptorError with file and key."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _IN_THE_TREE
    return IdentityProviders(
        read(path) for where in (folder / "inbound", *more) for path in sorted(where.glob("*.toml"))
    )


@functools.cache
def packaged() -> IdentityProviders:
    """Return the project's providers alone, read once."""
    return load()


def read(path: Path) -> IdentityProvider:
    """Read one file. Raises DescriptorError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DescriptorError(f"{path.name}: {error}") from None
    provider = parse(document, file=path.name)
    if provider.id != path.stem:
        raise DescriptorError(f"{path.name}: id: must be the name of the file, {path.stem}")
    return provider
