"""GetTokenVault, SetTokenVaultCMK and ResetTokenVaultKeyMaterial, with real boto3.

No key service is near: what a customer managed key does is in tests/integration/test_key_services.py.
"""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.control_plane import CONTROL, faults, refusal, refused, shown, status
from tests.gateways import ACCOUNT, REGION

INVALID = (400, "ValidationException")
NOT_FOUND = (404, "ResourceNotFoundException")
SERVICE_MANAGED = {"keyType": "ServiceManagedKey"}
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/01234567-89ab-cdef-0123-456789abcdef"


def customer_managed(arn: str | None) -> dict[str, Any]:
    return {"keyType": "CustomerManagedKey"} | ({"kmsKeyArn": arn} if arn is not None else {})


# --- Refusals -----------------------------------------------------------------------------------------------------------


def test_a_vault_that_does_not_exist_is_not_found(control: Any):
    assert refused(control.get_token_vault, tokenVaultId="other") == NOT_FOUND
    assert refused(control.set_token_vault_cmk, tokenVaultId="other", kmsConfiguration=SERVICE_MANAGED) == NOT_FOUND
    assert refused(control.reset_token_vault_key_material, tokenVaultId="other") == NOT_FOUND


@pytest.mark.parametrize(
    "arn",
    [
        "x",
        "01234567-89ab-cdef-0123-456789abcdef",
        f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/vault",
        f"arn:aws:s3:{REGION}:{ACCOUNT}:key/01234567-89ab-cdef-0123-456789abcdef",
    ],
)
def test_a_key_of_another_form_is_refused(control: Any, arn: str):
    assert refused(control.set_token_vault_cmk, kmsConfiguration=customer_managed(arn)) == INVALID


@pytest.mark.parametrize(
    "configuration", [customer_managed(None), SERVICE_MANAGED | {"kmsKeyArn": KEY}], ids=["none", "one too many"]
)
def test_a_customer_has_one_key_and_the_service_none(control: Any, configuration: dict[str, Any]):
    response = refusal(control.set_token_vault_cmk, kmsConfiguration=configuration)
    assert (status(response), response["Error"]["Code"]) == INVALID
    assert response["fieldList"][0]["name"] == "kmsConfiguration.kmsKeyArn"


def test_a_key_that_nobody_can_use_here_is_refused_and_changes_nothing(control: Any):
    before = shown(control.get_token_vault())
    assert refused(control.set_token_vault_cmk, kmsConfiguration=customer_managed(KEY))[0] in {400, 503}
    assert shown(control.get_token_vault()) == before


def test_nothing_is_reset_as_long_as_no_key_is_lost(control: Any):
    with pytest.raises(ClientError, match="only when the customer managed key") as caught:
        control.reset_token_vault_key_material(tokenVaultId="default")
    assert (status(caught.value.response), caught.value.response["Error"]["Code"]) == INVALID


# --- Answers ------------------------------------------------------------------------------------------------------------


def test_there_is_one_vault_under_a_key_of_the_service(control: Any):
    answer = control.get_token_vault()
    assert (status(answer), faults(CONTROL, "GetTokenVault", answer)) == (200, [])
    assert (answer["tokenVaultId"], answer["kmsConfiguration"]) == ("default", SERVICE_MANAGED)
    assert shown(control.get_token_vault(tokenVaultId="default")) == shown(answer)


def test_the_key_of_the_service_may_be_chosen_again(control: Any):
    answer = control.set_token_vault_cmk(kmsConfiguration=SERVICE_MANAGED)
    assert (status(answer), faults(CONTROL, "SetTokenVaultCMK", answer)) == (200, [])
    assert answer["kmsConfiguration"] == SERVICE_MANAGED
