"""`identity-gateway access-key` with ends and `role`: every refusal is one sentence, and scripts can read the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from identity_gateway.cli import cli

POLICY = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
TRUST = {"principals": ["arn:aws:iam::000000000000:user/ci-*"]}

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("IDENTITY_GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for name, document in (("policy", POLICY), ("trust", TRUST)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return lambda line: CliRunner().invoke(cli, line.split())


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def states(run: Run) -> dict[str, str]:
    return {row["name"]: row["status"] for row in answer(run("access-key list --json"))}


# --- Refused ---


@pytest.mark.parametrize("lifetime", ["0d", "-1d", "1", "d", "1w", "1.5h", "1d2h", "01d", "9999999d", "1D", "1 d"])
def test_a_lifetime_that_is_none_makes_no_key(run: Run, lifetime: str):
    result = CliRunner().invoke(cli, ["access-key", "create", "--name", "ci", f"--expires-in={lifetime}"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--expires-in is a number of minutes, hours or days" in result.stderr
    assert "ci" not in states(run)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("access-key disable IGAKNOBODY", "There is no access key IGAKNOBODY."),
        ("access-key enable IGAKNOBODY", "There is no access key IGAKNOBODY."),
        ("role show ghost", "There is no role named ghost."),
        ("role update ghost --policy policy.json", "There is no role named ghost."),
        ("role delete ghost", "There is no role named ghost."),
        ("role create --name r --policy absent.json --trust trust.json", "absent.json is not a JSON file"),
        ("role create --name r --policy policy.json --trust policy.json", "trust must name somebody"),
        ("role create --name a/b --policy policy.json --trust trust.json", "The name of a role"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run: Run, line: str, said: str):
    result = run(line)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


# --- Answers ---


def test_a_key_is_disabled_and_enabled_by_its_id(run: Run):
    made = answer(run("access-key create --name ci --json"))["accessKeyId"]
    assert run(f"access-key disable {made}").stdout == f"disabled {made}\n"
    assert states(run)["ci"] == "disabled"
    assert run(f"access-key enable {made}").stdout == f"enabled {made}\n"
    assert states(run)["ci"] == "active"


def test_a_key_with_a_lifetime_is_listed_with_its_end(run: Run):
    answer(run("access-key create --name ci --expires-in 30d --json"))
    (row,) = (row for row in answer(run("access-key list --json")) if row["name"] == "ci")
    assert row["expiresAt"] > row["createdAt"]
    assert row["status"] == "active"


def test_a_role_is_made_shown_changed_and_deleted_as_json(run: Run, tmp_path: Path):
    made = answer(run("role create --name ci --policy policy.json --trust trust.json --json"))
    assert made["arn"] == "arn:aws:iam::000000000000:role/ci"
    assert answer(run("role show ci --json")) == made
    (tmp_path / "policy.json").write_text(json.dumps(POLICY | {"Id": "second"}))
    changed = answer(run("role update ci --policy policy.json --max-session-seconds 900 --json"))
    assert (changed["policy"]["Id"], changed["trust"], changed["maxSessionSeconds"]) == ("second", TRUST, 900)
    assert answer(run("role list --json")) == [changed]
    assert run("role delete ci").stdout == "deleted ci\n"
    assert answer(run("role list --json")) == []


def test_roles_are_listed_for_people_with_who_may_assume_them(run: Run):
    run("role create --name ci --policy policy.json --trust trust.json")
    assert run("role list").stdout.split()[:2] == ["ci", "principals"]
    assert "role/ci" in run("role show ci").stdout
