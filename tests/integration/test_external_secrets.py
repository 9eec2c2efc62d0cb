"""Secrets in AWS Secrets Manager, read by the product's own client from moto's server."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import botocore.session
import pytest

from identity_gateway.errors import Unavailable, ValidationFailed
from identity_gateway.external_secrets import FRESH_FOR, SecretsManager
from tests.fakes.clock import Clock
from tests.fakes.external_secrets import REGION, given_credentials, keep, running_aws, secret_owner

__all__ = ["given_credentials", "running_aws", "secret_owner"]

NAME = "team/vendor"
pytestmark = pytest.mark.usefixtures("aws_credentials")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def manager(aws: str, clock: Clock) -> AsyncIterator[SecretsManager]:
    made = SecretsManager(REGION, clock=clock, endpoint_url=aws)
    yield made
    await made.aclose()


async def refusal(manager: SecretsManager, key: str = "secret", name: str = NAME) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        await manager.get(name, key)
    return caught.value


# --- Secrets that cannot be read ---


async def test_a_secret_that_does_not_exist_is_refused_in_plain_words(manager: SecretsManager, owner: Any):
    refused = await refusal(manager)
    assert "does not exist in AWS Secrets Manager" in refused.message
    assert NAME in refused.reason


@pytest.mark.parametrize("document", ["not json", '"text"', "[]", '{"secret": "a", "secret": "b"}', ""])
async def test_a_secret_that_is_not_one_json_object_is_refused(manager: SecretsManager, owner: Any, document: str):
    owner.create_secret(Name=NAME, SecretString=document or " ")
    assert "is not a JSON object" in (await refusal(manager)).message


@pytest.mark.parametrize("value", [None, "", 7, True, {"a": "b"}, ["a"]])
async def test_a_json_key_without_text_is_refused(manager: SecretsManager, owner: Any, value: object):
    keep(owner, {"secret": value}, NAME)
    assert "no text at the registered JSON key" in (await refusal(manager)).message


async def test_a_json_key_that_is_not_there_is_refused(manager: SecretsManager, owner: Any):
    keep(owner, {"other": "hush"}, NAME)
    refused = await refusal(manager)
    assert "hush" not in refused.message + refused.reason


async def test_a_secret_of_bytes_is_refused(manager: SecretsManager, owner: Any):
    owner.create_secret(Name=NAME, SecretBinary=b'{"secret": "x"}')
    assert "bytes" in (await refusal(manager)).message


async def test_a_secret_that_waits_for_its_deletion_is_refused(manager: SecretsManager, owner: Any):
    keep(owner, {"secret": "hush"}, NAME)
    owner.delete_secret(SecretId=NAME)
    assert "cannot be read in its present state" in (await refusal(manager)).message


async def test_a_gateway_without_aws_credentials_says_so(aws: str, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    manager = SecretsManager(REGION, clock=clock, endpoint_url=aws)
    assert "no AWS credentials" in (await refusal(manager)).message
    await manager.aclose()


async def test_a_service_that_is_down_is_unavailable(clock: Clock):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, and never listening: nobody answers
        manager = SecretsManager(REGION, clock=clock, endpoint_url=f"http://127.0.0.1:{unheard.getsockname()[1]}")
        with pytest.raises(Unavailable):
            await manager.get(NAME, "secret")
    await manager.aclose()


async def test_a_failure_is_not_kept(manager: SecretsManager, owner: Any):
    await refusal(manager)
    keep(owner, {"secret": "hush"}, NAME)
    assert (await manager.get(NAME, "secret")).reveal() == "hush"


# --- Secrets that can ---


async def test_a_secret_is_found_by_its_arn_as_by_its_name(manager: SecretsManager, owner: Any):
    arn = keep(owner, {"secret": "hush"}, NAME)
    assert (await manager.get(arn, "secret")).reveal() == "hush"


async def test_an_arn_is_asked_for_in_its_own_region(manager: SecretsManager, aws: str):
    elsewhere = botocore.session.get_session().create_client(
        "secretsmanager", region_name="eu-west-1", endpoint_url=aws
    )
    arn = keep(elsewhere, {"secret": "far"}, "far")
    elsewhere.close()
    assert (await manager.get(arn, "secret")).reveal() == "far"


async def test_a_rotation_is_not_noticed_while_the_secret_is_fresh(manager: SecretsManager, owner: Any, clock: Clock):
    keep(owner, {"secret": "old"}, NAME)
    await manager.get(NAME, "secret")
    owner.put_secret_value(SecretId=NAME, SecretString='{"secret": "new"}')
    clock.now += FRESH_FOR - 1
    assert (await manager.get(NAME, "secret")).reveal() == "old"


async def test_a_rotation_is_noticed_after_five_minutes(manager: SecretsManager, owner: Any, clock: Clock):
    keep(owner, {"secret": "old"}, NAME)
    await manager.get(NAME, "secret")
    owner.put_secret_value(SecretId=NAME, SecretString='{"secret": "new"}')
    clock.now += 300
    assert (await manager.get(NAME, "secret")).reveal() == "new"


async def test_a_secret_that_was_deleted_is_not_used_after_five_minutes(
    manager: SecretsManager, owner: Any, clock: Clock
):
    keep(owner, {"secret": "old"}, NAME)
    await manager.get(NAME, "secret")
    owner.delete_secret(SecretId=NAME, ForceDeleteWithoutRecovery=True)
    clock.now += FRESH_FOR
    assert "does not exist" in (await refusal(manager)).message


async def test_two_keys_of_one_secret_are_two_secrets(manager: SecretsManager, owner: Any):
    keep(owner, {"one": "1", "two": "2"}, NAME)
    found = [(await manager.get(NAME, key)).reveal() for key in ("one", "two")]
    assert found == ["1", "2"]


async def test_many_callers_at_once_make_one_call(manager: SecretsManager, owner: Any):
    keep(owner, {"secret": "hush"}, NAME)
    found = await asyncio.gather(*(manager.get(NAME, "secret") for _ in range(20)))
    assert len({id(secret) for secret in found}) == 1


async def test_a_caller_that_gives_up_takes_the_answer_from_nobody(manager: SecretsManager, owner: Any):
    keep(owner, {"secret": "hush"}, NAME)
    impatient, patient = (asyncio.create_task(manager.get(NAME, "secret")) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).reveal() == "hush"
