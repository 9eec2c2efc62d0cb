"""A user gives an agent access at a vendor: the authorization code grant with PKCE, bound to one user and one browser.

`story` is the agents' and applications' side (begin, status, complete), `front_channel` what browsers meet, `session`
what is kept in between. Pages are drawn by the API layer; tokens are obtained by `authorization_server` and kept by
`vault`.
"""

from identity_gateway.consent.front_channel import Cookie, Forward, FrontChannel, Problem, ProblemKind, Question
from identity_gateway.consent.session import LIFETIME
from identity_gateway.consent.story import Consents, SessionState, Started, Status

__all__ = [
    "LIFETIME",
    "Consents",
    "Cookie",
    "Forward",
    "FrontChannel",
    "Problem",
    "ProblemKind",
    "Question",
    "SessionState",
    "Started",
    "Status",
]
