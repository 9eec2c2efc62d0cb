"""The stores in memory, on which the refresh engine is tried, do what the real ones do."""

from collections.abc import Awaitable, Callable

import pytest

from tests.conformance.ephemeral_suite import EphemeralSuite
from tests.conformance.records_suite import RecordsSuite
from tests.fakes.clock import Clock
from tests.fakes.ephemeral_in_memory import InMemoryEphemeral, Shelf
from tests.fakes.records_in_memory import InMemoryRecords, Memory


class TestRecordsInMemory(RecordsSuite):
    @pytest.fixture
    def records(self) -> InMemoryRecords:
        return InMemoryRecords(Memory())


class TestEphemeralInMemory(EphemeralSuite):
    @pytest.fixture
    def store(self, clock: Clock) -> InMemoryEphemeral:
        return InMemoryEphemeral(Shelf(), clock=clock)

    @pytest.fixture
    def pass_time(self, clock: Clock) -> Callable[[float], Awaitable[None]]:
        async def pass_time(seconds: float) -> None:
            clock.now += seconds

        return pass_time
