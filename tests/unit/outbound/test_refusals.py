"""What a vendor refused reaches the agent in the vendor's own words, as an error that says who can do something."""

from typing import get_args

import pytest

from identity_gateway.errors import AccessDenied, GatewayError, Throttled, Unavailable, ValidationFailed
from identity_gateway.outbound.refusals import vendor_error
from identity_gateway.protocol.descriptor import Outcome
from identity_gateway.protocol.oauth2 import Refused

ERRORS: dict[str, type[GatewayError]] = {
    "dead_grant": ValidationFailed,
    "step_up": AccessDenied,
    "restart": ValidationFailed,
    "operator_config": ValidationFailed,
    "admin_block": AccessDenied,
    "transient": Unavailable,
    "ambiguous": Unavailable,
}


def test_every_outcome_has_an_error():
    assert ERRORS.keys() == set(get_args(Outcome.__value__ if hasattr(Outcome, "__value__") else Outcome))


@pytest.mark.parametrize("outcome", ERRORS)
def test_an_outcome_is_the_error_of_who_can_do_something(outcome: Outcome):
    assert type(vendor_error(Refused(outcome, "some_code"), "Acme")) is ERRORS[outcome]


@pytest.mark.parametrize("outcome", ERRORS)
def test_an_error_keeps_the_vendors_words(outcome: Outcome):
    said = str(vendor_error(Refused(outcome, "some_code", "Because of the moon."), "Acme"))
    assert said.startswith("Acme ")
    assert "some_code (Because of the moon.)" in said


@pytest.mark.parametrize("outcome", ERRORS)
def test_the_outcome_is_for_operators_only(outcome: Outcome):
    error = vendor_error(Refused(outcome, "some_code", "words"), "Acme")
    assert error.reason == f"vendor refused: {outcome} some_code"
    assert outcome not in error.message


def test_too_many_requests_are_throttling():
    assert type(vendor_error(Refused("transient", "slow_down", status=429), "Acme")) is Throttled


def test_a_refusal_of_the_vendor_does_not_pass_for_a_wrong_field():
    error = vendor_error(Refused("operator_config", "invalid_client"), "Acme")
    assert isinstance(error, ValidationFailed)
    assert (error.kind, error.fields) == ("VendorError", ())


def test_advice_follows_the_words():
    refused = Refused("restart", "invalid_code", "used", "The code was used. Start again.")
    assert str(vendor_error(refused, "Acme")) == (
        "Acme refused the request: invalid_code (used). The code was used. Start again."
    )


def test_an_answer_that_never_came_is_not_called_a_refusal():
    error = vendor_error(Refused("ambiguous", "no_answer"), "Acme")
    assert str(error) == "Acme did not give a usable answer: no_answer."


@pytest.mark.parametrize(("seconds", "shown"), [(0.2, "1 s"), (17.0, "17 s"), (17.2, "18 s")])
def test_the_time_to_try_again_is_told_and_never_too_early(seconds: float, shown: str):
    error = vendor_error(Refused("transient", "slow_down", status=429, retry_after=seconds), "Acme")
    assert str(error).endswith(f"Try again in {shown}.")


def test_scopes_that_the_vendor_misses_are_named():
    error = vendor_error(Refused("step_up", "missing_scope", needed=("chat:write", "files:read")), "Acme")
    assert str(error).endswith("It asks for: chat:write files:read.")
