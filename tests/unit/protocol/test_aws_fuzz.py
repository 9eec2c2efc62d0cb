"""Whatever arrives, the answer is an input or an error of ours, and no error repeats what arrived."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_gateway import errors
from identity_gateway.protocol.aws import Match, Operation, Shape
from tests.unit.served import AWS

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
OPERATIONS = sorted(AWS.operations.values(), key=str)
SEGMENTS = sorted({segment for operation in OPERATIONS for segment in operation.uri.encode().split(b"/")})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
HEADER_NAMES = sorted({member.wire.encode() for operation in OPERATIONS for member in operation.input.members.values()})


@st.composite
def almost_inputs(draw: st.DrawFn, shape: Shape, depth: int = 0) -> Any:
    """JSON that resembles the shape, with wrong values here and there."""
    if depth > 6 or draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    if shape.members:
        chosen = draw(st.lists(st.sampled_from(sorted(shape.members)), unique=True, max_size=4))
        return {shape.members[name].wire: draw(almost_inputs(shape.members[name].shape, depth + 1)) for name in chosen}
    if shape.kind == "list":
        return [draw(almost_inputs(shape.element, depth + 1)) for _ in range(draw(st.integers(0, 2)))]
    if shape.kind == "map":
        return {draw(st.text(max_size=4)): draw(almost_inputs(shape.element, depth + 1))}
    return draw(st.sampled_from(shape.enum) if shape.enum else JSON)


def match(method: str, path: bytes) -> Match | errors.GatewayError:
    try:
        return AWS.match(method, path)
    except errors.GatewayError as error:
        return error


def parse(operation: Operation, *request: Any) -> dict[str, Any] | errors.GatewayError:
    try:
        return operation.parse_input(*request)
    except errors.GatewayError as error:
        return error


@QUICK
@given(st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "X"]), st.binary(max_size=60))
def test_any_bytes_as_a_path_are_an_operation_or_an_error_of_ours(method: str, path: bytes):
    assert isinstance(match(method, path), Match | errors.ValidationFailed | errors.UnknownOperation)


@QUICK
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
    st.lists(
        st.sampled_from([*SEGMENTS, b"%2F", b"%252e", b"%2e", b"%C3%A9", b"a"]) | st.binary(max_size=6), max_size=7
    ),
)
def test_a_path_made_of_real_segments_is_an_operation_or_an_error_of_ours(method: str, segments: list[bytes]):
    found = match(method, b"/" + b"/".join(segments))
    assert isinstance(found, Match | errors.ValidationFailed | errors.UnknownOperation)


@QUICK
@given(
    st.sampled_from(OPERATIONS),
    st.binary(max_size=40),
    st.lists(st.tuples(st.sampled_from(HEADER_NAMES) | st.binary(max_size=5), st.binary(max_size=50)), max_size=5),
    st.binary(max_size=100),
)
def test_any_bytes_as_a_request_are_an_input_or_a_validation_error(operation, query, headers, body):
    taken = parse(operation, {}, query, headers, body)
    assert isinstance(taken, dict | errors.ValidationFailed)


@QUICK
@given(st.data())
def test_almost_valid_bodies_are_an_input_or_a_validation_error(data: st.DataObject):
    operation = data.draw(st.sampled_from(OPERATIONS))
    document = data.draw(almost_inputs(operation.input))
    taken = parse(operation, {}, b"", (), json.dumps(document).encode())
    assert isinstance(taken, dict | errors.ValidationFailed)


@QUICK
@given(st.data())
def test_no_error_repeats_what_was_sent(data: st.DataObject):
    operation = data.draw(st.sampled_from([operation for operation in OPERATIONS if operation.body_kind == "json"]))
    secret = "zq7-s3cret-zq7"
    names = data.draw(st.lists(st.sampled_from(sorted(operation.input.members)), min_size=1, max_size=5))
    hidden = data.draw(st.sampled_from([secret, [secret], {secret: secret}, {"a": {secret: secret}}]))
    labels = {member.wire: secret + "\n" for member in operation.input.members.values() if member.location == "uri"}
    body = json.dumps(dict.fromkeys((operation.input.members[name].wire for name in names), hidden)).encode()
    taken = parse(operation, labels, b"", (), body)
    if isinstance(taken, errors.ValidationFailed):
        assert secret not in f"{taken} {taken.reason} {taken.fields}"


@QUICK
@given(st.sampled_from(OPERATIONS), st.binary(max_size=12).map(lambda noise: b'{"a":"zq7-s3cret' + noise))
def test_no_error_repeats_a_broken_body(operation: Operation, body: bytes):
    taken = parse(operation, {}, b"", (), body)
    if isinstance(taken, errors.ValidationFailed):
        assert "zq7" not in f"{taken} {taken.reason} {taken.fields}"
