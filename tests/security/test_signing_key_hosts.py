"""The region in a signing key's ARN becomes a part of a host name: nothing but a region is taken for one."""

from typing import Any

import pytest

from identity_gateway.key_signing import KmsSigning, SigningFailed
from identity_gateway.protocol.oauth2 import Unsigned
from tests.fakes.descriptors import client


@pytest.mark.parametrize("region", ["evil", "internal.evil", "us-east-1.evil", "us-east-1@evil", "1", "US-EAST-1", "-"])
async def test_a_signing_key_of_no_region_is_not_asked_for(region: str):
    asked: list[str] = []

    def connect(name: str) -> Any:
        asked.append(name)

    unsigned = Unsigned("RS256", "private_key", f"arn:aws:kms:{region}:000000000000:key/1", {}, {})
    with pytest.raises(SigningFailed, match="ARN"):
        await KmsSigning(connect).sign(client(), unsigned)
    assert not asked
