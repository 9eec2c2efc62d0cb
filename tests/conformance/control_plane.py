"""What tests of the AWS control plane share: calls, refusals, requests below boto3, and botocore's model as a judge.

Both gateways (SQLite and PostgreSQL) are fixtures of `conftest`. This module asserts nothing by itself.
"""

import contextlib
import functools
import http.client
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

from identity_gateway.protocol.request import Request
from tests.fakes import sigv4_client
from tests.gateways import ROLE, RunningGateway, fresh_name

CONTROL, DATA = "bedrock-agentcore-control", "bedrock-agentcore"
NOBODY = "http://127.0.0.1:9/agent"
"""The URL of an agent that no test calls."""

DISCOVERY_URL = "https://issuer.example/.well-known/openid-configuration"
JWT_AUTHORIZER = {"customJWTAuthorizer": {"discoveryUrl": DISCOVERY_URL, "allowedAudience": ["agents"]}}

Call = Callable[..., dict[str, Any]]


@functools.cache
def model(service: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


# --- Calls ------------------------------------------------------------------------------------------------------------


def configuration(**changes: Any) -> dict[str, Any]:
    """Return what UpdateAgentRuntime takes beside the id. A change to None leaves a member out."""
    whole = {
        "agentRuntimeArtifact": container(NOBODY),
        "roleArn": ROLE,
        "networkConfiguration": {"networkMode": "PUBLIC"},
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def creation(**changes: Any) -> dict[str, Any]:
    """Return what CreateAgentRuntime takes, with a name of its own."""
    return configuration(**({"agentRuntimeName": fresh_name()} | changes))


def container(url: str) -> dict[str, Any]:
    return {"containerConfiguration": {"containerUri": url}}


def create(control: Any, **changes: Any) -> dict[str, Any]:
    """Create an agent runtime and return the answer."""
    made: dict[str, Any] = control.create_agent_runtime(**creation(**changes))
    return made


def new_version(control: Any, made: dict[str, Any], **changes: Any) -> str:
    """Update the runtime and return the version that this cut."""
    updated = control.update_agent_runtime(agentRuntimeId=made["agentRuntimeId"], **configuration(**changes))
    return str(updated["agentRuntimeVersion"])


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without what boto3 says about its transport."""
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def invoke(data: Any, made: dict[str, Any], **more: Any) -> bytes:
    """Invoke the runtime and return the whole body that its agent answered."""
    answer = data.invoke_agent_runtime(agentRuntimeArn=made["agentRuntimeArn"], **({"payload": b"{}"} | more))
    with answer["response"] as stream:
        return bytes(stream.read())


def status(answer: dict[str, Any]) -> int:
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


# --- Refusals ---------------------------------------------------------------------------------------------------------


def refusal(call: Call, **asked: Any) -> dict[str, Any]:
    """Return the error response of a call that must be refused."""
    with pytest.raises(ClientError) as caught:
        call(**asked)
    response: dict[str, Any] = caught.value.response
    return response


def refused(call: Call, **asked: Any) -> tuple[int, str]:
    """Return status and code of a call that must be refused."""
    response = refusal(call, **asked)
    return status(response), response["Error"]["Code"]


def outcomes(call: Callable[[int], Any], *, times: int) -> list[Any]:
    """Call so many times at once; return what each gave: an answer, or the code of its refusal."""
    together = Barrier(times)

    def one(number: int) -> Any:
        together.wait(30)
        try:
            return call(number)
        except ClientError as error:
            return error.response["Error"]["Code"]

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


# --- botocore's model as a judge of answers ---------------------------------------------------------------------------


def faults(service: str, operation: str, answer: dict[str, Any]) -> list[str]:
    """Return where an answer departs from the output that the model promises."""
    output = model(service).operation_model(operation).output_shape
    return [] if output is None else list(_faults(output, shown(answer), operation))


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    kind, traits = shape.type_name, shape.metadata
    if kind == "structure":
        yield from (f"{path}.{name} is missing" for name in traits.get("required", ()) if name not in value)
        for name, member in shape.members.items():
            if name in value:
                yield from _faults(member, value[name], f"{path}.{name}")
    elif kind == "list":
        for place, each in enumerate(value):
            yield from _faults(shape.member, each, f"{path}[{place}]")
    elif kind == "timestamp":
        if not isinstance(value, datetime) or value.utcoffset() is None:
            yield f"{path} is not a time with a zone"
    elif kind == "string":
        if "pattern" in traits and not re.fullmatch(traits["pattern"], value) and not value.startswith("http"):
            yield f"{path} does not match {traits['pattern']}"
        if "enum" in traits and value not in traits["enum"]:
            yield f"{path} is none of {traits['enum']}"
        # Lists promise a description even of what was never given one: it is empty.
        if value and not traits.get("min", 0) <= len(value) <= traits.get("max", len(value)):
            yield f"{path} has {len(value)} characters"


# --- Below boto3 ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """An answer as it stood on the wire. Header names are lower-case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    @property
    def error(self) -> tuple[int, str | None]:
        return self.status, self.header("x-amzn-errortype")


def sign(gateway: RunningGateway, method: str, path: str, body: bytes = b"", **changes: Any) -> Request:
    """Return a request signed now with the root key; `changes` as in `sigv4_client.signed`."""
    key_id, secret = gateway.root_key
    given = {"key_id": key_id, "secret": secret, "at": datetime.now(UTC)} | changes
    return sigv4_client.signed(method, gateway.url + path, given.pop("headers", None), body, **given)


def send(gateway: RunningGateway, request: Request, body: bytes = b"") -> Answer:
    """Put exactly these headers on the wire (and the length of the body), and return the answer."""
    target = request.raw_path + (b"?" + request.raw_query if request.raw_query else b"")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)) as connection:
        connection.putrequest(request.method, target.decode(), skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name.decode(), value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        return Answer(
            response.status, tuple((name.lower(), value) for name, value in response.getheaders()), response.read()
        )
