"""What a vendor says back, and the documented refusals with what each of them means."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from identity_gateway.egress import Fetched

JSON = "application/json; charset=utf-8"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `body` is an object (sent as JSON), bytes as they are, or a list of pairs (sent as a form)."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def fetched(self) -> Fetched:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.body
        if isinstance(body, Mapping):
            headers.setdefault("content-type", JSON)
            body = json.dumps(body).encode()
        elif isinstance(body, list):
            headers.setdefault("content-type", FORM)
            body = urlencode(body).encode()
        return Fetched(self.status, tuple(headers.items()), body)


class Lost:
    """The vendor does what it was asked; its answer never arrives."""


class Unreachable:
    """Nothing of the request leaves."""


@dataclass(frozen=True)
class Case:
    """A documented refusal: what the vendor answers `on` a purpose, and which outcome that is.

    `code` is the vendor's own word for it, where the answer holds one. `retry_after` in seconds. A `stray` word is one
    that the documents do not know on this purpose.
    """

    on: str
    outcome: str
    body: Any
    status: int = 400
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None
    retry_after: float | None = None
    description: str | None = None
    needed: tuple[str, ...] = ()
    variant: str = ""
    stray: bool = False

    @property
    def words(self) -> Any:
        """Return the body as an error rule sees it."""
        return dict(self.body) if isinstance(self.body, list) else self.body

    @property
    def answer(self) -> Answer:
        return Answer(self.status, self.body, self.headers)

    def __str__(self) -> str:
        return f"{self.on}-{self.status}-{self.code or 'nameless'}-is-{self.outcome}"


def cases(
    on: str, outcome: str, words: str, *, status: int = 400, key: str = "error", stray: bool = False, **more: Any
) -> tuple[Case, ...]:
    """Return a case for each purpose and word (both blank-separated): `{key: word, **more}` with that status."""
    return tuple(
        Case(purpose, outcome, {**more, key: word}, status, code=word, stray=stray)
        for purpose in on.split()
        for word in words.split()
    )
