"""Keys in a transit engine: what it refuses has a name, what it is told is bound to the place, and nothing leaks."""

import base64
import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.egress import Egress
from identity_gateway.errors import Unavailable
from identity_gateway.key_encryption import KeyLost, KeyRefused, KeyUnavailable, Transit, token_file
from identity_gateway.model import Secret
from identity_gateway.sealing import Unsealable
from tests.fakes.transit import TOKEN, FakeTransit, Key

VAULT_ARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default"
DATA_KEY = b"d" * 32
LOOPBACK = [ip_network("127.0.0.0/8")]


@pytest.fixture
def server() -> Iterator[FakeTransit]:
    with FakeTransit() as running:
        yield running


def transit(
    server: FakeTransit, *, token: str = TOKEN, arn: str = VAULT_ARN, total: float = 5.0, **changes: Any
) -> Transit:
    return Transit(Egress(LOOPBACK, total=total), server.url, lambda: Secret(token), arn, **changes)


# --- Refused ---


@pytest.mark.parametrize(
    "name",
    ["", "vault", "transit/", "/vault", "a//b", "transit/../sys", "../vault", "transit/.", "a/b?c", "a/b%2f", "a/é"],
)
def test_a_name_that_is_not_a_mount_and_a_key_is_refused(server: FakeTransit, name: str):
    with pytest.raises(ValueError, match="transit key"):
        transit(server).key(name)


@pytest.mark.parametrize("name", ["a/" + "b" * 65, "/".join(["a" * 60] * 4), "transit/vault\n"])
def test_a_name_that_no_reference_can_hold_is_refused(server: FakeTransit, name: str):
    with pytest.raises(ValueError, match="transit key"):
        transit(server).key(name)


@pytest.mark.parametrize("address", ["", "vault:8200", "ftp://vault", "http://169.254.169.254", "https://v?a=b"])
def test_an_address_that_nobody_could_reach_is_refused(address: str):
    with pytest.raises(ValueError, match="address"):
        Transit(Egress(), address, lambda: Secret(TOKEN), VAULT_ARN)


@pytest.mark.parametrize(
    ("status", "errors", "meaning"),
    [
        (403, ["permission denied"], KeyRefused),
        (403, ["1 error occurred:\n\t* permission denied\n\n"], KeyRefused),
        (404, ['no handler for route "x". route entry not found.'], KeyRefused),
        (400, ["ciphertext or signature version is disallowed by policy (too old)"], KeyRefused),
        (400, ["missing 'context' for key derivation"], KeyRefused),
        (400, ["encryption key not found"], KeyLost),
        (307, [], KeyUnavailable),
        (429, [], KeyUnavailable),
        (472, [], KeyUnavailable),
        (500, ["1 error occurred:\n\t* internal error\n\n"], KeyUnavailable),
        (502, [], KeyUnavailable),
        (503, ["Vault is sealed"], KeyUnavailable),
        (200, [], KeyUnavailable),
    ],
)
@pytest.mark.parametrize("operation", ["wrap", "unwrap"])
async def test_an_answer_that_is_no_success_has_a_name(
    server: FakeTransit, status: int, errors: list[str], meaning: type[Unavailable], operation: str
):
    key = transit(server).key("transit/vault")
    wrapped = await key.wrap(DATA_KEY, "here")
    server.fault = (status, {"errors": errors})
    with pytest.raises(meaning) as refused:
        await (key.wrap(DATA_KEY, "here") if operation == "wrap" else key.unwrap(wrapped, "here"))
    assert type(refused.value) is meaning


@pytest.mark.parametrize("said", ["invalid ciphertext: unable to decrypt", "cipher: message authentication failed"])
@pytest.mark.parametrize("status", [400, 500])
async def test_bytes_that_the_engine_does_not_open_are_unsealable(server: FakeTransit, said: str, status: int):
    key = transit(server).key("transit/vault")
    wrapped = await key.wrap(DATA_KEY, "here")
    server.fault = (status, {"errors": [said]})
    with pytest.raises(Unsealable):
        await key.unwrap(wrapped, "here")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", {"data": None}, {"data": {}}, {"data": {"ciphertext": "x"}}])
async def test_a_success_without_a_ciphertext_is_none(server: FakeTransit, body: Any):
    server.fault = (200, body)
    with pytest.raises(KeyUnavailable):
        await transit(server).key("transit/vault").wrap(DATA_KEY, "here")


@pytest.mark.parametrize("wrapped", [b"", b"vault:v1:", b"vault:v1:\xff", b"other:v1:" + b"A" * 80, b"vault:v1:a\nb"])
async def test_bytes_that_no_engine_wrapped_ask_nobody(server: FakeTransit, wrapped: bytes):
    with pytest.raises(Unsealable):
        await transit(server).key("transit/vault").unwrap(wrapped, "here")
    assert server.asked == []


@pytest.mark.parametrize("derived", [True, False], ids=["derived", "plain"])
async def test_a_wrapped_key_is_bound_to_its_place(server: FakeTransit, derived: bool):
    server.keys["vault"] = Key(derived=derived)
    key = transit(server).key("transit/vault")
    wrapped = await key.wrap(DATA_KEY, "here")
    with pytest.raises(Unsealable):
        await key.unwrap(wrapped, "there")


@pytest.mark.parametrize("derived", [True, False], ids=["derived", "plain"])
async def test_a_wrapped_key_is_bound_to_its_token_vault(server: FakeTransit, derived: bool):
    server.keys["vault"] = Key(derived=derived)
    wrapped = await transit(server).key("transit/vault").wrap(DATA_KEY, "here")
    with pytest.raises(Unsealable):
        await transit(server, arn=VAULT_ARN.replace("0" * 12, "1" * 12)).key("transit/vault").unwrap(wrapped, "here")


async def test_another_key_does_not_unwrap(server: FakeTransit):
    server.keys["other"] = Key()
    wrapped = await transit(server).key("transit/vault").wrap(DATA_KEY, "here")
    with pytest.raises(Unsealable):
        await transit(server).key("transit/other").unwrap(wrapped, "here")


async def test_a_token_that_is_refused_is_not_shown(server: FakeTransit):
    with pytest.raises(KeyRefused) as refused:
        await transit(server, token="s.another-token").key("transit/vault").wrap(DATA_KEY, "here")
    assert "another-token" not in f"{refused.value!r} {refused.value.reason}"


async def test_a_token_that_no_header_can_carry_is_refused(server: FakeTransit):
    with pytest.raises(KeyRefused) as refused:
        await transit(server, token="a\r\nX-Evil: 1").key("transit/vault").wrap(DATA_KEY, "here")
    assert "Evil" not in refused.value.reason


async def test_a_slow_engine_is_unavailable(server: FakeTransit):
    server.hold()
    with pytest.raises(KeyUnavailable):
        await transit(server, total=0.1).key("transit/vault").wrap(DATA_KEY, "here")


async def test_an_engine_that_is_down_is_unavailable(server: FakeTransit):
    with FakeTransit() as gone:
        keys = transit(gone)
    with pytest.raises(KeyUnavailable):
        await keys.key("transit/vault").wrap(DATA_KEY, "here")


async def test_an_engine_outside_the_allowed_networks_is_not_asked(server: FakeTransit):
    keys = Transit(Egress(), server.url, lambda: Secret(TOKEN), VAULT_ARN)
    with pytest.raises(KeyRefused):
        await keys.key("transit/vault").wrap(DATA_KEY, "here")
    assert server.asked == []


async def test_a_token_that_may_only_use_keys_makes_none(server: FakeTransit):
    with pytest.raises(KeyRefused):
        await transit(server).key("transit/misspelt").wrap(DATA_KEY, "here")
    assert set(server.keys) == {"vault"}


def test_a_token_file_that_is_gone_is_a_refusal_without_its_path(tmp_path: Path):
    with pytest.raises(KeyRefused) as refused:
        token_file(tmp_path / "token")()
    assert str(tmp_path) not in refused.value.reason


# --- Served ---


@pytest.mark.parametrize("derived", [True, False], ids=["derived", "plain"])
async def test_a_wrapped_key_unwraps_after_the_engine_rotated_its_key(server: FakeTransit, derived: bool):
    server.keys["vault"] = Key(derived=derived)
    key = transit(server).key("transit/vault")
    wrapped = await key.wrap(DATA_KEY, "here")
    server.keys["vault"].versions.append(b"v" * 32)
    assert await key.unwrap(wrapped, "here") == DATA_KEY


async def test_a_mount_and_a_namespace_may_have_several_segments():
    with FakeTransit("team/a/transit", namespace="teams/a") as server:
        key = transit(server, namespace="teams/a").key("team/a/transit/vault")
        assert await key.unwrap(await key.wrap(DATA_KEY, "here"), "here") == DATA_KEY
    assert key.reference == "transit:team/a/transit/vault"


async def test_the_engine_is_told_the_place_and_the_vault(server: FakeTransit):
    await transit(server).key("transit/vault").wrap(DATA_KEY, "here")
    told = json.loads(server.asked[0].body)
    assert told["context"] == told["associated_data"] == base64.b64encode(f"{VAULT_ARN} here".encode()).decode()


async def test_a_renewed_token_is_read_from_its_file(server: FakeTransit, tmp_path: Path):
    (tmp_path / "token").write_text("s.old\n")
    read = token_file(tmp_path / "token")
    read()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read().reveal() == TOKEN
