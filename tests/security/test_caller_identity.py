"""A presigned GetCallerIdentity of AWS as proof: what the client chose must never reach AWS, nor a proof for others us."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from identity_gateway.errors import InvalidToken
from identity_gateway.protocol.caller_identity import BINDING_HEADER, MAX_TOKEN, parse, read_answer
from tests.conformance.control_plane import refused
from tests.gateways import RunningGateway, running_gateway
from tests.security_tokens import AWS_ARN, AWS_KEY, FakeAwsSts, fake_aws_sts, key_of, made_role, sts

SERVICE, ACTION = "identity-gateway-sts", "assume_role_with_caller_identity"
REFUSED = (400, "InvalidIdentityToken")


def presigned(
    server: str,
    *,
    host: str = "sts.us-east-1.amazonaws.com",
    region: str = "us-east-1",
    secret: str = AWS_KEY[1],
    expires: int = 60,
    query: str = "Action=GetCallerIdentity&Version=2011-06-15",
    more: dict[str, str] | None = None,
    bound: bool = True,
) -> str:
    headers = ({BINDING_HEADER: server} if bound else {}) | (more or {})
    request = AWSRequest("GET", f"https://{host}/?{query}", headers=headers)
    SigV4QueryAuth(Credentials(AWS_KEY[0], secret), "sts", region, expires=expires).add_auth(request)
    return str(request.url)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAwsSts]:
    with fake_aws_sts() as fake:
        yield fake


@pytest.fixture(scope="module")
def own(aws: FakeAwsSts) -> Iterator[RunningGateway]:
    with running_gateway(sts_endpoint_url=aws.url) as running:
        yield running


@pytest.fixture
def role(own: RunningGateway, tmp_path: Path) -> str:
    return made_role(own, tmp_path, {"awsPrincipals": ["arn:aws:iam::123456789012:role/deployer"]})


@pytest.mark.parametrize(
    "token",
    [
        presigned("s", host="sts.evil.example"),
        presigned("s", host="sts.made-up-1.amazonaws.com", region="made-up-1"),
        presigned("s", host="sts.us-east-1.amazonaws.com.evil.example"),
        presigned("s").replace("https://", "http://"),
        presigned("s").replace("https://", "https://user@"),
        presigned("s").replace(".com/", ".com:444/"),
        presigned("s").replace(".com/", ".com/path/"),
    ],
)
def test_client_chooses_the_host_that_is_asked(token: str):
    with pytest.raises(InvalidToken):
        parse(token, now=now())


@pytest.mark.parametrize(
    "query",
    [
        "Action=AssumeRole&Version=2011-06-15",
        "Action=GetCallerIdentity&Version=2010-05-08",
        "Action=GetCallerIdentity&Version=2011-06-15&ContentType=XML",
        "Action=GetCallerIdentity&action=AssumeRole&Version=2011-06-15",
    ],
)
def test_client_chooses_the_action_or_a_parameter(query: str):
    with pytest.raises(InvalidToken):
        parse(presigned("s", query=query), now=now())


def test_a_parameter_stands_twice_in_another_case_of_letters():
    with pytest.raises(InvalidToken):
        parse(presigned("s") + "&x-amz-date=20200101T000000Z", now=now())


def test_client_chooses_a_header():
    with pytest.raises(InvalidToken):
        parse(presigned("s", more={"accept": "text/xml"}), now=now())


def test_a_proof_without_the_binding_header_is_good_everywhere():
    with pytest.raises(InvalidToken):
        parse(presigned("s", bound=False), now=now())


def test_a_region_other_than_that_of_the_host():
    with pytest.raises(InvalidToken):
        parse(presigned("s", region="eu-west-1"), now=now())


@pytest.mark.parametrize("age", [timedelta(seconds=61), timedelta(days=2), -timedelta(minutes=6)])
def test_an_old_proof_or_one_of_the_future(age: timedelta):
    with pytest.raises(InvalidToken):
        parse(presigned("s"), now=now() + age)


def test_a_proof_that_lives_longer_than_15_minutes():
    with pytest.raises(InvalidToken):
        parse(presigned("s", expires=901), now=now())


def test_an_oversized_proof():
    with pytest.raises(InvalidToken):
        parse(presigned("s") + "&X=" + "a" * MAX_TOKEN, now=now())


@pytest.mark.parametrize(
    "body",
    [
        b"<GetCallerIdentityResponse/>",
        b"{}",
        b'{"GetCallerIdentityResponse": {}, "More": 1}',
        b'{"ErrorResponse": {"GetCallerIdentityResponse": {}}}',
        json.dumps({"GetCallerIdentityResponse": {"ResponseMetadata": {}, "GetCallerIdentityResult": {"Arn": "arn:aws:iam::999999999999:role/deployer", "Account": "999999999999", "UserId": "A"}}}).encode(),
        json.dumps({"GetCallerIdentityResponse": {"ResponseMetadata": {}, "GetCallerIdentityResult": {"Arn": AWS_ARN, "Account": "999999999999", "UserId": "A"}}}).encode(),
        json.dumps({"GetCallerIdentityResponse": {"ResponseMetadata": {}, "GetCallerIdentityResult": {"Arn": AWS_ARN.replace(":aws:", ":aws-cn:"), "Account": "123456789012", "UserId": "A"}}}).encode(),
    ],
)  # fmt: skip
def test_an_answer_with_text_of_the_attacker_is_taken_for_an_identity(body: bytes):
    with pytest.raises(InvalidToken):
        read_answer(body, "aws")


def exchange(own: RunningGateway, role: str, token: str) -> tuple[int, str]:
    with sts(own, service=SERVICE) as client:
        return refused(getattr(client, ACTION), RoleArn=role, RoleSessionName="ci", CallerIdentityToken=token)


def test_a_proof_made_for_another_verifier_is_refused(own: RunningGateway, role: str):
    assert exchange(own, role, presigned("https://another.example")) == REFUSED


def test_a_wrong_aws_secret_is_refused(own: RunningGateway, role: str):
    assert exchange(own, role, presigned(own.url, secret="wrong")) == REFUSED


def test_an_aws_principal_whom_the_role_does_not_trust_is_refused(own: RunningGateway, tmp_path: Path):
    other = made_role(own, tmp_path, {"awsPrincipals": ["arn:aws:iam::999999999999:role/deployer"]})
    assert exchange(own, other, presigned(own.url)) == REFUSED


def test_aws_is_not_asked_for_a_role_that_does_not_exist(own: RunningGateway, aws: FakeAwsSts):
    asked = len(aws.heads)
    assert exchange(own, "arn:aws:iam::000000000000:role/nobody", presigned(own.url)) == REFUSED
    assert len(aws.heads) == asked


@pytest.mark.parametrize(
    "answer",
    [
        (302, {"location": "http://127.0.0.1:1/"}, b""),
        (200, {"content-type": "text/xml"}, b"{}"),
        (200, {"content-type": "application/json; charset=utf-8"}, b"{}"),
    ],
)
def test_a_redirect_or_another_content_type_is_no_identity(
    own: RunningGateway, aws: FakeAwsSts, role: str, answer: tuple[int, dict[str, str], bytes]
):
    aws.answer = answer
    try:
        assert exchange(own, role, presigned(own.url)) == REFUSED
    finally:
        aws.answer = None


def test_an_aws_principal_gets_credentials_and_aws_sees_headers_of_the_gateway_alone(
    own: RunningGateway, aws: FakeAwsSts, role: str
):
    with sts(own, service=SERVICE) as client:
        given = getattr(client, ACTION)(RoleArn=role, RoleSessionName="ci", CallerIdentityToken=presigned(own.url))
    with sts(own, key_of(given["Credentials"])) as session:
        assert session.get_caller_identity()["Arn"] == given["AssumedRoleUser"]["Arn"]
    sent = aws.heads[-1][1]
    assert (given["CallerArn"], sent["accept"], sent[BINDING_HEADER]) == (AWS_ARN, "application/json", own.url)


def test_the_credential_process_proves_the_aws_identity_of_its_machine(
    own: RunningGateway, role: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(own.environment, "AWS_ACCESS_KEY_ID", AWS_KEY[0])
    monkeypatch.setitem(own.environment, "AWS_SECRET_ACCESS_KEY", AWS_KEY[1])
    done = own.command("credentials", "--url", own.url, "--role", role, "--aws")
    assert json.loads(done.stdout).keys() == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
