"""Clients of AWS are made once for each region, and what is no region never becomes part of a host name."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from identity_gateway.aws_clients import AwsClients


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsClients]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    made = AwsClients("kms", endpoint_url=None)
    yield made
    made.close()


@pytest.mark.parametrize(
    "region", ["", "evil", "us-east-1.evil.example", "us-east-1/", "US-EAST-1", "us-east-1\n", "us-east-11"]
)
def test_what_is_no_region_gets_no_client(clients: AwsClients, region: str):
    with pytest.raises(ValueError, match="not a region"):
        clients.of(region)


def test_many_threads_share_one_client_of_a_region(clients: AwsClients):
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(clients.of, ["eu-central-1"] * 16))
    assert len(made) == 1


def test_each_region_has_its_own_client(clients: AwsClients):
    assert clients.of("eu-central-1").meta.region_name == "eu-central-1"
    assert clients.of("us-gov-west-1").meta.region_name == "us-gov-west-1"


def test_regions_that_somebody_invents_do_not_fill_the_memory(clients: AwsClients, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("identity_gateway.aws_clients._MOST", 3)
    first = clients.of("eu-central-1")
    for letter in "abc":
        clients.of(f"xx-{letter}-1")
    assert clients.of("eu-central-1") is not first


def test_a_call_is_tried_twice_at_most(clients: AwsClients):
    assert clients.of("eu-central-1").meta.config.retries["total_max_attempts"] == 2
