"""The words about tokens: tests of claims, kinds of tokens, header rules, and where scopes stand. It proves nothing."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from identity_gateway.protocol.descriptor.rules import Part

ClaimName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,255}$")]
Sentence = Annotated[str, Field(min_length=1, max_length=200)]

ScopeForm = Literal["string", "list", "either"]
Accepted = Literal["always", "with_audience", "to_identify"]


class ClaimTest(Part):
    """One test of a claim: exactly one of `equals`, `one_of`, `contains_any`, `present` and `same_as` (another claim).

    `contains_any` holds for a text, or for a list that has such a member; the others compare a text alone. A claim that
    is null is present.
    """

    claim: ClaimName
    equals: str | None = None
    one_of: tuple[str, ...] = ()
    contains_any: tuple[str, ...] = ()
    present: bool | None = None
    same_as: ClaimName | None = None

    @model_validator(mode="after")
    def _is_one_test(self) -> Self:
        lists = [bool(self.one_of), bool(self.contains_any)]
        if sum([*lists, *(each is not None for each in (self.equals, self.present, self.same_as))]) != 1:
            raise ValueError("give exactly one of equals, one_of, contains_any, present and same_as")
        return self

    def holds(self, claims: Mapping[str, Any]) -> bool:
        """Say whether the claims of a token pass. A value of another type than text never equals anything."""
        if self.present is not None:
            return (self.claim in claims) is self.present
        value = claims.get(self.claim)
        if self.same_as is not None:
            return isinstance(value, str) and bool(value) and value == claims.get(self.same_as)
        found = value if self.contains_any and isinstance(value, list) else [value]
        wanted = self.contains_any or self.one_of or (self.equals,)
        return any(isinstance(each, str) and each in wanted for each in found)


class Kind(Part):
    """A kind of token: one for whose claims every test in `when` holds.

    `accepted`: `always`; `with_audience`, only where the authorizer names audiences (an ID token is made for its
    client: who did not name that client did not mean it); `to_identify`, never at the front door, but it may say who
    its user is.
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    accepted: Accepted = "always"
    when: tuple[ClaimTest, ...] = ()

    def describes(self, claims: Mapping[str, Any]) -> bool:
        """Say whether a token is of this kind."""
        return all(test.holds(claims) for test in self.when)


class RefusedToken(ClaimTest):
    """Tokens that are never let in, and the reason that operators read."""

    reason: Sentence


class RefusedHeader(Part):
    """A member of the token's header that tells that the token is not meant for others, and the reason."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_#-]{1,40}$")]
    reason: Sentence


class Header(Part):
    """What the header of a token may be.

    `types` are values of `typ`, in lower case and without `application/`; "" stands for none. They only narrow what
    every token must be: JWT, at+jwt, or without a type.
    """

    types: tuple[Literal["", "jwt", "at+jwt"], ...] = Field(default=("", "jwt", "at+jwt"), min_length=1)
    refused: tuple[RefusedHeader, ...] = ()


class ScopeClaim(Part):
    """A claim that holds scopes: a text divided by blanks (`string`), a list of texts, or either of them."""

    claim: ClaimName
    form: ScopeForm = "string"

    def read(self, value: Any) -> tuple[str, ...]:
        """Return the scopes that a claim holds. A value of another form holds none."""
        if isinstance(value, str) and self.form != "list":
            # split() would also cut at tabs and no-break spaces, which RFC 6749 §3.3 does not know.
            scopes = value.split(" ")
            return tuple(scopes) if "" not in scopes else tuple(scope for scope in scopes if scope)
        if isinstance(value, list) and self.form != "string" and all(isinstance(each, str) for each in value):
            return tuple(value)
        return ()
