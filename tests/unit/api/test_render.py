"""Errors as they are shown: our own as they are, and of all others nothing but that there was one."""

import json

import pytest
from structlog.testing import capture_logs

from identity_gateway.api import render
from identity_gateway.errors import AccessDenied, FieldError, GatewayError, InvalidToken, ValidationFailed

TEXT = "SELECT * FROM access_key WHERE secret = 'hunter2'"


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error", [ValueError(TEXT), KeyError(TEXT), TimeoutError(), AssertionError(TEXT), ExceptionGroup(TEXT, [OSError()])]
)
def test_an_unforeseen_error_says_nothing_to_anybody_but_its_kind_and_place(error: BaseException):
    with capture_logs() as logs:
        shown = render.safe(raised(error))
    assert (shown.code, shown.status) == ("InternalServerException", 500)
    assert shown.message == "An internal error occurred."
    (line,) = logs
    assert (line["log_level"], line["fault"]) == ("error", type(error).__name__)
    assert line["place"].startswith("test_render.py:")
    assert "hunter2" not in f"{logs} {shown!r} {shown.reason}"


def test_the_place_is_where_it_was_raised_and_not_where_it_was_caught():
    with capture_logs() as logs, pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    with capture_logs() as logs:
        render.safe(caught.value)
    assert logs[0]["place"].startswith("decoder.py:")


def test_an_error_that_was_never_raised_has_no_place():
    assert render.safe(ValueError()).reason == "ValueError at unknown"


def test_an_error_of_ours_is_shown_as_it_is_and_not_logged():
    error = AccessDenied("no", reason="precise")
    with capture_logs() as logs:
        assert render.safe(error) is error
    assert logs == []


def test_an_error_is_rendered_in_the_form_of_aws():
    error = ValidationFailed("1 fault", fields=(FieldError("name", "too long"),), reason="precise")
    status, headers, body = render.aws(error, "id-1")
    assert (status, dict(headers)[b"x-amzn-errortype"]) == (400, b"ValidationException")
    assert json.loads(body)["fieldList"] == [{"name": "name", "message": "too long"}]
    assert b"precise" not in body


def test_a_challenge_stands_beside_the_error():
    _, headers, _ = render.aws(InvalidToken(), "id-1", challenge=b'Bearer error="invalid_token"')
    assert headers[-1] == (b"www-authenticate", b'Bearer error="invalid_token"')


def test_without_a_challenge_there_is_none():
    assert b"www-authenticate" not in dict(render.aws(GatewayError(), "id-1")[1])
