"""Signed calls on the short way: each is proven anew, and no change, whoever made it, is outlived by one answer.

A call on the short way has the beginning of its request id in common with the others of its process (`Answered.took`).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.agents import Agent
from tests.gateways import ACCOUNT, RunningGateway, fresh_name, register
from tests.repeated_calls import USER_ID, Signer
from tests.security_tokens import key_of, made_role, sts
from tests.sessions import new_session

INVOKE = "bedrock-agentcore:InvokeAgentRuntime"


def made_key(gateway: RunningGateway, *options: str) -> tuple[str, str]:
    made = gateway.command("access-key", "create", "--name", fresh_name(), "--json", *options)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    return told["accessKeyId"], told["secretAccessKey"]


def policy_of(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allowing(tmp_path: Any, **more: Any) -> str:
    """Return the file of a policy that allows invocations."""
    file = tmp_path / "policy.json"
    file.write_text(policy_of({"Effect": "Allow", "Action": f"{INVOKE}*", "Resource": "*"} | more))
    return str(file)


@pytest.fixture
def signing() -> Iterator[Callable[..., Signer]]:
    """Makes signers, and closes their connections."""
    with ExitStack() as stack:

        def make(gateway: RunningGateway, arn: str, key: tuple[str, str], **more: Any) -> Signer:
            made = Signer(gateway, arn, "", key=key, **more)
            stack.callback(made.close)
            return made

        yield make


def warmed(signer: Signer) -> str:
    """Call until calls take the short way; return what they have in common."""
    took = [signer.call().took for _ in range(4)]
    assert took[-1] == took[-2], "no call took the short way"
    return took[-1]


@pytest.fixture
def key(pair: list[RunningGateway]) -> tuple[str, str]:
    return made_key(pair[0], "--admin")


@pytest.fixture
def signer(pair: list[RunningGateway], agent: Agent, key: tuple[str, str], signing: Callable[..., Signer]) -> Signer:
    """Somebody whose next call takes the short way, unless something changes."""
    made = signing(pair[0], register(pair[0], agent.url), key)
    warmed(made)
    return made


def test_a_signed_call_takes_the_short_way_with_another_body(signer: Signer):
    took = warmed(signer)
    answered = signer.call({"prompt": "another"})
    assert (answered.status, answered.took) == (200, took)


def test_a_signed_call_for_a_user_takes_the_short_way_for_that_user_alone(signer: Signer):
    signer.session = new_session()
    took = [signer.sent(signer.signed(b"{}", user="ada")).took for _ in range(4)]
    other = signer.sent(signer.signed(b"{}", user="bob"))
    assert (took[-1] == took[-2], other.status, other.took == took[-1]) == (True, 403, False)


def test_a_key_that_is_disabled_signs_nothing_from_the_next_call_on(
    signer: Signer, by: RunningGateway, key: tuple[str, str]
):
    assert by.command("access-key", "disable", key[0]).returncode == 0
    assert signer.call().status == 403


def test_a_key_that_is_deleted_signs_nothing_from_the_next_call_on(
    signer: Signer, by: RunningGateway, key: tuple[str, str]
):
    assert by.command("access-key", "delete", key[0]).returncode == 0
    assert signer.call().status == 403


@pytest.fixture
def in_role(
    pair: list[RunningGateway], agent: Agent, key: tuple[str, str], signing: Callable[..., Signer], tmp_path: Path
) -> tuple[Signer, str]:
    """Somebody whose next call, with the temporary credentials of a role, takes the short way; and the role's name."""
    allowed = {"Effect": "Allow", "Action": f"{INVOKE}*", "Resource": "*"}
    role = made_role(
        pair[0], tmp_path, {"principals": [f"arn:aws:iam::{ACCOUNT}:user/*"]}, json.loads(policy_of(allowed))
    )
    with sts(pair[0], key) as client:
        given = key_of(client.assume_role(RoleArn=role, RoleSessionName="ada")["Credentials"])
    made = signing(pair[0], register(pair[0], agent.url), given[:2], session_token=given[2])
    warmed(made)
    return made, role.rpartition("/")[2]


def test_a_role_that_is_deleted_signs_nothing_from_the_next_call_on(in_role: tuple[Signer, str], by: RunningGateway):
    assert by.command("role", "delete", in_role[1]).returncode == 0
    assert in_role[0].call().status == 403


@pytest.mark.parametrize("known", [False, True], ids=["", "the change is known"])
def test_a_role_whose_policy_has_changed_is_asked_what_it_may_from_the_next_call_on(
    in_role: tuple[Signer, str], by: RunningGateway, tmp_path: Path, *, known: bool
):
    signer, name = in_role
    assert signer.call().status == 200
    file = tmp_path / "changed.json"
    file.write_text(policy_of({"Effect": "Allow", "Action": "bedrock-agentcore:List*", "Resource": "*"}))
    assert by.command("role", "update", name, "--policy", str(file)).returncode == 0
    if known:
        with sts(signer.gateway, (*signer.key, signer.session_token or "")) as client:
            client.get_caller_identity()
    assert signer.call().status == 403


def test_a_session_token_of_another_session_is_refused(in_role: tuple[Signer, str]):
    signer, token = in_role[0], in_role[0].session_token
    assert token is not None
    signer.session_token = token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:]
    assert signer.call().status == 403
    signer.session_token = token
    assert signer.call().status == 200


def test_a_runtime_that_is_deleted_is_not_called_again_by_who_signs(signer: Signer, by: RunningGateway, agent: Agent):
    received = len(agent.received)
    by.control.delete_agent_runtime(agentRuntimeId=signer.arn.rpartition("/")[2])
    assert (signer.call().status, len(agent.received)) == (404, received)


def test_a_policy_at_the_runtime_that_denies_is_honoured_for_who_signs(signer: Signer, by: RunningGateway):
    denies = {"Effect": "Deny", "Principal": "*", "Action": INVOKE, "Resource": signer.arn}
    by.control.put_resource_policy(resourceArn=signer.arn, policy=policy_of(denies))
    assert signer.call().status == 403


def test_a_session_that_was_stopped_is_begun_anew_by_who_signs(signer: Signer, by: RunningGateway):
    took = warmed(signer)
    by.data.stop_runtime_session(agentRuntimeArn=signer.arn, runtimeSessionId=signer.session, qualifier="DEFAULT")
    answered = signer.call()
    assert (answered.status, answered.took == took) == (200, False)


def test_a_key_with_a_plain_policy_takes_the_short_way(
    pair: list[RunningGateway], agent: Agent, tmp_path: Any, signing: Callable[..., Signer]
):
    key = made_key(pair[0], "--policy", allowing(tmp_path))
    warmed(signing(pair[0], register(pair[0], agent.url), key))


@pytest.mark.parametrize(
    "asks",
    [
        {"Condition": {"StringLike": {"aws:UserAgent": "*"}}},
        {"Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}},
        {"Resource": ["*", "arn:aws:bedrock-agentcore:*:*:runtime/${aws:username}"]},
    ],
    ids=["a header", "an address", "a variable"],
)
def test_who_has_a_policy_that_asks_more_is_asked_each_time(
    pair: list[RunningGateway], agent: Agent, tmp_path: Any, asks: dict[str, Any], signing: Callable[..., Signer]
):
    key = made_key(pair[0], "--policy", allowing(tmp_path, **asks))
    signer = signing(pair[0], register(pair[0], agent.url), key)
    answers = [signer.sent(signer.signed(b"{}", {"user-agent": "tests"})) for _ in range(5)]
    assert ({each.status for each in answers}, len({each.took for each in answers})) == ({200}, 5)


# --- What is presented is proven ---


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b"{}", b"[]"),
        (b"qualifier=DEFAULT", b"qualifier=DEFAUlT"),
        (b"content-type: application/json", b"content-type: application/jsom"),
        (b"SignedHeaders=content-type;", b"SignedHeaders="),
        (b"POST ", b"PUT  "),
    ],
    ids=["the body", "the query", "a header", "what is signed", "the method"],
)
def test_a_signed_call_that_is_changed_on_its_way_is_refused(signer: Signer, agent: Agent, part: bytes, other: bytes):
    received, call = len(agent.received), signer.signed(b"{}")
    assert part in call
    answered = signer.sent(call.replace(part, other.replace(b"PUT  ", b"PUT ")))
    assert (answered.status in {400, 403, 404}, len(agent.received)) == (True, received)


@pytest.mark.parametrize("place", [0, 20, 63])
def test_a_signature_that_differs_in_one_letter_is_refused(signer: Signer, agent: Agent, place: int):
    received, call = len(agent.received), signer.signed(b"{}")
    at = call.index(b"Signature=") + len(b"Signature=") + place
    changed = call[:at] + (b"0" if call[at : at + 1] != b"0" else b"1") + call[at + 1 :]
    assert (signer.sent(changed).status, len(agent.received)) == (403, received)


def test_a_key_is_not_proven_by_the_signature_of_another(
    signer: Signer, pair: list[RunningGateway], agent: Agent, signing: Callable[..., Signer]
):
    received, other = len(agent.received), made_key(pair[0], "--admin")
    call = signing(pair[0], signer.arn, (signer.key[0], other[1]), session=signer.session).signed(b"{}")
    assert (signer.sent(call).status, len(agent.received)) == (403, received)


def test_a_session_of_one_signer_is_not_anothers(
    signer: Signer, pair: list[RunningGateway], signing: Callable[..., Signer]
):
    other = signing(pair[0], signer.arn, made_key(pair[0], "--admin"), session=signer.session)
    assert [other.call().status for _ in range(3)] == [403, 403, 403]


def test_a_user_who_is_named_beside_the_signature_is_refused(signer: Signer, agent: Agent):
    received, call = len(agent.received), signer.signed(b"{}")
    named = call.replace(b"\r\n", f"\r\n{USER_ID}: ada\r\n".encode(), 1)
    assert (signer.sent(named).status in {400, 403}, len(agent.received)) == (True, received)


def test_an_old_signature_is_refused_although_newer_ones_are_good(signer: Signer, agent: Agent):
    received, call = len(agent.received), signer.signed(b"{}")
    at = call.lower().index(b"x-amz-date: ") + len(b"x-amz-date: ")
    assert signer.sent(call[:at] + b"2020" + call[at + 4 :]).status == 403
    assert len(agent.received) == received


def test_a_header_for_the_agent_has_to_be_signed(
    pair: list[RunningGateway], agent: Agent, key: tuple[str, str], signing: Callable[..., Signer]
):
    allowed = {"requestHeaderConfiguration": {"requestHeaderAllowlist": ["X-Tenant"]}}
    signer = signing(pair[0], register(pair[0], agent.url, **allowed), key)
    for _ in range(4):
        passed = signer.sent(signer.signed(b"{}", {"x-tenant": "one"}))
    added = signer.signed(b"{}").replace(b"\r\n", b"\r\nx-tenant: two\r\n", 1)
    assert (passed.status, signer.sent(added).status) == (200, 403)


# --- A body that takes its time ---


def test_a_body_that_was_held_back_does_not_bring_a_signed_call_past_a_change(
    signer: Signer, by: RunningGateway, key: tuple[str, str], agent: Agent
):
    received, call = len(agent.received), signer.signed(b"{}")
    signer.send(call[:-2])
    assert by.command("access-key", "disable", key[0]).returncode == 0
    assert (signer.sent(call[-2:]).status, len(agent.received)) == (403, received)


def test_a_signed_body_of_many_pieces_is_whole_for_the_agent(signer: Signer):
    call = signer.signed(b"x" * 65_536)
    pieces = [call[at : at + 9_000] for at in range(0, len(call), 9_000)]
    signer.send(*pieces)
    answered = signer.take()
    assert (answered.status, b"65536" in answered.body) == (200, True)


def test_a_call_with_a_query_without_end_is_not_remembered(signer: Signer):
    signer.query = f"qualifier=DEFAULT&more={'x' * 2048}"
    answers = [signer.call() for _ in range(4)]
    assert ({each.status for each in answers}, len({each.took for each in answers})) == ({200}, 4)
