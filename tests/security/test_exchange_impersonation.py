"""On behalf of a user is on behalf of the user who called: no parameter of an agent puts another one in the place."""

import pytest

from identity_gateway.errors import ValidationFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.oauth2 import Outgoing, Requested, authorization_url, exchange_request
from tests.fakes.descriptors import client


def exchanged(parameters: dict[str, str]) -> Outgoing:
    return exchange_request(
        client(),
        grant="token_exchange",
        subject_token=Secret("jwt-of-ada"),
        requested=Requested(),
        params=parameters,
        assertion=None,
    )


@pytest.mark.parametrize("name", ["requested_subject", "Requested-Subject", "requested.subject[]", "subject_token"])
def test_an_agent_names_no_other_subject(name: str):
    with pytest.raises(ValidationFailed, match="only the gateway sets this parameter"):
        exchanged({name: "admin"})


def test_an_agent_names_no_other_subject_on_the_way_through_the_browser():
    with pytest.raises(ValidationFailed, match=r"^requested_subject: "):
        authorization_url(
            client(),
            Requested(parameters={"requested_subject": "admin"}),
            redirect_uri="https://gateway.example/callback",
            state="st",
            code_challenge="ch",
        )


def test_other_parameters_of_an_exchange_are_passed_on():
    assert b"requested_token_type=jwt" in (exchanged({"requested_token_type": "jwt"}).body or b"")
