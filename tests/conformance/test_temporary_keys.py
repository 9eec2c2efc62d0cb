"""boto3 with temporary credentials and with keys that end, against a gateway that runs.

The credentials are issued beside the gateway, under its master key: how callers get them is in the tests of STS.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from identity_gateway.model import Role
from identity_gateway.sealing import Sealer
from identity_gateway.temporary_credentials import SEALING_PERIOD, Issued, TemporaryCredentials
from tests.conformance.control_plane import CONTROL, refused, status
from tests.conformance.test_access_keys_cli import allow, commands, policy_of
from tests.gateways import ACCOUNT, REGION, RunningGateway, fresh_name

LISTS = policy_of(allow("ListAgentRuntimes"))
TRUST = {"principals": [f"arn:aws:iam::{ACCOUNT}:user/*"]}

Run = Callable[..., Any]


@pytest.fixture
def run(each_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Run:
    return commands(each_gateway, monkeypatch)


@pytest.fixture
def role(run: Run, tmp_path: Path) -> str:
    name = fresh_name("role")
    (tmp_path / "policy.json").write_text(json.dumps(LISTS))
    (tmp_path / "trust.json").write_text(json.dumps(TRUST))
    files = ("--policy", str(tmp_path / "policy.json"), "--trust", str(tmp_path / "trust.json"))
    result = run("role", "create", "--name", name, *files)
    assert result.exit_code == 0, result.stderr
    return name


def issued(gateway: RunningGateway, run: Run, name: str, *, age: float = 0) -> Issued:
    shown = json.loads(run("role", "show", name, "--json").stdout)
    made = datetime.fromisoformat(shown["createdAt"])
    role = Role(ACCOUNT, name, shown["policy"], shown["trust"], 3600, created_at=made, updated_at=made)
    sealer = Sealer(
        [(gateway.data_dir / "master.key").read_bytes()], "temporary-credentials", period_seconds=SEALING_PERIOD
    )
    temporary = TemporaryCredentials(sealer, ACCOUNT, clock=lambda: time.time() - age)
    return temporary.issue(role, "ada", lifetime=900, source="test")


@contextmanager
def client(gateway: RunningGateway, key_id: str, secret: str, token: str | None = None) -> Iterator[Any]:
    made = boto3.client(
        CONTROL,
        region_name=REGION,
        endpoint_url=gateway.url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield made
    made.close()


@contextmanager
def session(gateway: RunningGateway, given: Issued, *, token: bool = True) -> Iterator[Any]:
    shown = given.session_token.reveal() if token else None
    with client(gateway, given.access_key_id, given.secret.reveal(), shown) as made:
        yield made


def test_temporary_credentials_without_their_token_are_refused(each_gateway: RunningGateway, run: Run, role: str):
    with session(each_gateway, issued(each_gateway, run, role), token=False) as made:
        assert refused(made.list_agent_runtimes) == (403, "InvalidSignatureException")


def test_expired_credentials_are_refused_by_the_name_that_sdks_know(each_gateway: RunningGateway, run: Run, role: str):
    with session(each_gateway, issued(each_gateway, run, role, age=901)) as made:
        assert refused(made.list_agent_runtimes) == (403, "ExpiredTokenException")


def test_credentials_of_a_deleted_role_are_refused_at_their_next_call(
    each_gateway: RunningGateway, run: Run, role: str
):
    with session(each_gateway, issued(each_gateway, run, role)) as made:
        assert status(made.list_agent_runtimes()) == 200
        assert run("role", "delete", role).exit_code == 0
        assert refused(made.list_agent_runtimes) == (403, "UnrecognizedClientException")


def test_credentials_may_do_what_the_policy_of_their_role_allows(each_gateway: RunningGateway, run: Run, role: str):
    with session(each_gateway, issued(each_gateway, run, role)) as made:
        assert status(made.list_agent_runtimes()) == 200
        assert refused(made.list_workload_identities) == (403, "AccessDeniedException")


def test_a_key_is_refused_while_it_is_disabled(each_gateway: RunningGateway, run: Run):
    made = json.loads(run("access-key", "create", "--name", fresh_name("key"), "--admin", "--json").stdout)
    with client(each_gateway, made["accessKeyId"], made["secretAccessKey"]) as caller:
        assert run("access-key", "disable", made["accessKeyId"]).exit_code == 0
        assert refused(caller.list_agent_runtimes) == (403, "UnrecognizedClientException")
        assert run("access-key", "enable", made["accessKeyId"]).exit_code == 0
        assert status(caller.list_agent_runtimes()) == 200
