"""An agent does not fill the ephemeral store, nor make links that lead nowhere, with parameters by the hundred."""

import pytest

from identity_gateway.errors import ValidationFailed
from identity_gateway.protocol.oauth2 import Requested, authorization_url
from tests.fakes.descriptors import client

MANY = tuple(f"https://api.example/{number:04}" for number in range(400))
LARGE = {
    "parameters": Requested(parameters={f"p{number}": "x" * 2000 for number in range(5)}),
    "scopes": Requested(scopes=MANY),
    "resources": Requested(resources=MANY),
    "audiences": Requested(audiences=MANY),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_consent_of_more_than_a_url_carries_is_refused(kind: str):
    with pytest.raises(ValidationFailed, match="8192 characters"):
        authorization_url(
            client(), LARGE[kind], redirect_uri="https://gateway.example/callback", state="st", code_challenge="ch"
        )


def test_a_consent_to_a_hundred_scopes_is_not_refused():
    asked = Requested(scopes=MANY[:100])
    url = authorization_url(
        client(), asked, redirect_uri="https://gateway.example/callback", state="st", code_challenge="ch"
    )
    assert url.count("api.example") == 100
