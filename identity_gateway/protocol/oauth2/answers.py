"""Reads an answer of a vendor: a success with everything in it, or a refusal and what it means. Never raises.

A success is a 2xx status, the conditions of the descriptor, no error, and at least one usable token. Anything less is a
refusal; what may have been spent by it is `ambiguous`.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import Condition, Issued, Machine, Purpose, Response, value_at
from identity_gateway.protocol.oauth2 import scopes
from identity_gateway.protocol.oauth2.documents import Answer, Headers, answer, http_date
from identity_gateway.protocol.oauth2.lifetimes import lifetime
from identity_gateway.protocol.oauth2.model import Answered, Client, Credential, Refused
from identity_gateway.protocol.oauth2.redaction import clean
from identity_gateway.protocol.oauth2.refusals import error_code, malformed, refused

_MAX_TOKEN = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
_MAX_NAME = 256
_FURTHEST_CLOCK = 86400.0


class _Malformed(Exception):
    """An answer that was meant as a success cannot be used. The text is its code."""


def read(
    client: Client,
    purpose: Purpose,
    *,
    status: int,
    headers: Headers,
    body: bytes,
    part: str | None = None,
    now: float,
    machine: Machine | None = None,
    success: tuple[Condition, ...] | None = None,
    secrets: Collection[str] = (),
) -> Answered | Refused:
    """Return what an answer says. Never raises, whatever the vendor sent.

    `part` is the credential that was refreshed: another is no success. `machine` is the entry that was asked by.
    `success` are the conditions of a revocation's entry. `now` is when the request began, in seconds since the epoch.
    `secrets` are taken out of what a refusal quotes. Of `introspect` a success means: it lives; a dead one is refused
    with `dead_grant`. Does not compare scopes, accounts or kinds with those of an earlier answer.
    """
    response = _response(client, purpose, machine)
    form = response.format if purpose in {"token", "refresh", "machine", "exchange"} else "auto"
    got = answer(purpose, status, headers, body, form, now)
    try:
        found = _succeeded(client, got, response, part, machine, success) if 200 <= status < 300 else None
    except _Malformed as error:
        return malformed(got, str(error))
    if isinstance(found, Refused):
        return found
    return found if found is not None else refused(client, got, response, secrets=secrets)


def clock_offset(machine: Machine, *, headers: Headers, body: bytes, now: float) -> float | None:
    """Return by how many seconds the vendor's clock is ahead, when a refusal says that an assertion's times were off.

    None when it does not say so, the entry does not declare such a refusal, or the answer's date is no help.
    """
    if machine.assertion is None or not machine.assertion.clock_skew:
        return None
    got = answer("machine", 0, headers, body, "auto", now)
    if not all(condition.holds(got.document, got.headers) for condition in machine.assertion.clock_skew):
        return None
    theirs = http_date(got.headers.get("date"))
    offset = None if theirs is None else theirs - now
    return offset if offset is not None and 1 <= abs(offset) <= _FURTHEST_CLOCK else None


def _response(client: Client, purpose: Purpose, machine: Machine | None) -> Response:
    if purpose == "machine" and machine is not None and machine.response is not None:
        return machine.response
    return client.descriptor.token.response


def _succeeded(
    client: Client,
    got: Answer,
    response: Response,
    part: str | None,
    machine: Machine | None,
    success: tuple[Condition, ...] | None,
) -> Answered | Refused | None:
    """Return the success, None for a refusal in a 2xx status, or a refusal of our own. Raises _Malformed."""
    match got.purpose:
        case "revoke":
            good = _holds(success, got) if success else not error_code(got.document, response)
            return Answered(()) if good else None
        case "introspect":
            return _introspected(client, got, response)
        case "userinfo":
            return _whose(client, got, response)
        case _:
            return _issued(client, got, response, part, machine)


def _holds(conditions: tuple[Condition, ...] | None, got: Answer) -> bool:
    return all(condition.holds(got.document, got.headers) for condition in conditions or ())


def _introspected(client: Client, got: Answer, response: Response) -> Answered | Refused | None:
    rule = client.descriptor.introspect
    if rule is None or got.document is None:
        raise _Malformed("malformed_response")
    if not _holds(rule.success, got):
        return None
    if _holds(rule.active, got):
        return Answered(())
    if error_code(got.document, response):
        return None
    # Only an answer that speaks of the matter says "dead": an empty one, or one of somebody else, does not.
    if not any(each.path and value_at(got.document, each.path) is not None for each in rule.active):
        raise _Malformed("malformed_response")
    return Refused("dead_grant", "inactive", status=got.status)


def _whose(client: Client, got: Answer, response: Response) -> Answered | None:
    rule = client.descriptor.userinfo
    if rule is None or got.document is None:
        raise _Malformed("malformed_response")
    subject = _name(value_at(got.document, rule.subject))
    if not _holds(rule.success, got) or not subject:
        if error_code(got.document, response):
            return None
        raise _Malformed("malformed_response")
    account = _name(value_at(got.document, rule.account)) if rule.account else ""
    return Answered((), account=account, subject=subject, label=_label(got, (rule.label,) if rule.label else ()))


def _issued(
    client: Client, got: Answer, response: Response, part: str | None, machine: Machine | None
) -> Answered | Refused | None:
    if got.document is None:
        raise _Malformed("malformed_response")
    conditions = machine.success if got.purpose == "machine" and machine else client.descriptor.token.success
    if error_code(got.document, response) or not _holds(conditions, got):
        return None
    entries = response.issued
    if got.purpose == "refresh":
        entries = client.descriptor.refresh.issued or entries
    credentials = _credentials(client, got, response, entries, part)
    if not credentials:
        seen = any(value_at(got.document, entry.access) for entry in entries)
        return malformed(got, "unexpected_credential") if seen else None
    captured = _captured(client, got)
    if isinstance(captured, Refused):
        return captured
    return Answered(
        credentials,
        account=_first_name(got, response.account),
        subject=_first_name(got, response.subject) or credentials[0].subject,
        label=_label(got, response.label),
        variables=captured,
        secrets=_secrets(got, response.secrets),
    )


def _credentials(
    client: Client, got: Answer, response: Response, entries: tuple[Issued, ...], part: str | None
) -> tuple[Credential, ...]:
    found: dict[str, Credential] = {}
    for entry in entries:
        if entry.name in found or (part is not None and entry.name != part):
            continue
        credential = _credential(client, got, response, entry)
        if credential is not None:
            found[entry.name] = credential
    return tuple(found.values())


def _credential(client: Client, got: Answer, response: Response, entry: Issued) -> Credential | None:
    access = _token(value_at(got.document, entry.access))
    kind = value_at(got.document, entry.kind)
    kind = kind if isinstance(kind, str) and 0 < len(kind) <= _MAX_NAME and kind.isprintable() else "bearer"
    if access is None or (entry.kind_is is not None and kind.lower() != entry.kind_is.lower()):
        return None
    lives = lifetime(value_at(got.document, entry.expires), response.expires_unit, now=got.now)
    if lives is None and response.default_lifetime is not None:
        lives = float(response.default_lifetime)
    return Credential(
        part=entry.name,
        access=access,
        refresh=_token(value_at(got.document, entry.refresh)),
        lifetime=lives,
        refresh_lifetime=lifetime(value_at(got.document, entry.refresh_expires), "seconds", now=got.now),
        scopes=scopes.split(client.descriptor.scopes, value_at(got.document, entry.scope)),
        kind=kind,
        subject=(_name(value_at(got.document, entry.subject)) if entry.subject else "")
        or _first_name(got, response.subject),
    )


def _token(value: Any) -> Secret | None:
    """Return a token, or None when there is none. Raises _Malformed for what cannot be one (RFC 6749 §A.12)."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAX_TOKEN or not _TOKEN.fullmatch(value):
        raise _Malformed("malformed_token")
    return Secret(value)


def _captured(client: Client, got: Answer) -> Mapping[str, str] | Refused:
    """Return the variables to keep with the grant: those of the answer, and those of the call that led to it.

    A refresh keeps the old value in place of one out of form: its new tokens must not be lost for that.
    """
    kept = {}
    for name, variable in client.descriptor.variables.items():
        if variable.source in {"callback", "caller"} and name in client.variables:
            kept[name] = client.variables[name]
        if variable.source != "response":
            continue
        value = value_at(got.document, variable.origin or name)
        if value is None or value == "":
            continue
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and variable.accepts(text):
            kept[name] = text
        elif got.purpose != "refresh":
            return Refused("operator_config", "unexpected_variable", f"{name} has another form", status=got.status)
    return kept


def _secrets(got: Answer, paths: Mapping[str, str]) -> Mapping[str, Secret]:
    values = ((name, value_at(got.document, path)) for name, path in paths.items())
    return {name: Secret(each) for name, each in values if isinstance(each, str) and 0 < len(each) <= _MAX_TOKEN}


def _name(value: Any) -> str:
    """Return an identifier as text, or "". It is compared, so that one is never cut or cleaned into another."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    good = isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()
    return value if good else ""


def _first_name(got: Answer, paths: tuple[str, ...]) -> str:
    return next((found for path in paths if (found := _name(value_at(got.document, path)))), "")


def _label(got: Answer, paths: tuple[str, ...]) -> str:
    found = (value_at(got.document, path) for path in paths)
    return next((clean(str(each), limit=_MAX_NAME) for each in found if isinstance(each, str | int) and each), "")
