"""What an answer that is no success means: the descriptor's rules in their order, then the standards.

An unknown refusal is the operator's business and never the end of a grant: vendors in trouble answer 400 to everybody.
"""

from collections.abc import Collection, Mapping
from typing import Any

from identity_gateway.protocol.descriptor import ErrorRule, Outcome, Purpose, Response, value_at
from identity_gateway.protocol.oauth2 import scopes
from identity_gateway.protocol.oauth2.documents import Answer
from identity_gateway.protocol.oauth2.lifetimes import retry_after
from identity_gateway.protocol.oauth2.model import Client, Refused
from identity_gateway.protocol.oauth2.redaction import clean

_LATER = frozenset({408, 425, 429})
_TRANSIENT = frozenset({"temporarily_unavailable", "slow_down"})
_STEP_UP = frozenset({"interaction_required", "login_required", "consent_required", "insufficient_user_authentication"})
"""OpenID Connect Core §3.1.2.6 and RFC 9470 §3: the grant lives, the user has to do something."""

_INVALID_GRANT: Mapping[Purpose, Outcome] = {"token": "restart", "refresh": "dead_grant", "exchange": "restart"}
"""RFC 6749 §5.2 says `invalid_grant` of codes, refresh tokens and assertions; what to do next differs."""

_MAX_CODE = 100
_MAX_DESCRIPTION = 300
_MAX_NEEDED = 100


def error_code(document: Mapping[str, Any] | None, response: Response) -> str:
    """Return the vendor's word for what went wrong, or "". An object gives its code or type; a number its digits."""
    for path in response.error:
        value = value_at(document, path)
        if isinstance(value, Mapping):
            value = next(
                (value[each] for each in ("code", "type", "error", "status", "message") if value.get(each)), "object"
            )
        if isinstance(value, str | int | float) and value not in {"", False}:
            return str(value)
        if isinstance(value, list) and value:
            return str(value[0]) if isinstance(value[0], str | int) else "list"
    return ""


def refused(client: Client, answer: Answer, response: Response, *, secrets: Collection[str]) -> Refused:
    """Return what a refusal means. `secrets` are taken out of everything that it quotes."""
    code = error_code(answer.document, response)
    rule = next((each for each in client.descriptor.errors if _fits(each, answer)), None)
    outcome = _careful(client, answer, rule) if rule is not None else standard(client, answer, code)
    prefixes = client.descriptor.token_prefixes

    def shown(text: str, limit: int) -> str:
        return clean(text, limit=limit, secrets=secrets, prefixes=prefixes)

    return Refused(
        outcome,
        shown(code, _MAX_CODE) or _nameless(answer),
        shown(_description(answer, response), _MAX_DESCRIPTION),
        advice=rule.advice if rule is not None else "",
        retry_after=retry_after(
            answer.headers.get(response.retry_after.lower()), answer.headers.get("date"), now=answer.now
        ),
        status=answer.status,
        needed=tuple(shown(each, _MAX_CODE) for each in _needed(client, answer, rule)),
    )


def _nameless(answer: Answer) -> str:
    return "malformed_response" if 200 <= answer.status < 300 else f"http_{answer.status}"


def _fits(rule: ErrorRule, answer: Answer) -> bool:
    """Say whether a rule speaks of this answer.

    A vendor that is down or overloaded may say anything: of such a status only a rule that names it decides more than
    when to come back.
    """
    if _down(answer.status) and not rule.status and rule.outcome not in {"transient", "ambiguous"}:
        return False
    return rule.fits(answer.purpose, answer.status, answer.document, answer.headers)


def _down(status: int) -> bool:
    return status >= 500 or status in _LATER


def _careful(client: Client, answer: Answer, rule: ErrorRule) -> Outcome:
    """Return the rule's outcome; a rule about a status alone does not make a spent refresh token whole again."""
    if rule.outcome == "transient" and not rule.when and _may_be_spent(client, answer):
        return "ambiguous"
    return rule.outcome


def _may_be_spent(client: Client, answer: Answer) -> bool:
    return answer.purpose == "refresh" and client.descriptor.refresh.policy.single_use and answer.status >= 500


def standard(client: Client, answer: Answer, code: str) -> Outcome:
    """Return what an answer means by HTTP, RFC 6749 §5.2, RFC 6750 §3.1 and their extensions."""
    if _may_be_spent(client, answer):
        return "ambiguous"
    if _down(answer.status) or code in _TRANSIENT:
        return "transient"
    if code == "server_error":
        single_use = answer.purpose == "refresh" and client.descriptor.refresh.policy.single_use
        return "ambiguous" if single_use else "transient"
    if code == "invalid_grant":
        return _INVALID_GRANT.get(answer.purpose, "operator_config")
    if code == "invalid_token" and answer.purpose == "introspect":
        return "dead_grant"
    if code in _STEP_UP:
        return "step_up"
    if 200 <= answer.status < 300 and not code:
        return _unusable(answer.purpose)
    return "operator_config"


def _unusable(purpose: Purpose) -> Outcome:
    """Return what a success without a usable token means: whatever was sent may have been spent."""
    return "ambiguous" if purpose in {"token", "refresh"} else "transient"


def malformed(answer: Answer, code: str, description: str = "") -> Refused:
    """Return the refusal of an answer that the vendor meant as a success."""
    return Refused(_unusable(answer.purpose), code, description, status=answer.status)


def _description(answer: Answer, response: Response) -> str:
    found = (value_at(answer.document, path) for path in response.error_description)
    return next((str(each) for each in found if isinstance(each, str | int) and each), "")


def _needed(client: Client, answer: Answer, rule: ErrorRule | None) -> tuple[str, ...]:
    if rule is None or rule.needed is None:
        return ()
    return (scopes.split(client.descriptor.scopes, value_at(answer.document, rule.needed)) or ())[:_MAX_NEEDED]
