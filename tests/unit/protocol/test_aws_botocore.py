"""botocore itself writes the requests and reads the responses: what went in comes out, for every operation."""

import functools
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from re import _constants as sre  # the parse tree of a pattern, to write a text that matches it
from re import _parser as sre_parser
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import (
    AWSPreparedRequest,
    AWSResponse,
    HeadersDict,
    create_request_object,
    prepare_request_dict,
)
from botocore.config import Config
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from identity_gateway import errors
from identity_gateway.protocol.aws import SERVICES, Operation, error_response
from identity_gateway.protocol.aws.model import OUR_MODELS
from tests.unit.served import AWS

MODELS = {
    service: ServiceModel(
        Loader(
            extra_search_paths=[Loader.BUILTIN_DATA_PATH, OUR_MODELS], include_default_search_paths=False
        ).load_service_model(service, "service-2"),
        service,
    )
    for service in SERVICES
}
OPERATIONS = [(service, name) for service, model in MODELS.items() for name in model.operation_names]
SERIALIZER = create_serializer("rest-json", include_validation=True)
PARSER = create_parser("rest-json")

ARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/hello-AbCdEf1234"
TOKEN = "0123456789-0123456789-0123456789-0123456789"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def read(request: AWSPreparedRequest) -> tuple[Operation, dict[str, Any]]:
    """Find the operation and parse the input of what botocore is about to send."""
    url = urlsplit(request.url)
    match = AWS.match(request.method, url.path.encode())
    headers = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in request.headers.items()
    ]
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else bytes(body)
    return match.operation, match.operation.parse_input(match.labels, url.query.encode(), headers, body)


# --- values for every shape ------------------------------------------------------------------------------------------


@functools.cache
def text_matching(pattern: str, shortest: int, longest: float) -> str:
    tree = sre_parser.parse(pattern.replace(r"\p{C}", r"\x00-\x1f"))
    for extra in (0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 64):
        for branch in range(3):
            text = "".join(_written(tree, extra, branch))
            if shortest <= len(text) <= longest and re.fullmatch(pattern.replace(r"\p{C}", r"\x00-\x1f"), text):
                return text
    raise AssertionError(f"no text found for {pattern}")


def _written(tree: Any, extra: int, branch: int) -> Iterator[str]:
    for kind, detail in tree:
        if kind is sre.LITERAL:
            yield chr(detail)
        elif kind is sre.ANY:
            yield "a"
        elif kind is sre.IN:
            yield next(c for c in "abAB01-_/:." + "".join(map(chr, range(32, 127))) if _in_class(detail, c))
        elif kind is sre.NOT_LITERAL:
            yield "a" if detail != ord("a") else "b"
        elif kind is sre.BRANCH:
            yield from _written(detail[1][branch % len(detail[1])], extra, branch)
        elif kind is sre.SUBPATTERN:
            yield from _written(detail[3], extra, branch)
        elif kind is sre.MAX_REPEAT:
            for _ in range(max(detail[0], min(int(detail[1]), detail[0] + extra))):
                yield from _written(detail[2], extra, branch)


def _in_class(items: Any, character: str) -> bool:
    found = False
    for kind, detail in items:
        if kind is sre.LITERAL:
            found |= ord(character) == detail
        elif kind is sre.RANGE:
            found |= detail[0] <= ord(character) <= detail[1]
        elif kind is sre.CATEGORY:
            classes = {sre.CATEGORY_DIGIT: r"\d", sre.CATEGORY_WORD: r"\w", sre.CATEGORY_SPACE: r"\s"}
            classes |= {sre.CATEGORY_NOT_SPACE: r"\S"}
            found |= re.fullmatch(classes[detail], character) is not None
    return found != (items[0][0] is sre.NEGATE)


class Sample:
    """A value for a shape: with required members only, or full; `variant` chooses among union members and enums."""

    def __init__(self, variant: int, *, full: bool) -> None:
        self.variant, self.full = variant, full

    def of(self, shape: Any, depth: int = 0) -> Any:
        if getattr(shape, "is_document_type", False):
            return {"any": [1, "two", {"three": True}]}
        kind = {"integer": "whole", "long": "whole", "float": "decimal", "double": "decimal"}.get(shape.type_name)
        return getattr(self, kind or shape.type_name)(shape, depth)

    def structure(self, shape: Any, depth: int) -> dict[str, Any]:
        if getattr(shape, "is_tagged_union", False):
            names = list(shape.members)
            name = names[self.variant % len(names)] if depth < 12 else names[0]
            return {name: self.of(shape.members[name], depth + 1)}
        wanted = shape.members if self.full and depth < 5 else shape.required_members
        return {name: self.of(shape.members[name], depth + 1) for name in shape.members if name in wanted}

    def list(self, shape: Any, depth: int) -> list[Any]:
        count = max(int(shape.metadata.get("min", 0)), int(depth < 12))
        return [self.of(shape.member, depth + 1) for _ in range(count)]

    def map(self, shape: Any, depth: int) -> dict[str, Any]:
        return {self.of(shape.key, depth + 1): self.of(shape.value, depth + 1)}

    def string(self, shape: Any, _depth: int) -> str:
        shortest, longest = int(shape.metadata.get("min", 0)), shape.metadata.get("max", float("inf"))
        if shape.enum:
            return shape.enum[self.variant % len(shape.enum)]
        if shape.name == "UserTokenType":
            return "eyJh.eyJz.c2ln"
        if "pattern" in shape.metadata:
            return text_matching(shape.metadata["pattern"], max(shortest, 1), longest)
        return ("né-" * shortest)[: max(shortest, 1)] or "é"

    def whole(self, shape: Any, _depth: int) -> int:
        return int(shape.metadata.get("min", 200))

    def decimal(self, shape: Any, _depth: int) -> float:
        return float(shape.metadata.get("min", 0.25))

    def boolean(self, _shape: Any, _depth: int) -> bool:
        return self.variant % 2 == 0

    def timestamp(self, _shape: Any, _depth: int) -> datetime:
        return MOMENT

    def blob(self, _shape: Any, _depth: int) -> bytes:
        return b"\x00\xffraw"


SAMPLES = [Sample(0, full=False), *(Sample(variant, full=True) for variant in range(4))]


def written_by_botocore(params: dict[str, Any], model: Any) -> AWSPreparedRequest:
    request = SERIALIZER.serialize_to_request(params, model)
    request.setdefault("context", {})
    prepare_request_dict(request, endpoint_url="http://127.0.0.1:9", context={})
    return create_request_object(request).prepare()


@pytest.mark.parametrize(("service", "name"), OPERATIONS)
def test_every_operation_reads_the_very_input_that_botocore_wrote(service: str, name: str):
    model = MODELS[service].operation_model(name)
    for sample in SAMPLES:
        params = sample.of(model.input_shape)
        operation, taken = read(written_by_botocore(params, model))
        if service == "bedrock-agentcore" and "contentType" in model.input_shape.members:
            params = {"contentType": taken.get("contentType")} | params  # botocore names the type of a JSON payload
            params = {key: value for key, value in params.items() if value is not None}
        assert (operation.name, operation.service, taken) == (name, service, params)


@pytest.mark.parametrize(("service", "name"), OPERATIONS)
def test_every_operation_writes_an_output_that_botocore_reads_unchanged(service: str, name: str):
    model = MODELS[service].operation_model(name)
    if model.has_event_stream_output:
        with pytest.raises(TypeError, match="event stream"):
            AWS.operations[name].serialise_output({})
        return
    for sample in SAMPLES:
        output = sample.of(model.output_shape)
        status, headers, body = AWS.operations[name].serialise_output(output)
        response = {
            "status_code": status,
            "headers": HeadersDict({key.decode(): value.decode() for key, value in headers}),
            "body": io.BytesIO(body) if model.has_streaming_output else body,
        }
        parsed = PARSER.parse(response, model.output_shape)
        del parsed["ResponseMetadata"]
        if model.has_streaming_output:
            parsed["response"] = parsed["response"].read()
        always = {
            key: parsed[key] for key in ("statusCode", "response") if key in parsed
        }  # HTTP has them, given or not
        assert (status, parsed) == (model.http["responseCode"], always | output)


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_agrees_with_botocore_on_its_facts(service: str):
    ours, theirs = {}, {}
    for name in MODELS[service].operation_names:
        model, operation = MODELS[service].operation_model(name), AWS.operations[name]
        errors_of_model = {shape.error_code for shape in model.error_shapes}
        ours[name] = (operation.success_status, operation.errors, [operation.idempotency_token])
        theirs[name] = (model.http["responseCode"], errors_of_model, model.idempotent_members or [None])
    assert ours == theirs


@pytest.mark.parametrize("service", SERVICES)
def test_error_statuses_agree_with_botocore(service: str):
    statuses = {shape.error_code: shape.metadata["error"]["httpStatusCode"] for shape in MODELS[service].error_shapes}
    assert statuses.items() <= AWS.error_statuses.items()


# --- the client, as people use it ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    settings = {"region_name": "us-east-1", "aws_access_key_id": "AKID", "aws_secret_access_key": "s"}
    config = Config(retries={"total_max_attempts": 1})
    session = boto3.Session()
    session._loader.search_paths.append(OUR_MODELS)  # what AWS_DATA_PATH does for a whole process
    made = {
        service: session.client(service, endpoint_url="http://127.0.0.1:9", config=config, **settings)
        for service in SERVICES
    }
    return {name: made[service] for service, name in OPERATIONS}


def call(client: Any, name: str, params: dict[str, Any], answer: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Call the operation of a real client whose requests end here; return what was read and what it returned."""
    seen: list[dict[str, Any]] = []

    def before_send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        operation, taken = read(request)
        assert operation.name == name
        seen.append(taken)
        status, headers, body = operation.serialise_output(answer)
        response = AWSResponse(request.url, status, {key.decode(): value.decode() for key, value in headers}, None)
        response._content = body
        return response

    client.meta.events.register("before-send", before_send, unique_id=name)
    try:
        method = next(py for py, api in client.meta.method_to_api_mapping.items() if api == name)
        returned = getattr(client, method)(**params)
    finally:
        client.meta.events.unregister("before-send", unique_id=name)
    returned.pop("ResponseMetadata")
    return seen[0], returned


RUNTIME = {
    "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": "http://127.0.0.1:9000"}},
    "roleArn": "arn:aws:iam::000000000000:role/agent",
    "networkConfiguration": {"networkMode": "PUBLIC"},
    "authorizerConfiguration": {
        "customJWTAuthorizer": {
            "discoveryUrl": "https://issuer.example.com/.well-known/openid-configuration",
            "allowedAudience": ["api://agent"],
            "customClaims": [
                {
                    "inboundTokenClaimName": "groups",
                    "inboundTokenClaimValueType": "STRING_ARRAY",
                    "authorizingClaimMatchValue": {
                        "claimMatchValue": {"matchValueStringList": ["a", "b"]},
                        "claimMatchOperator": "CONTAINS_ANY",
                    },
                }
            ],
        }
    },
    "protocolConfiguration": {"serverProtocol": "MCP"},
    "lifecycleConfiguration": {"idleRuntimeSessionTimeout": 900, "maxLifetime": 3600},
    "environmentVariables": {"GREETING": "hällo"},
    "clientToken": TOKEN,
}
CREATED = {
    "agentRuntimeArn": ARN,
    "agentRuntimeId": "hello-AbCdEf1234",
    "agentRuntimeVersion": "1",
    "createdAt": MOMENT,
    "status": "CREATING",
}
ID = {"agentRuntimeId": "hello-AbCdEf1234"}
ENDPOINT = ID | {"endpointName": "prod"}
IDENTITY = {"name": "agent", "workloadIdentityArn": "arn:aws:bedrock-agentcore:us-east-1:000000000000:x/agent"}
ACCESS = {"workloadAccessToken": "sealed+/="}
CALLS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("CreateAgentRuntime", RUNTIME | {"agentRuntimeName": "hello", "tags": {"team": "a b+c/="}}, CREATED),
    ("GetAgentRuntime", ID | {"agentRuntimeVersion": "2"}, CREATED | {"description": "né"}),
    ("UpdateAgentRuntime", RUNTIME | ID, CREATED | {"lastUpdatedAt": MOMENT}),
    ("DeleteAgentRuntime", ID | {"clientToken": TOKEN}, {"status": "DELETING"} | ID),
    ("ListAgentRuntimes", {"maxResults": 10, "nextToken": "a+b/=%&?#é"}, {"agentRuntimes": [], "nextToken": "n"}),
    ("ListAgentRuntimeVersions", ID | {"maxResults": 1}, {"agentRuntimes": []}),
    ("CreateAgentRuntimeEndpoint", ID | {"name": "prod", "clientToken": TOKEN}, {"targetVersion": "1"}),
    ("GetAgentRuntimeEndpoint", ENDPOINT, {"name": "prod", "createdAt": MOMENT}),
    ("UpdateAgentRuntimeEndpoint", ENDPOINT | {"agentRuntimeVersion": "2", "clientToken": TOKEN}, {"liveVersion": "1"}),
    ("DeleteAgentRuntimeEndpoint", ENDPOINT | {"clientToken": TOKEN}, {"status": "DELETING"}),
    ("ListAgentRuntimeEndpoints", ID, {"runtimeEndpoints": []}),
    ("CreateWorkloadIdentity", {"name": "agent", "allowedResourceOauth2ReturnUrls": ["https://a/cb?x=1"]}, IDENTITY),
    ("GetWorkloadIdentity", {"name": "agent"}, IDENTITY | {"createdTime": MOMENT, "lastUpdatedTime": MOMENT}),
    ("UpdateWorkloadIdentity", {"name": "agent", "allowedResourceOauth2ReturnUrls": []}, IDENTITY),
    ("DeleteWorkloadIdentity", {"name": "agent"}, {}),
    ("ListWorkloadIdentities", {"maxResults": 20}, {"workloadIdentities": [IDENTITY]}),
    ("TagResource", {"resourceArn": ARN, "tags": {"k": ""}}, {}),
    ("UntagResource", {"resourceArn": ARN, "tagKeys": ["a", "b c", "d+e/=@"]}, {}),
    ("ListTagsForResource", {"resourceArn": ARN}, {"tags": {"k": "v"}}),
    ("GetWorkloadAccessToken", {"workloadName": "agent"}, ACCESS),
    ("GetWorkloadAccessTokenForJWT", {"workloadName": "agent", "userToken": "eyJh.eyJz.c2ln"}, ACCESS),
    ("GetWorkloadAccessTokenForUserId", {"workloadName": "agent", "userId": "alice@example.com"}, ACCESS),
]


@pytest.mark.parametrize(("name", "params", "answer"), CALLS, ids=[name for name, _, _ in CALLS])
def test_a_real_client_and_the_gateway_understand_each_other(clients, name: str, params: dict, answer: dict):
    assert call(clients[name], name, params, answer) == (params, answer)


def test_a_real_client_invokes_an_agent_with_everything_it_can_say(clients):
    params = {
        "agentRuntimeArn": ARN,
        "qualifier": "DEFAULT",
        "accountId": "000000000000",
        "runtimeSessionId": TOKEN,
        "runtimeUserId": "üser@example.com",
        "contentType": "application/json",
        "accept": "text/event-stream",
        "traceParent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "baggage": "a=1,b=2",
        "mcpSessionId": "session",
        "payload": b'{"prompt": "\x00\xff"}',
    }
    answer = {"contentType": "text/plain", "runtimeSessionId": TOKEN, "statusCode": 200, "response": b"data: hi\n\n"}
    taken, returned = call(clients["InvokeAgentRuntime"], "InvokeAgentRuntime", params, answer)
    del returned["response"]
    assert (taken, returned) == (params, {key: answer[key] for key in answer if key != "response"})


def test_a_real_client_raises_the_modelled_exception_with_its_fields(clients):
    client = clients["CreateAgentRuntime"]
    error = errors.ValidationFailed("1 validation error detected", fields=(errors.FieldError("a.b", "bad"),))

    def before_send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        status, headers, body = error_response(error, "request-1")
        response = AWSResponse(request.url, status, {key.decode(): value.decode() for key, value in headers}, None)
        response._content = body
        return response

    client.meta.events.register("before-send", before_send, unique_id="error")
    try:
        with pytest.raises(client.exceptions.ValidationException) as caught:
            client.list_agent_runtimes()
    finally:
        client.meta.events.unregister("before-send", unique_id="error")
    response = caught.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["RequestId"]) == (
        "ValidationException",
        "request-1",
    )
    assert (response["reason"], response["fieldList"]) == ("FieldValidationFailed", [{"name": "a.b", "message": "bad"}])
