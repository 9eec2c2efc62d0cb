"""The short way of a call like one that was let in (`invocation.recall`): from socket to socket, no tasks.

It serves what is whole and small when it arrives, and has a connection to its agent at once. Everything else, and every
doubt before the agent was sent anything, goes the long way, which knows all answers. This module decides nothing.
"""

from dataclasses import dataclass

from identity_gateway.api.exchange import MAX_HEAD, MAX_HEADERS
from identity_gateway.protocol import headers
from identity_gateway.protocol.request import Request
from identity_gateway.server.passage import Means, Passage
from identity_gateway.server.turn import CallerConnection, Turn
from identity_gateway.server.vend import TARGETS, Till, Vend

_SMALL = 65_536
_CONTROLS = bytes([*range(9), *range(10, 32), 127])
_DECIDES = frozenset({b"expect", b"content-encoding"})
"""Headers with which a call for a credential goes the long way."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Which calls take the short way."""

    means: Means
    till: Till

    def again(self, protocol: CallerConnection, request: bytes) -> Passage | None:
        """Return the passage of a request that arrived in one piece and is like the one before it on its connection.

        None if it is not, or if there is any doubt: then it is read like every other.
        """
        found = self.means.alike.find(protocol, request)
        if found is None or len(found.body) > _SMALL:
            return None
        connection = self.means.upstream.idle(found.known.place.origin)
        if connection is None:
            return None
        passage = Passage(self.means, protocol, found.known, found.lines, found.trace_id)
        passage.arrived(request, found, connection)
        return passage

    def enter(self, protocol: CallerConnection, by_name: dict[bytes, bytes]) -> Turn | None:
        """Return the turn of a POST whose head has arrived, or None if it must go the long way.

        Nothing stands twice in the head, which is one of HTTP/1.1.
        """
        if protocol.head_size > MAX_HEAD or len(by_name) > MAX_HEADERS:
            return None
        length = by_name.get(b"content-length", b"")
        if not length.isdigit() or len(length) > 5 or int(length) > _SMALL:
            return None
        values = b"".join(by_name.values())
        if len(values.translate(None, _CONTROLS)) != len(values):
            return None
        if protocol.url in TARGETS:
            return self._vend(protocol, by_name)
        raw_path, _, raw_query = protocol.url.partition(b"?")
        known = self.means.recall.find(raw_path, raw_query, by_name)
        if known is None:
            return None
        place = known.place
        passed = []
        for name, value in protocol.headers:
            if name in place.passed:
                if len(value) > headers.MAX_VALUE:
                    return None
                passed.append((name, value.strip()))
        try:
            lines = place.lines(passed)
        except ValueError:
            return None
        signed = None
        if place.signer is not None:
            signed = Request("POST", raw_path, raw_query, tuple(protocol.headers))
        passage = Passage(self.means, protocol, known, lines, by_name.get(headers.TRACE_ID, b"").strip(), signed)
        passage.keep_alive = protocol.parser.should_keep_alive()
        return passage

    def _vend(self, protocol: CallerConnection, by_name: dict[bytes, bytes]) -> Vend | None:
        if b"authorization" not in by_name or not _DECIDES.isdisjoint(by_name):
            return None
        vend = Vend(self.till, protocol, Request("POST", protocol.url, b"", tuple(protocol.headers)))
        vend.keep_alive = protocol.parser.should_keep_alive()
        return vend
