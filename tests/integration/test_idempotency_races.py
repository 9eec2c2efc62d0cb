"""Requests with one clientToken that reach a real PostgreSQL a moment apart: one effect, one answer, round after round."""

import asyncio
import time
from typing import Any

from identity_gateway.errors import Conflict
from identity_gateway.idempotency import Idempotency
from identity_gateway.model import Document, Tag
from identity_gateway.records import AlreadyExists, Transaction
from identity_gateway.records.sql import open_records

ACCOUNT = "000000000000"
ROUNDS, CALLERS = 60, 8


async def test_a_request_that_comes_as_the_first_one_commits_gets_its_answer(postgres_server: Any):
    records = await open_records(postgres_server.create_database())
    idempotency = Idempotency(records, ACCOUNT, clock=time.time)

    async def create(number: int, caller: int) -> Document:
        async def effect(transaction: Transaction) -> Document:
            try:
                await transaction.create(Tag(ACCOUNT, f"resource-{number}", "made-by", str(caller)))
            except AlreadyExists:
                raise Conflict("exists") from None
            return {"caller": caller}

        await asyncio.sleep(0.001 * caller)
        return await idempotency.run("Create", {"clientToken": f"token-{number}", "number": number}, effect)

    try:
        for number in range(ROUNDS):
            answers = await asyncio.gather(*(create(number, caller) for caller in range(CALLERS)))
            assert answers == [answers[0]] * CALLERS
    finally:
        await records.close()
