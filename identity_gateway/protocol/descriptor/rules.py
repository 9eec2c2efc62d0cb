"""The words that every section of a descriptor uses: paths, conditions, error rules, variables. It sends nothing."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Path = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
"""Where a value stands in a JSON object: names joined by dots. A number is the place in a list, from 0."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Parameter = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\[\]-]{1,128}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Host = Annotated[str, Field(pattern=r"^(\*\.)?([a-z0-9-]+\.)+[a-z]{2,}$|^\{issuer\}$")]
Seconds = Annotated[int, Field(ge=0, le=10 * 366 * 86400)]

Purpose = Literal["token", "refresh", "machine", "exchange", "revoke", "introspect", "userinfo"]
Outcome = Literal["dead_grant", "step_up", "restart", "operator_config", "admin_block", "transient", "ambiguous"]
Authentication = Literal["basic", "post", "none", "private_key_jwt", "bearer_token", "bearer_assertion"]
Encoding = Literal["form", "json", "query"]
ExpiresUnit = Literal["seconds", "milliseconds", "epoch", "epoch_milliseconds", "iso8601"]

_MAX_MATCHED = 2000
"""How much of a vendor's text a pattern ever sees: bounds what a careless pattern can cost."""


class DescriptorError(ValueError):
    """A descriptor is wrong. The text names the file and the key."""


class Part(BaseModel):
    """A table of a descriptor: unknown keys are errors, types are not guessed, nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Condition(Part):
    """One test of a response or of a webhook's body: the value at `path`, or a header. Exactly one comparison.

    `equals` and `one_of` take a number and its digits for the same (forms know only text). If the value is a list, one
    of its members must pass. `matches` must be found somewhere in the text. `present = false` holds for a value that is
    missing or null.
    """

    path: Path | None = None
    header: HeaderName | None = None
    equals: str | int | bool | None = None
    one_of: tuple[str | int, ...] = ()
    matches: str | None = None
    present: bool | None = None

    @model_validator(mode="after")
    def _is_one_test(self) -> Self:
        if (self.path is None) == (self.header is None):
            raise ValueError("name either a path or a header")
        given = [self.equals is not None, bool(self.one_of), self.matches is not None, self.present is not None]
        if sum(given) != 1:
            raise ValueError("give exactly one of equals, one_of, matches and present")
        if self.matches is not None:
            compiled(self.matches)
        return self

    def holds(self, document: Any, headers: Mapping[str, str]) -> bool:
        """Say whether the test passes. `document` is what the body said (any JSON value), `headers` in lower case."""
        value = value_at(document, self.path) if self.path is not None else headers.get((self.header or "").lower())
        if self.present is not None:
            return (value is not None) is self.present
        if isinstance(value, list):
            return any(self._passes(each) for each in value[:100])
        return self._passes(value)

    def _passes(self, value: Any) -> bool:
        if not isinstance(value, str | int | float):
            return False
        if self.matches is not None:
            return re.search(self.matches, str(value)[:_MAX_MATCHED], re.ASCII) is not None
        wanted = (self.equals,) if self.equals is not None else self.one_of
        return any(_same(value, each) for each in wanted)


def _same(value: str | float | bool, wanted: str | int | bool | None) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return str(value) == str(wanted)


class ErrorRule(Part):
    """What an answer means. Rules are tried in their order; the first that fits decides.

    `on` empty means every purpose; `status` empty means every status below 500: what a server says while it fails is
    not to be believed, unless a rule names that very status. Answers that no rule fits are read by RFC 6749 §5.2, and
    an unknown refusal is never a dead grant. `needed` is where the answer names the scopes that it misses.
    """

    on: tuple[Purpose, ...] = ()
    status: tuple[int, ...] = ()
    when: tuple[Condition, ...] = ()
    outcome: Outcome
    advice: str = ""
    needed: Path | None = None

    @model_validator(mode="after")
    def _fits_something(self) -> Self:
        if not self.status and not self.when:
            raise ValueError("a rule without status and when would fit everything")
        return self

    def fits(self, purpose: Purpose, status: int, document: Any, headers: Mapping[str, str]) -> bool:
        """Say whether the rule speaks of this answer."""
        return (
            (not self.on or purpose in self.on)
            and (status in self.status if self.status else status < 500)
            and all(condition.holds(document, headers) for condition in self.when)
        )


class Variable(Part):
    """A part of URLs and parameters that is not the same for everybody.

    `source`: `operator` (a setting of the provider), `issuer` (the provider's `issuer`), `tenant` (its `tenantId`),
    `caller` (customParameters of the call), `callback` (a parameter of the vendor's redirect), `response` (a path of
    the token response, kept with the grant). `from` names the parameter or path; `pattern` must match in full.

    A variable may begin a URL (`{issuer}/token`) if its pattern begins with `https://`. What it leads to must still be
    one of `hosts`, or the provider's own issuer.
    """

    source: Literal["operator", "issuer", "tenant", "caller", "callback", "response"]
    origin: str | None = Field(default=None, alias="from")
    default: str | None = None
    pattern: str
    description: str = Field(min_length=1)

    @model_validator(mode="after")
    def _pattern_compiles(self) -> Self:
        compiled(self.pattern)
        if self.default is not None and not self.accepts(self.default):
            raise ValueError("the default does not match the pattern")
        if self.source in {"callback", "response"} and self.origin is None:
            raise ValueError(f"a variable from the {self.source} needs `from`")
        return self

    def accepts(self, value: str) -> bool:
        """Say whether a value may stand for this variable: the whole of it matches, and nothing in it is invisible."""
        visible = len(value) <= _MAX_MATCHED and value.isprintable()
        return visible and re.fullmatch(self.pattern, value, re.ASCII) is not None

    @property
    def is_url(self) -> bool:
        """Say whether values are whole URLs, so that one may begin a URL."""
        return self.pattern.lstrip("^(").removeprefix("?:").startswith("https://")


def value_at(document: Any, path: str) -> Any:
    """Return the value at a path of a JSON value, or None. Never raises."""
    for name in path.split("."):
        if isinstance(document, Mapping):
            document = document.get(name)
        elif isinstance(document, list) and name.isdecimal() and len(name) < 5 and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of a descriptor. Raises ValueError, which validation turns into an error with a key."""
    try:
        return re.compile(pattern, re.ASCII)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
