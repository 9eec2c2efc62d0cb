"""GetWorkloadAccessToken, GetWorkloadAccessTokenForJWT and GetWorkloadAccessTokenForUserId, with real boto3.

What a token says inside is nobody's business but the gateway's; here it is only held to be opaque and to the right
caller. Attacks on the JWT itself have their own files.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conformance.control_plane import DATA, create, faults, refusal, refused, status
from tests.fakes.issuer import FakeIssuer, SigningKey, Vice
from tests.gateways import fresh_name

UNAUTHORIZED = (401, "UnauthorizedException")


@pytest.fixture
def workload(control: Any) -> str:
    return str(control.create_workload_identity(name=fresh_name("workload"))["name"])


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer() as running:
        yield running


def token_of(issuer: FakeIssuer, *, key: SigningKey | None = None, **changes: Any) -> str:
    """Return a token of Ada's; a claim that is changed to None is left out."""
    now = int(time.time())
    claims = {"iss": issuer.issuer, "sub": "ada", "aud": "some-app", "iat": now, "exp": now + 300} | changes
    return (key or issuer.keys[0]).token({name: value for name, value in claims.items() if value is not None})


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("get_workload_access_token", {}),
        ("get_workload_access_token_for_user_id", {"userId": "ada"}),
        ("get_workload_access_token_for_jwt", {"userToken": "e30.e30.e30"}),
    ],
)
def test_an_identity_that_does_not_exist_has_no_tokens(data: Any, method: str, more: dict[str, str]):
    assert refused(getattr(data, method), workloadName="nobody", **more) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("get_workload_access_token", {}),
        ("get_workload_access_token_for_user_id", {"userId": "ada"}),
        ("get_workload_access_token_for_jwt", {"userToken": "e30.e30.e30"}),
    ],
)
def test_callers_get_no_tokens_of_a_runtimes_own_identity(control: Any, data: Any, method: str, more: dict[str, str]):
    response = refusal(getattr(data, method), workloadName=create(control)["agentRuntimeId"], **more)
    assert (status(response), response["Error"]["Code"]) == (400, "ValidationException")
    assert "linked to an agent runtime" in response["Error"]["Message"]


async def test_a_token_of_another_key_is_refused(data: Any, workload: str, issuer: FakeIssuer):
    forged = token_of(issuer, key=SigningKey.make())
    asked = {"workloadName": workload, "userToken": forged}
    assert await asyncio.to_thread(refused, data.get_workload_access_token_for_jwt, **asked) == UNAUTHORIZED


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"nbf": 2**33},
        {"sub": None},
        {"sub": ""},
        {"iss": None},
    ],
    ids=str,
)
async def test_a_token_that_proves_no_user_now_is_refused(
    data: Any, workload: str, issuer: FakeIssuer, changes: dict[str, Any]
):
    asked = {"workloadName": workload, "userToken": token_of(issuer, **changes)}
    assert await asyncio.to_thread(refused, data.get_workload_access_token_for_jwt, **asked) == UNAUTHORIZED


async def test_an_issuer_that_does_not_answer_is_worth_a_retry(data: Any, workload: str, issuer: FakeIssuer):
    issuer.fail(Vice.ERROR)
    asked = {"workloadName": workload, "userToken": token_of(issuer)}
    got = await asyncio.to_thread(refused, data.get_workload_access_token_for_jwt, **asked)
    assert got == (503, "ServiceUnavailableException")


def test_an_unsigned_token_is_refused(data: Any, workload: str):
    head, claims = (base64.urlsafe_b64encode(text).decode().rstrip("=") for text in (b'{"alg":"none"}', b'{"sub":"a"}'))
    asked = {"workloadName": workload, "userToken": f"{head}.{claims}.AA"}
    assert refused(data.get_workload_access_token_for_jwt, **asked) == UNAUTHORIZED


async def test_a_refused_token_is_not_repeated_and_its_fault_not_told(data: Any, workload: str, issuer: FakeIssuer):
    asked = {"workloadName": workload, "userToken": token_of(issuer, exp=1)}
    response = await asyncio.to_thread(refusal, data.get_workload_access_token_for_jwt, **asked)
    message = response["Error"]["Message"]
    assert "expired" not in message
    assert asked["userToken"].split(".")[1] not in message


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_an_agent_gets_a_token_for_itself(data: Any, workload: str):
    answer = data.get_workload_access_token(workloadName=workload)
    assert (status(answer), faults(DATA, "GetWorkloadAccessToken", answer)) == (200, [])


def test_an_agent_gets_a_token_for_a_user_that_its_caller_names(data: Any, workload: str):
    answer = data.get_workload_access_token_for_user_id(workloadName=workload, userId="okta+ada@example.com ü")
    assert (status(answer), faults(DATA, "GetWorkloadAccessTokenForUserId", answer)) == (200, [])


async def test_an_agent_gets_a_token_for_the_user_that_a_jwt_proves(data: Any, workload: str, issuer: FakeIssuer):
    def ask() -> dict[str, Any]:
        answer: dict[str, Any] = data.get_workload_access_token_for_jwt(
            workloadName=workload, userToken=token_of(issuer)
        )
        return answer

    answer = await asyncio.to_thread(ask)
    assert (status(answer), faults(DATA, "GetWorkloadAccessTokenForJWT", answer)) == (200, [])


async def test_a_jwt_is_taken_whoever_it_was_made_for(data: Any, workload: str, issuer: FakeIssuer):
    asked = {"workloadName": workload, "userToken": token_of(issuer, aud=None)}
    answer = await asyncio.to_thread(lambda: data.get_workload_access_token_for_jwt(**asked))
    assert status(answer) == 200


def test_a_token_tells_nobody_what_it_stands_for(data: Any, workload: str):
    token = data.get_workload_access_token_for_user_id(workloadName=workload, userId="ada.lovelace")
    sealed = token["workloadAccessToken"]
    plain = base64.urlsafe_b64decode(sealed)
    assert all(word not in plain and word.decode() not in sealed for word in (b"ada.lovelace", workload.encode()))


def test_every_token_is_another_one(data: Any, workload: str):
    tokens = {data.get_workload_access_token(workloadName=workload)["workloadAccessToken"] for _ in range(3)}
    assert len(tokens) == 3
