"""docs/reference/identity-providers.md explains every word of a file in providers/inbound, and its example is one."""

import re
import tomllib
from pathlib import Path

import pytest

from identity_gateway.identity_providers import packaged
from identity_gateway.protocol import identity_provider
from identity_gateway.protocol.descriptor.rules import Part
from identity_gateway.protocol.identity_provider import parse

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "identity-providers.md").read_text(encoding="utf-8")
EXPORTED = [getattr(identity_provider, name) for name in identity_provider.__all__]
SCHEMA = {table.__name__: table for table in EXPORTED if isinstance(table, type) and issubclass(table, Part)}


def rows(model: str) -> set[str]:
    """Return the fields in the section whose heading names the model."""
    start = PAGE.index(f"(`{model}`)")
    end = re.compile(r"^##", re.MULTILINE).search(PAGE, start)
    section = PAGE[start : end.start() if end else None]
    return {row.split("|")[1].strip().strip("`") for row in section.splitlines() if row.startswith("| `")}


def fields(model: type[Part]) -> set[str]:
    inherited = {
        name for base in model.__bases__ if base in SCHEMA.values() for name in SCHEMA[base.__name__].model_fields
    }
    return {field.alias or name for name, field in model.model_fields.items() if name not in inherited}


@pytest.mark.parametrize("name", SCHEMA)
def test_the_page_explains_exactly_the_fields_of(name: str) -> None:
    assert rows(name) == fields(SCHEMA[name])


def test_the_example_of_the_page_is_a_file() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert parse(tomllib.loads(example), file="page").id == "ours"


@pytest.mark.parametrize("provider", list(packaged()), ids=lambda provider: provider.id)
def test_the_page_has_a_row_for(provider: identity_provider.IdentityProvider) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{provider.id}` |")]
    cells = [cell.strip() for cell in row.split("|")]
    assert re.findall(r"`(\w+)`", cells[3]) == list(provider.clients)
    assert re.findall(r"`(\w+)`", cells[4]) == [scope.claim for scope in provider.scopes]
    assert cells[5] == provider.audience
