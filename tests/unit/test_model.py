"""The nouns: a secret does not show itself, and a user that was named is nobody's equal."""

import copy
import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from identity_gateway.model import AccessKey, IamPrincipal, JwtUser, KeyCheck, NamedUser, Realm, Secret, WorkloadAccess

HIDDEN = "hunter2"
SECRET = Secret(HIDDEN)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "shown",
    [
        repr(SECRET),
        str(SECRET),
        f"{SECRET}",
        f"{SECRET!r}",
        f"{SECRET!s}",
        f"{SECRET!a}",
        "{} {!r}".format(SECRET, SECRET),  # noqa: UP032 - another way than f-strings
        "%s" % SECRET,  # noqa: UP031 - and another
        repr([SECRET]),
        repr({"a": SECRET}),
        str(ValueError(SECRET)),
        repr(WorkloadAccess("0" * 12, "agent", None, SECRET, (), 0.0, 1.0)),
        json.dumps({"a": SECRET}, default=repr),
    ],
)
def test_a_secret_does_not_show_itself(shown: str):
    assert HIDDEN not in shown
    assert "<secret>" in shown


@pytest.mark.parametrize(
    "act", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars, len, iter, lambda secret: f"{secret:>20}"]
)
def test_a_secret_cannot_be_taken_out_by_accident(act: Any):
    with pytest.raises(TypeError) as caught:
        act(SECRET)
    assert HIDDEN not in str(caught.value)


def test_a_secret_is_revealed_by_name_only():
    assert SECRET.reveal() == HIDDEN


def test_a_secret_is_not_compared_in_a_way_that_takes_longer_the_more_is_right():
    assert Secret(HIDDEN) != SECRET
    assert SECRET != HIDDEN


@pytest.mark.parametrize(
    "noun",
    [
        AccessKey("0" * 12, "IGAK1", "ci", b"hunter2", admin=False, policy=None, created_at=NOW),
        KeyCheck("0" * 12, "master-key", b"hunter2"),
        IamPrincipal("0" * 12, "IGAK1", "ci", admin=False, policy={"hunter2": 1}),
    ],
)
def test_a_noun_does_not_show_what_is_sealed_or_long(noun: object):
    assert HIDDEN not in repr(noun)


def test_a_user_that_was_named_is_never_a_user_that_was_proven():
    for name in ("alice", "https://issuer.test#alice", "['jwt', 'https://issuer.test', 'alice']"):
        assert NamedUser(name) != JwtUser("https://issuer.test", "alice")
        assert len({NamedUser(name), JwtUser("https://issuer.test", name)}) == 2


def test_users_of_two_issuers_are_two_users():
    assert JwtUser("https://a.test", "alice") != JwtUser("https://b.test", "alice")


def test_a_realm_names_its_resources():
    realm = Realm("123456789012", "eu-west-1", "aws-cn")
    prefix = "arn:aws-cn:bedrock-agentcore:eu-west-1:123456789012:"
    assert realm.runtime_arn("hello-AbCdEf1234") == prefix + "runtime/hello-AbCdEf1234"
    assert realm.endpoint_arn("hello-AbCdEf1234", "live") == prefix + "runtime/hello-AbCdEf1234/runtime-endpoint/live"
    assert (
        realm.workload_identity_arn("agent") == prefix + "workload-identity-directory/default/workload-identity/agent"
    )


def test_a_principal_is_named_by_its_account_and_key_name():
    assert (
        IamPrincipal("123456789012", "IGAK1", "ci", admin=True, policy=None).arn == "arn:aws:iam::123456789012:user/ci"
    )
