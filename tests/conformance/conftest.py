"""Gateways for conformance: the same operations on SQLite and on PostgreSQL, through unmodified boto3 clients.

A test that takes `control` or `data` runs on both. `control_on_sqlite` is for what no database has a part in.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.control_plane import CONTROL, DATA
from tests.gateways import RunningGateway, running_gateway
from tests.parts import Postgres


@pytest.fixture(scope="session")
def gateway_on_postgresql(postgres_server: Postgres) -> Iterator[RunningGateway]:
    with running_gateway(database_url=postgres_server.create_database()) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def each_gateway(request: pytest.FixtureRequest) -> RunningGateway:
    """Both gateways, one after the other. They live as long as the session, in whatever order the tests come."""
    name = {"sqlite": "gateway", "postgresql": "gateway_on_postgresql"}[request.param]
    found: RunningGateway = request.getfixturevalue(name)
    return found


@pytest.fixture(scope="session")
def client_of() -> Iterator[Callable[..., Any]]:
    """One client per gateway, service and options: making one reads its whole model."""
    made: dict[Any, Any] = {}

    def client(gateway: RunningGateway, service: str, **options: Any) -> Any:
        key = gateway.url, service, *options.items()
        if key not in made:
            made[key] = gateway.client(service, **options)
        return made[key]

    yield client
    for each in made.values():
        each.close()


@pytest.fixture
def control(each_gateway: RunningGateway, client_of: Callable[..., Any]) -> Any:
    return client_of(each_gateway, CONTROL)


@pytest.fixture
def data(each_gateway: RunningGateway, client_of: Callable[..., Any]) -> Any:
    return client_of(each_gateway, DATA)


@pytest.fixture
def control_on_sqlite(gateway: RunningGateway, client_of: Callable[..., Any]) -> Any:
    return client_of(gateway, CONTROL)


@pytest.fixture
def unchecked_on_sqlite(gateway: RunningGateway, client_of: Callable[..., Any]) -> Any:
    """A client that sends whatever it is given, as other SDKs do."""
    return client_of(gateway, CONTROL, parameter_validation=False)
