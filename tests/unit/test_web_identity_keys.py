"""The signing keys of the gateway's own issuer: whoever makes, changes and reads them at once finds the same ones."""

import asyncio

import jwt
import pytest

from identity_gateway.records.sql import SqlRecords
from identity_gateway.sealing import Sealer
from identity_gateway.web_identity import ALGORITHMS, PURPOSE, WebIdentity
from tests.fakes.clock import Clock

ACCOUNT = "000000000000"


def issuer(records: SqlRecords, clock: Clock) -> WebIdentity:
    return WebIdentity(records, Sealer([b"k" * 32], PURPOSE), ACCOUNT, issuer="https://gateway.test", clock=clock)


async def ids(issuing: WebIdentity) -> set[str]:
    return {key["kid"] for key in (await issuing.key_set())["keys"]}


async def signed_by(issuing: WebIdentity, algorithm: str) -> str:
    token = await issuing.sign({"sub": "x"}, algorithm)
    return str(jwt.get_unverified_header(token.reveal())["kid"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_replicas_that_make_the_first_keys_at_once_sign_with_the_same_one(
    records: SqlRecords, clock: Clock, algorithm: str
):
    replicas = [issuer(records, clock) for _ in range(3)]
    used = await asyncio.gather(*(signed_by(each, algorithm) for each in replicas))
    assert len(set(used)) == 1


async def test_every_replica_publishes_the_keys_that_another_made_at_the_same_time(records: SqlRecords, clock: Clock):
    replicas = [issuer(records, clock) for _ in range(3)]
    published = await asyncio.gather(*(ids(each) for each in replicas))
    assert all(found == published[0] for found in published)
    assert len(published[0]) == len(ALGORITHMS)


async def test_a_retired_key_is_published_for_as_long_as_its_tokens_may_live(records: SqlRecords, clock: Clock):
    signing = issuer(records, clock)
    old = await ids(signing)
    await signing.rotate()
    assert old < await ids(signing)
    assert await signed_by(signing, "ES384") not in old
