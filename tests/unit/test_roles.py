"""Roles: nobody is trusted by mistake, and what a role says is checked when it is made."""

from typing import Any

import pytest

from identity_gateway.errors import Conflict, NotFound, ValidationFailed
from identity_gateway.identity_providers import packaged
from identity_gateway.model import Realm, Role
from identity_gateway.records.sql import SqlRecords
from identity_gateway.roles import Roles, trusts_aws_principal, trusts_principal, web_identity_of
from tests.fakes.clock import Clock

ACCOUNT = "000000000000"
POLICY = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
OTHER = {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}
USER = f"arn:aws:iam::{ACCOUNT}:user/"
TRUST = {"principals": [f"{USER}ada"]}
WEB = {"discoveryUrl": "https://issuer.test/.well-known/openid-configuration", "allowedAudience": ["gateway"]}
AWS = "arn:aws:iam::123456789012:role/"


@pytest.fixture
def roles(records: SqlRecords, clock: Clock) -> Roles:
    return Roles(records, Realm(ACCOUNT, "us-east-1"), packaged(), clock=clock)


async def faults(roles: Roles, **instead: Any) -> list[str]:
    given = {"name": "reader", "policy": POLICY, "trust": TRUST} | instead
    with pytest.raises(ValidationFailed) as caught:
        await roles.create(**given)
    assert await roles.list() == []
    return [fault.name for fault in caught.value.fields]


# --- Refused ---


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "a" * 65, "a\n", "a:b", "*"])
async def test_a_role_with_a_name_that_could_forge_an_arn_is_refused(roles: Roles, name: str):
    assert await faults(roles, name=name) == []


@pytest.mark.parametrize(
    "trust",
    [
        {}, [], None, "*", {"principals": []}, {"principals": [], "webIdentity": {}, "awsPrincipals": []},
        {"principals": "*"}, {"principals": ["*"]}, {"principals": [None]}, {"principals": [f"{USER}"]},
        {"principals": ["arn:aws:iam::*:user/ada"]}, {"principals": ["arn:aws:iam::111111111111:user/ada"]},
        {"principals": [f"arn:aws:iam::{ACCOUNT}:root"]}, {"principals": [f"arn:*:iam::{ACCOUNT}:user/ada"]},
        {"principals": [f"{USER}ada", "*"]}, {"principals": [f"{USER}a"] * 101}, {"principals": [f"{USER}a\n"]},
        {"awsPrincipals": ["*"]}, {"awsPrincipals": [f"{AWS}"]}, {"awsPrincipals": ["arn:aws:iam::*:role/x"]},
        {"awsPrincipals": ["arn:aws:iam::12345678901?:role/x"]}, {"awsPrincipals": ["arn:aws:s3:::bucket/x"]},
        {"awsPrincipals": ["arn:aws:iam::123456789012:root"]}, {"awsPrincipals": {"arn": AWS}},
        TRUST | {"Principal": "*"}, TRUST | {"federated": ["*"]},
    ],
)  # fmt: skip
async def test_a_trust_that_names_nobody_or_anybody_is_refused(roles: Roles, trust: Any):
    assert all(name.startswith("trust") for name in await faults(roles, trust=trust))


@pytest.mark.parametrize(
    "authorizer",
    [
        {}, [], "https://issuer.test", {"discoveryUrl": WEB["discoveryUrl"]}, {"allowedAudience": ["gateway"]},
        WEB | {"allowedAudience": []}, WEB | {"allowedAudience": ""}, WEB | {"surprise": True},
        WEB | {"discoveryUrl": "ftp://issuer.test/.well-known/openid-configuration"}, WEB | {"discoveryUrl": 1},
    ],
)  # fmt: skip
async def test_a_web_identity_that_checks_nothing_is_refused(roles: Roles, authorizer: Any):
    assert all(name.startswith("trust") for name in await faults(roles, trust={"webIdentity": authorizer}))


WORKLOADS = {"allowedWorkloadConfiguration": {"workloadIdentities": ["trusted-agent"]}}


async def test_a_role_cannot_ask_for_a_workload_that_nobody_shows_at_an_exchange(roles: Roles):
    found = await faults(roles, trust={"webIdentity": WEB | WORKLOADS})
    assert found == ["trust.webIdentity.allowedWorkloadConfiguration"]


def test_a_role_that_was_kept_with_such_a_rule_lets_no_token_in():
    assert web_identity_of(trusting(webIdentity=WEB | WORKLOADS)) is None


@pytest.mark.parametrize("seconds", [0, -1, 899, 43_201])
async def test_a_role_does_not_let_its_credentials_live_for_any_time(roles: Roles, seconds: int):
    assert await faults(roles, max_session_seconds=seconds) == ["maxSessionSeconds"]


@pytest.mark.parametrize("policy", [{}, [], {"Version": "2012-10-17", "Statement": []}])
async def test_a_policy_that_says_nothing_is_refused(roles: Roles, policy: Any):
    assert all(name.startswith("policy.") for name in await faults(roles, policy=policy))


async def test_a_role_is_not_made_twice(roles: Roles):
    await roles.create("reader", POLICY, TRUST)
    with pytest.raises(Conflict):
        await roles.create("reader", OTHER, TRUST)
    assert (await roles.get("reader")).policy == POLICY


async def test_a_change_to_what_is_not_served_changes_nothing(roles: Roles):
    await roles.create("reader", POLICY, TRUST)
    with pytest.raises(ValidationFailed):
        await roles.update("reader", policy=OTHER, trust={"principals": ["*"]})
    assert (await roles.get("reader")).policy == POLICY


async def test_a_role_that_is_not_there_cannot_be_read_changed_or_deleted(roles: Roles):
    for act in (roles.get("ghost"), roles.update("ghost", policy=POLICY), roles.delete("ghost")):
        with pytest.raises(NotFound):
            await act


async def test_a_role_of_another_account_is_not_found(roles: Roles, records: SqlRecords, clock: Clock):
    await roles.create("reader", POLICY, TRUST)
    assert await Roles(records, Realm("111111111111", "us-east-1"), packaged(), clock=clock).find("reader") is None


# --- Who is trusted ---


def trusting(**trust: Any) -> Role:
    made = Clock()
    return Role(ACCOUNT, "reader", POLICY, trust, 3600, created_at=made, updated_at=made)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "name", "trusted"),
    [
        ("ada", "ada", True), ("ada", "adam", False), ("ada", "Ada", False), ("ci-*", "ci-1", True),
        ("ci-*", "ci-", True), ("ci-*", "xci-1", False), ("ci-?", "ci-12", False), ("*-ci-*", "a-ci-b", True),
        ("a.b", "axb", False), ("*", "anybody", True),
    ],
)  # fmt: skip
def test_a_pattern_trusts_whole_names_with_their_case(pattern: str, name: str, trusted: bool):
    assert trusts_principal(trusting(principals=[USER + pattern]), [USER + name]) is trusted


def test_a_principal_is_trusted_by_any_of_its_names_and_by_no_other_kind_of_trust():
    role = trusting(principals=[f"arn:aws:iam::{ACCOUNT}:role/other"])
    session = [f"arn:aws:sts::{ACCOUNT}:assumed-role/other/ada", f"arn:aws:iam::{ACCOUNT}:role/other"]
    assert trusts_principal(role, session)
    assert not trusts_aws_principal(role, session)


def test_a_real_aws_principal_is_trusted_by_its_own_list_alone():
    role = trusting(awsPrincipals=[f"{AWS}team/*"])
    assert trusts_aws_principal(role, [f"{AWS}team/deploy"])
    assert not trusts_aws_principal(role, [f"{AWS}deploy", "arn:aws:iam::999999999999:role/team/deploy"])
    assert not trusts_principal(role, [f"{AWS}team/deploy"])


def test_a_role_without_a_web_identity_trusts_no_token():
    assert web_identity_of(trusting(principals=[USER])) is None


def test_a_pattern_of_many_stars_is_decided_without_backtracking():
    role = trusting(principals=[USER + "*a" * 40 + "b"])
    assert not trusts_principal(role, [USER + "a" * 5000])


# --- Made and changed ---


async def test_a_role_is_made_listed_changed_and_deleted(roles: Roles, clock: Clock):
    made = await roles.create("reader", POLICY, {"webIdentity": WEB}, max_session_seconds=900)
    assert await roles.list() == [made]
    assert web_identity_of(await roles.get("reader")) == WEB
    clock.now += 60
    changed = await roles.update("reader", policy=OTHER)
    assert (changed.policy, changed.trust, changed.max_session_seconds) == (OTHER, {"webIdentity": WEB}, 900)
    assert (changed.created_at, changed.revision) == (made.created_at, made.revision + 1)
    assert changed.updated_at > made.updated_at
    await roles.delete("reader")
    assert await roles.find("reader") is None


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        (f"arn:aws:iam::{ACCOUNT}:role/reader", "reader"), (f"arn:aws:iam::{ACCOUNT}:role/a/b", None),
        ("arn:aws:iam::111111111111:role/reader", None), (f"{USER}reader", None), ("reader", None),
        (f"arn:aws:iam::{ACCOUNT}:role/", None), (f"arn:aws:iam::{ACCOUNT}:role/*", None),
    ],
)  # fmt: skip
def test_an_arn_names_a_role_of_this_account_or_none(roles: Roles, arn: str, name: str | None):
    assert roles.name_of(arn) == name
