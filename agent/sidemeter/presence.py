"""Who this agent is to the control plane: the hello, the epoch, and what to do when either side is not who it was."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from sidemeter.batches import Step, after_hello
from sidemeter.buffer import Buffer, Identity, Standing, StoredLimit
from sidemeter.clock import Clock
from sidemeter.errors import ControlPlaneError, Unreachable
from sidemeter.holder import Holder
from sidemeter.leases import Key
from sidemeter.limits import Subjects
from sidemeter.losses import Loss
from sidemeter.settings import Settings
from sidemeter.tenure import Tenure
from sidemeter.uplink import MAX_LOSSES, Hello, HelloAnswer, Uplink

__all__ = ["DECLARE_AGAIN_S", "Joined", "Presence"]

log = logging.getLogger(__name__)

DECLARE_AGAIN_S: Final = 60.0
"""Between two hellos whose losses were not stored: a control plane from before there were declarations stores none."""

_TURNS: Final = 3
"""Hellos in one go. A second one follows the first that finds this agent to be another, or all that it kept gone."""

_MAX_REASON: Final = 1024
"""Characters of a loss's reason, which the control plane bounds."""


class Joined(NamedTuple):
    """Who the agent is while this epoch lasts, and how large the control plane takes batches."""

    agent_id: str
    epoch: int
    generation: str | None
    nonce: bytes | None
    hello_id: str
    max_batch_events: int
    max_batch_bytes: int


class Presence:
    """The agent's standing with the control plane, as the buffer keeps it.

    `changed` is called when what the buffer holds has to be sent anew; `forget` when known totals may lack events that
    they held. `new_names` and `resends` count since the start. With the epoch goes what `tenure` holds in it.
    """

    def __init__(
        self,
        buffer: Buffer,
        uplink: Uplink | None,
        settings: Settings,
        clock: Clock,
        *,
        version: str,
        tenure: Tenure,
        changed: Callable[[], None],
        forget: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._uplink = uplink
        self._settings = settings
        self._clock = clock
        self._version = version
        self._tenure = tenure
        self._changed = changed
        self._forget = forget
        self._turn = asyncio.Lock()
        self._identity: Identity | None = None
        self._announced: HelloAnswer | None = None
        self._offered = 0
        self._declare_at_s = 0.0
        self._rebuilds = buffer.rebuilds
        self.new_names = 0
        self.resends = 0

    @property
    def epoch(self) -> int | None:
        """The agent's epoch; None before the first contact."""
        return self._identity.epoch if self._identity else None

    async def restore(self) -> None:
        """Go on as who this agent was, if it can be sure that nobody else does."""
        agent_id, hello_id = self._clock.token_hex(16), self._clock.token_hex(16)
        identity = await self._buffer.identity(agent_id, hello_id, self._clock.boot_id())
        if not self._tenure.resume(identity, await self._buffer.lease_names(), await self._buffer.kept_holds()):
            identity = await self._buffer.start_over(self._clock.token_hex(16), everything=False)
        self._identity = identity

    async def join(self) -> Joined:
        """Who this agent is. Says hello first when it has just started, or has losses to declare.

        Raises ControlPlaneError without an answer.
        """
        async with self._turn:
            if self._rebuilds != self._buffer.rebuilds:  # a new database knows no epoch
                self._rebuilds, self._announced = self._buffer.rebuilds, None
                await self.restore()
                self._changed()
            for _ in range(_TURNS):
                identity, answer = self._identity, self._announced
                if identity is None or self._uplink is None:
                    raise Unreachable("there is no control plane")
                if identity.epoch is not None and answer is not None and not self._has_news():
                    return _joined(identity, identity.epoch, answer)
                await self._say_hello(self._uplink, identity)
            raise Unreachable("the control plane knows this agent differently at each request")

    def holder(self, joined: Joined) -> Holder:
        """Who holds leases in this epoch."""
        return self._tenure.begin(
            joined.agent_id, joined.hello_id, joined.epoch, nonce=joined.nonce, generation=joined.generation
        )

    def stepped(self) -> None:
        """The cell knows how far the buffer has come, so that what is told of it may be told."""
        self._tenure.stepped(self._buffer.steps)

    async def keep(
        self,
        subjects: Subjects,
        limits: Iterable[StoredLimit],
        standing: Standing,
        named: Sequence[Key] = (),
        dropped: Sequence[Key] = (),
    ) -> None:
        """Keep what a sync was answered, and the names of leases. Raises StorageRefused: the next one keeps it again."""
        async with self._turn:
            self._identity = await self._buffer.keep_limits(subjects, limits, standing, named, dropped)

    async def resend(self, joined: Joined, batch_no: int) -> None:
        """The control plane lacks batches of this epoch from `batch_no` on: send them again, or everything."""
        async with self._turn:
            if self.epoch == joined.epoch and not await self._resend_from(joined.epoch, batch_no):
                await self._start_over(everything=True)

    async def introduce(self, joined: Joined) -> None:
        """The database is another copy: an epoch of this name and number may be someone else's there. Say hello first."""
        async with self._turn:
            if self.epoch == joined.epoch:
                self._announced = None

    async def leave(self, joined: Joined, step: Step) -> None:
        """Give the epoch up, to START_OVER or for a NEW_NAME; nothing if it was given up meanwhile."""
        async with self._turn:
            if self.epoch == joined.epoch:
                await self._leave(step)

    async def begin_anew(self, joined: Joined) -> None:
        """Go on in another epoch, with nothing held; what is left of this one is told and returned. Nothing if it is over."""
        async with self._turn:
            if self.epoch == joined.epoch:
                await self._start_over(everything=False)

    def _has_news(self) -> bool:
        """Whether there are losses to declare: new ones, or ones that were not stored the last time, a while ago."""
        left = self._buffer.open_losses
        return left > 0 and (left > self._offered or self._clock.monotonic_s() >= self._declare_at_s)

    async def _say_hello(self, uplink: Uplink, identity: Identity) -> None:
        losses = await self._buffer.losses() if self._buffer.open_losses else []
        hello = Hello(
            agent_id=identity.agent_id,
            hello_id=identity.hello_id,
            boot_id=self._clock.boot_id(),
            previous_epoch=identity.last_epoch,
            service=self._settings.service,
            version=self._version,
            generation=identity.generation,
            losses=tuple(map(_bounded, losses[:MAX_LOSSES])),
            counted=await self._buffer.counted(),
        )
        answer = await self._answer(uplink, hello)
        if answer is None:
            return
        await self._hear(identity, answer)
        stored = [each.id for each in hello.losses if each.id in answer.losses_stored]
        if stored:
            await self._buffer.declared(stored)
        self._declared(len(hello.losses) - len(stored), DECLARE_AGAIN_S if not stored else 0.0)

    async def _answer(self, uplink: Uplink, hello: Hello) -> HelloAnswer | None:
        """The answer to a hello; None when it is not needed. A loss that cannot be declared never stops the events."""
        try:
            return await uplink.hello(hello)
        except ControlPlaneError as exc:
            if not hello.losses:
                raise
            log.warning("the control plane has not stored %d losses: %s", len(hello.losses), exc)
            self._declared(len(hello.losses), DECLARE_AGAIN_S)
            if self._announced is not None:
                return None
        return await uplink.hello(msgspec.structs.replace(hello, losses=()))

    def _declared(self, in_vain: int, again_after_s: float) -> None:
        """So many losses were offered and not stored. What was noticed meanwhile was not even offered."""
        self._offered = in_vain
        self._declare_at_s = self._clock.monotonic_s() + again_after_s

    async def _hear(self, identity: Identity, answer: HelloAnswer) -> None:
        """Take the answer to a hello as who this agent is from here on."""
        settled, sealed = await self._buffer.batch_nos(identity.epoch or 0)
        step = after_hello(identity.epoch, answer.epoch, answer.next_batch_no, settled=settled, sealed=sealed)
        if step is Step.NEW_NAME:
            await self._leave(step)
            return
        if step is Step.START_OVER and self._tenure.holds:  # what is held is of this hello's epoch: begin with another
            await self._start_over(everything=True)
            return
        if step is not Step.START_OVER and not await self._buffer.is_counted_in(answer.generation):
            if identity.epoch is not None:
                await self._start_over(everything=True)
                return
            step = Step.START_OVER
        if step is Step.RESEND and not await self._resend_from(answer.epoch, answer.next_batch_no):
            await self._start_over(everything=True)
            return
        if step is Step.START_OVER:
            await self._buffer.start_over(identity.hello_id, everything=True)
        if (identity.epoch, identity.generation) != (answer.epoch, answer.generation):
            self._identity = await self._buffer.set_epoch(answer.epoch, answer.generation)
        self._announced = answer
        if identity.epoch != answer.epoch:
            log.info("epoch %d begins", answer.epoch, extra=_about(identity.agent_id, answer.epoch))
            self._sent_anew(step is Step.START_OVER)

    async def _resend_from(self, epoch: int, batch_no: int) -> bool:
        if not await self._buffer.resend_from(epoch, batch_no):
            return False
        log.warning(
            "the control plane lacks batches of epoch %d from %d on: sending them again",
            epoch,
            batch_no,
            extra=self._about(),
        )
        self._sent_anew(True)
        return True

    async def _leave(self, step: Step) -> None:
        if step is Step.NEW_NAME:
            log.warning("another process lives under this agent's name: going on under a new one", extra=self._about())
            self.new_names += 1
            await self._start_over(everything=False, agent_id=self._clock.token_hex(16))
        else:
            log.warning(
                "the control plane does not know this agent's epoch: sending again all that is kept",
                extra=self._about(),
            )
            await self._start_over(everything=True)

    def _about(self) -> dict[str, str | int | None]:
        identity = self._identity
        return {} if identity is None else _about(identity.agent_id, identity.epoch)

    async def _start_over(self, *, everything: bool, agent_id: str | None = None) -> None:
        self._tenure.lose()
        hello_id = self._clock.token_hex(16)
        self._identity = await self._buffer.start_over(hello_id, everything=everything, agent_id=agent_id)
        self._announced = None
        self._sent_anew(everything)

    def _sent_anew(self, counted_before: bool) -> None:
        if counted_before:
            self.resends += 1
            self._forget()
        self._changed()


def _about(agent_id: str, epoch: int | None) -> dict[str, str | int | None]:
    """What a line of log is about; the control plane names it the same."""
    return {"agent_id": agent_id, "epoch": epoch}


def _joined(identity: Identity, epoch: int, answer: HelloAnswer) -> Joined:
    bounds = answer.max_batch_events, answer.max_batch_bytes
    return Joined(identity.agent_id, epoch, identity.generation, identity.nonce, identity.hello_id, *bounds)


def _bounded(loss: Loss) -> Loss:
    """As the wire carries it: where it was counted is the agent's own business."""
    return msgspec.structs.replace(loss, reason=loss.reason[:_MAX_REASON], counted_in=None)
