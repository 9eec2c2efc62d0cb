"""The hosts of AWS STS that a proof may name: every region that AWS has, and none that somebody made up."""

import botocore.session
import pytest

from identity_gateway.protocol import caller_identity

PARTITIONS = ["aws", "aws-cn", "aws-us-gov"]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_hosts_are_those_of_botocores_regions(partition: str):
    known = set(botocore.session.get_session().get_available_regions("sts", partition_name=partition))
    named = {region for region, its_partition in caller_identity._HOSTS.values() if its_partition == partition}
    assert named == known - {"aws-global"}
