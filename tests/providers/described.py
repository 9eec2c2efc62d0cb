"""Where the descriptors are, and each with the vendor that it is meant to describe."""

from pathlib import Path

from identity_gateway.catalog import read
from identity_gateway.protocol.descriptor import Descriptor
from tests.fakes.vendor import Vendor
from tests.providers.vendors import ALL

FOLDER = Path(__file__).parents[2] / "providers" / "outbound"
FILES = sorted(FOLDER.glob("*.toml"))


def described() -> dict[str, tuple[Descriptor, type[Vendor]]]:
    """Return descriptor and vendor by id, of every descriptor that has a fake."""
    return {path.stem: (read(path), ALL[path.stem]) for path in FILES if path.stem in ALL}
