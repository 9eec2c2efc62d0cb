"""Outputs and errors become responses, and faults of the code are loud."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from identity_gateway import errors
from identity_gateway.model import Secret
from identity_gateway.protocol.aws import error_response
from tests.unit.served import AWS

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)


def respond(name: str, output: dict) -> tuple[int, dict, bytes]:
    status, headers, body = AWS.operations[name].serialise_output(output)
    return status, dict(headers), body


def every_error() -> list[type[errors.GatewayError]]:
    found, waiting = [], [errors.GatewayError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting.extend(kind.__subclasses__())
    return [kind for kind in found if kind.__module__ == errors.__name__]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("CreateWorkloadIdentity", {"nmae": "x"}),
        ("CreateWorkloadIdentity", {"name": 1}),
        ("CreateWorkloadIdentity", {"name": b"x"}),
        ("CreateWorkloadIdentity", {"name": ["x"]}),
        ("CreateWorkloadIdentity", {"allowedResourceOauth2ReturnUrls": "https://a"}),
        ("GetWorkloadAccessToken", {"workloadAccessToken": Secret("s")}),
        ("GetWorkloadIdentity", {"createdTime": datetime(2026, 1, 1)}),  # noqa: DTZ001
        ("GetWorkloadIdentity", {"createdTime": "2026-01-01T00:00:00Z"}),
        ("GetWorkloadIdentity", {"createdTime": 0}),
        ("GetAgentRuntime", {"lifecycleConfiguration": []}),
        ("GetAgentRuntime", {"lifecycleConfiguration": {"maxLifetime": "900"}}),
        ("GetAgentRuntime", {"lifecycleConfiguration": {"maxLifetime": True}}),
        ("GetAgentRuntime", {"environmentVariables": {1: "v"}}),
        ("InvokeAgentRuntime", {"response": "text"}),
        ("InvokeAgentRuntime", {"contentType": "a\r\nx-evil: 1"}),
        ("InvokeAgentRuntimeCommand", {"contentType": "application/json"}),
        ("InvokeAgentRuntimeCommand", {"stream": b""}),
    ],
)
def test_an_output_that_the_model_does_not_have_is_a_fault_of_the_code(name: str, output: dict):
    with pytest.raises(TypeError):
        AWS.operations[name].serialise_output(output)


def test_a_fault_of_the_code_does_not_repeat_the_value():
    with pytest.raises(TypeError) as caught:
        AWS.operations["CreateWorkloadIdentity"].serialise_output({"name": ["s3cret"]})
    assert "s3cret" not in str(caught.value)


def test_an_absent_member_is_left_out():
    assert respond("CreateWorkloadIdentity", {"name": "abc", "workloadIdentityArn": None})[2] == b'{"name":"abc"}'


def test_a_timestamp_without_a_format_is_a_number_of_seconds():
    body = respond("GetWorkloadIdentity", {"createdTime": MOMENT, "lastUpdatedTime": MOMENT.replace(microsecond=0)})[2]
    assert json.loads(body) == {"createdTime": 1767323045.679, "lastUpdatedTime": 1767323045}


def test_a_timestamp_of_the_iso_format_is_utc_with_milliseconds():
    moment = MOMENT.astimezone(timezone(timedelta(hours=2)))
    body = respond("GetAgentRuntime", {"createdAt": moment})[2]
    assert json.loads(body) == {"createdAt": "2026-01-02T03:04:05.678Z"}


def test_a_response_without_content_has_no_body_and_no_content_type():
    assert AWS.operations["DeleteWorkloadIdentity"].serialise_output({}) == (204, [], b"")


def test_an_output_without_members_is_an_empty_object():
    assert respond("CompleteResourceTokenAuth", {}) == (200, {b"content-type": b"application/json"}, b"{}")


@pytest.mark.parametrize(
    ("name", "status"), [("CreateAgentRuntime", 202), ("CreateWorkloadIdentity", 201), ("GetAgentRuntime", 200)]
)
def test_the_status_of_success_is_the_models(name: str, status: int):
    assert respond(name, {})[0] == status


def test_stored_configuration_passes_without_the_members_that_only_inputs_have():
    stored = {"containerConfiguration": {"containerUri": "http://a", "inputOnly": 1}, "somethingNew": {}}
    body = respond("GetAgentRuntime", {"agentRuntimeArtifact": stored})[2]
    assert json.loads(body) == {"agentRuntimeArtifact": {"containerConfiguration": {"containerUri": "http://a"}}}


def test_a_payload_is_the_body_and_the_other_members_are_headers_and_status():
    output = {"response": b"\x00raw", "contentType": "text/plain", "runtimeSessionId": "é", "statusCode": 207}
    assert respond("InvokeAgentRuntime", output) == (
        207,
        {b"content-type": b"text/plain", b"x-amzn-bedrock-agentcore-runtime-session-id": "é".encode()},
        b"\x00raw",
    )


def test_a_document_payload_is_the_whole_body():
    status, headers, body = respond("GetAgentCard", {"agentCard": {"name": "a", "skills": [None]}, "statusCode": 200})
    assert (status, headers, json.loads(body)) == (
        200,
        {b"content-type": b"application/json"},
        {"name": "a", "skills": [None]},
    )


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_an_error_has_the_status_that_the_models_give_its_code(kind: type[errors.GatewayError]):
    assert AWS.error_statuses.get(kind.code, kind.status) == kind.status


def test_the_models_know_most_of_our_error_codes():
    known = {kind.code for kind in every_error()} & AWS.error_statuses.keys()
    assert len(known) >= 10


def test_an_error_response_has_the_code_and_the_message_but_not_the_reason():
    error = errors.AccessDenied("You may not.", reason="policy p-1 denies")
    assert error_response(error, "id-1") == (
        403,
        [
            (b"content-type", b"application/json"),
            (b"x-amzn-errortype", b"AccessDeniedException"),
            (b"x-amzn-requestid", b"id-1"),
        ],
        b'{"message":"You may not."}',
    )


def test_a_validation_error_lists_its_fields_and_its_kind():
    error = errors.ValidationFailed("1 validation error", fields=(errors.FieldError("a.b", "too short"),))
    assert json.loads(error_response(error, "id-1")[2]) == {
        "message": "1 validation error",
        "reason": "FieldValidationFailed",
        "fieldList": [{"name": "a.b", "message": "too short"}],
    }


def test_a_request_id_with_a_line_end_never_becomes_a_header():
    with pytest.raises(ValueError, match="request id"):
        error_response(errors.NotFound("gone"), "a\r\nx-evil: 1")
