"""Where the metadata of a resource stands, and which resource a path of metadata means."""

import pytest

from identity_gateway.invocation.discovery import resource_path

WELL_KNOWN = b"/.well-known/oauth-protected-resource"
RESOURCE = b"/runtimes/a%2Fb/invocations"


@pytest.mark.parametrize("path", [WELL_KNOWN + RESOURCE, RESOURCE + WELL_KNOWN])
def test_metadata_stands_before_and_after_the_path_of_its_resource(path: bytes):
    assert resource_path(path) == RESOURCE


def test_the_well_known_name_alone_means_no_resource():
    assert resource_path(WELL_KNOWN) == b""


@pytest.mark.parametrize(
    "path",
    [
        RESOURCE,
        b"/",
        WELL_KNOWN + b"x",
        b"/.Well-Known/oauth-protected-resource" + RESOURCE,
        RESOURCE + WELL_KNOWN + b"/",
    ],
)
def test_another_path_names_no_metadata(path: bytes):
    assert resource_path(path) is None
