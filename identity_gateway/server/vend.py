"""A call that is handed a credential which was handed out before (`outbound.repeats`): proven, recorded, answered.

Nothing is decided here, and every doubt ends on the long way.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from identity_gateway import telemetry
from identity_gateway.audit import ALLOWED, Audit
from identity_gateway.errors import Unavailable
from identity_gateway.inbound import Scheme, Signatures
from identity_gateway.outbound.repeats import RepeatedVends
from identity_gateway.protocol.request import Request
from identity_gateway.server.turn import CallerConnection, DefaultFields, Ids, Turn

TARGETS = frozenset(
    {
        b"/identities/oauth2/token",
        b"/identities/api-key",
        b"/identities/GetWorkloadAccessToken",
        b"/identities/GetWorkloadAccessTokenForUserId",
    }
)
"""Where credentials are handed out (AWS: GetResourceOauth2Token, GetResourceApiKey, GetWorkloadAccessToken…)."""

_ALLOWED = telemetry.Tally(telemetry.DECISIONS.labels(Scheme.SIGNATURE.value, ALLOWED))
_JSON = b"content-type: application/json\r\ncontent-length: %d"


@dataclass(frozen=True, slots=True)
class Till:
    """What all vends share."""

    vends: RepeatedVends
    signatures: Signatures
    audit: Audit
    ids: Ids = field(default_factory=Ids)
    defaults: DefaultFields = field(default_factory=DefaultFields)


class Vend(Turn):
    """One call."""

    __slots__ = ("_request", "_till", "_vended", "operation")

    def __init__(self, till: Till, protocol: CallerConnection, request: Request) -> None:
        """Begin with a signed head that has arrived."""
        super().__init__(protocol, till.ids.request(), till.defaults)
        self._till = till
        self._request = request
        self._vended = b""
        self.operation = "-"

    def set(self) -> None:
        """Hear from uvicorn that the body is whole, or that the caller has left."""
        if self.response_complete:
            return
        if self.disconnected:
            self.complete("the caller left")
        elif not self.more_body and not self._vended:
            self._enter()

    def proceed(self) -> None:
        """Do nothing: the answer was written whole."""

    def _enter(self) -> None:
        till, digest = self._till, sha256(self.body).hexdigest()
        proven = till.signatures.at_once(self._request, digest)
        if proven is not None:
            principal = proven[0]
            known = till.vends.find(self._request.raw_path, principal.access_key_id, digest)
            if known is not None and (principal is known.principal or principal == known.principal):
                vended = known.answer()  # before the record: what does not open was not vended
                if vended is not None:
                    self.operation, self._vended = known.operation, vended
                    till.audit.repeat_durably(known.trail, self._request_id, self._source, self._recorded)
                    return
        self.go_the_long_way()

    def _recorded(self, fault: Unavailable | None) -> None:
        """Answer, now that this is on record."""
        if self.response_complete:  # the caller has left
            return
        if fault is not None:
            self.go_the_long_way()
            return
        _ALLOWED.add()
        if self._protocol.transport.is_closing():  # `set` will say so
            return
        self.write_head(200, _JSON % len(self._vended), self._vended)
        self.complete()
