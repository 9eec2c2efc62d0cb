"""Errors as AWS gives them: bad input with its fields, unknown and unserved operations, bodies, request ids.

Nothing here depends on the database. Who may not call at all is in `test_signature_refusals`.
"""

import json
import re
import uuid
from typing import Any

import pytest

from identity_gateway.api.operations import SERVED
from identity_gateway.invocation.doors import Door
from tests.conformance.control_plane import (
    CONTROL,
    DATA,
    DISCOVERY_URL,
    JWT_AUTHORIZER,
    NOBODY,
    container,
    create,
    creation,
    model,
    new_version,
    refusal,
    refused,
    send,
    sign,
    status,
)
from tests.gateways import ROLE, RunningGateway, fresh_name

VALIDATION = (400, "ValidationException")
CONTAINER_URI = "agentRuntimeArtifact.containerConfiguration.containerUri"
AUTHORIZER = "authorizerConfiguration.customJWTAuthorizer"
ALLOWLIST = "requestHeaderConfiguration.requestHeaderAllowlist"
LIFECYCLE = "lifecycleConfiguration"
ECR = "111122223333.dkr.ecr.us-east-1.amazonaws.com/agent:latest"
CODE = {
    "code": {"s3": {"bucket": "bucket", "prefix": "agent.zip"}},
    "runtime": "PYTHON_3_13",
    "entryPoint": ["main.py"],
}
LATTICE = {"selfManagedLatticeResource": {"resourceConfigurationIdentifier": "rcfg-0123456789abcdefg"}}


def authorizer(**changes: Any) -> dict[str, Any]:
    return {"authorizerConfiguration": {"customJWTAuthorizer": JWT_AUTHORIZER["customJWTAuthorizer"] | changes}}


def claim(**changes: Any) -> dict[str, Any]:
    match = {"claimMatchOperator": "EQUALS", "claimMatchValue": {"matchValueString": "admin"}}
    whole = {
        "inboundTokenClaimName": "role",
        "inboundTokenClaimValueType": "STRING",
        "authorizingClaimMatchValue": match,
    }
    return authorizer(customClaims=[whole | changes])


def allowlist(*names: str, jwt: bool = False) -> dict[str, Any]:
    configuration = {"requestHeaderConfiguration": {"requestHeaderAllowlist": list(names)}}
    return configuration | ({"authorizerConfiguration": JWT_AUTHORIZER} if jwt else {})


def short(value: Any) -> str:
    return str(value)[:60]


def faulty(response: dict[str, Any]) -> list[str]:
    """Return the names of the fields that a ValidationException complains about."""
    assert (status(response), response["Error"]["Code"]) == VALIDATION
    return [fault["name"] for fault in response["fieldList"]]


# --- Agent runtimes that cannot be registered -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        *(
            ("agentRuntimeName", {"agentRuntimeName": name})
            for name in ("9agent", "my-agent", "a" * 49, "", "a\n", "ä")
        ),
        *(
            ("roleArn", {"roleArn": role})
            for role in ("x", "arn:aws:iam::1:role/x", "arn:aws:iam::000000000000:user/x")
        ),
        *(("description", {"description": text}) for text in ("", "x" * 4097)),
        *(("clientToken", {"clientToken": token}) for token in ("short", "x" * 257, "-" * 40, "a b" * 20)),
        ("networkConfiguration.networkMode", {"networkConfiguration": {"networkMode": "MOON"}}),
        ("environmentVariables", {"environmentVariables": {f"V{number}": "x" for number in range(51)}}),
        ("tags", {"tags": {f"key-{number}": "x" for number in range(51)}}),
        ("protocolConfiguration.serverProtocol", {"protocolConfiguration": {"serverProtocol": "SMTP"}}),
    ],
    ids=short,
)
def test_a_member_that_the_model_forbids_is_named(unchecked_on_sqlite: Any, field: str, changes: dict[str, Any]):
    assert faulty(refusal(unchecked_on_sqlite.create_agent_runtime, **creation(**changes))) == [field]


@pytest.mark.parametrize("field", ["agentRuntimeName", "agentRuntimeArtifact", "roleArn"])
def test_a_member_that_is_missing_is_named(unchecked_on_sqlite: Any, field: str):
    asked = creation(**{field: None})
    assert faulty(refusal(unchecked_on_sqlite.create_agent_runtime, **asked)) == [field]


def test_an_image_is_refused_with_the_reason(control_on_sqlite: Any):
    response = refusal(control_on_sqlite.create_agent_runtime, **creation(agentRuntimeArtifact=container(ECR)))
    assert faulty(response) == [CONTAINER_URI]
    assert "does not run images" in response["fieldList"][0]["message"]


def test_code_is_refused_with_the_reason(control_on_sqlite: Any):
    asked = creation(agentRuntimeArtifact={"codeConfiguration": CODE})
    response = refusal(control_on_sqlite.create_agent_runtime, **asked)
    assert faulty(response) == ["agentRuntimeArtifact"]
    assert "does not run code" in response["fieldList"][0]["message"]


@pytest.mark.parametrize("artifact", [{}, container(NOBODY) | {"codeConfiguration": CODE}], ids=["none", "both"])
def test_an_artifact_is_of_one_kind(unchecked_on_sqlite: Any, artifact: dict[str, Any]):
    asked = creation(agentRuntimeArtifact=artifact)
    assert faulty(refusal(unchecked_on_sqlite.create_agent_runtime, **asked)) == ["agentRuntimeArtifact"]


@pytest.mark.parametrize(
    "url",
    [
        "http://user@agent.example/",
        "http://user:secret@agent.example/",
        "https://agent.example/?tenant=1",
        "https://agent.example/#top",
        "ftp://agent.example/",
        "file:///etc/passwd",
        "agent.example:8080",
        "http://",
        "http:///path",
        "http://agent.example:0/",
        "http://agent.example:65536/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://[::1",
        "http://agent.example/ x",
        "http://agent.example/\r\nx: y",
        "http://ägent.example/",
        "http://agent.example/%zz",
        "",
        "http://" + "a" * 1024,
    ],
)
def test_a_place_where_no_agent_can_stand_is_refused(unchecked_on_sqlite: Any, url: str):
    asked = creation(agentRuntimeArtifact=container(url))
    assert faulty(refusal(unchecked_on_sqlite.create_agent_runtime, **asked)) == [CONTAINER_URI]


def test_a_password_in_a_refused_url_is_not_repeated(control_on_sqlite: Any):
    asked = creation(agentRuntimeArtifact=container("http://user:hunter2@agent.example/"))
    assert "hunter2" not in json.dumps(refusal(control_on_sqlite.create_agent_runtime, **asked))


@pytest.mark.parametrize("url", ["http://agent.example", "https://10.0.0.7:8443/base/", "http://[::1]:9000/a%20b"])
def test_a_place_where_an_agent_can_stand_is_taken_as_it_is(control_on_sqlite: Any, url: str):
    made = create(control_on_sqlite, agentRuntimeArtifact=container(url))
    found = control_on_sqlite.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])
    assert found["agentRuntimeArtifact"] == container(url)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        (".discoveryUrl", authorizer(discoveryUrl="https://issuer.example/")),
        (".discoveryUrl", authorizer(discoveryUrl=DISCOVERY_URL + "?x=1")),
        (".discoveryUrl", authorizer(discoveryUrl="https://user@issuer.example/.well-known/openid-configuration")),
        (".discoveryUrl", authorizer(discoveryUrl="ftp://issuer.example/.well-known/openid-configuration")),
        (".discoveryUrl", authorizer(discoveryUrl="http://169.254.169.254/.well-known/openid-configuration")),
        ("", {"authorizerConfiguration": {"customJWTAuthorizer": {"discoveryUrl": DISCOVERY_URL}}}),
        (".allowedScopes[1]", authorizer(allowedScopes=["agents.invoke", "two scopes"])),
        (".advertisedScopeMapping.other", authorizer(allowedScopes=["a"], advertisedScopeMapping={"other": "x"})),
        (".privateEndpoint", authorizer(privateEndpoint=LATTICE)),
        (
            ".privateEndpointOverrides",
            authorizer(privateEndpointOverrides=[{"domain": "issuer.example", "privateEndpoint": LATTICE}]),
        ),
        (".certificateConfigurations", authorizer(certificateConfigurations=[{"s3": {"uri": "s3://bucket/ca.pem"}}])),
        (".allowedWorkloadConfiguration", authorizer(allowedWorkloadConfiguration={})),
        (".customClaims[0].inboundTokenClaimName", claim(inboundTokenClaimName="scp")),
        (".customClaims[0].authorizingClaimMatchValue", claim(inboundTokenClaimValueType="STRING_ARRAY")),
        (".customClaims[0].inboundTokenClaimValueType", claim(inboundTokenClaimValueType="NUMBER")),
    ],
    ids=short,
)
def test_an_authorizer_that_would_not_guard_is_refused(unchecked_on_sqlite: Any, field: str, changes: dict[str, Any]):
    assert faulty(refusal(unchecked_on_sqlite.create_agent_runtime, **creation(**changes))) == [AUTHORIZER + field]


@pytest.mark.parametrize("name", ["allowedAudience", "allowedClients", "allowedScopes", "customClaims"])
def test_an_authorizer_of_empty_lists_guards_nothing(unchecked_on_sqlite: Any, name: str):
    asked = creation(authorizerConfiguration={"customJWTAuthorizer": {"discoveryUrl": DISCOVERY_URL, name: []}})
    assert faulty(refusal(unchecked_on_sqlite.create_agent_runtime, **asked))[0].startswith(AUTHORIZER)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("[0]", allowlist("Authorization")),
        ("[0]", allowlist("Host")),
        ("[0]", allowlist("Cookie", jwt=True)),
        ("[0]", allowlist("X-Forwarded-For")),
        ("[0]", allowlist("X-Amz-Date")),
        ("[0]", allowlist("X-Amzn-Bedrock-AgentCore-Runtime-User-Id")),
        ("[0]", allowlist("WorkloadAccessToken")),
        ("[0]", allowlist("X_Custom")),
        ("[1]", allowlist("X-Custom", "x-custom")),
        ("[0]", allowlist("X Custom")),
        ("", allowlist(*(f"X-{number}" for number in range(21)))),
        ("", allowlist()),
    ],
    ids=short,
)
def test_a_header_that_must_not_be_forwarded_is_refused(unchecked_on_sqlite: Any, field: str, changes: dict[str, Any]):
    assert faulty(refusal(unchecked_on_sqlite.create_agent_runtime, **creation(**changes))) == [ALLOWLIST + field]


@pytest.mark.parametrize(
    ("field", "lifetimes"),
    [
        (".idleRuntimeSessionTimeout", {"idleRuntimeSessionTimeout": 121, "maxLifetime": 120}),
        (".idleRuntimeSessionTimeout", {"idleRuntimeSessionTimeout": 59}),
        (".maxLifetime", {"maxLifetime": 1_209_601}),
        (".maxLifetime", {"maxLifetime": "long"}),
        (".maxLifetime", {"maxLifetime": True}),
    ],
    ids=short,
)
def test_a_lifetime_out_of_bounds_is_refused(unchecked_on_sqlite: Any, field: str, lifetimes: dict[str, Any]):
    asked = creation(lifecycleConfiguration=lifetimes)
    assert faulty(refusal(unchecked_on_sqlite.create_agent_runtime, **asked)) == [LIFECYCLE + field]


def test_an_update_is_held_to_the_same_rules_and_changes_nothing(control_on_sqlite: Any):
    made = create(control_on_sqlite)
    asked = {"agentRuntimeArtifact": container(ECR), "authorizerConfiguration": {"customJWTAuthorizer": {"discoveryUrl": DISCOVERY_URL}}}  # fmt: skip
    response = refusal(
        control_on_sqlite.update_agent_runtime, agentRuntimeId=made["agentRuntimeId"], roleArn=ROLE, **asked
    )
    assert faulty(response) == [CONTAINER_URI, AUTHORIZER]
    assert control_on_sqlite.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])["agentRuntimeVersion"] == "1"


def test_several_faults_are_told_at_once(unchecked_on_sqlite: Any):
    asked = creation(agentRuntimeName="my-agent", roleArn="x", description="")
    response = refusal(unchecked_on_sqlite.create_agent_runtime, **asked)
    assert sorted(faulty(response)) == ["agentRuntimeName", "description", "roleArn"]
    assert response["reason"] == "FieldValidationFailed"
    assert response["Error"]["Message"].startswith("3 validation errors detected: ")


def test_no_more_than_twenty_faults_are_told(unchecked_on_sqlite: Any):
    asked = creation(environmentVariables={"K" * (101 + number): "x" for number in range(50)})
    response = refusal(unchecked_on_sqlite.create_agent_runtime, **asked)
    assert len(faulty(response)) == 20
    assert response["Error"]["Message"].startswith("20 validation errors detected: ")


# --- Other operations' bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "field", "asked"),
    [
        *(
            ("get_agent_runtime", "agentRuntimeId", {"agentRuntimeId": each})
            for each in ("agent", "agent-short", "a/b", "a%2Fb-AbCdEf1234", "agent-AbCdEf123!", "ägent-AbCdEf1234")
        ),
        *(
            ("get_agent_runtime", "agentRuntimeVersion", {"agentRuntimeId": "agent-AbCdEf1234", "agentRuntimeVersion": v})
            for v in ("0", "01", "100000", "-1", "v1", "1\n")
        ),
        *(("list_agent_runtimes", "maxResults", {"maxResults": each}) for each in (0, 101, -1, "many")),
        *(("list_agent_runtimes", "nextToken", {"nextToken": each}) for each in ("x" * 2049, "two words")),
        *(
            ("create_agent_runtime_endpoint", "name", {"agentRuntimeId": "agent-AbCdEf1234", "name": each})
            for each in ("9endpoint", "my-endpoint", "e" * 49, "")
        ),
        *(
            ("create_workload_identity", "name", {"name": each})
            for each in ("ab", "a" * 256, "with blank", "a/b", "ümlaut")
        ),
        *(
            ("create_workload_identity", f"allowedResourceOauth2ReturnUrls[{len(urls) - 1}]",
             {"name": "agent", "allowedResourceOauth2ReturnUrls": urls})
            for urls in (["https://ok.example", "no scheme"], ["x" * 2049])
        ),
        *(("list_workload_identities", "maxResults", {"maxResults": each}) for each in (0, 21)),
        ("tag_resource", "tags", {"resourceArn": "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/x",
                                  "tags": {f"k{number}": "" for number in range(51)}}),
    ],
    ids=short,
)  # fmt: skip
def test_input_that_the_model_forbids_is_named(
    unchecked_on_sqlite: Any, method: str, field: str, asked: dict[str, Any]
):
    assert faulty(refusal(getattr(unchecked_on_sqlite, method), **asked)) == [field]


@pytest.mark.parametrize(
    ("method", "field", "more"),
    [
        ("get_workload_access_token_for_user_id", "userId", {"userId": ""}),
        ("get_workload_access_token_for_user_id", "userId", {"userId": "x" * 129}),
        ("get_workload_access_token_for_jwt", "userToken", {"userToken": "not.a-jwt"}),
        ("get_workload_access_token_for_jwt", "userToken", {"userToken": "a.b." + "c" * 131_072}),
    ],
    ids=["no user", "long user", "no token", "long token"],
)
def test_a_user_that_the_model_forbids_is_named(
    gateway: RunningGateway, client_of: Any, method: str, field: str, more: dict[str, str]
):
    data = client_of(gateway, DATA, parameter_validation=False)
    assert faulty(refusal(getattr(data, method), workloadName="agent", **more)) == [field]


def test_a_users_token_is_never_repeated(gateway: RunningGateway, client_of: Any):
    data = client_of(gateway, DATA, parameter_validation=False)
    response = refusal(data.get_workload_access_token_for_jwt, workloadName="x", userToken="hunter2 hunter2")
    assert "hunter2" not in json.dumps(response)


# --- Operations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("POST", "/identities/CreateNothing"),
        ("POST", "/identities/CreateWorkloadIdentity/"),
        ("GET", "/identities/CreateWorkloadIdentity"),
        ("PUT", "/runtimes"),
        ("PATCH", "/runtimes/"),
        ("POST", "/RUNTIMES/"),
        ("POST", "/%72untimes/"),
        ("GET", "/healthz/"),
    ],
)
def test_no_operation_stands_at_an_unknown_path(gateway: RunningGateway, method: str, path: str):
    answer = send(gateway, sign(gateway, method, path))
    assert answer.error == (404, "UnknownOperationException")


@pytest.mark.parametrize(
    "path", ["/runtimes//", "/runtimes/../healthz", "/runtimes/%2e%2e/", "/runtimes/%zz/", "/a%00b"]
)
def test_a_path_that_can_be_read_in_two_ways_is_refused(gateway: RunningGateway, path: str):
    answer = send(gateway, sign(gateway, "GET", path))
    assert answer.error == VALIDATION


def unserved() -> dict[str, tuple[str, str]]:
    """Return method and path of every operation of AWS's models that this gateway does not serve."""
    raw = {**model(CONTROL)._service_description["operations"], **model(DATA)._service_description["operations"]}
    return {
        name: (traits["http"]["method"], re.sub(r"\{[^}]+\}", "label", traits["http"]["requestUri"]))
        for name, traits in raw.items()
        if name not in SERVED and name not in set(Door)
    }


def test_every_operation_that_is_not_served_says_so_by_its_name(gateway: RunningGateway):
    told = {}
    for name, (method, path) in unserved().items():
        answer = send(gateway, sign(gateway, method, path))
        told[name] = (answer.error, json.loads(answer.body)["message"])
    assert len(told) > 100
    wrong = {
        name: said
        for name, said in told.items()
        if said != ((501, "UnsupportedOperationException"), f"{name} is not served by this gateway.")
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("service", "method", "asked"),
    [
        (CONTROL, "create_memory", {"name": "memory", "eventExpiryDuration": 30}),
        (CONTROL, "list_memories", {}),
        (CONTROL, "list_browsers", {}),
        (DATA, "list_actors", {"memoryId": "memory-AbCdEf1234"}),
    ],
)
def test_boto3_does_not_retry_what_is_not_served(
    gateway: RunningGateway, client_of: Any, service: str, method: str, asked: dict[str, Any]
):
    client = client_of(gateway, service, attempts=3)
    sent: list[str] = []
    client.meta.events.register("before-send", lambda request, **_: sent.append(request.url), unique_id="count")
    response = refusal(getattr(client, method), **asked)
    client.meta.events.unregister("before-send", unique_id="count")
    assert (status(response), response["Error"]["Code"]) == (501, "UnsupportedOperationException")
    assert client.meta.method_to_api_mapping[method] in response["Error"]["Message"]
    assert len(sent) == 1


def test_who_did_not_sign_does_not_hear_what_is_served(gateway: RunningGateway):
    answer = send(gateway, sign(gateway, "POST", "/memories/create", secret="wrong" * 8))
    assert answer.error == (403, "InvalidSignatureException")


# --- Bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"{'name': 'agent'}",
        b'{"name": "agent",}',
        b'{"name": "agent"} {}',
        b'{"name": "agent", "name": "other"}',
        b'{"name": NaN}',
        b'\xef\xbb\xbf{"name": "agent"}',
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'{"name": "a\\u0000b"}',
        b'{"name": ' + b"[" * 100_000,
        b"name=agent",
    ],
    ids=lambda body: repr(body[:32]),
)
def test_a_body_that_is_no_json_object_is_refused(gateway: RunningGateway, body: bytes):
    answer = send(gateway, sign(gateway, "POST", "/identities/CreateWorkloadIdentity", body), body)
    assert (answer.error, json.loads(answer.body)["reason"]) == (VALIDATION, "CannotParse")


def test_a_body_that_is_too_large_is_refused(gateway: RunningGateway):
    body = b'{"name": "agent", "padding": "' + b"x" * (8 << 20) + b'"}'
    answer = send(gateway, sign(gateway, "POST", "/identities/CreateWorkloadIdentity", body), body)
    assert (answer.error, json.loads(answer.body)["reason"]) == (VALIDATION, "CannotParse")


def test_boto3_hears_that_its_input_is_too_large(gateway: RunningGateway, control_on_sqlite: Any):
    urls = ["https://app.example/" + "x" * 2000] * 600
    asked = {"name": "agent", "allowedResourceOauth2ReturnUrls": urls}
    assert refused(control_on_sqlite.create_workload_identity, **asked) == VALIDATION


def test_members_that_the_model_does_not_know_are_left_aside(gateway: RunningGateway):
    body = json.dumps({"name": fresh_name("workload"), "somethingNewer": {"a": 1}}).encode()
    answer = send(gateway, sign(gateway, "POST", "/identities/CreateWorkloadIdentity", body), body)
    assert answer.status == 201


def test_null_is_an_absent_member(gateway: RunningGateway):
    body = json.dumps({"name": fresh_name("workload"), "tags": None}).encode()
    answer = send(gateway, sign(gateway, "POST", "/identities/CreateWorkloadIdentity", body), body)
    assert answer.status == 201


# --- Form -------------------------------------------------------------------------------------------------------------


def test_an_answer_without_content_has_no_body(gateway: RunningGateway, control_on_sqlite: Any):
    name = control_on_sqlite.create_workload_identity(name=fresh_name("workload"))["name"]
    body = json.dumps({"name": name}).encode()
    answer = send(gateway, sign(gateway, "POST", "/identities/DeleteWorkloadIdentity", body), body)
    assert (answer.status, answer.body, answer.header("content-length")) == (204, b"", None)
    assert answer.header("x-amzn-requestid")


def test_every_answer_has_a_request_id_of_its_own(control_on_sqlite: Any):
    name = fresh_name("workload")
    answers = [
        control_on_sqlite.create_workload_identity(name=name),
        refusal(control_on_sqlite.create_workload_identity, name=name),
        control_on_sqlite.delete_workload_identity(name=name),
        refusal(control_on_sqlite.get_workload_identity, name=name),
    ]
    ids = {uuid.UUID(answer["ResponseMetadata"]["RequestId"]) for answer in answers}
    assert len(ids) == 4


def test_an_error_has_its_name_in_a_header_and_its_words_in_json(gateway: RunningGateway):
    answer = send(gateway, sign(gateway, "GET", "/runtimes/unknown-AbCdEf1234/"))
    assert answer.error == (404, "ResourceNotFoundException")
    assert answer.header("content-type") == "application/json"
    assert json.loads(answer.body) == {"message": "There is no agent runtime unknown-AbCdEf1234."}


def test_boto3_raises_the_error_that_the_model_names(control_on_sqlite: Any):
    with pytest.raises(control_on_sqlite.exceptions.ResourceNotFoundException):
        control_on_sqlite.get_agent_runtime(agentRuntimeId="unknown-AbCdEf1234")


def test_times_have_the_form_of_their_operation(gateway: RunningGateway, control_on_sqlite: Any):
    made = create(control_on_sqlite)
    new_version(control_on_sqlite, made)
    runtime = send(gateway, sign(gateway, "GET", f"/runtimes/{made['agentRuntimeId']}/"))
    body = json.dumps({"name": made["agentRuntimeId"]}).encode()
    identity = send(gateway, sign(gateway, "POST", "/identities/GetWorkloadIdentity", body), body)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", json.loads(runtime.body)["createdAt"])
    assert isinstance(json.loads(identity.body)["createdTime"], int | float)
