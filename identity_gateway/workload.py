"""Workload identities, and the workload access tokens that stand for them (and for the user they act for).

Tokens are sealed and self-contained (AES-256-GCM, key of the hour), live 15 minutes, and are opaque to everybody else:
any replica opens them. Users from a JWT and users that a caller named live in disjoint namespaces. Whether the caller
may ask at all was decided before (policy); that a `userId` is true is not verified by anybody.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from json.encoder import encode_basestring_ascii as quoted

from identity_gateway.admission import Kept, Vended
from identity_gateway.errors import AccessDenied, Conflict, InvalidToken, NotFound, ValidationFailed
from identity_gateway.inbound import UserTokens
from identity_gateway.model import (
    Document,
    Grant,
    NamedUser,
    Realm,
    Secret,
    User,
    WorkloadAccess,
    WorkloadIdentity,
    user_from_text,
    user_text,
    user_words,
)
from identity_gateway.paging import Paging
from identity_gateway.records import AlreadyExists, Records, Transaction
from identity_gateway.records.races import settled
from identity_gateway.records.watched import watched
from identity_gateway.sealing import Sealer, Unsealable, from_text, to_text
from identity_gateway.tags import drop_tags, put_tags

LIFETIME = 900.0
"""Seconds that a workload access token lives (AWS: 15 minutes, not configurable)."""

SEALING_PERIOD = 3600
_PAGE = 20


class WorkloadTokens:
    """Mints and opens workload access tokens of one account."""

    def __init__(self, sealer: Sealer, account: str, *, clock: Callable[[], float]) -> None:
        self._sealer = sealer
        self._account = account
        self._clock = clock

    def mint(
        self,
        workload: str,
        user: User | None,
        inbound_token: Secret | None = None,
        actors: tuple[str, ...] = (),
        *,
        hosted: bool = False,
    ) -> Secret:
        """Return a token for this agent and user. The inbound JWT travels inside, for a later on-behalf-of exchange.

        `actors` are the agents through which the call came, the first one first. `hosted` says that the workload is an
        agent runtime which receives the token with a call: tokens that somebody asked for never say so.
        """
        now = self._clock()
        content: Document = {
            "w": workload,
            "u": user_text(user),
            "t": inbound_token.reveal() if inbound_token else None,
            "c": list(actors),
            "h": hosted,
            "i": now,
            "e": now + LIFETIME,
        }
        plaintext = json.dumps(content, separators=(",", ":")).encode()
        sealed = self._sealer.seal(plaintext, place=(self._account, "workload-access-token"), now=now)
        return Secret(to_text(sealed))

    def minting(self, workload: str, user: User | None, *, hosted: bool = False) -> Callable[[Secret | None], bytes]:
        """Return what does as `mint` for this agent and user, again and again; it is given the inbound JWT alone."""
        begin = json.dumps({"w": workload, "u": user_text(user), "c": [], "h": hosted}, separators=(",", ":"))[:-1]

        def mint(inbound_token: Secret | None) -> bytes:
            now, seal = self._clock(), self._sealer.seal
            shown = "null" if inbound_token is None else quoted(inbound_token.reveal())
            content = f'{begin},"t":{shown},"i":{now!r},"e":{now + LIFETIME!r}}}'
            sealed = seal(content.encode(), place=(self._account, "workload-access-token"), now=now)
            return to_text(sealed).encode()

        return mint

    def open(self, token: str) -> WorkloadAccess:
        """Return what the token stands for. Raises AccessDenied when it is foreign, changed or expired."""
        try:
            content = json.loads(self._sealer.open(from_text(token), place=(self._account, "workload-access-token")))
        except (ValueError, Unsealable):
            raise AccessDenied("The workload access token is not valid.", reason="token does not open") from None
        if content["e"] <= self._clock():
            raise AccessDenied("Token has expired. Get a new workload access token.", reason="token expired")
        try:
            user = user_from_text(content["u"])
        except (ValueError, TypeError):
            raise InvalidToken(reason="the sealed user has an unknown form") from None
        return WorkloadAccess(
            account=self._account,
            workload=content["w"],
            user=user,
            inbound_token=Secret(content["t"]) if content["t"] else None,
            actors=tuple(content["c"]),
            hosted=content.get("h") is True,
            issued_at=content["i"],
            expires_at=content["e"],
        )


class Workloads:
    """The workload identities of one account, and the three calls that mint tokens for them."""

    def __init__(
        self,
        records: Records,
        tokens: WorkloadTokens,
        user_tokens: UserTokens,
        paging: Paging,
        realm: Realm,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._tokens = tokens
        self._user_tokens = user_tokens
        self._paging = paging
        self._realm = realm
        self._clock = clock

    async def create_workload_identity(self, asked: Document) -> Document:
        """CreateWorkloadIdentity."""
        try:
            async with self._records.write() as transaction:
                made = await create(
                    transaction,
                    self._realm.account,
                    asked["name"],
                    now=self._now(),
                    return_urls=tuple(asked.get("allowedResourceOauth2ReturnUrls", ())),
                )
                await put_tags(transaction, self._realm.account, self._arn(made), asked.get("tags", {}))
        except AlreadyExists:
            raise Conflict(f"A workload identity named {asked['name']} exists already.") from None
        return self._shown(made)

    async def get_workload_identity(self, asked: Document) -> Document:
        """GetWorkloadIdentity."""
        found = await self._found(asked["name"])
        return self._shown(found) | {"createdTime": found.created_at, "lastUpdatedTime": found.updated_at}

    async def update_workload_identity(self, asked: Document) -> Document:
        """UpdateWorkloadIdentity: replaces the list of return URLs, also on the identity of an agent runtime."""
        return_urls = tuple(asked.get("allowedResourceOauth2ReturnUrls", ()))

        async def effect(transaction: Transaction) -> WorkloadIdentity:
            found = await transaction.get(WorkloadIdentity, account=self._realm.account, name=asked["name"])
            if found is None:
                raise _unknown(asked["name"])
            return await transaction.update(replace(found, return_urls=return_urls, updated_at=self._now()))

        changed = await settled(self._records, effect)
        return self._shown(changed) | {"createdTime": changed.created_at, "lastUpdatedTime": changed.updated_at}

    async def delete_workload_identity(self, asked: Document) -> Document:
        """DeleteWorkloadIdentity. The identity of an agent runtime goes with its runtime, not before."""
        async with self._records.write() as transaction:
            found = await transaction.get(WorkloadIdentity, account=self._realm.account, name=asked["name"])
            if found is None:
                raise _unknown(asked["name"])
            if found.managed_by is not None:
                raise ValidationFailed(
                    f"The workload identity is linked to {found.managed_by} and is deleted with it.",
                    kind="ResourceConflict",
                )
            await delete(transaction, self._realm, found.name)
        return {}

    async def list_workload_identities(self, asked: Document) -> Document:
        """ListWorkloadIdentities, in the order of the names."""
        question = "ListWorkloadIdentities"
        limit = asked.get("maxResults", _PAGE)
        async with self._records.read() as transaction:
            rows = await transaction.list(
                WorkloadIdentity,
                account=self._realm.account,
                after=self._paging.after(asked.get("nextToken"), question),
                limit=limit + 1,
            )
        rows, token = self._paging.page(rows, limit, ("name",), question)
        shown = [{"name": row.name, "workloadIdentityArn": self._arn(row)} for row in rows]
        return {"workloadIdentities": shown, "nextToken": token}

    async def get_workload_access_token(self, asked: Document) -> Vended:
        """GetWorkloadAccessToken: the agent alone, no user."""
        return self._minted(await self._own(asked["workloadName"]), None)

    async def get_workload_access_token_for_user_id(self, asked: Document) -> Vended:
        """GetWorkloadAccessTokenForUserId: the agent and a user that the caller names."""
        return self._minted(await self._own(asked["workloadName"]), NamedUser(asked["userId"]))

    async def get_workload_access_token_for_jwt(self, asked: Document) -> Vended:
        """GetWorkloadAccessTokenForJWT: the agent and the user that the JWT proves. No audience is checked (AWS)."""
        workload = await self._own(asked["workloadName"])
        token = Secret(asked["userToken"])
        return self._minted(workload, await self._user_tokens.user_of(token), token)

    async def kept(self, asked: Document) -> Kept | None:
        """Return what mints a token for the agent alone, or for the user whose id is named; None if that is refused.

        It mints anew each time, and may as long as the identity is what it is.
        """
        name, user_id = asked["workloadName"], asked.get("userId")
        found, watch = await watched(self._records, WorkloadIdentity, account=self._realm.account, name=name)
        if found is None or found.managed_by is not None:
            return None
        user = None if user_id is None else NamedUser(user_id)
        mint = partial(self._tokens.mint, found.name, user)
        watches = () if watch is None else (watch,)
        return Kept("workloadAccessToken", {"user": user_words(user)}, mint, math.inf, watches)

    async def _own(self, name: str) -> WorkloadIdentity:
        """Return an identity that callers may mint for: not one that belongs to an agent runtime."""
        found = await self._found(name)
        if found.managed_by is not None:
            raise ValidationFailed(
                "The workload identity is linked to an agent runtime, which receives its tokens with each invocation; "
                "callers cannot ask for one."
            )
        return found

    async def _found(self, name: str) -> WorkloadIdentity:
        found = await self._records.current(WorkloadIdentity, account=self._realm.account, name=name)
        if found is None:
            raise _unknown(name)
        return found

    def _minted(self, workload: WorkloadIdentity, user: User | None, token: Secret | None = None) -> Vended:
        minted = self._tokens.mint(workload.name, user, token)
        return Vended({"workloadAccessToken": minted.reveal()}, {"user": user_words(user)})

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _arn(self, identity: WorkloadIdentity) -> str:
        return self._realm.workload_identity_arn(identity.name)

    def _shown(self, identity: WorkloadIdentity) -> Document:
        return {
            "name": identity.name,
            "workloadIdentityArn": self._arn(identity),
            "allowedResourceOauth2ReturnUrls": list(identity.return_urls),
        }


async def create(
    transaction: Transaction,
    account: str,
    name: str,
    *,
    now: datetime,
    return_urls: tuple[str, ...] = (),
    managed_by: str | None = None,
) -> WorkloadIdentity:
    """Insert an identity. Raises AlreadyExists."""
    made = WorkloadIdentity(account, name, return_urls, managed_by, created_at=now, updated_at=now)
    await transaction.create(made)
    return made


async def delete(transaction: Transaction, realm: Realm, name: str) -> None:
    """Delete an identity, its tags, and what users granted to it.

    The vendors are not told: what a grant stood for lives on there until it expires. Revoking is a step before this.
    """
    await transaction.delete(WorkloadIdentity, account=realm.account, name=name)
    await transaction.delete(Grant, account=realm.account, workload=name)
    await drop_tags(transaction, realm.account, realm.workload_identity_arn(name))


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no workload identity named {name}.")
