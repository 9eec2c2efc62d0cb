"""A world of replicas, stores, a vendor and callers, and what must hold in it whatever happens."""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from identity_gateway.errors import Conflict, Unavailable
from identity_gateway.fingerprints import Fingerprints
from identity_gateway.model import Grant, NamedUser
from identity_gateway.protocol.oauth2 import Requested
from identity_gateway.refresh import ConsentNeeded, Fresh, Refreshing, Usable
from identity_gateway.sealing import Unsealable
from identity_gateway.vault import Holder, Vault
from tests.fakes.ephemeral_in_memory import InMemoryEphemeral, Shelf
from tests.fakes.records_in_memory import InMemoryRecords, Memory
from tests.simulation.vendor import LIFETIME, Kind, Line, Pair, Vendor

ACCOUNT = "000000000000"
EPOCH = 1_800_000_000.0
BORN = datetime(2026, 1, 1, tzinfo=UTC)
FINGERPRINTS = Fingerprints([b"k" * 32])
UNAVOIDABLE = {"lost on the wire", "died with its process", "spilled, then wiped"}
"""Fates of an answer that no client can do anything about: no store has it, and nobody alive either."""

NOT_YET_SAFE = {"vendor.travel", "vendor.process", "vendor.answer", "envelope.seal", "ephemeral.put"}
"""Where a process that dies takes the answer with it: it has left the vendor, and stands nowhere yet."""

HERE: contextvars.ContextVar["Replica | None"] = contextvars.ContextVar("replica", default=None)


class OpenEnvelope:
    """Binds to the place like the real one, but can be read through: the world looks where a token is kept."""

    def __init__(self, step: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        self._step = step

    async def seal(self, plaintext: bytes, *, place: tuple[str, ...]) -> bytes:
        await self._step("envelope.seal")
        return "|".join(place).encode() + b"\n" + plaintext

    async def prepare(self, *, place: tuple[str, ...]) -> Callable[[bytes], bytes]:
        await self._step("envelope.prepare")
        return lambda plaintext: "|".join(place).encode() + b"\n" + plaintext

    async def open(self, sealed: bytes, *, place: tuple[str, ...]) -> bytes:
        head, _, plaintext = sealed.partition(b"\n")
        if head != "|".join(place).encode():
            raise Unsealable
        return plaintext


@dataclass
class Story:
    """What happens to whom. Numbers are seconds from the beginning; events at a step are for the first replica."""

    name: str
    kind: Kind
    seed: int
    replicas: int = 2
    grants: int = 1
    callers: int = 3
    seconds: float = 900.0
    patience: tuple[float, float] = (1.0, 30.0)
    latency: tuple[float, float] = (0.05, 2.0)
    trouble: dict[str, float] = field(default_factory=dict)
    crashes: tuple[tuple[float, int], ...] = ()
    consents: tuple[float, ...] = ()
    wipes: tuple[float, ...] = ()
    ephemeral_down: tuple[tuple[float, float], ...] = ()
    records_down: tuple[tuple[float, float], ...] = ()
    writes_down: tuple[tuple[float, float], ...] = ()
    stalls: float = 0.0
    rejects: float = 0.0
    at_step: tuple[int, str] | None = None


@dataclass
class Result:
    """What came of a story."""

    story: Story
    wrong: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    calls: int = 0
    rotations: int = 0
    steps: int = 0
    struck: tuple[str, ...] = ()
    verdicts: Counter[str] = field(default_factory=Counter)


class Replica:
    """One process. A crash cuts its tasks off where they stand, and none of them reaches a store again."""

    def __init__(self, world: "World", index: int, life: int) -> None:
        self.index = index
        self.alive = True
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in their order: the same seed cuts them off alike
        self.under_way: list[str] = []
        self._world = world
        ephemeral = InMemoryEphemeral(world.shelf, self.step, clock=world.clock)
        records = InMemoryRecords(world.memory, self.step)
        self.vault = Vault(records, OpenEnvelope(self.step), FINGERPRINTS, ACCOUNT, clock=world.clock)
        self.refreshing = Refreshing(
            self.vault,
            ephemeral,
            Line(world.vendor, self.step, self),
            clock=world.clock,
            jitter=world.rng.random,
            owner=f"replica-{index}-{life}",
        )

    async def step(self, name: str) -> None:
        if not self.alive:
            raise asyncio.CancelledError
        self.under_way.append(name)
        try:
            self._world.passing(self, name)
            await asyncio.sleep(self._world.latency(name))
        finally:
            self.under_way.remove(name)
        if not self.alive:
            raise asyncio.CancelledError

    def crash(self) -> None:
        self.alive = False
        self._world.mourn(self)
        for task in list(self.tasks):
            task.cancel()


class World:
    """Tells one story."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.rng = random.Random(f"{story.name}/{story.kind.name}/{story.seed}")
        self.memory = Memory(watch=self._watch)
        self.shelf = Shelf()
        self.vendor = Vendor(story.kind, self.clock, self._trouble, self.rng)
        self.result = Result(story)
        self.client = story.kind.client()
        self.calm = False
        self.steps = 0
        self._down: dict[str, float] = {}
        self._start = 0.0
        self._ever_kept: set[str] = set()
        self._consented: dict[str, int] = {}
        self._lives: Counter[int] = Counter()
        self.replicas: list[Replica] = []

    # --- What the parts ask of the world ---

    def clock(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    def since(self) -> float:
        return asyncio.get_running_loop().time()

    def latency(self, name: str) -> float:
        if name in {"vendor.travel", "vendor.answer"}:
            return self.rng.uniform(*self.story.latency) / 2
        if name.startswith("vendor."):
            return 0.0
        if not self.calm and self.story.stalls and self.rng.random() < self.story.stalls:
            return self.rng.uniform(0.1, 30.0)
        return self.rng.choice((0.0, 0.0, 0.001, 0.005))

    def passing(self, replica: Replica, name: str) -> None:
        """Let happen what the story wants to happen at this step. Raises what the replica meets there."""
        if replica.index == 0 and not self.calm:
            self.steps += 1
            if self.story.at_step is not None and self.story.at_step[0] == self.steps:
                self.result.struck = tuple(sorted({*replica.under_way}))
                self._strike(replica, self.story.at_step[1])
        if self.calm:
            return
        area, _, verb = name.partition(".")
        writes = verb in {"begin_writing", "commit", "committed"}
        if area in {"records", "ephemeral"} and self._is_down(area, writes=writes):
            raise Unavailable(reason=f"{area} is down")

    def _is_down(self, area: str, *, writes: bool) -> bool:
        now = self.since() - self._start
        spans = {"records": self.story.records_down, "ephemeral": self.story.ephemeral_down}[area]
        spans += self.story.writes_down if area == "records" and writes else ()
        return self.since() < self._down.get(area, 0.0) or any(start <= now < end for start, end in spans)

    def _strike(self, replica: Replica, event: str) -> None:
        match event:
            case "crash":
                self._kill(replica.index, 5.0)
                raise asyncio.CancelledError
            case "wipe":
                self._wipe()
            case "consent":
                self._spawn(self._consent_again(0.0))
            case "ephemeral down":
                self._down["ephemeral"] = self.since() + 30.0
            case "records down":
                self._down["records"] = self.since() + 30.0
            case "both down":
                self._down = {"records": self.since() + 30.0, "ephemeral": self.since() + 30.0}

    def _trouble(self) -> str:
        if self.calm:
            return ""
        drawn = self.rng.random()
        for trouble, share in self.story.trouble.items():
            if drawn < share:
                return trouble
            drawn -= share
        return ""

    def _watch(self, before: Any, after: Any) -> None:
        """See every commit: nobody may overwrite what is newer than what it saw."""
        if not isinstance(after, Grant):
            return
        self._ever_kept |= {pair.access for pair in self._pairs() if f'"{pair.access}"'.encode() in after.sealed}
        if before is None:
            return
        if after.generation < before.generation:
            self.result.wrong.append(f"generation {before.generation} was overwritten by {after.generation}")
        if after.generation == before.generation and after.sealed != before.sealed:
            self.result.wrong.append(f"generation {after.generation} holds other tokens than before")
        if _consent_in(after.sealed) < _consent_in(before.sealed):
            self.result.wrong.append("tokens of an older consent replaced those of a newer one")

    def mourn(self, replica: "Replica") -> None:
        """Note which answers died with a process: received, but kept nowhere."""
        for pair in self._pairs():
            if pair.replica is replica and pair.fate == "received" and not self._keeps(pair, rows=False):
                pair.fate = "died with its process"

    def _wipe(self) -> None:
        for pair in self._pairs():
            spilled = self._keeps(pair, rows=False) and not self._keeps(pair, rows=True)
            if spilled and not (pair.replica is not None and pair.replica.alive):
                pair.fate = "spilled, then wiped"
        self.shelf.entries.clear()

    def _pairs(self) -> list[Pair]:
        return [pair for family in self.vendor.families.values() for pair in family.pairs]

    def _keeps(self, pair: Pair, *, rows: bool) -> bool:
        kept = [row.sealed for row in self._rows()]
        kept += [] if rows else [entry for entry, _ in self.shelf.entries.values()]
        return pair.access in self._ever_kept or any(f'"{pair.access}"'.encode() in each for each in kept)

    def _rows(self) -> list[Grant]:
        return list(self.memory.rows.get(Grant, {}).values())

    # --- The story ---

    async def tell(self) -> Result:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_owned_task)
        self.calm = True
        self.replicas = [self._replica(index) for index in range(self.story.replicas)]
        for number in range(self.story.grants):
            await self._consent(f"user-{number}", self.replicas[0])
        ids = {row.vendor_subject: row.id for row in self._rows()}
        self.calm = False
        await asyncio.sleep(LIFETIME * 0.92)
        start = self.since()
        actors = [self._caller(number, ids, start + self.story.seconds) for number in range(self.story.callers)]
        actors += [self._later(start + at, self._consent_again(0.0)) for at in self.story.consents]
        actors += [self._later(start + at, self._wiped()) for at in self.story.wipes]
        actors += [self._later(start + at, self._killed(index)) for at, index in self.story.crashes]
        self._start = start
        await asyncio.gather(*(self._spawn(actor) for actor in actors))
        self.calm = True
        self.result.steps = self.steps
        await asyncio.sleep(60.0)
        self.result.calls, self.result.rotations = self.vendor.calls, self.vendor.rotations
        for number in range(self.story.grants):
            await self._judge(f"user-{number}", ids)
        self.result.wrong += self.vendor.crossed
        return self.result

    def _spawn(self, actor: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return contextvars.Context().run(asyncio.get_running_loop().create_task, actor)

    async def _later(self, at: float, actor: Coroutine[Any, Any, Any]) -> None:
        await asyncio.sleep(max(0.0, at - self.since()))
        await actor

    async def _wiped(self) -> None:
        self._wipe()

    async def _killed(self, index: int) -> None:
        self._kill(index, self.rng.choice((1.0, 10.0, 70.0)))

    def _kill(self, index: int, rest: float) -> None:
        if self.replicas[index].alive:
            self.replicas[index].crash()
            self._spawn(self._restart(index, rest))

    async def _restart(self, index: int, rest: float) -> None:
        await asyncio.sleep(rest)
        self.replicas[index] = self._replica(index)

    def _replica(self, index: int) -> Replica:
        self._lives[index] += 1
        return Replica(self, index, self._lives[index])

    async def _within(self, replica: Replica, action: Coroutine[Any, Any, Any]) -> Any:
        """Do something in a replica. None when it crashed meanwhile; Unavailable passes for an answer."""

        async def begin() -> Any:
            HERE.set(replica)
            task = asyncio.current_task()
            assert task is not None
            replica.tasks[task] = None
            return await action

        task = self._spawn(begin())
        await asyncio.wait({task})
        if task.cancelled():
            return None
        if isinstance(task.exception(), Unavailable | Conflict):
            return task.exception()
        return task.result()

    def _living(self) -> Replica | None:
        living = [replica for replica in self.replicas if replica.alive]
        return self.rng.choice(living) if living else None

    # --- Users ---

    def _holder(self, user: str) -> Holder:
        return Holder("agent", BORN, NamedUser(user), "provider", "provider-id", Requested(("read",)))

    async def _consent(self, user: str, replica: Replica) -> None:
        began = self.clock()
        answered = self.vendor.consent(user)
        number = _number(answered.credentials[0].access.reveal())
        stored = await self._within(replica, replica.vault.store_consent(self._holder(user), answered, began=began))
        if isinstance(stored, tuple):
            self._consented[user] = max(number, self._consented.get(user, 0))

    async def _consent_again(self, pause: float) -> None:
        user = f"user-{self.rng.randrange(self.story.grants)}"
        wanted = self._consented[user] + 1
        await asyncio.sleep(pause)
        while self._consented[user] < wanted:
            replica = self._living()
            if replica is not None:
                await self._consent(user, replica)
            await asyncio.sleep(1.0)

    # --- Callers ---

    async def _caller(self, number: int, ids: dict[str, str], end: float) -> None:
        users = sorted(ids)
        while self.since() < end:
            await asyncio.sleep(self.rng.uniform(*self.story.patience) if self.steps else 0.0)
            user = users[self.rng.randrange(len(users))]
            replica = self.replicas[number % len(self.replicas)]
            if replica.alive:
                await self._ask(replica, user, ids[user])

    async def _ask(self, replica: Replica, user: str, grant_id: str) -> Fresh | None:
        found = await self._within(replica, self._fresh(replica, user, grant_id, None))
        if isinstance(found, Usable):
            token = found.tokens.access.reveal()
            if not self.vendor.is_valid(token) or self.rng.random() < self.story.rejects:
                self.result.verdicts["rejected by the vendor"] += 1
                found = await self._within(replica, self._fresh(replica, user, grant_id, token))
        self.result.verdicts[type(found).__name__] += 1
        return found if not isinstance(found, Exception) else None

    async def _fresh(self, replica: Replica, user: str, grant_id: str, rejected: str | None) -> Fresh:
        known = self._consented[user]
        grant = await replica.vault.get(grant_id)
        assert grant is not None
        found = await replica.refreshing.fresh(grant, self.client, rejected=rejected)
        if isinstance(found, Usable):
            self._check(found, user, known, rejected)
        return found

    def _check(self, found: Usable, user: str, known: int, rejected: str | None) -> None:
        token = found.tokens.access.reveal()
        family = self.vendor.of_access[token]
        if family.user != user:
            self.result.wrong.append(f"{user} was given a token of {family.user}")
        if family.consent < known:
            self.result.wrong.append(f"{token} is of an older consent than {known}")
        if token == rejected:
            self.result.wrong.append(f"{token} was handed out again though it was rejected")
        if found.grant.expires_at is not None and found.grant.expires_at.timestamp() <= self.clock():
            self.result.wrong.append(f"{token} was handed out though it had ended")

    # --- Judgement ---

    async def _judge(self, user: str, ids: dict[str, str]) -> None:
        """Ask in calm weather until there is a verdict, and ask the vendor whether it is true."""
        for _ in range(40):
            replica = self._living()
            found = None if replica is None else await self._ask(replica, user, ids[user])
            if isinstance(found, Usable) and self.vendor.is_valid(found.tokens.access.reveal()):
                self.result.kept += 1
                return
            if isinstance(found, ConsentNeeded):
                self._blame(user, found)
                return
            await asyncio.sleep(120.0)
        self.result.wrong.append(f"{user} never gets a verdict: {found}")

    def _blame(self, user: str, found: ConsentNeeded) -> None:
        row = next(row for row in self._rows() if row.vendor_subject == user)
        sent = _text_in(row.sealed, b'"refresh":"')
        fates = [pair.fate for pair in self._pairs() if pair.spent == sent]
        unavoidable = bool(fates) and UNAVOIDABLE.issuperset(fates)
        tries = sum(1 for use in self.vendor.uses if use.token == sent)
        if self.story.kind.leeway and fates and fates[-1] == "lost on the wire":
            unavoidable &= tries > 3 or "died with its process" in fates or self._was_stormy()
            fates.append("lost on the wire at every try inside the leeway")
        if self.result.struck and fates and fates[-1] == "died with its process":
            unavoidable &= not NOT_YET_SAFE.isdisjoint(self.result.struck)
        if self.story.kind.rotates and not self.story.kind.old_survives and unavoidable:
            self.result.lost[fates[-1]] += 1
        else:
            self.result.wrong.append(f"{user}: lost ({found.reason}), and the answers for {sent} were {fates}")

    def _was_stormy(self) -> bool:
        story = self.story
        return bool(story.crashes or story.ephemeral_down or story.records_down or story.writes_down or story.stalls)


def _owned_task(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context") or contextvars.copy_context()
    replica = context.get(HERE)
    if replica is not None:
        replica.tasks[task] = None
        task.add_done_callback(lambda done: replica.tasks.pop(done, None))
    return task


def _number(token: str) -> int:
    return int(token.split("/")[1])


def _consent_in(sealed: bytes) -> int:
    found = _text_in(sealed, b'"access":"')
    return _number(found) if found else 10**9


def _text_in(sealed: bytes, before: bytes) -> str:
    return sealed.partition(before)[2].partition(b'"')[0].decode()
