"""The catalog holds every descriptor of the project, and an operator's own in their place."""

from pathlib import Path

import pytest

from identity_gateway import catalog
from identity_gateway.protocol.descriptor import DescriptorError
from tests.fakes.descriptors import described

PLAIN = """
schema = 1
id = "{id}"
name = "Plain"
verified = 2026-08-21
sources = ["https://vendor.example/"]
hosts = ["vendor.example"]
[agentcore]
vendor = "{vendor}"
[token]
url = "https://vendor.example/token"
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_that_is_no_toml_is_named(tmp_path: Path):
    with pytest.raises(DescriptorError, match=r"broken\.toml: "):
        catalog.load(write(tmp_path, "broken.toml", "schema = ").parent)


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path):
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(DescriptorError, match=r"latin\.toml: "):
        catalog.load(tmp_path)


def test_a_file_is_named_like_its_vendor(tmp_path: Path):
    path = write(tmp_path, "other.toml", PLAIN.format(id="plain", vendor="PlainOauth2"))
    with pytest.raises(DescriptorError, match="must be the name of the file, other"):
        catalog.read(path)


def test_two_descriptors_cannot_be_one_vendor():
    twin = described({"id": "twin"})
    with pytest.raises(DescriptorError, match="PlainOauth2"):
        catalog.Catalog([described(), twin])


def test_an_operators_descriptor_replaces_the_projects(tmp_path: Path):
    write(tmp_path, "slack.toml", PLAIN.format(id="slack", vendor="SlackOauth2"))
    found = catalog.load(tmp_path).get("SlackOauth2")
    assert found is not None
    assert found.name == "Plain"


def test_an_unknown_vendor_has_no_descriptor():
    assert catalog.load().get("NobodyOauth2") is None


def test_every_descriptor_of_the_project_loads():
    assert {"slack", "zoom", "github", "custom"} <= {descriptor.id for descriptor in catalog.load()}
