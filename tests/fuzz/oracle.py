"""What may be let in, decided without the product: botocore calculates signatures, PyJWT reads tokens.

Deliberately short. Where it is more generous than the product, `doomed` cases and the checks of the agent's side watch.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import jwt
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from tests.fuzz.cases import SESSION, USER, Case

_SKEW, _LEEWAY = 302, 62
_TYPES = {"jwt", "at+jwt", "application/jwt", "application/at+jwt"}
_MEANING = {"crit", "b64", "zip", "enc", "jku", "x5u", "jwk"}
_TARGET = re.compile(rb"/runtimes/([^/]+)/(invocations|ws)")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_CARRIER = "base64UrlBearerAuthorization."


@dataclass(frozen=True)
class Rules:
    """Whom an agent runtime, or a role, lets in: None asks for a signature."""

    audience: str | None = None
    client: str | None = None
    scope: str | None = None
    methods: tuple[str, ...] = ("POST",)


@dataclass(frozen=True)
class Known:
    """What the oracle knows of the gateway: its keys, its runtimes by ARN, its issuer with the published keys."""

    key_id: str
    secret: str
    region: str
    account: str
    runtimes: Mapping[str, Rules]
    issuer: str
    published: tuple[dict[str, Any], ...]
    role: str = ""

    def may_pass(self, case: Case) -> bool:
        """Say whether a correct gateway may let this request in (to an agent, or to an effect)."""
        if len(case.values(b"authorization")) > 1 or len(case.values(b"host")) != 1:
            return False
        found = _TARGET.fullmatch(case.path)
        if case.path == b"/":
            return self._exchange(case)
        if case.path.startswith(b"/runtimes/"):
            return found is not None and self._agent(case, found)
        return not case.web_socket and self._signed(case, "bedrock-agentcore")

    def _agent(self, case: Case, found: re.Match[bytes]) -> bool:
        rules = self._runtime(unquote_to_bytes(found[1]), _pairs(case.query))
        if rules is None or (found[2] == b"ws") != case.web_socket:
            return False
        if not case.web_socket and case.method not in rules.methods:
            return False
        if rules.audience is None:
            in_query = any(name.lower().startswith("x-amz-") for name, _ in _pairs(case.query) or ())
            in_query = case.web_socket and in_query
            return self._presigned(case) if in_query else self._signed(case, "bedrock-agentcore")
        return any(self.token_passes(token, rules) for token in _bearer(case))

    def _runtime(self, label: bytes, query: list[tuple[str, str]] | None) -> Rules | None:
        if query is None:
            return None
        said, names = dict(query), [name for name, _ in query]
        if (
            names.count("qualifier") > 1
            or names.count("accountId") > 1
            or said.get("qualifier", "DEFAULT") != "DEFAULT"
        ):
            return None
        name = label.decode("utf-8", "replace").removesuffix("/runtime-endpoint/DEFAULT")
        if not name.startswith("arn:"):
            if said.get("accountId") != self.account or b"/" in label:
                return None
            name = f"arn:aws:bedrock-agentcore:{self.region}:{self.account}:runtime/{name}"
        return self.runtimes.get(name) if said.get("accountId", self.account) == self.account else None

    # --- Signatures ---

    def _signed(self, case: Case, service: str) -> bool:
        given = _parameters(case)
        if given is None or any(name.lower().startswith("x-amz-") for name, _ in _pairs(case.query) or ()):
            return False
        at = _date(case)
        names = given["SignedHeaders"].split(";")
        if at is None or abs(time.time() - at.timestamp()) > _SKEW or not {"x-amz-date", "date"} & set(names):
            return False
        declared = case.values(b"x-amz-content-sha256")
        if declared and declared != [hashlib.sha256(case.body).hexdigest().encode()]:
            return False
        return self._matches(case, given, at, service, _pairs(case.query), case.values(b"host")[0])

    def _presigned(self, case: Case) -> bool:
        pairs = _pairs(case.query)
        if pairs is None or case.values(b"authorization") or case.body:
            return False
        said = dict(pairs)
        given = {name: said.get(f"X-Amz-{name}", "") for name in ("Credential", "SignedHeaders", "Signature")}
        if said.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" or not re.fullmatch(
            "[0-9]+", said.get("X-Amz-Expires", "")
        ):
            return False
        try:
            at = datetime.strptime(said.get("X-Amz-Date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return False
        lasts = min(int(said["X-Amz-Expires"][:9]), 300)
        if not -_SKEW <= time.time() - at.timestamp() <= lasts + 2:
            return False
        unsigned = [pair for pair in pairs if pair[0] != "X-Amz-Signature"]
        host = case.values(b"host")[0]
        hosts = {host, host.partition(b":")[0]}  # clients presign for the bare name
        return any(self._matches(case, given, at, "bedrock-agentcore", unsigned, each) for each in hosts)

    def _matches(
        self,
        case: Case,
        given: Mapping[str, str],
        at: datetime,
        service: str,
        pairs: list[tuple[str, str]] | None,
        host: bytes,
    ) -> bool:
        stamp = at.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self.region}/{service}/aws4_request"
        names = given["SignedHeaders"].split(";")
        if given["Credential"] != f"{self.key_id}/{scope}" or pairs is None or not _covered(case, names):
            return False
        url = f"http://gateway{case.path.decode('latin-1')}"
        request = AWSRequest(method=case.method, url=url, params=pairs, data=case.body)
        request.context["timestamp"] = stamp
        headers = HTTPHeaders()
        for name, value in case.headers:
            if name.decode("latin-1") in names:
                headers[name.decode("latin-1")] = _text(host if name == b"host" else value)
        signer = SigV4Auth(Credentials(self.key_id, self.secret), service, self.region)
        lines = [
            case.method,
            signer._normalize_url_path(case.path.decode("latin-1")),
            signer.canonical_query_string(request),
            signer.canonical_headers(headers) + "\n",
            ";".join(names),
            hashlib.sha256(case.body).hexdigest(),
        ]
        right = signer.signature(signer.string_to_sign(request, "\n".join(lines)), request)
        return hmac.compare_digest(right.encode(), given["Signature"].encode())

    # --- Tokens ---

    def token_passes(self, token: str, rules: Rules) -> bool:
        """Say whether this is an access token of the issuer for these rules."""
        try:
            header, payload = (_strict(part) for part in token.split(".")[:2]) if _TOKEN.fullmatch(token) else ({}, {})
            if not (isinstance(header, dict) and isinstance(payload, dict)) or _MEANING & header.keys():
                return False
            if str(header.get("typ", "JWT")).lower() not in _TYPES:
                return False
            fitting = [each for each in self.published if each["alg"] == header.get("alg")]
            keys = [each for each in fitting if header.get("kid", each["kid"]) == each["kid"]]
            return any(self._reads(token, key, rules) for key in keys)
        except (ValueError, RecursionError):
            return False

    def _reads(self, token: str, key: dict[str, Any], rules: Rules) -> bool:
        try:
            claims = jwt.decode(
                token,
                jwt.PyJWK(key),
                algorithms=[key["alg"]],
                audience=rules.audience,
                issuer=self.issuer,
                leeway=_LEEWAY,
                options={"require": ["exp"]},
            )
        except Exception:
            return False
        if isinstance(claims["exp"], bool | str):
            return False
        scopes = claims.get("scope", claims.get("scp", ""))
        held = scopes.split(" ") if isinstance(scopes, str) else scopes
        right_client = rules.client is None or rules.client == claims.get("client_id")
        return right_client and (rules.scope is None or rules.scope in held)

    # --- The door of the security token service ---

    def _exchange(self, case: Case) -> bool:
        if case.method != "POST" or case.query or case.web_socket:
            return False
        form = dict(parse_qsl(case.body.decode("utf-8", "replace")))
        if form.get("Action") == "AssumeRoleWithWebIdentity":
            signed = not case.values(b"authorization") or self._signed(case, "sts")
            right = form.get("RoleArn") == self.role
            return signed and right and self.token_passes(form.get("WebIdentityToken", ""), Rules("gateway"))
        return self._signed(case, "sts")


def _pairs(query: bytes) -> list[tuple[str, str]] | None:
    """Return the parameters, each decoded once; None for what is not UTF-8."""
    try:
        split = (each.partition(b"=") for each in query.split(b"&") if each)
        return [(unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()) for name, _, value in split]
    except UnicodeDecodeError:
        return None


def _parameters(case: Case) -> dict[str, str] | None:
    shown = case.values(b"authorization")
    if len(shown) != 1 or not shown[0].strip().startswith(b"AWS4-HMAC-SHA256 "):
        return None
    parts = [part.strip().partition("=") for part in _text(shown[0]).strip()[17:].split(",")]
    found = {name: value for name, _, value in parts}
    whole = len(parts) == 3 and found.keys() == {"Credential", "SignedHeaders", "Signature"}
    return found if whole else None


def _covered(case: Case, names: list[str]) -> bool:
    present = [name.decode("latin-1") for name, _ in case.headers]
    matter = {name for name in present if name.startswith("x-amz-") or name.encode() == USER}
    once = {"host", "x-amz-date", "date", "x-amz-security-token", SESSION.decode(), USER.decode()}
    if any(present.count(name) > 1 for name in once) or names != sorted(set(names)):
        return False
    return set(names) <= set(present) and matter | {"host"} <= set(names)


def _date(case: Case) -> datetime | None:
    stamps, dates = case.values(b"x-amz-date"), case.values(b"date")
    try:
        if stamps:
            return datetime.strptime(_text(stamps[0]).strip(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return parsedate_to_datetime(_text(dates[0])).astimezone(UTC) if dates else None
    except ValueError:
        return None


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _bearer(case: Case) -> Iterable[str]:
    for value in case.values(b"authorization"):
        scheme, _, token = _text(value).strip().partition(" ")
        if scheme.lower() == "bearer":
            yield token
    if case.web_socket and not case.values(b"authorization"):
        for offer in _text(b",".join(case.values(b"sec-websocket-protocol"))).split(","):
            with suppress(ValueError):
                if not offer.strip().startswith(_CARRIER):
                    continue
                yield base64.urlsafe_b64decode(offer.strip().removeprefix(_CARRIER) + "==").decode("latin-1")


def _strict(part: str) -> Any:
    """Return the JSON of a part of a token, or raise ValueError for what has two readings."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise ValueError("not the canonical spelling")
    return json.loads(data.decode(), object_pairs_hook=once)


def form(**fields: str) -> bytes:
    """Return a body of the query protocol."""
    return urlencode(fields).encode()
