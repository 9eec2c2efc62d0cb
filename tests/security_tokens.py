"""Roles and STS clients for tests, and a fake of AWS's own STS that verifies what it is shown."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from identity_gateway.protocol.aws.model import OUR_MODELS
from tests.gateways import ACCOUNT, REGION, RunningGateway, fresh_name

POLICY = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Action": "bedrock-agentcore:List*", "Resource": "*"},
}
AWS_KEY = ("AKIAEXAMPLEEXAMPLE12", "secret-of-an-aws-key")
AWS_ARN = "arn:aws:sts::123456789012:assumed-role/deployer/ci"


def made_role(gateway: RunningGateway, folder: Path, trust: Any, policy: Any = POLICY, **options: Any) -> str:
    """Make a role by the command line and return its ARN."""
    (folder / "policy.json").write_text(json.dumps(policy))
    (folder / "trust.json").write_text(json.dumps(trust))
    name = fresh_name("role")
    more = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    files = ["--policy", str(folder / "policy.json"), "--trust", str(folder / "trust.json")]
    done = gateway.command("role", "create", "--name", name, *files, *more)
    assert done.returncode == 0, done.stderr
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def made_key(gateway: RunningGateway, folder: Path, policy: Any) -> tuple[str, str]:
    (folder / "key.json").write_text(json.dumps(policy))
    done = gateway.command(
        "access-key", "create", "--name", fresh_name("key"), "--policy", str(folder / "key.json"), "--json"
    )
    made = json.loads(done.stdout)
    return made["accessKeyId"], made["secretAccessKey"]


@contextmanager
def sts(gateway: RunningGateway, key: tuple[str, ...] | None = None, service: str = "sts") -> Iterator[Any]:
    """Yield a boto3 client that signs with this key (id, secret and perhaps session token), or signs nothing."""
    session = boto3.session.Session()
    session._session.get_component("data_loader").search_paths.append(OUR_MODELS)
    key_id, secret, token = (*(key or (None, None)), None, None)[:3]
    client = session.client(
        service,
        endpoint_url=gateway.url,
        region_name=REGION,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, **({} if key else {"signature_version": UNSIGNED})),
    )
    yield client
    client.close()


def key_of(credentials: dict[str, Any]) -> tuple[str, str, str]:
    return credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"]


@dataclass
class FakeAwsSts:
    """Answers GetCallerIdentity to who signed with `AWS_KEY` for the server id, as AWS does. `answer` replaces that."""

    url: str = ""
    heads: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    answer: tuple[int, dict[str, str], bytes] | None = None

    def reply(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self.heads.append((path, headers))
        if self.answer is not None:
            return self.answer
        if not self._signed(path, headers):
            return 403, {"content-type": "application/json"}, b'{"Error": {"Code": "SignatureDoesNotMatch"}}'
        result = {"Account": "123456789012", "Arn": AWS_ARN, "UserId": "AROAEXAMPLE:ci"}
        said = {
            "GetCallerIdentityResponse": {"GetCallerIdentityResult": result, "ResponseMetadata": {"RequestId": "r"}}
        }
        return 200, {"content-type": "application/json"}, json.dumps(said).encode()

    def _signed(self, path: str, headers: dict[str, str]) -> bool:
        """Sign the same anew with botocore, over the host that the client meant and the headers that came."""
        query = dict(parse_qsl(urlsplit(path).query))
        region = query["X-Amz-Credential"].split("/")[2]
        kept = {name: value for name, value in query.items() if not name.startswith("X-Amz-")}
        request = AWSRequest(
            "GET", f"https://sts.{region}.amazonaws.com/?" + "&".join(f"{k}={v}" for k, v in kept.items())
        )
        for name in query["X-Amz-SignedHeaders"].split(";"):
            if name != "host":
                request.headers[name] = headers.get(name, "")
        again = SigV4QueryAuth(Credentials(*AWS_KEY), "sts", region, expires=int(query["X-Amz-Expires"]))
        request.context["timestamp"] = query["X-Amz-Date"]
        again._modify_request_before_signing(request)
        request.url = _with(request.url, "X-Amz-Date", query["X-Amz-Date"])
        signature = again.signature(again.string_to_sign(request, again.canonical_request(request)), request)
        return bool(signature == query["X-Amz-Signature"])


def _with(url: str, name: str, value: str) -> str:
    parts = [
        pair if not pair.startswith(f"{name}=") else f"{name}={value}" for pair in url.partition("?")[2].split("&")
    ]
    return url.partition("?")[0] + "?" + "&".join(parts)


@contextmanager
def fake_aws_sts() -> Iterator[FakeAwsSts]:
    fake = FakeAwsSts()

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, sent, body = fake.reply(self.path, headers)
            self.send_response(status)
            for name, value in sent.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
