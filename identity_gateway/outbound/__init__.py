"""Outbound credentials: what an agent is given when it asks for a third party's token or API key.

`resources` serves the three operations of AWS's data plane; `issued` keeps tokens that belong to no consent (machine
tokens, exchanged tokens) until they expire; `kept` finds what can be handed out without asking anybody, and `repeats`
remembers to whom it was; `refusals` says in clear words what a vendor refused. Grants themselves are `vault`'s, their
rotation `refresh`'s, and consent has its own story.
"""

from identity_gateway.outbound.issued import IssuedTokens
from identity_gateway.outbound.repeats import Known, RepeatedVends
from identity_gateway.outbound.resources import Outbound

__all__ = ["IssuedTokens", "Known", "Outbound", "RepeatedVends"]
