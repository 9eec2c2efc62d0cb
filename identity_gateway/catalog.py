"""The vendors that this gateway knows: every descriptor of the project's folder and of the operator's own.

Read once, at start: a descriptor that is wrong stops the gateway, with the file and the key. What stands in the
operator's folder replaces a descriptor of the same id. This module does not say what the words of a descriptor mean.
"""

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from identity_gateway.protocol.descriptor import Descriptor, DescriptorError, parse

_PACKAGED = Path(__file__).parent / "providers"
_IN_THE_TREE = Path(__file__).parent.parent / "providers"


class Catalog:
    """Descriptors by id and by AWS's word for the vendor."""

    def __init__(self, descriptors: Iterable[Descriptor]) -> None:
        """Take the descriptors; later ones replace earlier ones of the same id. Two of one vendor: DescriptorError."""
        self._by_id = {descriptor.id: descriptor for descriptor in descriptors}
        self._by_vendor: dict[str, Descriptor] = {}
        for descriptor in self._by_id.values():
            other = self._by_vendor.setdefault(descriptor.agentcore.vendor, descriptor)
            if other is not descriptor:
                raise DescriptorError(f"{other.id} and {descriptor.id} both call themselves {other.agentcore.vendor}")

    def __iter__(self) -> Iterator[Descriptor]:
        return iter(self._by_id.values())

    def get(self, vendor: str) -> Descriptor | None:
        """Return the descriptor of a `credentialProviderVendor`."""
        return self._by_vendor.get(vendor)


def load(*more: Path) -> Catalog:
    """Read the project's descriptors and those of further folders. Raises DescriptorError with file and key."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _IN_THE_TREE
    return Catalog(read(path) for where in (folder / "outbound", *more) for path in sorted(where.glob("*.toml")))


def read(path: Path) -> Descriptor:
    """Read one descriptor. Raises DescriptorError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DescriptorError(f"{path.name}: {error}") from None
    descriptor = parse(document, file=path.name)
    if descriptor.id != path.stem:
        raise DescriptorError(f"{path.name}: id: must be the name of the file, {path.stem}")
    return descriptor
