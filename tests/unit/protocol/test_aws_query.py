"""The query protocol: forms that are read in two ways are refused, and XML that no parser misreads is written."""

from xml.etree import ElementTree as ET

import pytest

from identity_gateway.errors import AccessDenied, UnknownOperation, ValidationFailed
from identity_gateway.protocol.aws.query import error_document, fields_of, load_query_service

SERVICE = load_query_service("sts", "identity-gateway-sts")


@pytest.mark.parametrize("body", [b"Action=a&action=b", b"A=%zz", b"A=%ff", b"A=%00", b"&".join([b"a"] * 501)])
def test_a_form_that_can_be_read_in_two_ways_is_refused(body: bytes):
    with pytest.raises(ValidationFailed):
        fields_of(body)


@pytest.mark.parametrize("places", [(2,), (1, 3), ("01",), ("x",), (0, 1)])
def test_a_list_with_gaps_is_refused(places: tuple[object, ...]):
    fields = {"SigningAlgorithm": "RS256"} | {f"Audience.member.{place}": "a" for place in places}
    with pytest.raises(ValidationFailed):
        SERVICE.actions["GetWebIdentityToken"].parse_input(fields)


def test_an_action_of_another_version_is_refused():
    with pytest.raises(ValidationFailed):
        SERVICE.match({"Action": "AssumeRole", "Version": "2010-05-08"})


def test_an_unknown_action_is_refused():
    with pytest.raises(UnknownOperation):
        SERVICE.match({"Action": "DropRoles", "Version": "2011-06-15"})


def test_structures_in_lists_are_read():
    fields = {
        "SigningAlgorithm": "RS256",
        "Audience.member.1": "a",
        "Tags.member.1.Key": "k",
        "Tags.member.1.Value": "v",
    }
    taken = SERVICE.actions["GetWebIdentityToken"].parse_input(fields)
    assert taken["Tags"] == [{"Key": "k", "Value": "v"}]


def test_text_of_a_caller_stays_text_in_xml():
    text = "</Message><Code>\x00\x1b&amp;"
    _, body = error_document(AccessDenied(text), "urn:x", "r")
    message = ET.fromstring(body).find(".//{urn:x}Message")
    assert message is not None
    assert message.text == text.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
