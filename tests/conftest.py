"""What every test may use: fixtures of real parts, and `--require-all`, under which a skipped test is a failed one."""

import gc
from collections.abc import Generator

import pytest

pytest.register_assert_rewrite("tests.conformance.records_suite", "tests.conformance.ephemeral_suite")

from tests.agents import _agent_server, agent  # noqa: E402, F401 - fixtures
from tests.callers import jwt_issuer  # noqa: E402, F401 - fixtures
from tests.gateways import gateway  # noqa: E402, F401 - fixtures
from tests.issuers import cognito, oidc_provider  # noqa: E402, F401 - fixtures
from tests.parts import postgres_server, valkey_server  # noqa: E402, F401 - fixtures
from tests.web_sockets import _ws_agent_server, ws_agent  # noqa: E402, F401 - fixtures


def pytest_collection_finish() -> None:
    """Let the collector alone with what stands by now: looking through all tests again and again takes a fifth longer."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-all", action="store_true", help="report a skipped test as failed; xfail stays xfail")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report, collector.config)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if report.skipped and config.getoption("--require-all"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"--require-all: {reason}"
