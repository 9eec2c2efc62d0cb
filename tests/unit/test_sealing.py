"""Sealed values open in their own place, for their own purpose, under a key that is held; and nowhere else."""

import itertools
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_gateway.sealing import (
    Sealer,
    Unsealable,
    from_text,
    load_or_create_secret_file,
    to_text,
    write_secret_file,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
PLACE = ("000000000000", "access_key", "IGAK1", "sealed_secret")
HOUR = 3600
SEALER = Sealer([KEY], "vault")
HOURLY = Sealer([KEY], "vault", period_seconds=HOUR)
SEALED = SEALER.seal(b"the secret", place=PLACE)


# --- What does not open ---


@pytest.mark.parametrize(
    "place",
    [
        ("111111111111", *PLACE[1:]),
        (PLACE[0], "grant", *PLACE[2:]),
        (*PLACE[:2], "IGAK2", PLACE[3]),
        (*PLACE[:3], "other_field"),
        PLACE[:3],
        (*PLACE, ""),
        (*PLACE[:2], "IGAK1sealed_secret"),
        (*PLACE[:2], "IGAK", "1sealed_secret"),
        (),
    ],
)
def test_a_sealed_value_does_not_open_in_another_place(place: tuple[str, ...]):
    with pytest.raises(Unsealable):
        SEALER.open(SEALED, place=place)


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_no_two_places_are_the_same(one: list[str], other: list[str]):
    sealed = SEALER.seal(b"x", place=tuple(one))
    if one == other:
        assert SEALER.open(sealed, place=tuple(other)) == b"x"
    else:
        with pytest.raises(Unsealable):
            SEALER.open(sealed, place=tuple(other))


def test_a_sealed_value_does_not_open_for_another_purpose():
    with pytest.raises(Unsealable):
        Sealer([KEY], "paging").open(SEALED, place=PLACE)


def test_a_sealed_value_does_not_open_under_another_key():
    with pytest.raises(Unsealable):
        Sealer([OTHER_KEY], "vault").open(SEALED, place=PLACE)


def test_a_sealed_value_does_not_open_once_its_key_was_dropped():
    rotated = Sealer([OTHER_KEY, KEY], "vault").seal(b"new", place=PLACE)
    with pytest.raises(Unsealable):
        SEALER.open(rotated, place=PLACE)


@given(st.sampled_from([SEALED, HOURLY.seal(b"s", place=PLACE, now=9.5 * HOUR)]), st.data())
def test_a_flipped_bit_anywhere_does_not_open(sealed: bytes, data: st.DataObject):
    place = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytearray(sealed)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    for sealer in (SEALER, HOURLY):
        with pytest.raises(Unsealable):
            sealer.open(bytes(changed), place=PLACE)


@pytest.mark.parametrize("length", [*range(40), len(SEALED) - 1])
def test_a_cut_value_does_not_open(length: int):
    with pytest.raises(Unsealable):
        SEALER.open(SEALED[:length], place=PLACE)


@settings(max_examples=50)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_do_not_open(sealed: bytes):
    with pytest.raises(Unsealable):
        HOURLY.open(sealed, place=PLACE)


def test_a_value_of_a_period_does_not_open_where_there_are_no_periods():
    with pytest.raises(Unsealable):
        SEALER.open(HOURLY.seal(b"x", place=PLACE, now=9 * HOUR), place=PLACE)


def test_a_refusal_says_nothing():
    with pytest.raises(Unsealable) as caught:
        Sealer([OTHER_KEY], "vault").open(SEALED, place=PLACE)
    assert (caught.value.args, caught.value.__cause__) == ((), None)


@pytest.mark.parametrize("keys", [[], [b""], [b"k" * 31], [b"k" * 33], [KEY, b"short"]])
def test_a_master_key_that_has_not_32_bytes_is_refused(keys: list[bytes]):
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(keys, "vault")


# --- What opens ---


@pytest.mark.parametrize("plaintext", [b"", b"s", b"x" * 100_000])
def test_what_was_sealed_opens_in_its_place(plaintext: bytes):
    assert SEALER.open(SEALER.seal(plaintext, place=PLACE), place=PLACE) == plaintext


def test_every_key_that_is_held_opens_and_the_first_one_seals():
    rotated = Sealer([OTHER_KEY, KEY], "vault")
    assert rotated.open(SEALED, place=PLACE) == b"the secret"
    assert Sealer([OTHER_KEY], "vault").open(rotated.seal(b"new", place=PLACE), place=PLACE) == b"new"


def test_a_key_that_is_given_twice_still_seals():
    doubled = Sealer([KEY, OTHER_KEY, KEY], "vault")
    assert SEALER.open(doubled.seal(b"x", place=PLACE), place=PLACE) == b"x"


def test_the_same_text_is_never_sealed_to_the_same_bytes():
    assert len({SEALER.seal(b"x", place=PLACE) for _ in range(100)}) == 100


def test_a_sealed_value_does_not_hold_its_plaintext():
    assert b"the secret" not in SEALED


def test_each_period_has_a_key_of_its_own():
    now = 9.0 * HOUR
    sealed = [HOURLY.seal(b"x", place=PLACE, now=moment) for moment in (now, now + HOUR - 1, now + HOUR)]
    periods = [value[5:9] for value in sealed]
    assert periods == [bytes([0, 0, 0, 9]), bytes([0, 0, 0, 9]), bytes([0, 0, 0, 10])]
    with pytest.raises(Unsealable):  # the period stands in the value, and is bound to it
        HOURLY.open(sealed[0][:5] + periods[2] + sealed[0][9:], place=PLACE)


@pytest.mark.parametrize("now", [0.0, 9.5 * HOUR])
def test_a_sealed_value_is_what_it_was_in_every_version_before(now: float):
    """Values that were sealed by an older gateway must open: key, additional data and layout do not change."""
    sealed = HOURLY.seal(b"the secret", place=("000000000000", "é"), now=now)
    head, nonce, ciphertext = sealed[:9], sealed[9:21], sealed[21:]
    period = int(now // HOUR).to_bytes(4)
    assert head == b"\x01" + sha256(b"identity-gateway/key-id" + KEY).digest()[:4] + period
    key = HKDF(SHA256(), 32, salt=None, info=b"identity-gateway/vault" + period).derive(KEY)
    bound = head + b"\0\0\0\x0c000000000000" + b"\0\0\0\x02" + "é".encode()
    assert AESGCM(key).decrypt(nonce, ciphertext, bound) == b"the secret"


def test_a_value_of_an_earlier_period_opens():
    sealed = HOURLY.seal(b"x", place=PLACE, now=9 * HOUR)
    for hour in range(10, 40):  # more periods than there are keys remembered
        HOURLY.seal(b"y", place=PLACE, now=hour * HOUR)
    assert HOURLY.open(sealed, place=PLACE) == b"x"


def test_a_sealer_shows_its_purpose_and_no_key():
    assert repr(SEALER) == "Sealer('vault')"


# --- The file that keeps a secret ---


def test_a_secret_file_is_made_for_its_owner_alone(tmp_path: Path):
    path = tmp_path / "made" / "on the way" / "master.key"
    assert load_or_create_secret_file(path, b"first") == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_file_is_made_for_its_owner_alone_whatever_the_umask(tmp_path: Path):
    before = os.umask(0)
    try:
        load_or_create_secret_file(tmp_path / "master.key", b"first")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600


def test_a_secret_file_that_is_there_is_kept(tmp_path: Path):
    load_or_create_secret_file(tmp_path / "master.key", b"first")
    assert load_or_create_secret_file(tmp_path / "master.key", b"second") == b"first"


def test_a_secret_file_leaves_no_draft_beside_it(tmp_path: Path):
    load_or_create_secret_file(tmp_path / "master.key", b"first")
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


def test_of_many_who_make_a_secret_file_at_once_all_get_the_same_value(tmp_path: Path):
    racers = 16
    start = threading.Barrier(racers)

    def race(number: int) -> bytes:
        start.wait()
        return load_or_create_secret_file(tmp_path / "master.key", b"%d" % number * 1000)

    with ThreadPoolExecutor(racers) as pool:
        values = set(pool.map(race, range(racers)))
    assert len(values) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


def test_a_secret_file_is_never_seen_in_part(tmp_path: Path):
    value = b"v" * 200_000
    seen = set()
    made = threading.Event()

    def watch() -> None:
        path = tmp_path / f"{number}.key"
        for _ in itertools.count():
            finished = made.is_set()
            if path.exists():
                seen.add(path.read_bytes())
            if finished:
                return

    for number in range(20):
        made.clear()
        watcher = threading.Thread(target=watch)
        watcher.start()
        load_or_create_secret_file(tmp_path / f"{number}.key", value)
        made.set()
        watcher.join()
    assert seen == {value}


def test_a_secret_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        load_or_create_secret_file(tmp_path / "master.key", b"first")
    assert list(tmp_path.iterdir()) == []


def test_a_secret_file_that_holds_something_else_is_replaced(tmp_path: Path):
    path = tmp_path / "root.json"
    path.write_bytes(b"old, and for everybody to read")
    write_secret_file(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["root.json"]


def test_a_secret_file_that_holds_the_content_is_not_touched(tmp_path: Path):
    write_secret_file(tmp_path / "root.json", b"content")
    before = (tmp_path / "root.json").stat()
    write_secret_file(tmp_path / "root.json", b"content")
    assert (tmp_path / "root.json").stat().st_ino == before.st_ino


# --- As text ---


@pytest.mark.parametrize("padded", [True, False])
@given(st.binary(min_size=1, max_size=40))
def test_a_value_has_one_text(padded: bool, sealed: bytes):
    text = to_text(sealed, padded=padded)
    assert from_text(text, padded=padded) == sealed
    last = len(text.rstrip("=")) - 1
    others = {text[:last] + letter + text[last + 1 :] for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_"} - {text}
    read = [_read(other, padded) for other in sorted(others | {text + "=", text + "\n", f" {text}"})]
    assert sealed not in read


def _read(text: str, padded: bool) -> bytes | None:
    try:
        return from_text(text, padded=padded)
    except Unsealable:
        return None


@pytest.mark.parametrize("text", ["+/==", "é", "A", "AA=", "AA==A", "====", "AAAA\n"])
def test_what_is_no_base64url_does_not_open(text: str):
    with pytest.raises(Unsealable):
        from_text(text)
