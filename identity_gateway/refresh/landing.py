"""Where the answer to a refresh is kept: spilled to the ephemeral store first, then stored with the grant.

The vendor has spent the old refresh token by then, so that the answer must not get lost: a process that dies between
the two leaves it where the next one looks; when both stores fail, memory holds it until one of them works again.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from identity_gateway.ephemeral import Ephemeral
from identity_gateway.errors import Unavailable
from identity_gateway.model import Grant, Secret
from identity_gateway.protocol.oauth2 import Credential
from identity_gateway.records import Stale
from identity_gateway.refresh.answers import Usable
from identity_gateway.refresh.decision import is_alive
from identity_gateway.vault import Prepared, Tokens, Vault

SPILL_SECONDS = 86400.0

_FIRST_PAUSE = 0.5
_LAST_PAUSE = 30.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a refresh gave, and when its call began. `refresh_lifetime` counts when the credential does not say.

    `prepared` keeps it without a key service; what was spilled already has none.
    """

    credential: Credential
    began: float
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict, repr=False)
    refresh_lifetime: float | None = None
    prepared: Prepared | None = None


class Landing:
    """Lands rotations. One for each process; close it with `aclose`, which waits for what is still in the air."""

    def __init__(
        self,
        vault: Vault,
        ephemeral: Ephemeral,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._vault = vault
        self._ephemeral = ephemeral
        self._clock = clock
        self._sleep = sleep
        self._held: dict[str, tuple[int, Usable]] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    def held(self, grant: Grant) -> Usable | None:
        """Return what a refresh of this generation gave, if it lives and could not be stored yet."""
        generation, usable = self._held.get(grant.id, (0, None))
        alive = usable is not None and generation == grant.generation and is_alive(usable.grant, self._clock())
        return usable if alive else None

    def is_holding(self, grant_id: str) -> bool:
        """Whether what a refresh of this grant gave is in memory, because it is not stored yet."""
        return grant_id in self._held

    async def spilled(self, grant: Grant) -> Rotation | None:
        """Return what a refresh of this generation gave, if somebody could not store it any more."""
        with contextlib.suppress(Unavailable):
            sealed = await self._ephemeral.get(_key(grant))
            content = None if sealed is None else await self._vault.open_spilled(grant, sealed)
            return None if content is None else _rotation(json.loads(content), grant)
        return None

    async def land(self, grant: Grant, tokens: Tokens, rotation: Rotation, *, spilled: bool = False) -> Usable | None:
        """Keep a rotation of this grant. None: look at the grant again, somebody else wrote it or it is too old.

        Raises nothing when the stores fail: then it is handed out, and kept as soon as they work.
        """
        renewed = tokens.renewed(rotation.credential, rotation.variables, rotation.secrets)
        usable = Usable(
            self._vault.rotated(grant, rotation.credential, renewed, rotation.began, rotation.refresh_lifetime), renewed
        )
        self._held[grant.id] = grant.generation, usable
        spilled = spilled or await self._spill(grant, rotation)
        try:
            stored = await self._store(grant, rotation)
        except Stale:
            _log.info("rotation_not_needed", grant=grant.id, generation=grant.generation)
            await self._forget(grant)
            return None
        except Unavailable as error:
            _log.error("rotation_not_stored", grant=grant.id, spilled=spilled, reason=error.reason)
            self._keep_trying(grant, rotation, spilled=spilled)
            return self.held(grant)
        await self._forget(grant)
        return Usable(stored, renewed) if is_alive(stored, self._clock()) else None

    async def aclose(self, timeout: float) -> None:
        """Wait that many seconds for the stores to take what is still held; then give up."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout)
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _store(self, grant: Grant, rotation: Rotation) -> Grant:
        return await self._vault.store_rotation(
            grant,
            rotation.credential,
            began=rotation.began,
            variables=rotation.variables,
            more=rotation.secrets,
            refresh_lifetime=rotation.refresh_lifetime,
            prepared=rotation.prepared,
        )

    async def _spill(self, grant: Grant, rotation: Rotation) -> bool:
        assert rotation.prepared is not None
        try:
            await self._ephemeral.put(
                _key(grant), rotation.prepared.spilled(_content(rotation, grant)), ttl=SPILL_SECONDS
            )
        except Unavailable as error:
            _log.warning("rotation_not_spilled", grant=grant.id, reason=error.reason)
            return False
        return True

    async def _forget(self, grant: Grant) -> None:
        if self._held.get(grant.id, (0, None))[0] == grant.generation:
            del self._held[grant.id]
        with contextlib.suppress(Unavailable):
            await self._ephemeral.delete(_key(grant))

    def _keep_trying(self, grant: Grant, rotation: Rotation, *, spilled: bool) -> None:
        key = (grant.id, grant.generation)
        if key not in self._tasks:
            self._tasks[key] = task = asyncio.create_task(self._retry(grant, rotation, spilled=spilled))
            task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _retry(self, grant: Grant, rotation: Rotation, *, spilled: bool) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._sleep(pause)
            pause = min(_LAST_PAUSE, pause * 2)
            spilled = spilled or await self._spill(grant, rotation)
            try:
                await self._store(grant, rotation)
            except Unavailable:
                continue
            except Stale:
                _log.info("rotation_not_needed", grant=grant.id, generation=grant.generation)
            await self._forget(grant)
            return


def _key(grant: Grant) -> str:
    return f"rotation:{grant.account}:{grant.id}:{grant.generation}"


def _content(rotation: Rotation, grant: Grant) -> bytes:
    credential = rotation.credential
    document = {
        "digest": grant.refresh_digest,
        "part": credential.part,
        "access": credential.access.reveal(),
        "refresh": None if credential.refresh is None else credential.refresh.reveal(),
        "lifetime": credential.lifetime,
        "refreshLifetime": credential.refresh_lifetime,
        "scopes": credential.scopes,
        "kind": credential.kind,
        "subject": credential.subject,
        "began": rotation.began,
        "variables": rotation.variables,
        "secrets": {name: secret.reveal() for name, secret in rotation.secrets.items()},
        "otherwise": rotation.refresh_lifetime,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _rotation(document: dict[str, Any], grant: Grant) -> Rotation | None:
    # A database that was restored from a backup counts generations again: then it is not of this refresh token.
    if document["digest"] != grant.refresh_digest:
        return None
    credential = Credential(
        part=document["part"],
        access=Secret(document["access"]),
        refresh=None if document["refresh"] is None else Secret(document["refresh"]),
        lifetime=document["lifetime"],
        refresh_lifetime=document["refreshLifetime"],
        scopes=None if document["scopes"] is None else tuple(document["scopes"]),
        kind=document["kind"],
        subject=document["subject"],
    )
    secrets = {name: Secret(value) for name, value in document["secrets"].items()}
    found = Rotation(credential, document["began"], document["variables"], secrets)
    return replace(found, refresh_lifetime=document["otherwise"])
