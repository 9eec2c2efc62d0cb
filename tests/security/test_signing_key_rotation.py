"""Threat: keys of the gateway's own tokens that live on after they were rotated, or that die before their tokens do.

Two replicas share one database here: one rotates, the other learns of it.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from identity_gateway.records.sql import SqlRecords, open_records
from identity_gateway.sealing import Sealer
from identity_gateway.web_identity import LONGEST_TOKEN, PURPOSE, WebIdentity
from tests.fakes.clock import Clock
from tests.fakes.signing_keys import ACCOUNT

ISSUER = "https://gateway.example"
READ_AGAIN = 5.0
"""Seconds after which a replica looks at the records again."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[SqlRecords]:
    opened = await open_records(f"sqlite:///{tmp_path}/records.sqlite")
    yield opened
    await opened.close()


@pytest.fixture
async def replicas(records: SqlRecords, clock: Clock) -> tuple[WebIdentity, WebIdentity]:
    """Two replicas; the first has made the keys, and looked at what became of them."""
    sealer = Sealer([b"k" * 32], PURPOSE)
    first, second = (WebIdentity(records, sealer, ACCOUNT, issuer=ISSUER, clock=clock) for _ in range(2))
    assert len(await published(first)) == len(await published(first)) == 2
    return first, second


async def published(replica: WebIdentity) -> set[str]:
    return {key["kid"] for key in (await replica.key_set())["keys"]}


async def signing_key(replica: WebIdentity) -> str:
    token = await replica.sign({"sub": "ada"}, "ES384")
    return str(jwt.get_unverified_header(token.reveal())["kid"])


async def test_a_rotated_key_signs_no_more_once_its_replica_has_looked_again(
    replicas: tuple[WebIdentity, WebIdentity], clock: Clock
):
    one, other = replicas
    before = await signing_key(one)
    made = {key.id for key in await other.rotate()}
    assert await signing_key(other) in made
    clock.now += READ_AGAIN - 0.1
    assert await signing_key(one) == before
    clock.now += 0.2
    assert await signing_key(one) in made


async def test_new_keys_are_published_beside_those_whose_tokens_still_live(
    replicas: tuple[WebIdentity, WebIdentity], clock: Clock
):
    one, other = replicas
    before = await published(one)
    made = {key.id for key in await other.rotate()}
    assert await published(one) == before
    clock.now += READ_AGAIN
    assert await published(one) == await published(other) == before | made


async def test_a_retired_key_is_published_as_long_as_a_token_of_it_may_live_and_no_longer(
    replicas: tuple[WebIdentity, WebIdentity], clock: Clock
):
    one, other = replicas
    before = await published(one)
    await other.rotate()
    clock.now += READ_AGAIN + LONGEST_TOKEN  # the last token is signed just before the replica looks again
    assert before < await published(one)
    clock.now += LONGEST_TOKEN
    assert before.isdisjoint(await published(one))


async def test_no_published_key_holds_more_than_its_public_members(replicas: tuple[WebIdentity, WebIdentity]):
    keys: list[dict[str, Any]] = (await replicas[0].key_set())["keys"]
    members = {"RSA": {"kty", "n", "e"}, "EC": {"kty", "crv", "x", "y"}}
    assert len(keys) == 2
    assert all(key.keys() == members[key["kty"]] | {"kid", "alg", "use"} for key in keys)
