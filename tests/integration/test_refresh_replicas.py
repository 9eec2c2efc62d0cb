"""Replicas on one PostgreSQL and one Valkey, and processes on one data folder, burn a refresh token once."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.ephemeral.local import LocalEphemeral
from identity_gateway.ephemeral.redis import RedisEphemeral
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.model import Grant, NamedUser, Secret
from identity_gateway.protocol.descriptor import parse
from identity_gateway.protocol.oauth2 import Answered, Client, Credential, Requested
from identity_gateway.records.sql import open_records
from identity_gateway.refresh import Refreshing, Usable
from identity_gateway.vault import Holder, Vault
from tests.fakes.envelope import LocalEnvelope
from tests.parts import Postgres, Valkey

ACCOUNT = "000000000000"
REPLICAS, CALLERS = 3, 8
CLIENT = Client(
    parse(
        {
            "schema": 1,
            "id": "vendor",
            "name": "Vendor",
            "verified": date(2026, 1, 1),
            "sources": ["https://vendor.example/"],
            "hosts": ["vendor.example"],
            "agentcore": {"vendor": "CustomOauth2"},
            "token": {"url": "https://vendor.example/token"},
        },
        file="vendor",
    ),
    "client",
    Secret("secret"),
)


@dataclass(frozen=True)
class Stores:
    """Where the state of all replicas stands. Plain text, so that another process can be told."""

    records: str
    ephemeral: str

    def open_ephemeral(self) -> Ephemeral:
        if self.ephemeral.startswith("redis"):
            return RedisEphemeral(self.ephemeral)
        return LocalEphemeral(Path(self.ephemeral))


class Server:
    """A vendor that takes its time, spends what it is sent, and counts."""

    def __init__(self, seconds: float = 0.3) -> None:
        self.sent: list[str] = []
        self._seconds = seconds

    async def refresh(
        self,
        client: Client,
        *,
        part: str,
        refresh_token: Secret | None,
        access_token: Secret | None,
        scopes: tuple[str, ...],
    ) -> Answered:
        assert refresh_token is not None
        self.sent.append(refresh_token.reveal())
        await asyncio.sleep(self._seconds)
        return answer(f"{len(self.sent) + 1}")


def answer(name: str, lifetime: float = 3600.0) -> Answered:
    return Answered(
        (Credential("default", Secret(f"A{name}"), Secret(f"R{name}"), lifetime, None, None, "Bearer", ""),)
    )


@asynccontextmanager
async def replica(stores: Stores, server: Server, owner: str) -> AsyncIterator[tuple[Vault, Refreshing]]:
    records, ephemeral = await open_records(stores.records), stores.open_ephemeral()
    vault = Vault(records, LocalEnvelope(), Fingerprints([b"f" * 32]), ACCOUNT, clock=time.time)
    refreshing = Refreshing(vault, ephemeral, server, clock=time.time, jitter=lambda: 0.5, owner=owner)
    try:
        yield vault, refreshing
    finally:
        await refreshing.aclose()
        await ephemeral.close()
        await records.close()


async def an_ended_grant(vault: Vault) -> Grant:
    holder = Holder("agent", datetime(2026, 1, 1, tzinfo=UTC), NamedUser("alice"), "chat", "p1", Requested())
    return (await vault.store_consent(holder, answer("1", lifetime=60.0), began=time.time() - 60))[0]


@pytest.fixture(params=["one data folder", "PostgreSQL and Valkey"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    if request.param == "one data folder":
        return Stores(f"sqlite:///{tmp_path}/records.sqlite", f"{tmp_path}/ephemeral.sqlite")
    postgres: Postgres = request.getfixturevalue("postgres_server")
    valkey: Valkey = request.getfixturevalue("valkey_server")
    return Stores(postgres.create_database(), valkey.url)


async def ask_all(stores: Stores, server: Server) -> tuple[set[str], Grant]:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(stores, server, f"r{n}")) for n in range(REPLICAS)]
        grant = await an_ended_grant(replicas[0][0])
        asked = [refreshing.fresh(grant, CLIENT) for _, refreshing in replicas for _ in range(CALLERS)]
        found = await asyncio.gather(*asked)
        row = await replicas[0][0].get(grant.id)
    assert row is not None
    return {each.tokens.access.reveal() for each in found if isinstance(each, Usable)}, row


async def test_many_callers_of_many_replicas_cost_one_call(stores: Stores):
    server = Server()
    tokens, row = await ask_all(stores, server)
    assert (tokens, server.sent, row.generation) == ({"A2"}, ["R1"], 2)


async def test_replicas_that_lost_the_ephemeral_store_still_make_one_call(stores: Stores, tmp_path: Path):
    server = Server()
    tokens, row = await ask_all(Stores(stores.records, f"{tmp_path}/nowhere/ephemeral.sqlite"), server)
    assert (tokens, server.sent, row.generation) == ({"A2"}, ["R1"], 2)


def die_before_the_answer_is_stored(stores: Stores, grant_id: str) -> None:
    """Refresh in a process of its own, which is killed when it has the answer and has not written it."""

    async def story() -> None:
        async with replica(stores, Server(0.0), "doomed") as (vault, refreshing):
            grant = await vault.get(grant_id)
            assert grant is not None
            doomed: Any = vault
            doomed.store_rotation = lambda *_args, **_named: os.kill(os.getpid(), signal.SIGKILL)
            await refreshing.fresh(grant, CLIENT)

    asyncio.run(story())


async def test_the_answer_of_a_killed_process_is_stored_by_the_next_one(stores: Stores):
    server = Server()
    async with replica(stores, server, "next") as (vault, refreshing):
        grant = await an_ended_grant(vault)
        doomed = multiprocessing.get_context("spawn").Process(
            target=die_before_the_answer_is_stored, args=(stores, grant.id)
        )
        doomed.start()
        await asyncio.to_thread(doomed.join, 60)
        begun = await vault.get(grant.id)
        assert begun is not None
        found = await refreshing.fresh(begun, CLIENT)
        row = await vault.get(grant.id)
    assert (doomed.exitcode, begun.intent_owner, begun.generation) == (-signal.SIGKILL, "doomed", 1)
    assert isinstance(found, Usable)
    assert row is not None
    assert (found.tokens.access.reveal(), row.generation, server.sent) == ("A2", 2, [])
