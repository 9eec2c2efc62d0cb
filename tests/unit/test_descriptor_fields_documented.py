"""providers/README.md explains every word of a descriptor, and its example is one."""

import re
import tomllib
from pathlib import Path

import pytest

from identity_gateway.protocol import descriptor
from identity_gateway.protocol.descriptor import parse
from identity_gateway.protocol.descriptor.rules import Part

README = (Path(__file__).parents[2] / "providers" / "README.md").read_text(encoding="utf-8")


EXPORTED = [getattr(descriptor, name) for name in descriptor.__all__]
SCHEMA = {table.__name__: table for table in EXPORTED if isinstance(table, type) and issubclass(table, Part)}


def section_of(model: str) -> str:
    """Return the text from the heading or table head that names the model to the next heading."""
    start = README.index(f"(`{model}`)")
    end = re.compile(r"^##", re.MULTILINE).search(README, start)
    return README[start : end.start() if end else None]


def own_fields(model: type[Part]) -> set[str]:
    """Return the fields that a table does not share with another table of the schema, by the names that files use."""
    inherited = {
        name for base in model.__bases__ if base.__name__ in SCHEMA for name in SCHEMA[base.__name__].model_fields
    }
    return {field.alias or name for name, field in model.model_fields.items() if name not in inherited}


@pytest.mark.parametrize("name", SCHEMA)
def test_the_readme_has_a_section_for_every_table_of_the_schema(name: str) -> None:
    assert f"(`{name}`)" in README


@pytest.mark.parametrize("name", SCHEMA)
def test_the_readme_explains_every_field_of(name: str) -> None:
    rows = {row.split("|")[1].strip().strip("`") for row in section_of(name).splitlines() if row.startswith("| `")}
    assert own_fields(SCHEMA[name]) <= rows


def test_the_readme_explains_no_field_that_the_schema_lacks() -> None:
    known = {field.alias or name for model in SCHEMA.values() for name, field in model.model_fields.items()}
    headed = re.findall(r"^\| field[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", README, re.MULTILINE)
    named = {row.split("|")[1].strip().strip("`") for table in headed for row in table.splitlines()}
    assert named <= known


def test_the_example_of_the_readme_is_a_descriptor() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert parse(tomllib.loads(example), file="README.md").id == "example"


def test_the_readme_names_every_outcome_source_and_way_to_authenticate() -> None:
    words = re.findall(r"'(\w+)'", f"{descriptor.Outcome} {descriptor.Authentication} {descriptor.Purpose}")
    sources = re.findall(r"'(\w+)'", str(SCHEMA["Variable"].model_fields["source"].annotation))
    assert {word for word in words + sources if f"`{word}`" not in README} == set()
