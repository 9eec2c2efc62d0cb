"""The command line: every command shows an example, every refusal is one sentence, and scripts can read the rest.

Keys that a running gateway accepts are in the conformance tests.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from identity_gateway import __version__, cli
from identity_gateway.cli import cli as commands

SECRET = "hunter2-is-not-to-be-shown"

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Begin without settings, and forget what a command left in the environment for its children."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("IDENTITY_GATEWAY_")]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    os.environ["IDENTITY_GATEWAY_DATA_DIR"] = str(tmp_path / "data")
    return lambda *arguments: CliRunner().invoke(commands, [str(argument) for argument in arguments])


def sentence(result: Result) -> str:
    """Return the one sentence of a refusal: it stands on standard error, alone."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("identity-gateway: ")
    return line.removeprefix("identity-gateway: ")


def every_command() -> dict[str, typer.models.CommandInfo]:
    groups = {"": commands} | {f"{info.name} ": info.typer_instance for info in commands.registered_groups}
    return {
        prefix + (info.name or info.callback.__name__): info
        for prefix, group in groups.items()
        for info in group.registered_commands
    }


# --- Refusals ---


@pytest.mark.parametrize(
    "command", ["serve", "access-key list", "access-key create --name x", "access-key delete IGAKX"]
)
def test_a_setting_that_is_refused_is_one_sentence(run: Run, command: str):
    os.environ["IDENTITY_GATEWAY_PROT"] = SECRET
    assert sentence(run(*command.split())) == "unknown setting: IDENTITY_GATEWAY_PROT"


def test_an_option_that_is_refused_is_one_sentence(run: Run):
    assert "PORT" in sentence(run("serve", "--port", "70000"))


def test_a_secret_that_is_refused_is_not_repeated(run: Run):
    os.environ["IDENTITY_GATEWAY_MASTER_KEY"] = SECRET
    assert SECRET not in sentence(run("access-key", "list"))


def test_a_database_of_another_kind_is_one_sentence_without_its_password(run: Run):
    os.environ["IDENTITY_GATEWAY_DATABASE_URL"] = f"mysql://u:{SECRET}@db.test/x"
    assert SECRET not in sentence(run("access-key", "list"))


def test_a_data_folder_that_cannot_be_one_is_one_sentence(run: Run, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert "file" in sentence(run("access-key", "list", "--data-dir", tmp_path / "file"))


@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", b"\xff", "[" * 100_000])
def test_a_policy_that_is_no_json_object_is_one_sentence(run: Run, tmp_path: Path, content: str | bytes | None):
    if content is not None:
        (tmp_path / "policy.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "policy.json" in sentence(run("access-key", "create", "--name", "ci", "--policy", tmp_path / "policy.json"))


def test_a_policy_that_says_a_thing_twice_is_not_half_obeyed(run: Run, tmp_path: Path):
    twice = '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}'
    (tmp_path / "policy.json").write_text(twice)
    assert "policy.json" in sentence(run("access-key", "create", "--name", "ci", "--policy", tmp_path / "policy.json"))


def test_a_policy_that_is_not_served_is_one_sentence_that_names_the_fault(run: Run, tmp_path: Path):
    statement = {"Effect": ["Allow"], "Action": "*", "Resource": "*"}
    (tmp_path / "policy.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    text = sentence(run("access-key", "create", "--name", "ci", "--policy", tmp_path / "policy.json"))
    assert "Statement[0].Effect must be Allow or Deny" in text


def test_a_command_that_is_misspelt_is_a_usage_error(run: Run):
    for arguments in (["serv"], ["access-key", "create"], ["serve", "--workers", "0"], ["serve", "--prot", "1"]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")


def test_an_interrupt_ends_a_command_without_a_trace(monkeypatch: pytest.MonkeyPatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "cli", interrupted)
    cli.main()


# --- Answers ---


@pytest.mark.parametrize("command", every_command())
def test_every_command_shows_an_example_of_itself(run: Run, command: str):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: identity-gateway {command}" in " ".join(result.stdout.split())


@pytest.mark.parametrize("arguments", [[], ["access-key"]])
def test_without_a_command_the_commands_are_listed(run: Run, arguments: list[str]):
    result = run(*arguments)
    assert all(word in result.output for word in (["list", "create"] if arguments else ["serve", "access-key"]))


def test_a_key_is_made_listed_and_deleted_as_json(run: Run):
    made = json.loads(run("access-key", "create", "--name", "ci", "--admin", "--json").stdout)
    assert made.keys() == {"accessKeyId", "secretAccessKey", "name"}
    listed = json.loads(run("access-key", "list", "--json").stdout)
    assert [(row["name"], row["admin"], row["policy"]) for row in listed if row["name"] != "root"] == [
        ("ci", True, None)
    ]
    assert made["secretAccessKey"] not in json.dumps(listed)
    assert run("access-key", "delete", made["accessKeyId"]).exit_code == 0
    assert [row["name"] for row in json.loads(run("access-key", "list", "--json").stdout)] == ["root"]


def test_the_data_folder_of_a_command_comes_before_the_environment(run: Run, tmp_path: Path):
    assert run("access-key", "list", "--data-dir", tmp_path / "elsewhere").exit_code == 0
    assert (tmp_path / "elsewhere" / "gateway.sqlite").exists()
    assert not (tmp_path / "data").exists()


def test_the_version_is_printed(run: Run):
    assert run("version").stdout == f"{__version__}\n"


# --- The doctor ---


def test_a_doctor_who_finds_nothing_says_so_as_json(run: Run):
    result = run("doctor", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "settings": "ok",
        "records": "ok",
        "ephemeral": "ok",
        "master key": "ok",
        "url": "ok: http://127.0.0.1:8080",
    }


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("PROT", "1", "settings"),
        ("MASTER_KEY", SECRET, "settings"),
        ("EGRESS_ALLOW", "169.254.0.0/16", "settings"),
        ("REDIS_URL", f"redis://:{SECRET}@127.0.0.1:1/0", "ephemeral"),
    ],
)
def test_a_doctor_who_finds_something_names_it_and_fails(run: Run, name: str, value: str, part: str):
    os.environ[f"IDENTITY_GATEWAY_{name}"] = value
    result = run("doctor", "--json")
    assert result.exit_code == 1
    assert not json.loads(result.stdout)[part].startswith("ok")
    assert SECRET not in result.output


def test_a_doctor_knows_a_master_key_that_is_another_one(run: Run, tmp_path: Path):
    assert run("doctor").exit_code == 0
    (tmp_path / "data" / "master.key").write_bytes(b"o" * 32)
    result = run("doctor")
    assert result.exit_code == 1
    assert "master key is not the one" in result.stdout
