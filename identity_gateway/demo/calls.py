"""The calls of the demo, as its users make them: boto3 for what is signed, plain HTTP for what carries a JWT."""

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import boto3
import httpx2
import jwt
from authlib.integrations.httpx_client import OAuth2Client
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa

from identity_gateway.demo.issuer import AUDIENCE, CLIENT_ID

Step = Callable[[], Iterator[str]]

REGION = "us-east-1"
_ROLE = "arn:aws:iam::000000000000:role/not-used-by-this-gateway"
_SNIPPET = (
    "import boto3, json, os; "
    "r = boto3.client('bedrock-agentcore').invoke_agent_runtime("
    "agentRuntimeArn=os.environ['SIGNED_AGENT'], runtimeUserId='ada', payload=json.dumps({'prompt': 'boto3'})); "
    "print(r['response'].read().decode())"
)


@dataclass
class Calls:
    """What the demo calls, with which credentials."""

    gateway: str
    agent: str
    issuer: str
    access_key: dict[str, str]
    client_secret: str
    signed_agent: str = ""
    bearer_agent: str = ""

    @classmethod
    def prepare(cls, gateway: str, agent: str, issuer: str, data_dir: Path, client_secret: str) -> Self:
        """Read the root access key that the gateway made at its first start."""
        return cls(gateway, agent, issuer, json.loads((data_dir / "root-access-key.json").read_text()), client_secret)

    def steps(self) -> list[tuple[str, Step]]:
        """Return the steps in their order; each yields lines to show and raises if it does not hold."""
        return [
            ("Register the agent twice with unmodified boto3: once for SigV4, once for JWTs", self.register),
            ("Call it with boto3, signed", self.call_signed),
            ("Call it with a JWT and read the stream as it comes", self.call_streamed),
            ("Show a forged token: refused", self.show_forged_token),
            ("Sign with a wrong secret: refused", self.sign_with_wrong_secret),
        ]

    def register(self) -> Iterator[str]:
        """Register the two agent runtimes."""
        control = self.client("bedrock-agentcore-control")
        authorizer = {
            "customJWTAuthorizer": {
                "discoveryUrl": f"{self.issuer}/.well-known/openid-configuration",
                "allowedAudience": [AUDIENCE],
                "allowedClients": [CLIENT_ID],
            }
        }
        for name, extra in (("signed_agent", {}), ("bearer_agent", {"authorizerConfiguration": authorizer})):
            made = control.create_agent_runtime(
                agentRuntimeName=name,
                agentRuntimeArtifact={"containerConfiguration": {"containerUri": self.agent}},
                roleArn=_ROLE,
                networkConfiguration={"networkMode": "PUBLIC"},
                **extra,
            )
            setattr(self, name, made["agentRuntimeArn"])
            yield f"{made['agentRuntimeArn']} is {made['status']}"

    def call_signed(self) -> Iterator[str]:
        """Invoke with SigV4 for a named user."""
        response = self.client("bedrock-agentcore").invoke_agent_runtime(
            agentRuntimeArn=self.signed_agent, runtimeUserId="ada", payload=json.dumps({"prompt": "boto3"})
        )
        said = json.loads(response["response"].read())
        _require(said["answer"] == "Hello, boto3!", "the agent answers")
        _require(said["session"] == response["runtimeSessionId"], "the session id is the same on both sides")
        _require(said["workloadAccessToken"].startswith("received"), "the agent got a workload access token")
        yield f"the agent says {json.dumps(said)}"

    def call_streamed(self) -> Iterator[str]:
        """Invoke with a JWT and see that the first event is here before the last is made."""
        arrivals = []
        with httpx2.stream(
            "POST",
            self._url(self.bearer_agent),
            headers={"authorization": f"Bearer {self._token()}"},
            json={"stream": True},
            trust_env=False,
        ) as response:
            _require(response.status_code == 200, f"the gateway answers 200, not {response.status_code}")
            for line in response.iter_lines():
                if line.startswith("data: "):
                    arrivals.append(time.monotonic())
                    yield f"{arrivals[-1] - arrivals[0]:4.1f} s  {line}"
        _require(len(arrivals) == 3, "all three events arrive")
        _require(arrivals[-1] - arrivals[0] > 0.3, "events arrive one by one, not all at the end")

    def show_forged_token(self) -> Iterator[str]:
        """Show a token with the right claims and the right key id, signed with somebody else's key."""
        real = self._token()
        forged = jwt.encode(
            jwt.decode(real, options={"verify_signature": False}),
            rsa.generate_private_key(public_exponent=65537, key_size=2048),
            algorithm="RS256",
            headers=jwt.get_unverified_header(real),
        )
        response = httpx2.post(
            self._url(self.bearer_agent), headers={"authorization": f"Bearer {forged}"}, json={}, trust_env=False
        )
        _require(response.status_code == 401, f"the gateway answers 401, not {response.status_code}")
        _require("resource_metadata=" in response.headers["www-authenticate"], "the answer says where to get a token")
        yield f"{response.status_code} {response.json()['message']}"

    def sign_with_wrong_secret(self) -> Iterator[str]:
        """Sign with the right access key id and a wrong secret."""
        try:
            self.client("bedrock-agentcore", secret="not-the-secret").invoke_agent_runtime(  # noqa: S106
                agentRuntimeArn=self.signed_agent, payload=b"{}"
            )
        except ClientError as error:
            _require(error.response["Error"]["Code"] == "InvalidSignatureException", "boto3 sees a signature error")
            yield str(error)
            return
        _require(held=False, what="a wrong secret is refused")

    def write_environment(self, path: Path) -> Path:
        """Write what a shell needs to repeat the calls; only its owner may read it."""
        variables = {
            "AWS_ACCESS_KEY_ID": self.access_key["accessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self.access_key["secretAccessKey"],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": self.gateway,
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": self.gateway,
            "DEMO_CLIENT": f"{CLIENT_ID}:{self.client_secret}",
        }
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.writelines(lines)
        return path

    def commands(self) -> dict[str, str]:
        """Return shell commands that repeat the steps, once the environment was read."""
        body = shlex.quote(json.dumps({"stream": True}))
        call = f"curl -sN -X POST '{self._url(self.bearer_agent)}' -H 'content-type: application/json' -d {body}"
        return {
            "signed": f"SIGNED_AGENT={self.signed_agent} .venv/bin/python -c {shlex.quote(_SNIPPET)}",
            "token": f'TOKEN=$(curl -s -u "$DEMO_CLIENT" -d grant_type=client_credentials {self.issuer}/token'
            """ | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/')""",
            "streamed": f'{call} -H "authorization: Bearer $TOKEN"',
            "forged": f'{call} -i -H "authorization: Bearer ${{TOKEN%????????}}AAAAAAAA"',
        }

    def _url(self, arn: str) -> str:
        return f"{self.gateway}/runtimes/{quote(arn, safe='')}/invocations?qualifier=DEFAULT"

    def _token(self) -> str:
        with OAuth2Client(CLIENT_ID, self.client_secret, trust_env=False) as client:
            token: str = client.fetch_token(f"{self.issuer}/token", grant_type="client_credentials")["access_token"]
            return token

    def client(self, service: str, *, secret: str | None = None, patience: int = 60) -> Any:
        """Return an unmodified boto3 client; `patience` is how long it waits for an answer, in seconds."""
        return boto3.client(
            service,
            endpoint_url=self.gateway,
            region_name=REGION,
            aws_access_key_id=self.access_key["accessKeyId"],
            aws_secret_access_key=secret or self.access_key["secretAccessKey"],
            config=Config(retries={"total_max_attempts": 1}, read_timeout=patience),
        )


def _require(held: bool, what: str) -> None:
    if not held:
        message = f"expected that {what}"
        raise RuntimeError(message)
