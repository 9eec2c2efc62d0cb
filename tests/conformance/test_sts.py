"""The security token service through unmodified boto3, against a gateway that runs."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any
from unittest import mock

import jwt
import pytest
from botocore.exceptions import ClientError

from tests.conformance.control_plane import refusal, refused, status
from tests.gateways import ACCOUNT, RunningGateway, running_gateway
from tests.security_tokens import key_of, made_key, made_role, sts

EVERYTHING = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
USERS = {"principals": [f"arn:aws:iam::{ACCOUNT}:user/*"]}


@pytest.fixture
def user(gateway: RunningGateway, tmp_path: Path) -> tuple[str, str]:
    return made_key(gateway, tmp_path, EVERYTHING)


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def test_an_unsigned_call_of_a_signed_action_is_refused(gateway: RunningGateway):
    with sts(gateway) as client:
        assert refused(client.get_caller_identity) == (403, "MissingAuthenticationToken")


def test_a_wrong_secret_is_refused_in_the_words_of_sts(gateway: RunningGateway, user: tuple[str, str]):
    with sts(gateway, (user[0], "wrong")) as client:
        assert refused(client.get_caller_identity) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("service", ["bedrock-agentcore", "s3", "iam"])
def test_a_signature_for_another_service_is_refused(gateway: RunningGateway, user: tuple[str, str], service: str):
    with sts(gateway, user) as client:
        assert client.get_caller_identity()["Account"] == ACCOUNT
        with mock.patch.object(client._request_signer, "_signing_name", service):
            response = refusal(client.get_caller_identity)
    assert (status(response), response["Error"]["Code"]) == (403, "SignatureDoesNotMatch")
    assert "service 'sts'" in response["Error"]["Message"]


def test_an_action_that_is_not_served_is_refused(gateway: RunningGateway, user: tuple[str, str]):
    with sts(gateway, user) as client:
        assert refused(client.get_session_token) == (400, "InvalidAction")


def test_a_role_does_not_trust_whom_it_does_not_name(gateway: RunningGateway, user: tuple[str, str], tmp_path: Path):
    arn = made_role(gateway, tmp_path, {"principals": [f"arn:aws:iam::{ACCOUNT}:user/somebody-else"]})
    with sts(gateway, user) as client:
        assert refused(client.assume_role, RoleArn=arn, RoleSessionName="ada") == (403, "AccessDenied")


def test_a_trusted_key_without_a_policy_for_the_role_is_refused(gateway: RunningGateway, tmp_path: Path):
    arn = made_role(gateway, tmp_path, USERS)
    key = made_key(
        gateway,
        tmp_path,
        {
            "Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/other"},
        },
    )
    with sts(gateway, key) as client:
        assert refused(client.assume_role, RoleArn=arn, RoleSessionName="ada") == (403, "AccessDenied")


def test_a_role_that_does_not_exist_is_refused_like_one_that_does_not_trust(
    gateway: RunningGateway, user: tuple[str, str]
):
    with sts(gateway, user) as client:
        arn = f"arn:aws:iam::{ACCOUNT}:role/nobody"
        assert refused(client.assume_role, RoleArn=arn, RoleSessionName="ada") == (403, "AccessDenied")


def test_a_member_that_is_not_served_is_refused_rather_than_ignored(
    gateway: RunningGateway, user: tuple[str, str], tmp_path: Path
):
    arn = made_role(gateway, tmp_path, USERS)
    with sts(gateway, user) as client:
        assert refused(client.assume_role, RoleArn=arn, RoleSessionName="ada", ExternalId="12") == (
            400,
            "ValidationError",
        )


def test_an_assumed_role_lists_runtimes_and_knows_its_name(
    gateway: RunningGateway, user: tuple[str, str], tmp_path: Path
):
    arn = made_role(gateway, tmp_path, USERS)
    with sts(gateway, user) as client:
        given = client.assume_role(RoleArn=arn, RoleSessionName="ada")
    with sts(gateway, key_of(given["Credentials"])) as session:
        found = session.get_caller_identity()
    assert (found["Arn"], found["UserId"]) == (
        given["AssumedRoleUser"]["Arn"],
        given["AssumedRoleUser"]["AssumedRoleId"],
    )
    assert 3500 < given["Credentials"]["Expiration"].timestamp() - time.time() <= 3600


def test_a_session_does_not_prolong_itself(gateway: RunningGateway, user: tuple[str, str], tmp_path: Path):
    trust = {"principals": [f"arn:aws:iam::{ACCOUNT}:user/*", f"arn:aws:sts::{ACCOUNT}:assumed-role/*"]}
    arn = made_role(gateway, tmp_path, trust, EVERYTHING)
    with sts(gateway, user) as client:
        first = client.assume_role(RoleArn=arn, RoleSessionName="ada", DurationSeconds=900)["Credentials"]
    with sts(gateway, key_of(first)) as session:
        second = session.assume_role(RoleArn=arn, RoleSessionName="eve", DurationSeconds=3600)["Credentials"]
    assert second["Expiration"] <= first["Expiration"]


def test_an_admin_key_learns_who_it_is(gateway: RunningGateway):
    with sts(gateway, gateway.root_key) as client:
        assert client.get_caller_identity()["Account"] == ACCOUNT


@pytest.mark.parametrize("algorithm", ["RS256", "ES384"])
def test_a_web_identity_token_verifies_by_the_published_keys(
    gateway: RunningGateway, user: tuple[str, str], algorithm: str
):
    with sts(gateway, user) as client:
        given = client.get_web_identity_token(
            Audience=["https://api.example"], SigningAlgorithm=algorithm, Tags=[{"Key": "team", "Value": "blue"}]
        )
    document = fetched(f"{gateway.url}/.well-known/openid-configuration")
    keys = jwt.PyJWKSet.from_dict(fetched(document["jwks_uri"]))
    key = keys[jwt.get_unverified_header(given["WebIdentityToken"])["kid"]]
    claims = jwt.decode(given["WebIdentityToken"], key, [algorithm], audience="https://api.example", issuer=gateway.url)
    assert claims["https://sts.amazonaws.com/"] == {
        "aws_account": ACCOUNT,
        "source_region": "us-east-1",
        "request_tags": {"team": "blue"},
    }
    assert claims["exp"] - claims["iat"] == 300


def test_a_web_identity_token_does_not_outlive_its_session(
    gateway: RunningGateway, user: tuple[str, str], tmp_path: Path
):
    arn = made_role(gateway, tmp_path, USERS, EVERYTHING)
    with sts(gateway, user) as client:
        given = client.assume_role(RoleArn=arn, RoleSessionName="ada", DurationSeconds=900)["Credentials"]
    with sts(gateway, key_of(given)) as session, pytest.raises(ClientError) as caught:
        session.get_web_identity_token(Audience=["a"], SigningAlgorithm="ES384", DurationSeconds=3600)
    assert caught.value.response["Error"]["Code"] == "SessionDurationEscalationException"


def test_no_published_key_is_private(gateway: RunningGateway):
    keys = fetched(f"{gateway.url}/.well-known/jwks.json")["keys"]
    assert {key["alg"] for key in keys} == {"RS256", "ES384"}
    assert all(key.keys() <= {"kty", "n", "e", "crv", "x", "y", "kid", "alg", "use"} for key in keys)


def test_keys_that_were_rotated_by_the_command_stay_published():
    with running_gateway() as own:
        made = [own.command("web-identity", "rotate", "--json") for _ in range(2)]
        assert [each.returncode for each in made] == [0, 0]
        published = {key["kid"] for key in fetched(f"{own.url}/.well-known/jwks.json")["keys"]}
    assert published == {key["id"] for each in made for key in json.loads(each.stdout)}


def test_get_of_the_root_still_says_what_this_is(gateway: RunningGateway):
    assert fetched(f"{gateway.url}/")["name"] == "identity-gateway"
