"""Requests that are alike but for what each says anew: signed alike, with the same names of headers, for known targets.

What `parse` and `verify` found out about one request holds of every other of its form, so that only what differs is
read of those: the values of headers, the time and the signature. Whatever is doubtful is not read at all. Nothing is
learnt but from a request whose signature was verified: strangers cannot fill this memory, nor push anything out of it.
This module knows no keys and no clock, and refuses nothing.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from operator import itemgetter
from typing import Any, TypeVar

from identity_gateway.errors import IncompleteSignature
from identity_gateway.model import Secret
from identity_gateway.protocol.headers import Headers
from identity_gateway.protocol.request import Request, SignedRequest
from identity_gateway.protocol.sigv4.canonical import (
    ALGORITHM,
    Scope,
    canonical_query_string,
    canonical_uri,
    signing_key,
)
from identity_gateway.protocol.sigv4.elements import PresentedSignature, basic_date, moment

K = TypeVar("K")
V = TypeVar("V")

_REMEMBERED = 4096
"""Forms, targets, hosts and times that are remembered, at most, of each."""

_LONGEST = 2048
"""Bytes of a form or target that is remembered, at most."""

_SIGNATURE = 64
_TRIVIAL = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
"""What a header's value may hold without a thought. Blanks are thought about, and nothing else is read here."""


class SigningKey:
    """The key that a secret signs with on one day (`YYYYMMDD`) in one scope, ready to sign: as secret as the secret."""

    __slots__ = ("_inner", "_outer", "day")

    def __init__(self, secret: Secret, day: str, scope: Scope) -> None:
        key = signing_key(secret, day, scope.region, scope.service).ljust(64, b"\0")
        self.day = day
        # HMAC (RFC 2104) whose two hashes have read the key already: half the work for texts this short.
        self._inner = sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in key))

    def signature(self, string_to_sign: bytes) -> bytes:
        """Return the lower-case hexadecimal signature."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(string_to_sign)
        outer.update(inner.digest())
        return outer.hexdigest().encode()


class _Form:
    """What requests share whose Authorization header is the same up to the signature, and whose headers' names are."""

    __slots__ = (
        "access_key_id", "breaks", "canonical", "date", "day", "declares_hash", "names", "pairs", "scope", "signed",
    )  # fmt: skip

    def __init__(self, presented: PresentedSignature) -> None:
        names, headers = presented.signed_headers, presented.request.headers
        lines = b"".join(_literal(name) + b":%b\n" for name in names)
        day = presented.timestamp[:8]
        self.access_key_id = presented.access_key_id
        self.names = names
        self.day = day
        self.date = day.encode()
        self.scope = f"\n{presented.scope.on(day)}\n".encode()
        self.canonical = b"%b" + lines + b"\n" + _literal(b";".join(names)) + b"\n%b"
        # Host and X-Amz-Date are always signed: of fewer than two names these would not return tuples.
        self.signed: Callable[[Any], tuple[bytes, ...]] = itemgetter(*names)
        places = (place for place, (name, _) in enumerate(headers) if name in names)
        self.pairs: Callable[[Any], Headers] = itemgetter(*places)
        self.breaks = len(headers) - 1
        self.declares_hash = b"x-amz-content-sha256" in names

    def to_sign(self, date: bytes, canonical: bytes) -> bytes:
        """Return the string to sign of a canonical request."""
        return b"%b\n%b%b%b" % (_ALGORITHM, date, self.scope, sha256(canonical).hexdigest().encode())


class _Moments:
    """The times that requests were said to be signed at, in seconds since the epoch."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def of(self, date: bytes) -> float | None:
        """Return the time of an X-Amz-Date, or None where it is none."""
        known = self._known.get(date)
        if known is None:
            try:
                known = moment(basic_date(date.decode("latin-1"))).timestamp()
            except IncompleteSignature:
                return None
            _keep(self._known, date, known)
        return known


class Reading:
    """A signature of a known form that has not been verified. It proves nothing unless `is_by` says so.

    `signed_at` is in seconds since the epoch, `day` is `YYYYMMDD`.
    """

    __slots__ = ("_form", "_signature", "_to_sign", "access_key_id", "day", "security_token", "signed_at")

    def __init__(self, form: _Form, signed_at: float, token: bytes | None, to_sign: bytes, signature: bytes) -> None:
        self.access_key_id = form.access_key_id
        self.day = form.day
        self.signed_at = signed_at
        self.security_token = token
        self._form = form
        self._to_sign = to_sign
        self._signature = signature

    def is_by(self, key: SigningKey) -> bool:
        """Say whether this key made the signature. `verify` says why, if not."""
        return key.day == self.day and compare_digest(key.signature(self._to_sign), self._signature)

    def proven(self, request: Request) -> SignedRequest:
        """Return what a signature proves that is good, of the request that it was read from."""
        return SignedRequest(
            self.access_key_id, request.method, request.raw_path, request.raw_query, self._form.pairs(request.headers)
        )


class Likeness:
    """Requests of one form whose headers are the same but for the values of some, which are said to it anew.

    Made by `Forms.likeness`.
    """

    __slots__ = ("_canonical", "_date", "_declared", "_form", "_open", "_signature", "_token")

    def __init__(self, form: _Form, fields: Mapping[bytes, bytes], places: Mapping[bytes, int]) -> None:
        lines = [
            _literal(name) + (b":%b\n" if name in places else _literal(b":" + fields[name] + b"\n"))
            for name in form.names
        ]
        self._form = form
        self._canonical = b"%b" + b"".join(lines) + b"\n" + _literal(b";".join(form.names)) + b"\n%b"
        self._open = [places[name] for name in form.names if name in places]
        self._date = places[b"x-amz-date"]
        self._signature = places[b"authorization"]
        self._declared = places[b"x-amz-content-sha256"] if form.declares_hash else None
        self._token = fields.get(b"x-amz-security-token")

    def read(self, target: bytes, values: Sequence[bytes], digest: bytes, moments: _Moments) -> Reading | None:
        """Return what a request presents that has these values, each of visible ASCII."""
        form, date = self._form, values[self._date]
        signed_at = moments.of(date)
        if signed_at is None or date[:8] != form.date:
            return None
        if self._declared is not None and values[self._declared] != digest:
            return None
        canonical = self._canonical % (target, *[values[place] for place in self._open], digest)
        return Reading(form, signed_at, self._token, form.to_sign(date, canonical), values[self._signature])


class Forms:
    """The forms of requests that were signed for one scope and verified."""

    def __init__(self) -> None:
        self._forms: OrderedDict[tuple[bytes, tuple[bytes, ...]], _Form] = OrderedDict()
        self._targets: OrderedDict[tuple[str, bytes, bytes], bytes] = OrderedDict()
        self._hosts: OrderedDict[bytes, None] = OrderedDict()
        self._moments = _Moments()

    def learn(self, presented: PresentedSignature) -> None:
        """Remember the form of a request. To be called when its signature was verified, and only then."""
        request = presented.request
        fields = dict(request.headers)
        authorization = fields[b"authorization"]
        start, last = authorization[:-_SIGNATURE], authorization[-_SIGNATURE:]
        # Only the end of the header may differ from request to request, and nothing but the signature may stand there.
        if start.rpartition(b",")[2].lstrip(b" \t") != b"Signature=" or last != presented.signature.encode():
            return
        if len(fields) != len(request.headers) or b"x-amz-date" not in fields:
            return
        target, form = (request.method, request.raw_path, request.raw_query), (start, tuple(fields))
        if len(request.raw_path) + len(request.raw_query) > _LONGEST or len(start) + sum(map(len, fields)) > _LONGEST:
            return
        if target not in self._targets:
            _keep(self._targets, target, _canonical_target(request))
        if form not in self._forms:
            _keep(self._forms, form, _Form(presented))
        if len(fields[b"host"]) <= _LONGEST and fields[b"host"] not in self._hosts:
            _keep(self._hosts, fields[b"host"], None)

    def read(self, request: Request, body_sha256: str) -> Reading | None:
        """Return what a request of a known form presents, or None: `parse` then says whether it presents anything.

        Checks what `parse` does, but for the time, and the hash of the body that the request declares.
        """
        headers = request.headers
        fields = dict(headers)
        authorization, date = fields.get(b"authorization"), fields.get(b"x-amz-date")
        if authorization is None or date is None or len(fields) != len(headers):
            return None
        form = self._forms.get((authorization[:-_SIGNATURE], tuple(fields)))
        target = self._targets.get((request.method, request.raw_path, request.raw_query))
        if form is None or target is None or fields[b"host"] not in self._hosts:
            return None
        values = b"\n".join(fields.values())
        apart = values.translate(None, _TRIVIAL)
        # Single blanks inside of values, and nothing else: no runs of them, none around a value, no controls.
        if apart.count(b"\n") != form.breaks or apart.count(b" ") + form.breaks != len(apart):
            return None
        if len(values.split()) != len(apart) + 1:
            return None
        signed_at, digest = self._moments.of(date), body_sha256.encode()
        if (
            signed_at is None
            or date[:8] != form.date
            or (form.declares_hash and fields[b"x-amz-content-sha256"] != digest)
        ):
            return None
        canonical = form.canonical % (target, *form.signed(fields), digest)
        token = fields.get(b"x-amz-security-token")
        return Reading(form, signed_at, token, form.to_sign(date, canonical), authorization[-_SIGNATURE:])

    def likeness(self, request: Request, body_sha256: str, places: Mapping[bytes, int]) -> Likeness | None:
        """Return what requests like this one have in common whose values differ of some headers, of which form it is.

        `places` says which values are which headers', among those that are said anew; of the Authorization header it is
        the signature. None if `read` would not read this request.
        """
        if self.read(request, body_sha256) is None or not places.keys() >= {b"authorization", b"x-amz-date"}:
            return None
        fields = dict(request.headers)
        form = self._forms[(fields[b"authorization"][:-_SIGNATURE], tuple(fields))]
        if form.declares_hash and b"x-amz-content-sha256" not in places:
            return None
        return Likeness(form, fields, places)

    def read_like(
        self, likeness: Likeness, target: tuple[str, bytes, bytes], values: Sequence[bytes], body_sha256: str
    ) -> Reading | None:
        """Do as `read`, for a request like one before it: method, path and query, and the values that it says anew.

        They are of visible ASCII, and the signature has its place to itself: it cannot be told from more of the header.
        """
        known = self._targets.get(target)
        return None if known is None else likeness.read(known, values, body_sha256.encode(), self._moments)


_ALGORITHM = ALGORITHM.encode()


def _keep(memory: OrderedDict[K, V], key: K, value: V) -> None:
    """Remember one thing more, and forget the oldest when there are too many."""
    memory[key] = value
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _canonical_target(request: Request) -> bytes:
    """Return the first three lines of the canonical request."""
    query = canonical_query_string(request.raw_query)
    return b"%b\n%b\n%b\n" % (request.method.encode(), canonical_uri(request.raw_path), query)


def _literal(text: bytes) -> bytes:
    """Return what becomes this text where values are filled in."""
    return text.replace(b"%", b"%%")
