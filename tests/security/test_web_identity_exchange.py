"""JWTs exchanged for temporary credentials: only those that the role trusts, and never for longer than they live."""

import asyncio
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway
from tests.security_tokens import made_role, sts


def answered(gateway: RunningGateway, arn: str, token: str, **more: Any) -> Any:
    with sts(gateway) as client:
        try:
            return client.assume_role_with_web_identity(
                RoleArn=arn, RoleSessionName="ada", WebIdentityToken=token, **more
            )
        except ClientError as error:
            return error.response["Error"]["Code"]


def claims(issuer: FakeIssuer, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": issuer.issuer, "sub": "ada-lovelace", "aud": "gateway", "iat": now, "exp": now + 600} | more


async def role_of(gateway: RunningGateway, folder: Path, issuer: FakeIssuer) -> str:
    trust = {"webIdentity": {"discoveryUrl": issuer.discovery_url, "allowedAudience": ["gateway"]}}
    return await asyncio.to_thread(made_role, gateway, folder, trust)


@pytest.mark.parametrize("change", [{"aud": "another"}, {"exp": 1}, {"iss": "https://evil.example"}])
async def test_a_token_that_the_role_does_not_trust_is_refused(
    gateway: RunningGateway, tmp_path: Path, change: dict[str, Any]
):
    async with FakeIssuer() as issuer:
        arn = await role_of(gateway, tmp_path, issuer)
        token = issuer.keys[0].token(claims(issuer, **change))
        assert await asyncio.to_thread(answered, gateway, arn, token) == "InvalidIdentityToken"


async def test_a_role_without_web_identity_and_no_role_answer_alike(gateway: RunningGateway, tmp_path: Path):
    async with FakeIssuer() as issuer:
        arn = await asyncio.to_thread(
            made_role, gateway, tmp_path, {"principals": ["arn:aws:iam::000000000000:user/a"]}
        )
        token = issuer.keys[0].token(claims(issuer))
        said = [await asyncio.to_thread(answered, gateway, each, token) for each in (arn, f"{arn}x")]
        assert said == ["InvalidIdentityToken"] * 2


async def test_credentials_do_not_outlive_the_token(gateway: RunningGateway, tmp_path: Path):
    async with FakeIssuer() as issuer:
        arn = await role_of(gateway, tmp_path, issuer)
        ends = claims(issuer)
        given = await asyncio.to_thread(answered, gateway, arn, issuer.keys[0].token(ends), DurationSeconds=3600)
        assert given["Credentials"]["Expiration"].timestamp() <= ends["exp"]
        assert given["SubjectFromWebIdentityToken"] == "ada-lovelace"


def test_a_token_in_the_query_is_refused(gateway: RunningGateway):
    query = urllib.parse.urlencode(
        {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "WebIdentityToken": "a.b.c"}
    )
    request = urllib.request.Request(f"{gateway.url}/?{query}", data=b"", method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    with caught.value as answer:
        assert answer.code == 400
