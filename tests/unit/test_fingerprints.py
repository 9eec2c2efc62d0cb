"""Fingerprints tell secrets apart and give none of them away."""

from hashlib import sha256

import pytest

from identity_gateway.fingerprints import LENGTH, Fingerprints
from identity_gateway.model import Secret

OLD, NEW = b"o" * 32, b"n" * 32
TOKEN = Secret("xyz-token")


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b""]])
def test_a_master_key_of_another_length_is_refused(keys: list[bytes]):
    with pytest.raises(ValueError):
        Fingerprints(keys)


@pytest.mark.parametrize("given", ["", "0" * LENGTH, "\ud800", "xyz-token", "é" * LENGTH])
def test_what_is_no_fingerprint_of_a_secret_does_not_match(given: str):
    assert not Fingerprints([NEW]).matches(given, TOKEN)


def test_another_secret_does_not_match():
    fingerprints = Fingerprints([NEW])
    assert not fingerprints.matches(fingerprints.of(Secret("xyz-tokem")), TOKEN)


def test_a_fingerprint_needs_the_master_key():
    found = Fingerprints([NEW]).of(TOKEN)
    assert found not in {Fingerprints([OLD]).of(TOKEN), sha256(b"xyz-token").hexdigest()[:LENGTH]}


def test_a_fingerprint_is_sixteen_hexadecimal_characters():
    found = Fingerprints([NEW]).of(TOKEN)
    assert (len(found), set(found) <= set("0123456789abcdef")) == (LENGTH, True)


def test_a_fingerprint_of_an_older_master_key_still_matches():
    assert Fingerprints([NEW, OLD]).matches(Fingerprints([OLD]).of(TOKEN), TOKEN)


def test_the_first_master_key_makes_the_fingerprint():
    assert Fingerprints([NEW, OLD]).of(TOKEN) == Fingerprints([NEW]).of(TOKEN)
