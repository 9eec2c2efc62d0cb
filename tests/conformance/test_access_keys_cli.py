"""`identity-gateway access-key` and `doctor` while the server runs, and what the keys they make may call with boto3.

Most commands run inside the test process, which spares each of them a start of Python; `gateway.command` is the program
itself. Which policies cover what is in the unit tests of policies.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from identity_gateway.cli import cli
from tests.agents import Agent
from tests.conformance.control_plane import CONTROL, DATA, container, create, refusal, refused, shown, status
from tests.gateways import ACCOUNT, REGION, RunningGateway, fresh_name

DENIED = (403, "AccessDeniedException")
INVALID = (403, "InvalidSignatureException")
PREFIX = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:"
DIRECTORY = PREFIX + "workload-identity-directory/default"

Run = Callable[..., Any]
Issue = Callable[..., tuple[str, str]]


def allow(*actions: str, on: Any = "*", effect: str = "Allow") -> dict[str, Any]:
    return {"Effect": effect, "Action": [f"bedrock-agentcore:{action}" for action in actions], "Resource": on}


def policy_of(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def commands(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command of the command line on the state of a gateway that is running."""
    environment = gateway.environment | {"IDENTITY_GATEWAY_DATA_DIR": str(gateway.data_dir)}
    for name, value in environment.items():
        if name.startswith("IDENTITY_GATEWAY_"):
            monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.fixture
def run(each_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Run:
    return commands(each_gateway, monkeypatch)


@pytest.fixture
def run_on_sqlite(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Run:
    return commands(gateway, monkeypatch)


@pytest.fixture
def issue(run: Run, tmp_path: Path) -> Issue:
    """Make a key, with a policy if there is one, and return its id and secret."""

    def made(*flags: str, policy: Any = None) -> tuple[str, str]:
        if policy is not None:
            (tmp_path / "policy.json").write_text(json.dumps(policy))
            flags = (*flags, "--policy", str(tmp_path / "policy.json"))
        result = run("access-key", "create", "--name", fresh_name("key"), "--json", *flags)
        assert result.exit_code == 0, result.stderr
        answer = json.loads(result.stdout)
        return answer["accessKeyId"], answer["secretAccessKey"]

    return made


@pytest.fixture
def control_of(each_gateway: RunningGateway, client_of: Callable[..., Any]) -> Callable[[tuple[str, str]], Any]:
    return lambda key: client_of(each_gateway, CONTROL, key=key)


@pytest.fixture
def data_of(each_gateway: RunningGateway, client_of: Callable[..., Any]) -> Callable[[tuple[str, str]], Any]:
    return lambda key: client_of(each_gateway, DATA, key=key)


# --- Keys that are not made -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        ("Condition", policy_of(allow("*") | {"Condition": {"Bool": {"aws:ViaAWSService": "true"}}})),
        ("Principal", policy_of(allow("*") | {"Principal": "*"})),
        ("variable", policy_of(allow("*", on="arn:aws:s3:::${aws:PrincipalTag/team}"))),
        ("Statement", policy_of()),
        ("Version", policy_of(allow("*")) | {"Version": "2008-10-17"}),
        ("Effect", policy_of(allow("*", effect="allow"))),
        ("Resource", policy_of({"Effect": "Allow", "Action": "*"})),
        ("JSON object", [allow("*")]),
    ],
    ids=lambda value: value if isinstance(value, str) else "policy",
)
def test_a_policy_that_would_not_be_obeyed_makes_no_key(run_on_sqlite: Run, tmp_path: Path, said: str, policy: Any):
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    name = fresh_name("key")
    result = run_on_sqlite("access-key", "create", "--name", name, "--policy", str(tmp_path / "policy.json"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert name not in run_on_sqlite("access-key", "list").stdout


@pytest.mark.parametrize("content", [None, "{", "\xff"], ids=["absent", "not JSON", "not UTF-8"])
def test_a_policy_that_cannot_be_read_makes_no_key(run_on_sqlite: Run, tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "policy.json").write_bytes(content.encode("latin-1"))
    result = run_on_sqlite("access-key", "create", "--name", "agent", "--policy", str(tmp_path / "policy.json"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "policy.json" in result.stderr


def test_the_name_of_a_key_is_given_once(run: Run):
    name = fresh_name("key")
    assert run("access-key", "create", "--name", name).exit_code == 0
    result = run("access-key", "create", "--name", name, "--admin")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{name} exists already" in result.stderr


@pytest.mark.parametrize("name", ["", "with blank", "a/b", "x" * 65, "a\nb", "ä"])
def test_a_name_that_could_be_mistaken_makes_no_key(run_on_sqlite: Run, name: str):
    result = run_on_sqlite("access-key", "create", "--name", name)
    assert (result.exit_code, result.stdout) == (1, "")


def test_a_key_that_does_not_exist_is_not_deleted(run: Run):
    result = run("access-key", "delete", "IGAKAAAAAAAAAAAAAAAA")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "IGAKAAAAAAAAAAAAAAAA" in result.stderr


# --- What keys may call -----------------------------------------------------------------------------------------------


def test_a_key_without_rights_may_call_nothing(control: Any, control_of: Any, data_of: Any, issue: Issue, agent: Agent):
    made = create(control, agentRuntimeArtifact=container(agent.url))
    key = issue()
    calls = [
        (control_of(key).list_agent_runtimes, {}),
        (control_of(key).get_agent_runtime, {"agentRuntimeId": made["agentRuntimeId"]}),
        (control_of(key).list_tags_for_resource, {"resourceArn": made["agentRuntimeArn"]}),
        (control_of(key).create_workload_identity, {"name": fresh_name("workload")}),
        (data_of(key).get_workload_access_token, {"workloadName": "nobody"}),
        (data_of(key).invoke_agent_runtime, {"agentRuntimeArn": made["agentRuntimeArn"], "payload": b"{}"}),
    ]
    assert [refused(call, **asked) for call, asked in calls] == [DENIED] * len(calls)
    assert agent.received == []


def test_a_refusal_names_who_may_not_do_what(control_of: Any, issue: Issue):
    message = refusal(control_of(issue()).list_agent_runtimes)["Error"]["Message"]
    assert "bedrock-agentcore:ListAgentRuntimes" in message
    assert f"arn:aws:iam::{ACCOUNT}:user/key_" in message


def test_an_admin_key_may_call_everything(control_of: Any, issue: Issue):
    control = control_of(issue("--admin"))
    made = create(control)
    assert status(control.delete_agent_runtime(agentRuntimeId=made["agentRuntimeId"])) == 202


def test_a_policy_allows_what_it_names_and_no_more(control: Any, control_of: Any, issue: Issue):
    mine, other = create(control), create(control)
    limited = control_of(issue(policy=policy_of(allow("GetAgentRuntime", on=mine["agentRuntimeArn"]))))
    assert status(limited.get_agent_runtime(agentRuntimeId=mine["agentRuntimeId"])) == 200
    assert [
        refused(limited.get_agent_runtime, agentRuntimeId=other["agentRuntimeId"]),
        refused(limited.delete_agent_runtime, agentRuntimeId=mine["agentRuntimeId"]),
        refused(limited.get_agent_runtime_endpoint, agentRuntimeId=mine["agentRuntimeId"], endpointName="DEFAULT"),
        refused(limited.list_agent_runtimes),
    ] == [DENIED] * 4


def test_what_may_not_be_seen_is_denied_whether_it_exists_or_not(control_of: Any, issue: Issue):
    limited = control_of(issue(policy=policy_of(allow("GetAgentRuntime", on=PREFIX + "runtime/mine-*"))))
    response = refusal(limited.get_agent_runtime, agentRuntimeId="unknown-AbCdEf1234")
    assert (status(response), response["Error"]["Code"]) == DENIED


def test_an_explicit_deny_wins(control: Any, control_of: Any, issue: Issue):
    mine, forbidden = create(control), create(control)
    policy = policy_of(allow("*"), allow("*", on=forbidden["agentRuntimeArn"] + "*", effect="Deny"))
    limited = control_of(issue(policy=policy))
    assert status(limited.get_agent_runtime(agentRuntimeId=mine["agentRuntimeId"])) == 200
    assert refused(limited.get_agent_runtime, agentRuntimeId=forbidden["agentRuntimeId"]) == DENIED
    assert refused(limited.delete_agent_runtime, agentRuntimeId=forbidden["agentRuntimeId"]) == DENIED


def test_a_policy_may_use_wildcards(control_of: Any, issue: Issue):
    limited = control_of(issue(policy=policy_of(allow("List*", "get*Identity"))))
    assert status(limited.list_agent_runtimes()) == 200
    assert refused(limited.get_workload_identity, name="nobody") == (404, "ResourceNotFoundException")
    assert refused(limited.delete_workload_identity, name="nobody") == DENIED


def test_a_token_needs_the_identity_and_its_directory(control: Any, data_of: Any, issue: Issue):
    mine, other = (control.create_workload_identity(name=fresh_name("workload")) for _ in range(2))
    both = [DIRECTORY, mine["workloadIdentityArn"]]
    action = "GetWorkloadAccessToken"
    limited = data_of(issue(policy=policy_of(allow(action, on=both))))
    half = data_of(issue(policy=policy_of(allow(action, on=both[1]))))
    assert status(limited.get_workload_access_token(workloadName=mine["name"])) == 200
    assert [
        refused(limited.get_workload_access_token, workloadName=other["name"]),
        refused(limited.get_workload_access_token_for_user_id, workloadName=mine["name"], userId="ada"),
        refused(limited.get_workload_access_token_for_jwt, workloadName=mine["name"], userToken="e30.e30.e30"),
        refused(half.get_workload_access_token, workloadName=mine["name"]),
    ] == [DENIED] * 4


def test_an_invocation_needs_the_runtime_and_the_endpoint(control: Any, data_of: Any, issue: Issue, agent: Agent):
    made = create(control, agentRuntimeArtifact=container(agent.url))
    arn = made["agentRuntimeArn"]
    control.create_agent_runtime_endpoint(agentRuntimeId=made["agentRuntimeId"], name="stable")
    on = [arn, f"{arn}/runtime-endpoint/stable"]
    limited = data_of(issue(policy=policy_of(allow("InvokeAgentRuntime", on=on))))
    asked = {"agentRuntimeArn": arn, "payload": b"{}"}
    with limited.invoke_agent_runtime(qualifier="stable", **asked)["response"] as stream:
        stream.read()
    assert refused(limited.invoke_agent_runtime, **asked) == DENIED
    assert len(agent.received) == 1


def test_naming_a_user_is_a_right_of_its_own(control: Any, data_of: Any, issue: Issue, agent: Agent):
    made = create(control, agentRuntimeArtifact=container(agent.url))
    on = [made["agentRuntimeArn"], made["agentRuntimeArn"] + "/*"]
    asked = {"agentRuntimeArn": made["agentRuntimeArn"], "payload": b"{}", "runtimeUserId": "ada"}
    plain = data_of(issue(policy=policy_of(allow("InvokeAgentRuntime", on=on))))
    named = data_of(issue(policy=policy_of(allow("InvokeAgentRuntime", "InvokeAgentRuntimeForUser", on=on))))
    assert refused(plain.invoke_agent_runtime, **asked) == DENIED
    with named.invoke_agent_runtime(**asked)["response"] as stream:
        stream.read()
    assert len(agent.received) == 1


def test_tags_are_for_who_may_name_their_resource(control: Any, control_of: Any, issue: Issue):
    mine, other = create(control), create(control)
    limited = control_of(issue(policy=policy_of(allow("TagResource", on=mine["agentRuntimeArn"]))))
    assert status(limited.tag_resource(resourceArn=mine["agentRuntimeArn"], tags={"a": "b"})) == 204
    assert refused(limited.tag_resource, resourceArn=other["agentRuntimeArn"], tags={"a": "b"}) == DENIED
    assert refused(limited.untag_resource, resourceArn=mine["agentRuntimeArn"], tagKeys=["a"]) == DENIED


def test_a_deleted_key_is_refused_at_its_next_call(run: Run, control_of: Any, issue: Issue):
    key = issue("--admin")
    client = control_of(key)
    assert status(client.list_workload_identities()) == 200
    assert run("access-key", "delete", key[0]).exit_code == 0
    assert refused(client.list_workload_identities) == INVALID


def test_the_list_shows_every_key_and_no_secret(run: Run, issue: Issue):
    policy = policy_of(allow("ListAgentRuntimes"))
    admin, limited, bare = issue("--admin"), issue(policy=policy), issue()
    said = run("access-key", "list", "--json").stdout
    rows = {row["accessKeyId"]: (row["admin"], row["policy"]) for row in json.loads(said)}
    assert {key: rows[key] for key, _ in (admin, limited, bare)} == {
        admin[0]: (True, None),
        limited[0]: (False, policy),
        bare[0]: (False, None),
    }
    assert not any(secret in said for _, secret in (admin, limited, bare))


def test_the_list_for_people_says_what_a_key_may_do(run: Run, issue: Issue):
    keys = {"admin": issue("--admin")[0], "policy": issue(policy=policy_of(allow("*")))[0], "nothing": issue()[0]}
    lines = {line.split()[0]: line.split()[2] for line in run("access-key", "list").stdout.splitlines()}
    assert {right: lines[key] for right, key in keys.items()} == {right: right for right in keys}


def test_a_key_for_people_is_made_as_environment_variables(run: Run, control_of: Any):
    said = run("access-key", "create", "--name", fresh_name("key"), "--admin").stdout
    variables = dict(line.split("=", 1) for line in said.splitlines())
    key = variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
    assert status(control_of(key).list_agent_runtimes()) == 200


def test_the_program_itself_makes_a_key_while_the_server_runs(gateway: RunningGateway, client_of: Callable[..., Any]):
    made = gateway.command("access-key", "create", "--name", fresh_name("key"), "--admin", "--json")
    answer = json.loads(made.stdout)
    client = client_of(gateway, CONTROL, key=(answer["accessKeyId"], answer["secretAccessKey"]))
    assert (made.returncode, made.stderr, status(client.list_agent_runtimes())) == (0, "", 200)


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_with_a_gateway_that_runs(run: Run, each_gateway: RunningGateway):
    result = run("doctor", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["settings"], found["records"], found["master key"]) == (0, "ok", "ok", "ok")
    assert each_gateway.status("/readyz") == 200


def test_doctor_says_ok_to_people(run: Run):
    result = run("doctor")
    assert (result.exit_code, {line.split()[-1] for line in result.stdout.splitlines()} >= {"ok"}) == (0, True)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("NOBODY_KNOWS_THIS", "1", "IDENTITY_GATEWAY_NOBODY_KNOWS_THIS"),
        ("REGION", "the moon", "IDENTITY_GATEWAY_REGION"),
        ("MASTER_KEY", base64.b64encode(b"another key, of thirty-two bytes").decode(), "master key"),
        ("MASTER_KEY", "short", "master_key"),
        ("DATABASE_URL", "postgresql://nobody:hunter2@127.0.0.1:9/nothing", "records"),
        ("DATABASE_URL", "mysql://nobody:hunter2@127.0.0.1:9/nothing", "database URL"),
    ],
    ids=["unknown", "refused", "another key", "no key", "no database", "another database"],
)
def test_doctor_says_what_is_wrong(
    run_on_sqlite: Run, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, said: str
):
    monkeypatch.setenv(f"IDENTITY_GATEWAY_{setting}", value)
    result = run_on_sqlite("doctor")
    assert result.exit_code == 1
    assert said in result.stdout
    assert value not in result.stdout + result.stderr


def test_a_command_without_its_database_fails_with_a_sentence(run_on_sqlite: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IDENTITY_GATEWAY_DATABASE_URL", "postgresql://nobody:hunter2@127.0.0.1:9/nothing")
    result = run_on_sqlite("access-key", "create", "--name", fresh_name("key"), "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("identity-gateway: ")
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    "command", ["serve", "demo", "doctor", "access-key create", "access-key list", "access-key delete"]
)
def test_every_command_has_help_with_an_example(command: str):
    result = CliRunner().invoke(cli, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"Example: identity-gateway {command}" in " ".join(result.stdout.split())


def test_the_answers_of_a_key_are_those_of_the_root_key(control: Any, control_of: Any, issue: Issue):
    made = create(control)
    asked = {"agentRuntimeId": made["agentRuntimeId"]}
    limited = control_of(issue(policy=policy_of(allow("GetAgentRuntime"))))
    assert shown(limited.get_agent_runtime(**asked)) == shown(control.get_agent_runtime(**asked))
