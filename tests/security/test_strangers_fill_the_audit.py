"""Threat: whoever has no key fills the table of audit records, and with it the disk, by being refused."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import httpx2
import pytest
from botocore.exceptions import ClientError

from identity_gateway.audit import STRANGERS_KEPT
from tests.gateways import RunningGateway, running_gateway

RUNTIME = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/none-AbCdEf1234"
KNOWN = "arn:aws:iam::000000000000:user/nobody"
EACH = 200


@dataclass
class Flood:
    """How many records of refusals there are of each principal, and how many refusals these tell of."""

    records: Counter[str]
    told: Counter[str]


def refusals(running: RunningGateway) -> Flood:
    with closing(sqlite3.connect(running.data_dir / "gateway.sqlite")) as database:
        rows = database.execute("select principal, details from audit_record where decision = 'denied'").fetchall()
    told: Counter[str] = Counter()
    for principal, details in rows:
        told[principal] += json.loads(details).get("refusals", 1)
    return Flood(Counter(principal for principal, _ in rows), told)


@pytest.fixture(scope="module")
def flood() -> Iterator[Flood]:
    """Strangers stood at two doors of a gateway, in turn; then came a key that may nothing."""
    with running_gateway() as running:
        made = running.command("access-key", "create", "--name", "nobody", "--json")
        key = json.loads(made.stdout)
        with httpx2.Client(trust_env=False) as http, ThreadPoolExecutor(4) as strangers:
            doors = [f"{running.url}/identities/oauth2/token", running.invocation_url(RUNTIME)]
            statuses = list(strangers.map(lambda url: http.post(url, content=b"{}").status_code, doors * EACH))
        assert {status // 100 for status in statuses} == {4}
        known = running.client("bedrock-agentcore-control", key=(key["accessKeyId"], key["secretAccessKey"]))
        for _ in range(3):
            with pytest.raises(ClientError, match="not authorized"):
                known.list_workload_identities()
        running.stop()
        yield refusals(running)


def test_a_flood_of_strangers_leaves_few_records(flood: Flood):
    # The flood may reach into a second minute; each minute leaves one record of what was only counted.
    assert STRANGERS_KEPT < flood.records["unknown"] <= 2 * (STRANGERS_KEPT + 1)


def test_the_records_of_a_flood_tell_of_every_refusal(flood: Flood):
    assert flood.told["unknown"] == 2 * EACH


def test_no_refusal_of_a_known_key_is_lost_in_a_flood(flood: Flood):
    assert flood.records[KNOWN] == 3
