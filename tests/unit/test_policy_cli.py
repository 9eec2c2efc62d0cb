"""`identity-gateway policy`: what a policy decides and by which statement, from files or from what is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from identity_gateway.cli import cli

RUNTIME = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/hello-AbCdEf1234"
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"
ALLOW = {"Sid": "Web", "Effect": "Allow", "Action": INVOKE, "Resource": RUNTIME}
OFFICE = {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}
ADAS = {"StringEquals": {"aws:username": "ada"}}

Run = Callable[..., Result]


def policy(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


FILES = {
    "web": policy(ALLOW),
    "office": policy(ALLOW | {"Condition": OFFICE}),
    "adas": policy(ALLOW | {"Condition": ADAS}),
    "nothing": policy(ALLOW | {"Resource": RUNTIME + "x"}),
    "broken": policy(ALLOW | {"Effect": "Perhaps", "Condition": {"StringIs": {}}}),
    "there": policy(ALLOW | {"Sid": "There", "Effect": "Deny", "Principal": "*"}),
    "ada-there": policy(ALLOW | {"Principal": {"AWS": "arn:aws:iam::000000000000:user/ada"}}),
    "role-there": policy(ALLOW | {"Principal": {"AWS": "arn:aws:iam::000000000000:role/ci"}}),
    "trust": json.dumps({"principals": ["arn:aws:iam::000000000000:user/*"]}),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("IDENTITY_GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / f"{name}.json").write_text(text)
    return lambda line: CliRunner().invoke(cli, line.split())


def simulated(run: Run, line: str, *, resource: str = RUNTIME) -> tuple[int, dict[str, Any]]:
    result = run(f"policy simulate --action {INVOKE} --resource {resource} --json {line}")
    return result.exit_code, json.loads(result.stdout)


# --- check ---


def test_check_says_every_fault_of_a_policy(run: Run):
    result = run("policy check broken.json --json")
    assert result.exit_code == 1
    names = [fault["name"] for fault in json.loads(result.stdout)["faults"]]
    assert names == ["Statement[0].Effect", "Statement[0].Condition.StringIs"]


def test_check_says_that_a_policy_is_taken(run: Run):
    result = run("policy check web.json")
    assert (result.exit_code, result.stdout) == (0, "The gateway takes this policy.\n")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"there.json --resource {RUNTIME}", 0),
        (f"there.json --resource {RUNTIME}x", 1),
        (f"web.json --resource {RUNTIME}", 1),
        ("there.json", 1),
    ],
)
def test_check_tells_policies_of_keys_from_those_at_resources(run: Run, line: str, code: int):
    assert run(f"policy check {line}").exit_code == code


# --- simulate: refused ---


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"--action Invoke --resource {RUNTIME} --policy web.json", "--action has its prefix"),
        (f"--action {INVOKE} --resource {RUNTIME} --policy broken.json", "Statement[0].Effect"),
        (f"--action {INVOKE} --resource {RUNTIME} --policy absent.json", "absent.json is not a JSON file"),
        (f"--action {INVOKE} --resource {RUNTIME} --policy web.json --role ci", "say one of"),
        (f"--action {INVOKE} --resource {RUNTIME} --policy web.json --principal ada", "--principal is the ARN"),
        (f"--action {INVOKE} --resource {RUNTIME} --policy web.json --context aws:SourceVpc=x", "--context"),
        (f"--action {INVOKE} --resource {RUNTIME} --policy web.json --context aws:SourceIp", "--context"),
        (f"--action {INVOKE} --resource {RUNTIME} --resource-policy web.json", "Principal"),
        (f"--action {INVOKE} --resource {RUNTIME} --access-key ghost", "There is no access key ghost."),
        (f"--action {INVOKE} --resource {RUNTIME} --role ghost", "There is no role named ghost."),
    ],
)
def test_simulate_says_in_a_sentence_what_it_cannot_do(run: Run, line: str, said: str):
    result = run(f"policy simulate {line}")
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stdout == ""


# --- simulate: decided ---


@pytest.mark.parametrize(
    ("line", "decision", "reason"),
    [
        ("--policy web.json", "allowed", "identity policy, Statement[0] (Web)"),
        ("--policy nothing.json", "not allowed by any statement", "not allowed by any statement"),
        ("--policy office.json", "not allowed by any statement", "not allowed by any statement"),
        ("--policy office.json --context aws:sourceip=203.0.113.7", "allowed", "identity policy, Statement[0] (Web)"),
        ("--policy adas.json", "not allowed by any statement", "not allowed by any statement"),
        (
            "--policy adas.json --principal arn:aws:iam::000000000000:user/ada",
            "allowed",
            "identity policy, Statement[0] (Web)",
        ),
        (
            "--policy web.json --resource-policy there.json",
            "explicitly denied",
            "explicitly denied: resource policy, Statement[0] (There)",
        ),
        (
            "--policy web.json --session-policy nothing.json",
            "not allowed by any statement",
            "not allowed by any statement: session policy",
        ),
        ("--principal anonymous", "allowed", "token accepted by the authorizer"),
        (
            "--principal anonymous --resource-policy ada-there.json",
            "not allowed by any statement",
            "not allowed by any statement: resource policy",
        ),
        (
            "--principal arn:aws:sts::000000000000:assumed-role/ci/build-7 --resource-policy role-there.json",
            "allowed",
            "resource policy, Statement[0] (Web)",
        ),
    ],
)
def test_simulate_says_who_may_and_by_which_statement(run: Run, line: str, decision: str, reason: str):
    code, said = simulated(run, line)
    assert (said["decision"], said["reason"]) == (decision, reason)
    assert code == (0 if decision == "allowed" else 1)


def test_simulate_names_the_statement_for_each_resource(run: Run):
    _, said = simulated(run, f"--policy web.json --resource {RUNTIME}")
    cause = {"policy": "identity policy", "resource": RUNTIME, "statement": 0, "sid": "Web"}
    assert said["statements"] == [cause, cause]


def test_simulate_speaks_to_people_too(run: Run):
    result = run(
        f"policy simulate --action {INVOKE} --resource {RUNTIME} --policy web.json --resource-policy there.json"
    )
    first, second = result.stdout.splitlines()
    assert first == "explicitly denied: resource policy, Statement[0] (There)"
    assert second.split() == ["resource", "policy,", "Statement[0]", "(There)", RUNTIME]


def test_simulate_takes_the_policy_of_a_key_or_role_that_is_kept(run: Run):
    assert run("access-key create --name ada --policy adas.json").exit_code == 0
    assert run("access-key create --name ops --admin").exit_code == 0
    assert run("role create --name ci --policy web.json --trust trust.json").exit_code == 0
    found = {line: simulated(run, line)[1]["reason"] for line in ("--access-key ada", "--access-key ops", "--role ci")}
    assert found == {
        "--access-key ada": "identity policy, Statement[0] (Web)",
        "--access-key ops": "admin key",
        "--role ci": "identity policy, Statement[0] (Web)",
    }


def test_simulate_knows_what_time_it_is(run: Run, tmp_path: Path):
    condition = {"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}
    (tmp_path / "later.json").write_text(policy(ALLOW | {"Condition": condition}))
    assert simulated(run, "--policy later.json")[0] == 0
    assert simulated(run, "--policy later.json --context aws:CurrentTime=2025-01-01T00:00:00Z")[0] == 1
