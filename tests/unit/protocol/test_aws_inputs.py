"""Requests become checked inputs, and what is wrong with them is said without repeating it."""

import json
from datetime import UTC, datetime

import pytest

from identity_gateway import errors
from identity_gateway.protocol.aws import RELAXATIONS, load_services
from identity_gateway.protocol.aws.bodies import MAX_DEPTH
from identity_gateway.protocol.aws.model import PATTERNED_LENGTH, Member, Shape, link_shapes
from identity_gateway.protocol.aws.rest_json import RestJson
from identity_gateway.protocol.aws.values import MAX_ERRORS
from tests.unit.served import AWS

RUNTIME = {
    "agentRuntimeName": "hello",
    "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": "http://127.0.0.1:9000"}},
    "roleArn": "arn:aws:iam::000000000000:role/agent",
    "networkConfiguration": {"networkMode": "PUBLIC"},
}
RUNTIME_ARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/hello-AbCdEf1234"


def parse(name: str, *, labels=None, query: bytes = b"", headers=(), body: bytes | dict = b""):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return AWS.operations[name].parse_input(labels or {}, query, headers, raw)


def refusal(name: str, **request) -> errors.ValidationFailed:
    with pytest.raises(errors.ValidationFailed) as caught:
        parse(name, **request)
    return caught.value


def problems(name: str, **request) -> list[tuple[str, str]]:
    return [(field.name, field.message) for field in refusal(name, **request).fields]


def one(traits: dict, value: object) -> object:
    """Read one member of this shape from a JSON body."""
    raw = {"In": {"type": "structure", "members": {"m": {"shape": "M"}}}, "M": traits, "S": {"type": "string"}}
    return RestJson(link_shapes(raw)["In"], Shape("Unit", "structure"), 200).parse(
        {}, b"", (), json.dumps({"m": value}).encode()
    )["m"]


# --- the body --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{}{}",
        b" ",
        b"\xef\xbb\xbf{}",
        '{"name":"é"}'.encode("latin-1"),
        '{"name":"hello"}'.encode("utf-16"),
        b'{"name":NaN}',
        b'{"name":-Infinity}',
        b'{"name":1e999}',
        b'{"name":' + b"9" * 5000 + b"}",
        b'{"name":"a\x00b"}',
        b'{"name":"abc","name":"abc"}',
        b'{"name":"abc","tags":{"k":"1","k":"2"}}',
        b'{"name":"abc","unknown":{"k":1,"k":2}}',
        b'{"name":"\\ud800abc"}',
        b'{"name":"abc","unknown":["\\udfff"]}',
        b'{"name":"abc","tags":{"\\u0000":"v"}}',
        b'{"name":"a\\u0000c"}',
        b'{"unknown":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"unknown":' + b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"}",
        b'{"unknown":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b"[" * 200_000,
    ],
    ids=range(27),
)
def test_a_body_that_is_not_one_strict_json_object_cannot_be_parsed(body: bytes):
    assert refusal("CreateWorkloadIdentity", body=body).kind == "CannotParse"


@pytest.mark.parametrize("name", ["\U0001f600 pair", "back\\u0000slash", "back\\ud800slash"])
def test_text_that_only_looks_unsound_is_read(name: str):
    assert parse("CreateApiKeyCredentialProvider", body={"name": "n", "apiKey": name})["apiKey"] == name


def test_as_many_levels_as_allowed_are_read():
    body = b'{"name":"abc","unknown":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert parse("CreateWorkloadIdentity", body=body) == {"name": "abc"}


def test_an_empty_body_is_an_empty_object():
    assert problems("CreateWorkloadIdentity") == [("name", "Member must not be null")]


def test_an_unknown_member_is_ignored_and_null_is_absent():
    body = {"name": "abc", "tags": None, "somethingNew": {"a": 1}}
    assert parse("CreateWorkloadIdentity", body=body) == {"name": "abc"}


def test_a_body_that_the_operation_has_no_use_for_is_ignored():
    assert parse("ListAgentRuntimes", body=b"not json") == {}


def test_a_member_with_another_name_on_the_wire_keeps_its_name_in_the_model():
    raw = {
        "In": {"type": "structure", "members": {"modelName": {"shape": "S", "locationName": "default"}}},
        "S": {"type": "string"},
    }
    wire = RestJson(link_shapes(raw)["In"], link_shapes(raw)["In"], 200)
    assert wire.parse({}, b"", (), wire.serialise({"modelName": "x"})[2]) == {"modelName": "x"}


# --- constraints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "path", "problem"),
    [
        ({"agentRuntimeName": None}, "agentRuntimeName", "must not be null"),
        ({"agentRuntimeName": 7}, "agentRuntimeName", "must be a string"),
        (
            {"agentRuntimeName": "bad-name"},
            "agentRuntimeName",
            "regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,47}",
        ),
        ({"agentRuntimeName": "hello\n"}, "agentRuntimeName", "regular expression pattern"),
        ({"description": ""}, "description", "length greater than or equal to 1"),
        ({"description": "x" * 5000}, "description", "length less than or equal to 4096"),
        ({"clientToken": "short"}, "clientToken", "length greater than or equal to 33"),
        ({"networkConfiguration": {"networkMode": "MOON"}}, "networkConfiguration.networkMode", "[PUBLIC, VPC]"),
        ({"networkConfiguration": []}, "networkConfiguration", "must be an object"),
        ({"agentRuntimeArtifact": {}}, "agentRuntimeArtifact", "exactly one of"),
        ({"agentRuntimeArtifact": {"future": {}}}, "agentRuntimeArtifact", "exactly one of"),
        (
            {"agentRuntimeArtifact": {"containerConfiguration": {}}},
            "agentRuntimeArtifact.containerConfiguration.containerUri",
            "must not be null",
        ),
        ({"lifecycleConfiguration": {"maxLifetime": 1}}, "lifecycleConfiguration.maxLifetime", "value greater than"),
        ({"lifecycleConfiguration": {"maxLifetime": 10**9}}, "lifecycleConfiguration.maxLifetime", "value less than"),
        ({"lifecycleConfiguration": {"maxLifetime": 2**31}}, "lifecycleConfiguration.maxLifetime", "be an integer"),
        ({"lifecycleConfiguration": {"maxLifetime": 900.0}}, "lifecycleConfiguration.maxLifetime", "be an integer"),
        ({"lifecycleConfiguration": {"maxLifetime": True}}, "lifecycleConfiguration.maxLifetime", "be an integer"),
        ({"lifecycleConfiguration": {"maxLifetime": "900"}}, "lifecycleConfiguration.maxLifetime", "be an integer"),
        ({"tags": {f"k{n}": "v" for n in range(51)}}, "tags", "length less than or equal to 50"),
        ({"tags": {"ok": "v", "no!": "v"}}, "tags[1].key", "regular expression pattern"),
        ({"tags": {"ok": None}}, "tags[0].value", "must not be null"),
        ({"tags": {"ok": 1}}, "tags[0].value", "must be a string"),
        ({"tags": []}, "tags", "must be a map"),
        (
            {"requestHeaderConfiguration": {"requestHeaderAllowlist": []}},
            "requestHeaderConfiguration.requestHeaderAllowlist",
            "length greater than or equal to 1",
        ),
        (
            {"requestHeaderConfiguration": {"requestHeaderAllowlist": {}}},
            "requestHeaderConfiguration.requestHeaderAllowlist",
            "must be a list",
        ),
        (
            {"requestHeaderConfiguration": {"requestHeaderAllowlist": ["X-A", None]}},
            "requestHeaderConfiguration.requestHeaderAllowlist[1]",
            "must not be null",
        ),
        (
            {"authorizerConfiguration": {"customJWTAuthorizer": {"discoveryUrl": "https://issuer/"}}},
            "authorizerConfiguration.customJWTAuthorizer.discoveryUrl",
            "regular expression pattern",
        ),
        (
            {"authorizerConfiguration": {"customJWTAuthorizer": {"discoveryUrl": "x" * (PATTERNED_LENGTH + 1)}}},
            "authorizerConfiguration.customJWTAuthorizer.discoveryUrl",
            f"length less than or equal to {PATTERNED_LENGTH}",
        ),
    ],
)
def test_a_member_that_breaks_the_model_is_named_with_its_path(change: dict, path: str, problem: str):
    ((found_path, found_problem),) = problems("CreateAgentRuntime", body=RUNTIME | change)
    assert (found_path, problem in found_problem) == (path, True)


def test_a_union_with_two_members_is_refused():
    artifact = RUNTIME["agentRuntimeArtifact"] | {
        "codeConfiguration": {
            "code": {"s3": {"bucket": "bucket", "prefix": "p"}},
            "runtime": "PYTHON_3_12",
            "entryPoint": ["main.py"],
        }
    }
    found = problems("CreateAgentRuntime", body=RUNTIME | {"agentRuntimeArtifact": artifact})
    assert found == [
        ("agentRuntimeArtifact", "Member must have exactly one of: containerConfiguration, codeConfiguration")
    ]


def test_all_failures_are_told_together():
    error = refusal("CreateAgentRuntime", body=RUNTIME | {"agentRuntimeName": "1", "roleArn": "x"})
    assert (str(error).startswith("2 validation errors detected: "), [field.name for field in error.fields]) == (
        True,
        ["agentRuntimeName", "roleArn"],
    )


def test_a_report_of_failures_is_bounded():
    body = {"authorizerConfiguration": {"customJWTAuthorizer": {"allowedScopes": ['"'] * 1000}}}
    assert len(problems("CreateAgentRuntime", body=RUNTIME | body)) == MAX_ERRORS


def test_a_value_that_failed_is_never_repeated():
    secret = "s3cret-value!"
    body = {
        "agentRuntimeName": secret,
        "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": secret}},
        "roleArn": secret,
        "networkConfiguration": {"networkMode": secret},
        "environmentVariables": {secret: 1},
        "lifecycleConfiguration": {"maxLifetime": secret},
        "tags": {secret: secret},
        "protocolConfiguration": secret,
    }
    error = refusal("CreateAgentRuntime", body=body)
    assert len(error.fields) == 9
    assert secret not in f"{error} {error.reason} {error.fields}"


def test_a_broken_body_is_not_repeated():
    error = refusal("CreateApiKeyCredentialProvider", body=b'{"apiKey": "s3cret-value" oops')
    assert "s3cret" not in f"{error} {error.reason} {error.fields}"


def test_a_long_hostile_user_token_is_refused_without_trying_every_way_to_split_it():
    body = {"workloadName": "agent", "userToken": "a" * 131_071 + "!"}
    assert [path for path, _ in problems("GetWorkloadAccessTokenForJWT", body=body)] == ["userToken"]


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("traits", "value"),
    [
        ({"type": "long"}, 2**63),
        ({"type": "integer"}, -(2**31) - 1),
        ({"type": "long"}, 1.5),
        ({"type": "double"}, "1.5"),
        ({"type": "double"}, True),
        ({"type": "double"}, 10**4000),
        ({"type": "float", "max": 1}, 1.5),
        ({"type": "boolean"}, "true"),
        ({"type": "boolean"}, 1),
        ({"type": "timestamp"}, "2026-01-01T00:00:00Z"),
        ({"type": "timestamp"}, True),
        ({"type": "timestamp"}, 1e300),
        ({"type": "timestamp", "timestampFormat": "iso8601"}, 0),
        ({"type": "timestamp", "timestampFormat": "iso8601"}, "2026-01-01T00:00:00"),
        ({"type": "timestamp", "timestampFormat": "iso8601"}, "2026-01-01"),
        ({"type": "timestamp", "timestampFormat": "iso8601"}, "2026-13-01T00:00:00Z"),
        ({"type": "timestamp", "timestampFormat": "iso8601"}, "0001-01-01T00:00:00+23:59"),
        ({"type": "timestamp", "timestampFormat": "rfc822"}, "yesterday GMT"),
        ({"type": "timestamp", "timestampFormat": "rfc822"}, 5),
        ({"type": "blob"}, "not base64"),
        ({"type": "blob"}, "YQ"),
        ({"type": "blob"}, "é==="),
        ({"type": "blob"}, 1),
        ({"type": "blob", "max": 1}, "YWJj"),
        ({"type": "list", "member": {"shape": "S"}}, ["a", 1]),
        ({"type": "map", "key": {"shape": "S"}, "value": {"shape": "S"}}, {"a": []}),
    ],
)
def test_a_value_of_another_type_is_refused(traits: dict, value: object):
    with pytest.raises(errors.ValidationFailed):
        one(traits, value)


@pytest.mark.parametrize(
    ("traits", "value", "read"),
    [
        ({"type": "long"}, 1 - 2**63, 1 - 2**63),
        ({"type": "double"}, 2, 2.0),
        ({"type": "boolean"}, False, False),
        ({"type": "timestamp"}, 0.5, datetime(1970, 1, 1, 0, 0, 0, 500_000, UTC)),
        (
            {"type": "timestamp", "timestampFormat": "iso8601"},
            "2026-01-01T02:00:00.25+02:00",
            datetime(2026, 1, 1, 0, 0, 0, 250_000, UTC),
        ),
        (
            {"type": "timestamp", "timestampFormat": "rfc822"},
            "Thu, 01 Jan 2026 00:00:00 GMT",
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        ({"type": "blob"}, "AP8=", b"\x00\xff"),
        ({"type": "list", "member": {"shape": "S"}}, ["a"], ["a"]),
        ({"type": "structure", "document": True, "members": {}}, [1, {"a": None}], [1, {"a": None}]),
    ],
)
def test_a_value_becomes_what_its_type_says(traits: dict, value: object, read: object):
    assert one(traits, value) == read


@pytest.mark.parametrize(("text", "fits"), [("\U0001f600", True), ("ab", False)])
def test_a_length_counts_code_points(text: str, fits: bool):
    try:
        one({"type": "string", "max": 1}, text)
        accepted = True
    except errors.ValidationFailed:
        accepted = False
    assert accepted is fits


# --- query, headers, labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [b"nextToken=%", b"nextToken=%zz", b"nextToken=%ff", b"%2=x", b"a=%00", b"\xff=a"])
def test_a_query_that_cannot_be_decoded_is_refused(query: bytes):
    assert refusal("ListAgentRuntimes", query=query).kind == "CannotParse"


@pytest.mark.parametrize("query", [b"maxResults=1&maxResults=1", b"maxResults=1&max%52esults=2"])
def test_a_repeated_query_parameter_of_one_value_is_refused(query: bytes):
    assert problems("ListAgentRuntimes", query=query) == [("maxResults", "Member must be given once")]


@pytest.mark.parametrize("value", [b"", b"ten", b"1.0", b"+1", b"01", b"0x1", b"1e1", b"%D9%A3", b"101", b"0"])
def test_a_page_size_that_is_not_a_number_in_range_is_refused(value: bytes):
    assert [path for path, _ in problems("ListAgentRuntimes", query=b"maxResults=" + value)] == ["maxResults"]


def test_a_plus_in_the_query_is_a_plus_and_unknown_parameters_are_ignored():
    query = b"nextToken=a+b%2F%3D&maxResults=10&X-Amz-Date=1&&flag"
    assert parse("ListAgentRuntimes", query=query) == {"nextToken": "a+b/=", "maxResults": 10}


def test_a_list_in_the_query_is_read_in_the_order_of_the_wire():
    read = parse("UntagResource", labels={"resourceArn": RUNTIME_ARN}, query=b"tagKeys=b&tagKeys=a%20c&tagKeys=d+e")
    assert read == {"resourceArn": RUNTIME_ARN, "tagKeys": ["b", "a c", "d+e"]}


@pytest.mark.parametrize(
    ("text", "ok"), [(b"true", True), (b"false", True), (b"True", False), (b"1", False), (b"", False)]
)
def test_a_boolean_in_the_query_is_spelled_one_way(text: bytes, ok: bool):
    request = {"labels": {"harnessId": "hello-AbCdEf1234"}, "query": b"deleteManagedMemory=" + text}
    if ok:
        assert parse("DeleteHarness", **request)["deleteManagedMemory"] is (text == b"true")
    else:
        assert [path for path, _ in problems("DeleteHarness", **request)] == ["deleteManagedMemory"]


def test_a_missing_list_in_the_query_is_named():
    assert problems("UntagResource", labels={"resourceArn": RUNTIME_ARN}) == [("tagKeys", "Member must not be null")]


def test_a_label_is_held_against_its_shape():
    assert [path for path, _ in problems("GetAgentRuntime", labels={"agentRuntimeId": "../x"})] == ["agentRuntimeId"]


def test_a_label_that_did_not_arrive_is_missing():
    assert problems("GetAgentRuntime") == [("agentRuntimeId", "Member must not be null")]


SESSION = b"x-amzn-bedrock-agentcore-runtime-session-id"


@pytest.mark.parametrize(
    "headers",
    [
        [(SESSION, b"short")],
        [(SESSION, b"x" * 257)],
        [(SESSION, b"x" * 40), (SESSION, b"y" * 40)],
        [(SESSION, b"\xff" * 40)],
        [(SESSION, b"x" * 20 + b"\r\n" + b"x" * 20)],
    ],
)
def test_a_bad_session_header_is_refused_by_its_member_name(headers: list):
    found = problems("InvokeAgentRuntime", labels={"agentRuntimeArn": RUNTIME_ARN}, headers=headers)
    assert [path for path, _ in found] == ["runtimeSessionId"]


def test_headers_are_read_in_any_case_without_the_blanks_around_them():
    headers = [
        (SESSION.title(), b"  " + b"x" * 40 + b"\t"),
        (b"X-Amzn-Bedrock-AgentCore-Runtime-User-Id", "üser".encode()),
        (b"accept", b"application/json"),
        (b"accept", b"text/event-stream"),
        (b"x-other", b"\xff"),
        (b"x-other", b""),
    ]
    read = parse("InvokeAgentRuntime", labels={"agentRuntimeArn": RUNTIME_ARN}, headers=headers, body=b"\x00raw")
    assert read == {
        "agentRuntimeArn": RUNTIME_ARN,
        "runtimeSessionId": "x" * 40,
        "runtimeUserId": "üser",
        "accept": "application/json, text/event-stream",
        "payload": b"\x00raw",
    }


def test_a_blob_payload_is_present_even_when_it_is_empty():
    assert parse("InvokeAgentRuntime", labels={"agentRuntimeArn": RUNTIME_ARN})["payload"] == b""


# --- relaxations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9000",
        "https://agent.example.com/base/path",
        "http://my_agent:8080/",
        "http://[::1]:8080",
        "http://a",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/agents/hello:latest",
        "public.ecr.aws/agents/hello@sha256:abc",
    ],
)
def test_a_container_uri_may_be_a_url_or_an_image(uri: str):
    artifact = {"containerConfiguration": {"containerUri": uri}}
    read = parse("CreateAgentRuntime", body=RUNTIME | {"agentRuntimeArtifact": artifact})
    assert read["agentRuntimeArtifact"] == artifact


@pytest.mark.parametrize(
    "uri",
    [
        "anything",
        "ftp://host/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://user:password@host/",
        "http://host/?q=1",
        "http://host/#f",
        "http://host:port/",
        "http://host\n",
        "http://ho st/",
        "http://-host/",
        "HTTP://host/",
        "http://host/\\evil",
        "http://" + "a" * 1024,
    ],
)
def test_a_container_uri_that_is_neither_is_refused(uri: str):
    artifact = {"containerConfiguration": {"containerUri": uri}}
    found = problems("CreateAgentRuntime", body=RUNTIME | {"agentRuntimeArtifact": artifact})
    assert [path for path, _ in found] == ["agentRuntimeArtifact.containerConfiguration.containerUri"]


@pytest.mark.parametrize(("shape", "trait"), RELAXATIONS)
def test_every_relaxation_names_a_trait_that_the_models_have_and_says_why(shape: str, trait: str, aws_shapes):
    assert trait in aws_shapes[shape]
    assert RELAXATIONS[shape, trait].reason


@pytest.fixture(scope="module")
def aws_shapes() -> dict:
    from identity_gateway.protocol.aws import SERVICES
    from identity_gateway.protocol.aws.model import load_model

    return {name: traits for service in SERVICES for name, traits in load_model(service)["shapes"].items()}


def test_no_member_of_the_models_carries_a_constraint_of_its_own(aws_shapes: dict):
    known = {"shape", "location", "locationName", "idempotencyToken", "documentation"}
    known |= {"deprecated", "deprecatedMessage", "deprecatedSince"}
    members = [member for traits in aws_shapes.values() for member in traits.get("members", {}).values()]
    assert {trait for member in members for trait in member} <= known


# --- operations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "token"),
    [
        ("InvokeAgentRuntime", "blob payload", "runtimeSessionId"),
        ("InvokeAgentRuntimeCommand", "json", "runtimeSessionId"),
        ("CreateAgentRuntime", "json", "clientToken"),
        ("DeleteAgentRuntime", "none", "clientToken"),
        ("ListAgentRuntimes", "none", None),
        ("GetWorkloadAccessToken", "json", None),
    ],
)
def test_an_operation_tells_its_body_and_its_idempotency_token(name: str, kind: str, token: str | None):
    operation = AWS.operations[name]
    assert (operation.body_kind, operation.idempotency_token) == (kind, token)


def test_an_absent_idempotency_token_stays_absent():
    assert "clientToken" not in parse("CreateAgentRuntime", body=RUNTIME)


def test_sensitive_members_are_known_also_when_they_are_deep():
    names = ("GetWorkloadAccessTokenForJWT", "CreateOauth2CredentialProvider", "CreateWorkloadIdentity")
    found = [set(AWS.operations[name].sensitive_members) for name in names]
    assert found == [{"userToken"}, {"oauth2ProviderConfigInput"}, set()]


def test_a_header_that_would_hold_a_list_is_refused_at_load():
    shape = Shape("In", "structure")
    shape.members["h"] = Member("h", "H", Shape("L", "list"), "header")
    with pytest.raises(ValueError, match="cannot be read from the header"):
        RestJson(shape, shape, 200)


def test_models_of_the_operators_home_do_not_change_the_wire(tmp_path, monkeypatch):
    from botocore.loaders import Loader

    folder = tmp_path / "bedrock-agentcore" / "2099-01-01"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text('{"metadata": {}, "operations": {}, "shapes": {}}')
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    monkeypatch.setattr(Loader, "CUSTOMER_DATA_PATH", str(tmp_path))
    assert load_services().operations.keys() == AWS.operations.keys()
