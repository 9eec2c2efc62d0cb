"""No field of a descriptor is there for nothing: whichever is wrong, loading it or a check of the suite says so."""

import tomllib
from typing import Any

import pytest

from identity_gateway.protocol.descriptor import Descriptor, DescriptorError, parse
from tests.providers.checks import Check, Stand, checks_of
from tests.providers.described import FOLDER
from tests.providers.mutants import EXEMPT, Mutant, mutants
from tests.providers.vendors import ALL

WATCHED = ["slack", "zoom", "github"]


def document_of(vendor: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{vendor}.toml").read_text(encoding="utf-8"))


async def verdict(mutant: Mutant, original: Descriptor, checks: dict[str, Check]) -> str:
    """Return by whom the mutant is killed: `loading`, the name of a check, or nobody. `same`: it is no mutant."""
    try:
        descriptor = parse(mutant.document, file="mutant.toml")
    except DescriptorError:
        return "loading"
    if descriptor.id != original.id:
        return "loading"  # the name of the file, which is not asked for here
    if descriptor == original:
        return "same"
    stand = Stand(descriptor, ALL[original.id])
    for name, check in likeliest_first(checks, mutant.section):
        try:
            await check(stand)
        except (Exception, pytest.fail.Exception):
            return name
    return "nobody"


def likeliest_first(checks: dict[str, Check], section: str) -> list[tuple[str, Check]]:
    """Return the checks with those in front that watch this section: most mutants die at once."""
    watching = WATCHING.get(section, ("words", "consent", "revoke", "introspection", "vendor_says"))
    return sorted(checks.items(), key=lambda each: not any(word in each[0] for word in watching))


WATCHING = {
    "errors": ("explained", "case"),
    "machine": ("words", "machine", "clock"),
    "signals": ("webhooks",),
    "refresh": ("words", "refresh"),
}


@pytest.mark.parametrize("vendor", WATCHED)
async def test_whichever_field_is_wrong_something_fails(vendor: str, record_property: Any) -> None:
    document = document_of(vendor)
    original = parse(document, file=f"{vendor}.toml")
    checks = checks_of(ALL[vendor])
    verdicts = {mutant.what: await verdict(mutant, original, checks) for mutant in mutants(document)}
    killed = [what for what, by in verdicts.items() if by not in {"same", "nobody"}]
    record_property("mutants_killed", len(killed))
    assert len(killed) > 200
    assert [what for what, by in verdicts.items() if by == "nobody"] == []


def test_every_exemption_says_why() -> None:
    assert all(len(reason) > 20 for reason in EXEMPT.values())
