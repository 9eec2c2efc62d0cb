"""Telemetry: what looks like a credential is blanked wherever it stands, and metrics keep their names."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import structlog
from prometheus_client import REGISTRY
from prometheus_client.multiprocess import MultiProcessCollector

from identity_gateway import telemetry
from identity_gateway.model import Secret
from identity_gateway.telemetry import configure_logging, redact

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
HIDDEN = "hunter2hunter2hunter2"
SIGNATURE = "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"


@pytest.fixture(autouse=True)
def logging_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test write to where the one before it did."""
    monkeypatch.setattr(telemetry, "_log", structlog.get_logger())
    monkeypatch.setattr(telemetry._lines, "wanted", False)


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


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"identity_gateway_{name}", labels) or 0.0


def answer(operation: str, status: int = 200, seconds: float = 0.25, **changes: str) -> None:
    said = {"request_id": "id-1", "source": "203.0.113.7", "error": "", "reason": ""} | changes
    telemetry.answered(operation, status, seconds, **said)


def test_an_answer_is_counted_for_whoever_collects_next():
    operation = "CountedAtOnce"
    answer(operation)
    answer(operation, 403, 7.0, error="AccessDenied", reason="no policy")
    found = [sample("requests_total", operation=operation, status=status) for status in ("200", "403")]
    found += [sample(f"request_seconds_{part}", operation=operation) for part in ("count", "sum")]
    found += [
        sample("request_seconds_bucket", operation=operation, le=bound) for bound in ("0.1", "0.5", "5.0", "30.0")
    ]
    assert found == [1, 1, 2, 7.25, 0, 1, 1, 2]


@pytest.mark.parametrize(("seconds", "bound"), [(0.0, "0.001"), (0.001, "0.001"), (0.5, "0.5"), (3600, "3600.0"), (3601, "+Inf")])  # fmt: skip
def test_a_duration_is_counted_below_every_bound_that_it_does_not_exceed(seconds: float, bound: str):
    operation = f"Lasting{seconds}"
    expected = prometheus_client.Histogram("expected", "", buckets=telemetry._SECONDS, registry=None)
    expected.observe(seconds)
    answer(operation, seconds=seconds)
    buckets = {each.labels["le"]: each.value for each in expected._samples() if each.name == "_bucket"}
    found = {le: sample("request_seconds_bucket", operation=operation, le=le) for le in buckets}
    assert (found, found[bound]) == (buckets, 1)


def test_what_was_shown_is_not_shown_again():
    operation = "ShownOnce"
    answer(operation)
    assert [sample("requests_total", operation=operation, status="200") for _ in range(3)] == [1, 1, 1]
    answer(operation)
    telemetry.pour()
    telemetry.pour()
    assert sample("requests_total", operation=operation, status="200") == 2


def test_requests_in_flight_are_counted_together_with_those_that_others_count():
    before = sample("requests_in_flight")
    telemetry.IN_FLIGHT.inc()
    telemetry.in_flight(1)
    telemetry.in_flight(1)
    assert sample("requests_in_flight") == before + 3
    telemetry.in_flight(-1)
    telemetry.in_flight(-1)
    telemetry.IN_FLIGHT.dec()
    assert sample("requests_in_flight") == before


def test_no_count_is_lost_to_those_who_collect_at_the_same_time():
    tally = telemetry.Tally(telemetry.DECISIONS.labels("tallied", "allowed"))
    operation, over = "AmongCollectors", threading.Event()

    def collect() -> None:
        while not over.is_set():
            list(REGISTRY.collect())

    collectors = [threading.Thread(target=collect) for _ in range(3)]
    for collector in collectors:
        collector.start()
    for _ in range(20_000):
        tally.add()
        telemetry._answers_of(operation, 200).count(0.5)
    over.set()
    for collector in collectors:
        collector.join()
    assert sample("decisions_total", scheme="tallied", decision="allowed") == 20_000
    assert sample("request_seconds_count", operation=operation) == 20_000
    assert sample("request_seconds_sum", operation=operation) == 10_000


async def test_counts_are_shown_to_other_processes_in_a_moment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telemetry, "_SHOWN_WITHIN", 0.001)
    monkeypatch.setattr(telemetry._shown, "waits", False)
    counter = prometheus_client.Counter("alone", "", registry=None)
    telemetry.Tally(counter).add()
    for _ in range(2000):
        if counter._value.get():
            break
        await asyncio.sleep(0.002)
    assert counter._value.get() == 1


WORKER = """
from identity_gateway import telemetry
telemetry.answered_well("Last", 200, 0.5, "id", "")
"""


def test_a_process_that_ends_leaves_its_last_counts_behind(tmp_path: Path):
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", WORKER], env=environment, check=True, timeout=60, capture_output=True)
    shared = prometheus_client.CollectorRegistry()
    MultiProcessCollector(shared, path=str(tmp_path))
    labels = {"operation": "Last", "status": "200"}
    assert shared.get_sample_value("identity_gateway_requests_total", labels) == 1


# --- Lines about requests ---


async def lines_of(written: Callable[[], str], *answers: dict[str, str]) -> list[dict[str, Any]]:
    configure_logging("info", "json")
    for each in answers:
        answer("Logged", **each)
    await asyncio.sleep(0)
    return [json.loads(line) for line in written().splitlines()]


async def test_a_line_about_a_request_is_the_same_whoever_writes_it(written: Callable[[], str]):
    quick, slow = await lines_of(written, {}, {"reason": "remarkable"})
    if quick["reason"] is not None:
        quick, slow = slow, quick
    assert quick == slow | {"reason": None, "timestamp": quick["timestamp"]}
    assert [len(line["timestamp"]) for line in (quick, slow)] == [27, 27]
    assert (quick["seconds"], quick["request_id"], quick["source"]) == (0.25, "id-1", "203.0.113.7")


async def test_a_source_with_a_sign_of_percent_is_told_as_it_is(written: Callable[[], str]):
    found = await lines_of(written, {"source": "fe80::1%eth0"}, {"source": "%s%d%(a)s"})
    assert [line["source"] for line in found] == ["fe80::1%eth0", "%s%d%(a)s"]


async def test_lines_of_one_moment_are_all_written_in_order(written: Callable[[], str]):
    found = await lines_of(
        written, *({"request_id": f"id-{number}", "source": f"192.0.2.{number}"} for number in range(50))
    )
    assert [(line["request_id"], line["source"]) for line in found] == [(f"id-{n}", f"192.0.2.{n}") for n in range(50)]


async def test_sources_that_are_kept_are_bounded(written: Callable[[], str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telemetry, "_MOST_SOURCES", 3)
    telemetry._answers_of("Logged", 200)._lines.clear()
    found = await lines_of(written, *({"source": f"192.0.2.{number}"} for number in range(9)))
    assert (len(found), len(telemetry._answers["Logged", 200]._lines) <= 3) == (9, True)


async def test_a_request_is_told_in_text_for_people(written: Callable[[], str]):
    configure_logging("info", "text")
    answer("Logged")
    assert "operation=Logged" in written()
