"""`identity-gateway doctor token` while the server runs: it says what the door would say, and why, not what the token is."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from identity_gateway.cli import cli
from tests.agents import Agent
from tests.callers import AUDIENCE, guarded_by, post
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register

Ask = Callable[..., Result]


@pytest.fixture
def ask(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Ask:
    environment = gateway.environment | {"IDENTITY_GATEWAY_DATA_DIR": str(gateway.data_dir)}
    for name, value in environment.items():
        if name.startswith("IDENTITY_GATEWAY_"):
            monkeypatch.setenv(name, value)
    return lambda *arguments, **more: CliRunner().invoke(
        cli, ["doctor", "token", *arguments], catch_exceptions=False, **more
    )


@pytest.fixture
def arn(gateway: RunningGateway, agent: Agent, jwt_issuer: FakeIssuer) -> str:
    return register(gateway, agent.url, **guarded_by(jwt_issuer.discovery_url))


def made(issuer: FakeIssuer, **changes: Any) -> str:
    claims = {"iss": issuer.issuer, "sub": "alice", "aud": AUDIENCE, "exp": time.time() + 600}
    return issuer.keys[0].token(claims | changes)


@pytest.mark.parametrize("changes", [{}, {"aud": "elsewhere"}, {"exp": 1}, {"iss": "https://other.example"}])
def test_the_doctor_and_the_door_agree(
    ask: Ask, gateway: RunningGateway, arn: str, jwt_issuer: FakeIssuer, changes: dict[str, Any]
):
    token = made(jwt_issuer, **changes)
    assert (ask("--runtime", arn, input=token).exit_code == 0) == (post(gateway, arn, token).status_code == 200)


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("hello-AbCdEf1234", "no such agent runtime"),
        ("arn:aws:bedrock-agentcore:us-east-1:999999999999:runtime/hello-AbCdEf1234", "no such agent runtime"),
    ],
)
def test_an_unknown_runtime_is_said_in_a_sentence(ask: Ask, runtime: str, words: str):
    result = ask("--runtime", runtime, input="x")
    assert (result.exit_code, words in result.stderr) == (1, True)


def test_a_runtime_that_is_called_with_signatures_is_said_in_a_sentence(
    ask: Ask, gateway: RunningGateway, agent: Agent
):
    result = ask("--runtime", register(gateway, agent.url), input="x")
    assert (result.exit_code, "no JWT authorizer" in result.stderr) == (1, True)


def test_a_token_is_no_argument(ask: Ask, arn: str, jwt_issuer: FakeIssuer):
    assert ask("--runtime", arn, made(jwt_issuer)).exit_code == 2


@pytest.mark.parametrize("changes", [{}, {"aud": "elsewhere"}])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_token_is_not_printed(ask: Ask, arn: str, jwt_issuer: FakeIssuer, changes: dict[str, Any], form: list[str]):
    token = made(jwt_issuer, **changes)
    said = ask("--runtime", arn, *form, input=token).output
    assert said
    assert not any(part in said for part in [*token.split("."), "alice"])


def test_a_script_reads_which_check_failed(ask: Ask, arn: str, jwt_issuer: FakeIssuer):
    found = json.loads(ask("--runtime", arn, "--json", input=made(jwt_issuer, aud="elsewhere")).stdout)
    assert (found["accepted"], found["version"]) == (False, 1)
    assert [(check["name"], check["why"].partition(":")[0]) for check in found["checks"] if not check["passed"]] == [
        ("audience", "wrong_audience")
    ]


def test_a_bare_id_and_a_header_in_a_file_are_understood(ask: Ask, arn: str, jwt_issuer: FakeIssuer, tmp_path: Path):
    (tmp_path / "token").write_text(f"Bearer {made(jwt_issuer)}\n")
    result = ask("--runtime", arn.rpartition("/")[2], "--file", tmp_path / "token")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "The token would be let in.")


def test_a_pasted_token_is_read_whole_and_not_shown(gateway: RunningGateway, arn: str, jwt_issuer: FakeIssuer):
    token = made(jwt_issuer, groups=["g" * 50] * 120)
    assert len(token) > 4096
    environment = gateway.environment | {"IDENTITY_GATEWAY_DATA_DIR": str(gateway.data_dir)}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "identity_gateway", "doctor", "token", "--runtime", arn]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        try:
            os.close(theirs)
            shown = _until(ours, b"It is not shown.")
            rest = memoryview(token.encode() + b"\n")
            while rest:
                rest = rest[os.write(ours, rest[:1024]) :]
                shown += _waiting(ours)
            said = process.communicate(timeout=60)[0]
        finally:
            process.kill()
    shown += _waiting(ours)
    os.close(ours)
    assert said.splitlines()[-1] == b"The token would be let in."
    assert token[-50:].encode() not in shown


def _until(terminal: int, words: bytes) -> bytes:
    seen = b""
    while words not in seen:
        assert select.select([terminal], [], [], 60)[0], seen
        seen += os.read(terminal, 4096)
    return seen


def _waiting(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536) if select.select([terminal], [], [], 0)[0] else b""
    except OSError:  # the other end is closed
        return b""
