"""Keys in AWS KMS: what it refuses has a name, and what it is asked is bounded in time and attempts."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from identity_gateway.errors import Unavailable
from identity_gateway.key_encryption import AwsKms, KeyLost, KeyRefused, KeyUnavailable
from identity_gateway.key_encryption.aws_kms import _named
from identity_gateway.sealing import Unsealable
from tests.fakes.json_server import Asked, JsonServer

VAULT_ARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default"
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:111122223333:key/{KEY_ID}"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the default chain of AWS one key, and nothing of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")


class Refusing(JsonServer):
    """A KMS that answers every call with one error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(lambda _: (status, {"__type": code, "message": f"Key {ARN} of principal arn:aws:iam::1:x"}))


@pytest.fixture
def server() -> Iterator[JsonServer]:
    with JsonServer(lambda _: (200, {"CiphertextBlob": "d3JhcHBlZA==", "Plaintext": "a2V5", "KeyId": ARN})) as running:
        yield running


def kms(server: JsonServer, **changes: Any) -> AwsKms:
    return AwsKms(VAULT_ARN, endpoint_url=server.url, **changes)


@pytest.mark.parametrize(
    "name",
    [
        "",
        KEY_ID,
        "alias/vault",
        "arn:aws:kms:eu-central-1:111122223333:alias/vault",
        f"arn:aws:kms:eu-central-1:111122223333:key/mrk-{'1234abcd' * 4}",
        f"arn:aws:kms::111122223333:key/{KEY_ID}",
        f"arn:aws:kms:evil.example#:111122223333:key/{KEY_ID}",
        f"arn:aws:s3:eu-central-1:111122223333:key/{KEY_ID}",
        f"arn:aws:kms:eu-central-1:1:key/{KEY_ID}",
        ARN + "\n",
        ARN + "0",
    ],
)
def test_what_is_not_the_arn_of_a_single_region_key_is_refused(name: str):
    with pytest.raises(ValueError, match="ARN"):
        AwsKms(VAULT_ARN).key(name)


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (400, "NotFoundException", KeyLost),
        (400, "DisabledException", KeyRefused),
        (400, "KMSInvalidStateException", KeyRefused),
        (400, "AccessDeniedException", KeyRefused),
        (400, "InvalidKeyUsageException", KeyRefused),
        (400, "UnrecognizedClientException", KeyRefused),
        (400, "ExpiredTokenException", KeyRefused),
        (500, "KMSInternalException", KeyUnavailable),
    ],
)
async def test_a_refusal_of_the_service_has_a_name_and_hides_what_it_said(
    status: int, code: str, meaning: type[Unavailable]
):
    with Refusing(status, code) as server:
        service = kms(server)
        with pytest.raises(meaning) as refused:
            await service.key(ARN).wrap(b"k" * 32, "here")
        await service.aclose()
    assert type(refused.value) is meaning
    assert (code in refused.value.reason, "principal" in refused.value.reason) == (True, False)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ThrottlingException"),
        (400, "KeyUnavailableException"),
        (400, "LimitExceededException"),
        (500, "DependencyTimeoutException"),
        (503, "503"),
        (429, "x"),
        (500, ""),
    ],
)
def test_a_trouble_that_passes_says_nothing_about_the_key(status: int, code: str):
    fault = _named({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}})
    assert type(fault) is KeyUnavailable


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
async def test_bytes_that_the_key_did_not_wrap_are_unsealable(code: str):
    with Refusing(400, code) as server:
        service = kms(server)
        with pytest.raises(Unsealable):
            await service.key(ARN).unwrap(b"wrapped", "here")
        await service.aclose()


async def test_a_trouble_that_passes_is_tried_twice_and_not_more():
    with Refusing(500, "KMSInternalException") as server:
        service = kms(server)
        with pytest.raises(KeyUnavailable):
            await service.key(ARN).wrap(b"k" * 32, "here")
        await service.aclose()
    assert len(server.asked) == 2


async def test_a_refusal_is_not_tried_again():
    with Refusing(400, "AccessDeniedException") as server:
        service = kms(server)
        with pytest.raises(KeyRefused):
            await service.key(ARN).wrap(b"k" * 32, "here")
        await service.aclose()
    assert len(server.asked) == 1


async def test_a_service_that_is_down_is_unavailable():
    with JsonServer(lambda _: (200, {})) as gone:
        service = kms(gone)
    with pytest.raises(KeyUnavailable, match="not available"):
        await service.key(ARN).wrap(b"k" * 32, "here")
    await service.aclose()


async def test_a_service_that_hangs_is_given_up_and_does_not_hold_the_event_loop(server: JsonServer):
    service = kms(server, total=0.1, read=1.0)
    server.hold()
    with pytest.raises(KeyUnavailable):
        await service.key(ARN).wrap(b"k" * 32, "here")
    server.release()
    await service.aclose()


async def test_a_service_that_hangs_answers_others_when_it_is_back(server: JsonServer):
    service = kms(server, total=0.1, read=1.0)
    server.hold()
    answers = await asyncio.gather(
        *(service.key(ARN).wrap(b"k" * 32, "here") for _ in range(30)), return_exceptions=True
    )
    server.release()
    assert {type(answer) for answer in answers} == {KeyUnavailable}
    assert await kms(server).key(ARN).wrap(b"k" * 32, "here") == b"wrapped"
    await service.aclose()


async def test_a_gateway_without_credentials_is_refused_without_a_call(
    server: JsonServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    service = kms(server)
    with pytest.raises(KeyRefused):
        await service.key(ARN).wrap(b"k" * 32, "here")
    await service.aclose()
    assert server.asked == []


async def test_a_service_that_was_closed_is_unavailable(server: JsonServer):
    service = kms(server)
    await service.aclose()
    with pytest.raises(KeyUnavailable):
        await service.key(ARN).wrap(b"k" * 32, "here")


async def test_the_service_is_asked_for_the_key_with_the_vault_and_the_place_in_the_context(server: JsonServer):
    service = kms(server)
    await service.key(ARN).unwrap(b"wrapped", "here")
    await service.aclose()
    asked: Asked = server.asked[0]
    told = json.loads(asked.body)
    assert asked.headers["x-amz-target"] == "TrentService.Decrypt"
    assert (told["KeyId"], told["EncryptionContext"]) == (
        ARN,
        {"aws:bedrock-agentcore:token-vault": VAULT_ARN, "place": "here"},
    )


async def test_the_region_that_signs_is_that_of_the_key(server: JsonServer):
    service = kms(server)
    await service.key(ARN).wrap(b"k" * 32, "here")
    await service.aclose()
    assert "/eu-central-1/kms/aws4_request" in server.asked[0].headers["authorization"]


async def test_threads_end_with_the_service(server: JsonServer):
    service = kms(server)
    await service.key(ARN).wrap(b"k" * 32, "here")
    mine = [thread for thread in threading.enumerate() if thread in service._threads._threads]
    await service.aclose()
    for thread in mine:
        thread.join(5)
    assert [thread for thread in mine if thread.is_alive()] == []
