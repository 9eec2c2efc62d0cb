"""The SDK's `requires_iam_access_token` decorator, with `AWS_ENDPOINT_URL_STS` at the gateway."""

import warnings

import jwt
import pytest

from tests.gateways import RunningGateway

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own, from the classes of its configuration
    from bedrock_agentcore.identity.auth import requires_iam_access_token


def test_the_decorator_gives_a_token_of_the_gateway(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch):
    key_id, secret = gateway.root_key
    for name, value in {
        "AWS_ENDPOINT_URL_STS": gateway.url,
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)

    @requires_iam_access_token(audience=["https://api.example"])
    def agent(*, access_token: str) -> str:
        return access_token

    claims = jwt.decode(agent(), options={"verify_signature": False})
    assert (claims["iss"], claims["aud"]) == (gateway.url, "https://api.example")
