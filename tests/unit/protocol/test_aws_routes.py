"""Method and raw path find one operation, and hostile paths find none."""

import pytest

from identity_gateway import errors
from identity_gateway.protocol.aws.routes import RouteTable
from tests.unit.served import AWS

ARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/hello-AbCdEf1234"
ENCODED_ARN = b"arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A000000000000%3Aruntime%2Fhello-AbCdEf1234"


@pytest.mark.parametrize(
    "path",
    [
        b"/runtimes/%/",
        b"/runtimes/%4/",
        b"/runtimes/%zz/",
        b"/runtimes/a%/",
        b"/runtimes/%u0041/",
        b"/runtimes/%ff/",
        b"/runtimes/%c0%af/",
        b"/runtimes/%ed%a0%80/",
        b"/runtimes/\xc3\xa9/",
        b"/runtimes/a b/",
        b"/runtimes//",
        b"//runtimes/a/",
        b"/runtimes/./",
        b"/runtimes/../",
        b"/runtimes/%2e/",
        b"/runtimes/%2E%2e/",
        b"/runtimes/a%2F..%2Fb/",
        b"/runtimes/%2e%2e%2fb/",
        b"/runtimes/a%00/",
        b"/runtimes/a%0d%0a/",
        b"/runtimes/a\x00/",
        b"/runtimes/a%7f/",
        b"/runtimes/a%C2%85/",
    ],
)
def test_a_malformed_path_is_refused_before_any_operation_is_looked_for(path: bytes):
    with pytest.raises(errors.ValidationFailed):
        AWS.match("GET", path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", b"/runtimes/a/"),
        ("OPTIONS", b"*"),
        ("get", b"/runtimes/a/"),
        ("GET", b"/runtimes/a"),
        ("PUT", b"/runtimes"),
        ("POST", b"/identities/CreateWorkloadIdentity/"),
        ("POST", b"/identities/createworkloadidentity"),
        ("POST", b"/%69dentities/CreateWorkloadIdentity"),
        ("GET", b"/identities/CreateWorkloadIdentity"),
        ("POST", b"/runtimes/a/invocations/more"),
        ("GET", b"/"),
        ("GET", b""),
        ("GET", b"runtimes/a/"),
        ("GET", b"http://host/runtimes/a/"),
    ],
)
def test_a_method_and_path_that_no_operation_has_is_unknown(method: str, path: bytes):
    with pytest.raises(errors.UnknownOperation):
        AWS.match(method, path)


def test_an_arn_in_one_segment_is_one_label_decoded_once():
    match = AWS.match("POST", b"/runtimes/" + ENCODED_ARN + b"/invocations")
    assert (match.operation.name, match.labels) == ("InvokeAgentRuntime", {"agentRuntimeArn": ARN})


def test_an_escaped_percent_sign_stays_escaped_after_the_one_decoding():
    assert AWS.match("GET", b"/runtimes/a%252Fb/").labels == {"agentRuntimeId": "a%2Fb"}


def test_an_arn_with_bare_slashes_is_another_path():
    with pytest.raises(errors.UnknownOperation):
        AWS.match("POST", b"/runtimes/arn:aws:x:y:z:runtime/hello-AbCdEf1234/invocations")


def test_two_labels_arrive_under_their_own_names():
    labels = AWS.match("GET", b"/runtimes/hello/runtime-endpoints/prod/").labels
    assert labels == {"agentRuntimeId": "hello", "endpointName": "prod"}


def test_a_trailing_slash_makes_another_operation():
    with_slash = AWS.match("PUT", b"/runtimes/a/").operation.name
    assert (with_slash, AWS.match("PUT", b"/runtimes/").operation.name) == ("UpdateAgentRuntime", "CreateAgentRuntime")


def test_a_literal_segment_wins_over_a_label():
    batch = AWS.match("PUT", b"/gateways/g/rate-limits/batch").operation.name
    assert batch == "BatchPutGatewayRateLimits"


def test_a_label_is_tried_when_the_literal_leads_nowhere():
    table: RouteTable[str] = RouteTable()
    table.add("GET", "/a/b/c", "literal")
    table.add("GET", "/a/{x}/d", "label")
    assert table.match("GET", b"/a/b/d") == ("label", {"x": "b"})


def test_two_operations_with_one_path_are_refused_at_load():
    table: RouteTable[str] = RouteTable()
    table.add("GET", "/a/{x}/", "first")
    with pytest.raises(ValueError, match="second and first"):
        table.add("GET", "/a/{y}/", "second")


@pytest.mark.parametrize("template", ["/a/{x+}", "/a?list-type=2", "/a/b{x}", "/a//b"])
def test_a_path_template_that_is_not_understood_is_refused_at_load(template: str):
    with pytest.raises(ValueError, match="not understood"):
        RouteTable[str]().add("GET", template, "operation")


def test_every_operation_is_found_by_its_own_path():
    found = {}
    for name, operation in AWS.operations.items():
        path = operation.uri.replace("{", "%7B").replace("}", "%7D").encode()
        found[name] = AWS.match(operation.method, path).operation
    assert found == AWS.operations
