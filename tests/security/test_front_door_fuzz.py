"""The front door under a fuzzer: no undocumented answer, nothing let in that nobody vouches for.

`python -m tests.fuzz --minutes 10` is the long run. Here are a short one, and the fuzzer's own proof: with a check taken
out of the gateway it must report wrong accepts.
"""

import asyncio
import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from identity_gateway.api.exchange import check_head
from identity_gateway.errors import ValidationFailed
from identity_gateway.inbound import BearerTokens
from identity_gateway.protocol.jwt import VerifiedPayload, claims
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4 import elements, presented, presented_url, verification
from tests.fuzz import wire
from tests.fuzz.campaign import in_process
from tests.fuzz.run import Report

SEED = int(os.environ.get("FUZZ_SEED") or 20261123)
MANY = 500


@pytest.fixture(scope="module")
def wired() -> Iterator[wire.Wired]:
    """A gateway in a process of its own."""
    with wire.open_wire() as running:
        yield running


async def test_the_front_door_gives_documented_answers_and_lets_nobody_in_by_mistake():
    report = Report(SEED)
    await in_process(report, 10)
    assert report.findings == [], report.table()
    assert report.cases.total() > MANY, report.table()
    assert all(report.let_in[name] for name in report.cases), f"a generator reached nothing:\n{report.table()}"


async def test_the_server_reads_raw_heads_in_one_way_only(wired: wire.Wired):
    report = Report(SEED)
    await wire.fuzz(wired, report, 6)
    assert report.findings == [], report.table()
    assert report.let_in[wire.GENERATOR], report.table()


@pytest.mark.parametrize("value", [b"a\x7fb", b"a\x00b", b"a\nb: c", b"\x0b"])
def test_a_control_character_in_any_field_is_refused_with_the_head(value: bytes):
    request = Request("GET", b"/", b"", ((b"host", b"gateway"), (b"accept", value)))
    with pytest.raises(ValidationFailed, match="not well-formed"):
        check_head(request, ())


@pytest.mark.parametrize("codings", [b"gzip, chunked", b"xchunked\r\ntransfer-encoding: chunked"])
async def test_a_coding_that_nobody_would_decode_is_refused(wired: wire.Wired, codings: bytes):
    raw = b"POST /identities/x HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: " + codings + b"\r\n\r\n0\r\n\r\n"
    heard = await asyncio.wait_for(wire.talk(wired.gateway.port, raw), 20)
    assert heard.startswith(b"HTTP/1.1 400 ")


# --- The fuzzer finds what is wrong with the gateway: here somebody takes a check out of it ---


def _compare_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verification.hmac, "compare_digest", lambda _left, _right: True)


def _cover_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(presented, "require_coverage", lambda *_: None)
    patch.setattr(presented_url, "require_coverage", lambda *_: None)


def _any_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(presented, "_require_timely", lambda *_: None)


def _any_audience(patch: pytest.MonkeyPatch) -> None:
    verify = claims.verify

    def lenient(token: Any, keys: Any, policy: Any, *, now: float) -> Any:
        return verify(token, keys, _without(policy, audiences=()), now=now)

    patch.setattr("identity_gateway.protocol.jwt.verify", lenient)


def _any_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("identity_gateway.protocol.jwt.claims.verify_signature", _believed)


def _without(policy: Any, **changes: Any) -> Any:
    for name, value in changes.items():
        object.__setattr__(policy, name, value)
    return policy


def _believed(token: Any, *_: Any) -> Any:
    return VerifiedPayload(token.unverified_payload, token.alg, token.kid)


def _one_token_for_all(patch: pytest.MonkeyPatch) -> None:
    """Remember tokens by their claims' part alone, as a careless cache would."""
    verify = BearerTokens.verify
    seen: dict[str, Any] = {}

    async def careless(self: BearerTokens, token: Any, authorizer: Any, **about: Any) -> Any:
        key = token.reveal().split(".")[0]
        if key not in seen:
            seen[key] = await verify(self, token, authorizer, **about)
        return seen[key]

    patch.setattr(BearerTokens, "verify", careless)


async def test_the_fuzzer_reports_a_server_that_answers_everything(wired: wire.Wired):
    async def oblige(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b" ")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()

    report = Report(SEED)
    async with await asyncio.start_server(oblige, "127.0.0.1", 0) as server:
        obliging = copy.copy(wired.gateway)
        obliging.port = server.sockets[0].getsockname()[1]
        await wire.fuzz(replace(wired, gateway=obliging), report, 0)
    assert any("WRONG ACCEPT" in finding for finding in report.findings), report.table()


@pytest.mark.parametrize(
    "plant", [_compare_nothing, _cover_nothing, _any_time, _any_audience, _any_signature, _one_token_for_all]
)
async def test_the_fuzzer_reports_a_check_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
):
    plant(monkeypatch)
    report = Report(SEED)
    await in_process(report, 30, enough=1)
    assert any("WRONG ACCEPT" in finding for finding in report.findings), report.table()


async def test_the_fuzzer_reports_an_exception_that_nobody_foresaw(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elements, "_listed", None)
    report = Report(SEED)
    await in_process(report, 30, enough=1)
    assert any("unforeseen" in finding for finding in report.findings), report.table()
