"""What the suites of the short way begin with: two gateways on one data folder, and a caller whom one of them knows."""

from collections.abc import Iterator

import pytest

from tests.agents import Agent
from tests.callers import guarded_by, token_of
from tests.fakes.issuer import FakeIssuer
from tests.gateways import RunningGateway, register
from tests.repeated_calls import Caller, calling, running_pair


@pytest.fixture(scope="module")
def pair() -> Iterator[list[RunningGateway]]:
    """Two gateways on one data folder. The first one is called."""
    with running_pair() as gateways:
        yield gateways


@pytest.fixture(params=[0, 1], ids=["the same process", "another process"])
def by(request: pytest.FixtureRequest, pair: list[RunningGateway]) -> RunningGateway:
    """The gateway by which something is changed."""
    return pair[request.param]


@pytest.fixture
def caller(pair: list[RunningGateway], agent: Agent, jwt_issuer: FakeIssuer) -> Iterator[Caller]:
    """Somebody whose next call, also with a new token, takes the short way, unless something changes."""
    arn = register(pair[0], agent.url, **guarded_by(jwt_issuer.discovery_url))
    with calling(pair[0], arn, token_of(jwt_issuer)) as made:
        made.warmed()
        yield made
