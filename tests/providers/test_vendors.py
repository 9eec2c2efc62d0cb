"""Every descriptor passes the suite against a server that has that vendor's documented quirks."""

import pytest

from tests.providers.checks import Check, Stand, checks_of
from tests.providers.described import FILES, described
from tests.providers.vendors import ALL

STANDS = {name: Stand(descriptor, vendor) for name, (descriptor, vendor) in described().items()}
EVERY = [
    pytest.param(stand, check, id=f"{name}-{what}")
    for name, stand in STANDS.items()
    for what, check in checks_of(stand.vendor).items()
]


def test_every_descriptor_has_its_fake() -> None:
    assert {path.stem for path in FILES} == set(ALL)


@pytest.mark.parametrize(("stand", "check"), EVERY)
async def test_the_descriptor_says_what_the_vendor_documents(stand: Stand, check: Check) -> None:
    await check(stand)
