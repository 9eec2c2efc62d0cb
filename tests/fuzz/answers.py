"""Which answers of the front door exist, and whether one of them was given.

The set comes from the error classes and the service models: a new error is documented by being there.
"""

import json
import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from identity_gateway.api.public import OPEN_DOORS
from identity_gateway.api.render.json_rpc import _MCP
from identity_gateway.errors import AgentFailed, GatewayError, OperationNotServed, Unavailable
from identity_gateway.protocol.aws import load_services
from identity_gateway.protocol.aws.query import error_document
from tests.fuzz.cases import Case
from tests.fuzz.world import Answer

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NEVER = (Unavailable, AgentFailed)
"""The agent answers and every part works: these two would be a failure of the gateway."""


def _classes(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for child in kind.__subclasses__():
        if child.__module__ == kind.__module__:  # doors with bodies of their own have errors of their own
            yield child
            yield from _classes(child)


def _documented() -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    modelled = load_services().error_statuses
    for kind in _classes(GatewayError):
        if kind not in _NEVER:
            status = modelled.get(kind.code, kind.status)
            assert status == kind.status or kind.code not in modelled, f"{kind.__name__} is not as its model says"
            found.setdefault(kind.code, set()).add(kind.status)
    return found


CODES = _documented()
XML_CODES: dict[str, set[int]] = {}
for _kind in _classes(GatewayError):
    if _kind not in _NEVER:
        _error = _kind.__new__(_kind)
        _error.message = ""
        _status, _body = error_document(_error, "urn:x", "-")
        _found = re.search(rb"<Code>([^<]*)</Code>", _body)
        assert _found is not None
        XML_CODES.setdefault(_found[1].decode(), set()).add(_status)
_OPEN = frozenset(path.encode() for path in OPEN_DOORS)
_RPC = frozenset(_MCP.values())
_METADATA = b"/.well-known/oauth-protected-resource"


def is_open_door(case: Case) -> bool:
    """Say whether anybody may see what stands at this path: health, pages, discovery documents, metadata."""
    if case.path == b"/":
        return case.method != "POST"
    return case.path in _OPEN or case.path.startswith(_METADATA) or case.path.endswith(_METADATA)


def let_in(case: Case, answer: Answer) -> bool:
    """Say whether the request reached an agent or took effect."""
    return bool(answer.agent) or (answer.status < 300 and not is_open_door(case) and not _is_rpc_error(answer))


def code_of(answer: Answer) -> str:
    """Return the AWS error code of an answer, or nothing."""
    if kind := answer.headers.get(b"x-amzn-errortype"):
        return kind.decode("latin-1")
    found = re.search(rb"<Code>([^<]{1,64})</Code>", answer.body)
    return found[1].decode("latin-1") if found else ""


def fault_of(case: Case, answer: Answer) -> str:
    """Say what is wrong with an answer, whatever was decided; nothing if it is documented."""
    if answer.fault:
        return answer.fault
    said = answer.body + b"".join(answer.headers.values())
    if any(secret in said for secret in case.secrets if secret) and not answer.agent:
        return "the answer repeats a secret of the request"
    if b"Traceback" in said or b'File "' in said:
        return "the answer shows a traceback"
    if is_open_door(case) and not answer.headers.get(b"x-amzn-errortype"):
        return "" if answer.status in {200, 204, 400, 401, 404, 405} else f"an open door answered {answer.status}"
    if answer.agent and answer.status in {101, 200}:
        return _without_id(answer)
    if answer.headers.get(b"content-type", b"").startswith(b"text/xml"):
        return _xml_fault(answer)
    return _without_id(answer) or _json_fault(case, answer)


def _without_id(answer: Answer) -> str:
    found = answer.headers.get(b"x-amzn-requestid", b"").decode("latin-1")
    return "" if _UUID.fullmatch(found) else "the answer has no request id"


def _json_fault(case: Case, answer: Answer) -> str:
    try:
        document = json.loads(answer.body) if answer.status != 204 else {}
    except ValueError:
        return "the body is not JSON"
    if not isinstance(document, dict):
        return "the body is not an object"
    code = code_of(answer)
    if not code:
        return "" if answer.status < 300 else f"status {answer.status} without an error code"
    if _is_rpc_error(answer):
        found = document.get("error", {})
        fits = code in CODES and found.get("code") in {*_RPC, -32011} and isinstance(found.get("message"), str)
        return "" if fits and (answer.status in CODES[code] | {200}) else "an undocumented error of JSON-RPC"
    if not isinstance(document.get("message"), str):
        return "the error has no message"
    upgrade = answer.status == 426 and case.path.endswith(b"/ws") and code == "ValidationException"
    if not upgrade and answer.status not in CODES.get(code, ()):
        return f"{answer.status} {code} is not documented"
    return "" if answer.status < 500 or code == OperationNotServed.code else f"{answer.status} {code}"


def _is_rpc_error(answer: Answer) -> bool:
    return b"x-amzn-errortype" in answer.headers and answer.body.startswith(b'{"jsonrpc"')


def _xml_fault(answer: Answer) -> str:
    try:
        document = ET.fromstring(answer.body)
    except ET.ParseError:
        return "the body is not XML"
    if answer.status == 200:
        return "" if document.tag.endswith("Response") else "the answer is no response of an action"
    code, found = code_of(answer), document.find("./{*}RequestId")
    if found is None or not _UUID.fullmatch(found.text or ""):
        return "the answer has no request id"
    return "" if answer.status in XML_CODES.get(code, ()) else f"{answer.status} {code} is not documented"
