"""Calls whose heads are of a form that was read before (`server.forms`): found out again by their values alone.

What `server.lane` makes sure of in a head that a parser has read holds of each of its form: they have the same headers,
with the same values but for those that are looked at here. Nothing is decided here: `invocation.recall` says who calls.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from identity_gateway.invocation.known import Known, Signer
from identity_gateway.invocation.recall import Recall, signer_of
from identity_gateway.protocol import headers
from identity_gateway.protocol.request import Request
from identity_gateway.protocol.sigv4 import Likeness
from identity_gateway.server.forms import AUTHORIZATION, Form, Forms
from identity_gateway.server.turn import CallerConnection

_NEEDED = frozenset({AUTHORIZATION, headers.SESSION_ID})

_TRIES, _TRIES_UNTIL_AGAIN = 8, 0xF
"""Requests in a row that differ from the one before them, until a connection's are compared each sixteenth time."""


@dataclass(slots=True)
class Use:
    """What is made of heads of one form, for places that pass the same headers to their agents.

    `session`, `credential` and `trace` say which of the values are these; `lines` are those headers for the agent whose
    values are the same in all heads, and `passed` which others there are. Bearers have neither `signer` nor `likeness`.
    """

    passed: frozenset[bytes]
    session: int
    credential: int
    trace: int | None
    lines: bytes | None = field(repr=False)
    signer: Signer | None
    likeness: Likeness | None


@dataclass(slots=True)
class Found:
    """A call that is let in: what is known of it, and what is passed on of it. `proves` does it once more."""

    known: Known
    lines: bytes = field(repr=False)
    trace_id: bytes
    body: bytes = field(repr=False)
    proves: Callable[[], bool] | None


class Alike:
    """What is known of heads by their form."""

    __slots__ = ("_forms", "_recall")

    def __init__(self, recall: Recall) -> None:
        self._recall = recall
        self._forms: Forms[Use] = Forms()

    def learn(self, protocol: CallerConnection, known: Known, signed: Request | None, body: bytes) -> None:
        """Expect calls of the form of this one, which was let in: whole, plain, and in one segment, as it was parsed.

        `signed` is what its signature has proven.
        """
        protocol.unlike += 1
        if protocol.unlike <= _TRIES or not protocol.unlike & _TRIES_UNTIL_AGAIN:
            protocol.form = self._form_of(protocol, known, signed, body)

    def _form_of(
        self, protocol: CallerConnection, known: Known, signed: Request | None, body: bytes
    ) -> Form[Use] | None:
        passed = known.place.passed
        form = self._forms.learn(protocol.segment, protocol.url, protocol.headers, passed)
        if form is None or form.use is not None:
            return form
        at, fields = form.at, dict(protocol.headers)
        if not at.keys() >= _NEEDED or (headers.TRACE_ID in fields and headers.TRACE_ID not in at):
            return None
        likeness = signer = None
        if signed is not None:
            likeness, signer = self._recall.likeness(signed, body, at), signer_of(fields)
            if likeness is None:
                return None
        lines = None
        if passed.isdisjoint(at):
            lines = known.place.lines([(name, value.strip()) for name, value in protocol.headers if name in passed])
        form.use = Use(
            passed, at[headers.SESSION_ID], at[AUTHORIZATION], at.get(headers.TRACE_ID), lines, signer, likeness
        )
        return form

    def find(self, protocol: CallerConnection, request: bytes) -> Found | None:
        """Return what is known of a request that arrived in one piece, if it has the form of the last one; or None.

        None is also said of one that is not let in at once, for whatever reason.
        """
        form, recall = protocol.form, self._recall
        if form is None or (protocol.unlike > _TRIES and protocol.unlike & _TRIES_UNTIL_AGAIN):
            return None
        read, use = form.read(request), form.use
        if read is None or use is None:
            return None
        values, body = read
        protocol.unlike = 0
        path, _, query = values[0].partition(b"?")
        session, credential = values[use.session], values[use.credential]
        proves = None
        if use.likeness is None:
            known = recall.borne(path, query, session, form.begins + credential)
        else:
            assert use.signer is not None
            known = recall.signed(path, query, session, use.signer)
        if known is None or known.place.passed is not use.passed or recall.has_aged(known):
            return None
        if use.likeness is not None:
            target = "POST", path, query
            if not recall.proves_like(known, use.likeness, target, values, body):
                return None
            proves = lambda: recall.proves_like(known, use.likeness, target, values, body)  # noqa: E731
        lines = use.lines
        if lines is None:
            passed = [each for each in form.headers(values) if each[0] in use.passed]
            if any(len(value) > headers.MAX_VALUE for _, value in passed):
                return None
            try:
                lines = known.place.lines(passed)
            except ValueError:
                return None
        return Found(known, lines, b"" if use.trace is None else values[use.trace], body, proves)
