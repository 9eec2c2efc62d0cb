"""Tokens that an issuer wrote for one bearer: alike but for their times and their own ids.

Of a token that was let in, all else of the payload is compared byte for byte, so that its claims need not be read
again; a time is digits alone, and an id holds nothing that could end it early or stand for something else. Signature
and times are checked as always. What a rule might look into is not left out.
"""

import re
from collections.abc import Iterator

from identity_gateway.errors import InvalidToken
from identity_gateway.protocol.jwt.checks import check_times
from identity_gateway.protocol.jwt.claims import SignedClaims
from identity_gateway.protocol.jwt.keys import KeySet, check_signature
from identity_gateway.protocol.jwt.policy import JwtPolicy
from identity_gateway.protocol.jwt.token import MAX_TOKEN_LENGTH, Header, UnverifiedToken, base64url

_TIMES = ("exp", "iat", "nbf")
_IDS = ("jti", "uti")
"""The token's own id (RFC 7519 §4.1.7), and Entra ID's."""

_VARIES = re.compile(rb'"(?:(exp|iat|nbf)": ?[1-9][0-9]{9}(?=[,}])|(jti|uti)": ?"[A-Za-z0-9_.:-]{1,128}")')
_DIGITS = 10
"""Of a time: from the year 2001 to 2286."""

_ID = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-"
_MOST_ID = 128


class Likeness:
    """What the tokens of one bearer have in common. Made by `likeness_of`."""

    __slots__ = ("_header", "_parts", "_policy", "_spelt", "_tail")

    def __init__(
        self, header: Header, spelt: bytes, policy: JwtPolicy, parts: list[tuple[bytes, str]], tail: bytes
    ) -> None:
        self._header = header
        self._spelt = spelt
        self._policy = policy
        self._parts = tuple((before, len(before), name, name in _TIMES) for before, name in parts)
        self._tail = tail

    def verify(self, token: bytes, keys: KeySet, *, now: float) -> float | None:
        """Return when a token like this one expires, in seconds since the epoch, if it is let in as this one was.

        None if it is another token, is none at all, or is not let in: `jwt.parse` and `jwt.verify` say why. The caller
        vouches that keys and rules are those that the likeness was found by.
        """
        signing_input, _, signature = token.rpartition(b".")
        header, _, payload = signing_input.partition(b".")
        if header != self._spelt or len(token) > MAX_TOKEN_LENGTH:
            return None
        try:
            times = self._times(base64url(payload))
            if times is None:
                return None
            check_signature(self._header, signing_input, base64url(signature), keys)
            check_times(times["exp"], times.get("nbf"), times.get("iat"), self._policy, now)
        except (InvalidToken, ValueError):
            return None
        return times["exp"]

    def _times(self, payload: bytes) -> dict[str, float] | None:
        """Return the times of a payload that differs in nothing else but ids."""
        at, times = 0, {}
        for before, length, name, is_time in self._parts:
            if not payload.startswith(before, at):
                return None
            at += length
            if is_time:
                digits = payload[at : at + _DIGITS]
                if not digits.isdigit() or digits.startswith(b"0"):
                    return None
                times[name] = float(digits)
                at += _DIGITS
            else:
                end = payload.find(b'"', at, at + _MOST_ID + 1)
                if end <= at or payload[at:end].translate(None, _ID):
                    return None
                at = end
        return times if payload[at:] == self._tail else None


def likeness_of(token: UnverifiedToken, policy: JwtPolicy, claims: SignedClaims) -> Likeness | None:
    """Return what tokens like this one have in common, or None if that cannot be told. It was let in by this policy."""
    payload, given = token.unverified_payload, claims.claims
    if b"\\" in payload:  # a name may be spelt in another way
        return None
    looked_into, parts, at = set(_looked_into(policy)), [], 0
    for match in _VARIES.finditer(payload):
        name = (match[1] or match[2]).decode("ascii")
        # A text that stands once in the payload, and is a name of the outermost object, stands there.
        if name in looked_into or name not in given or payload.count(b'"%b"' % name.encode("ascii")) != 1:
            continue
        value = str(given[name]).encode("ascii")
        end = match.end() - (name in _IDS)
        parts.append((payload[at : end - len(value)], name))
        at = end
    if "exp" not in {name for _, name in parts}:
        return None
    return Likeness(token.header, token.signing_input.partition(b".")[0], policy, parts, payload[at:])


def _looked_into(policy: JwtPolicy) -> Iterator[str]:
    """Return the claims whose values decide: of which more is asked than to be there, and to be a text or a time."""
    provider = policy.provider
    yield from (rule.name for rule in policy.custom_claims)
    yield from provider.clients
    yield from (each.claim for each in provider.scopes)
    yield from filter(None, (provider.roles, provider.issuer.tenant and provider.issuer.tenant.claim))
    for test in (*provider.refused, *(test for kind in provider.kinds for test in kind.when)):
        if test.present is None:
            yield from filter(None, (test.claim, test.same_as))
