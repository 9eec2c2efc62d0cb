"""Telemetry: what looks like a credential is blanked wherever it stands, and metrics keep their names."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from identity_gateway import telemetry
from identity_gateway.model import Secret
from identity_gateway.telemetry import configure_logging, redact

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
HIDDEN = "hunter2hunter2hunter2"
SIGNATURE = "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"


def redacted(**event: Any) -> dict[str, Any]:
    return dict(redact(None, "info", event))


SHAPES = {
    "a JWT": (JWT, "eyJ"),
    "an unsigned JWT": ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "eyJ"),
    "a JWE": (f"{JWT}.Zm9v.YmFy", "eyJ"),
    "the head of a JWT alone": ("eyJhbGciOiJFUzI1NiJ9", "eyJ"),
    "a bearer token": (f"Authorization: Bearer {HIDDEN}", HIDDEN),
    "a bearer token in lower case": (f"bearer {HIDDEN}==", HIDDEN),
    "a password of Basic": (f"Basic {HIDDEN}", HIDDEN),
    "a DPoP token": (f"DPoP {HIDDEN}", HIDDEN),
    "a signature": (f"AWS4-HMAC-SHA256 Credential=AKID/x, SignedHeaders=host, Signature={SIGNATURE}", SIGNATURE),
    "a presigned URL": (f"https://x.test/?X-Amz-Signature={SIGNATURE}&a=b", SIGNATURE),
    "a session token": (f"GET /?X-Amz-Security-Token={HIDDEN}&a=b", HIDDEN),
    "an access token in a query": (f"/callback?access_token={HIDDEN}", HIDDEN),
    "a refresh token in a form": (f"grant_type=refresh_token&refresh_token={HIDDEN}&x=y", HIDDEN),
    "a client secret in a form": (f"client_id=x&client_secret={HIDDEN}", HIDDEN),
    "a client assertion in a form": (f"client_assertion={HIDDEN}", HIDDEN),
    "a password in a form": (f"username=x&password={HIDDEN}", HIDDEN),
    "a password in a URL": (f"cannot connect to postgresql://gateway:{HIDDEN}@db.test/x", HIDDEN),
    "a token in a URL": (f"cannot clone https://{HIDDEN}@git.test/x", HIDDEN),
    "a private key": (f"-----BEGIN EC PRIVATE KEY-----\n{HIDDEN}\n-----END EC PRIVATE KEY-----", HIDDEN),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_looks_like_a_credential_is_blanked_wherever_it_stands(name: str):
    text, credential = SHAPES[name]
    event = {
        "event": f"before {text} after",
        "reason": text,
        "raw": text.encode(),
        "fault": ValueError(text),
        "listed": [text, ("x", text.encode())],
        "nested": {"deep": {"deeper": [text]}},
        "set": {text},
    }
    assert credential not in json.dumps(redacted(**event), default=repr)


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "Authorization", "proxy_authorization", "client_secret", "secretAccessKey", "password"),
        *("token", "workloadaccesstoken", "refresh_token", "cookie", "set-cookie", "signature", "api_key", "ApiKey"),
        "credentials",
    ],
)
def test_what_has_the_name_of_a_credential_is_blanked_whatever_it_is(name: str):
    for value in ("short", b"short", ["short"], {"a": "short"}, Secret("short")):
        assert redacted(**{name: value}) == {name: "<redacted>"}
        assert redacted(headers={name: value}) == {"headers": {name: "<redacted>"}}


@pytest.mark.parametrize("value", [0, 1.5, True, None])
def test_a_number_is_shown_whatever_its_name(value: float | None):
    assert redacted(token_count=value) == {"token_count": value}


def test_the_rest_of_a_line_is_left_as_it_was():
    event = {"event": "request", "status": 200, "operation": "GetWorkloadIdentity", "error": None, "path": "/a/b@c"}
    assert redacted(**event) == event


def test_the_words_around_a_credential_stay():
    assert redacted(event=f"a Bearer {HIDDEN} b")["event"] == "a <redacted> b"
    assert redacted(event=f"redis://:{HIDDEN}@r.test/0")["event"] == "redis://<redacted>@r.test/0"


def test_a_long_line_of_almost_credentials_is_read_in_one_pass():
    for text in (
        "://" + ":" * 100_000,
        "eyJ" * 50_000,
        "bearer " * 20_000,
        "-----BEGIN " * 10_000,
        "a_" * 50_000,
        "a" * 200_000,
    ):
        assert len(redacted(event=text)["event"]) <= len(text)


# --- Lines ---


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Return what tells what was logged, and give the logging of the process back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers = []
    yield lambda: capsys.readouterr().err
    structlog.reset_defaults()
    root.handlers, root.level = before


def test_a_json_line_is_one_object_without_credentials(written: Callable[[], str]):
    configure_logging("info", "json")
    structlog.get_logger().info("request", source="203.0.113.7", seen=f"Bearer {HIDDEN}")
    line = json.loads(written())
    assert (line["event"], line["level"], line["source"], line["seen"]) == (
        "request",
        "info",
        "203.0.113.7",
        "<redacted>",
    )
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("logger", [structlog.get_logger, lambda: logging.getLogger("another.package")])
def test_an_exception_is_logged_without_credentials(written: Callable[[], str], form: str, logger: Any):
    configure_logging("info", form)
    try:
        raise ValueError(f"refused Bearer {HIDDEN}")
    except ValueError:
        logger().exception("it failed")
    lines = written()
    assert "ValueError: refused <redacted>" in lines
    assert HIDDEN not in lines


def test_a_line_of_a_library_passes_the_same_redaction(written: Callable[[], str]):
    configure_logging("info", "json")
    logging.getLogger("another.package").warning("sent %s", JWT)
    line = json.loads(written())
    assert (line["event"], line["level"]) == ("sent <redacted>", "warning")


def test_libraries_are_heard_from_warnings_on(written: Callable[[], str]):
    configure_logging("debug", "json")
    logging.getLogger("another.package").info("chatter")
    assert written() == ""


def test_lines_below_the_level_are_not_written(written: Callable[[], str]):
    configure_logging("warning", "text")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    lines = written()
    assert "quiet" not in lines
    assert "loud" in lines


# --- Metrics ---


def test_the_metrics_are_those_that_dashboards_know():
    ours = {metric.name for metric in REGISTRY.collect() if metric.name.startswith("identity_gateway_")}
    assert ours == {
        "identity_gateway_requests",
        "identity_gateway_decisions",
        "identity_gateway_request_seconds",
        "identity_gateway_requests_in_flight",
        "identity_gateway_token_cache",
        "identity_gateway_audit_batch_size",
    }


def test_labels_of_metrics_are_chosen_by_the_gateway_and_not_by_callers():
    labelled = (telemetry.REQUESTS, telemetry.DECISIONS, telemetry.DURATION, telemetry.TOKEN_CACHE)
    assert {name for metric in labelled for name in metric._labelnames} == {
        "operation",
        "status",
        "scheme",
        "decision",
        "result",
    }


def test_one_process_shows_its_own_metrics():
    assert telemetry.registry() is REGISTRY
