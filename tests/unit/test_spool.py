"""Spooled bodies: small ones in memory, large ones on disk, none of them for ever."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from hashlib import sha256
from pathlib import Path

import pytest

from identity_gateway.errors import Throttled, ValidationFailed
from identity_gateway.spool import MEMORY_LIMIT, Spool, SpooledBody

LARGE = MEMORY_LIMIT + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool(folder, limit=2)


async def chunks(parts: Iterable[bytes], fault: BaseException | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if fault is not None:
        raise fault


async def receive(spool: Spool, *parts: bytes, max_bytes: int = 10 * MEMORY_LIMIT) -> SpooledBody:
    return await spool.receive(chunks(parts), max_bytes=max_bytes)


async def read(body: SpooledBody) -> bytes:
    return b"".join([chunk async for chunk in body])


def open_files_in(folder: Path) -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(str(folder) in str(link.readlink()) for link in links)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def mode_of(folder: Path) -> int | None:
    return folder.stat().st_mode & 0o777 if folder.exists() else None


# --- Too much ---


async def test_a_body_that_is_too_large_is_refused(spool: Spool):
    with pytest.raises(ValidationFailed) as caught:
        await receive(spool, b"12345", b"67890", b"1", max_bytes=10)
    assert caught.value.kind == "CannotParse"


async def test_a_body_that_becomes_too_large_is_not_read_further(spool: Spool):
    rest = chunks([b"x" * 10, b"x", b"never read"])
    with pytest.raises(ValidationFailed):
        await spool.receive(rest, max_bytes=10)
    assert await anext(rest) == b"never read"


async def test_a_large_body_that_becomes_too_large_gives_its_file_back(spool: Spool, folder: Path):
    with pytest.raises(ValidationFailed):
        await receive(spool, bytes(LARGE), b"x", max_bytes=LARGE)
    assert open_files_in(folder) == 0


async def test_more_large_bodies_than_allowed_are_throttled(spool: Spool):
    kept = [await receive(spool, bytes(LARGE)) for _ in range(2)]
    with pytest.raises(Throttled):
        await receive(spool, bytes(LARGE))
    for body in kept:
        body.close()


async def test_small_bodies_are_not_counted(spool: Spool):
    kept = [await receive(spool, bytes(LARGE)) for _ in range(2)]
    assert await read(await receive(spool, b"small")) == b"small"
    for body in kept:
        body.close()


async def test_a_body_that_was_closed_makes_room_for_another(spool: Spool):
    for _ in range(5):
        (await receive(spool, bytes(LARGE))).close()
    body = await receive(spool, bytes(LARGE))
    assert body.length == LARGE
    body.close()


# --- Cut ---


@pytest.mark.parametrize("fault", [ConnectionError("cut"), asyncio.CancelledError()], ids=["cut", "cancelled"])
async def test_a_body_that_is_cut_gives_its_file_back(spool: Spool, folder: Path, fault: BaseException):
    with pytest.raises(type(fault)):
        await spool.receive(chunks([bytes(LARGE)], fault), max_bytes=2 * LARGE)
    assert open_files_in(folder) == 0


async def test_a_body_that_is_cut_makes_room_for_another(spool: Spool):
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await spool.receive(chunks([bytes(LARGE)], ConnectionError("cut")), max_bytes=2 * LARGE)
    (await receive(spool, bytes(LARGE))).close()


# --- Whole ---

PIECES = {
    "empty": [],
    "one empty chunk": [b""],
    "small": [b"abc"],
    "several chunks": [b"a", b"", b"bc"],
    "exactly what memory takes": [bytes(MEMORY_LIMIT - 1), b"x"],
    "one byte more": [bytes(MEMORY_LIMIT), b"x"],
    "one large chunk": [bytes(range(256)) * 12_345],
    "many chunks": [bytes([number % 251]) * 65_536 for number in range(40)],
    "a little after a lot": [bytes(LARGE), b"tail"],
}


@pytest.mark.parametrize("name", PIECES)
async def test_a_body_is_what_arrived_with_its_length_and_digest(spool: Spool, name: str):
    whole = b"".join(PIECES[name])
    body = await receive(spool, *PIECES[name])
    assert (body.length, body.sha256) == (len(whole), sha256(whole).hexdigest())
    assert await read(body) == whole
    body.close()


async def test_a_body_may_be_exactly_as_large_as_allowed(spool: Spool):
    assert (await receive(spool, b"12345", b"67890", max_bytes=10)).length == 10


async def test_a_body_stays_in_memory_up_to_the_limit_and_not_beyond(spool: Spool):
    small, large = await receive(spool, bytes(MEMORY_LIMIT)), await receive(spool, bytes(LARGE))
    assert small.in_memory == bytes(MEMORY_LIMIT)
    assert large.in_memory is None
    large.close()


async def test_a_large_body_can_be_read_again(spool: Spool):
    body = await receive(spool, b"a" * LARGE, b"z")
    assert await read(body) == await read(body) == b"a" * LARGE + b"z"
    body.close()


async def test_a_large_body_is_read_in_blocks(spool: Spool):
    body = await receive(spool, bytes(LARGE))
    assert max([len(block) async for block in body]) <= MEMORY_LIMIT // 4
    body.close()


async def test_a_large_body_has_no_name_on_disk(spool: Spool, folder: Path):
    body = await receive(spool, bytes(LARGE))
    assert open_files_in(folder) == 1
    assert names_in(folder) == []
    body.close()


async def test_the_folder_is_made_when_it_is_needed_and_for_its_owner_alone(spool: Spool, folder: Path):
    await receive(spool, bytes(MEMORY_LIMIT))
    assert mode_of(folder) is None
    (await receive(spool, bytes(LARGE))).close()
    assert mode_of(folder) == 0o700


async def test_a_body_in_memory_can_be_closed_and_still_read(spool: Spool):
    body = await receive(spool, b"small")
    body.close()
    assert await read(body) == b"small"
