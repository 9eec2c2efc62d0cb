"""Every vendor, written from its documents and never from its descriptor. `ALL` is by the descriptor's id."""

from tests.fakes.vendor import Vendor
from tests.providers.vendors import github, identity, slack, social, tools, work, zoom

ALL: dict[str, type[Vendor]] = {
    vendor.id: vendor
    for module in (slack, zoom, github, identity, social, tools, work)
    for vendor in vars(module).values()
    if isinstance(vendor, type) and issubclass(vendor, Vendor) and vendor is not Vendor and hasattr(vendor, "id")
}
