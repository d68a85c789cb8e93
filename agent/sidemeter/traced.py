"""Recording, where it is told as spans: a recorder of its own, so that the other one does not even ask whether to."""

from collections.abc import Callable, Sequence

from sidemeter.buffer import Buffer
from sidemeter.clock import Clock
from sidemeter.events import Event, Receipt
from sidemeter.record import Recorder, Usage
from sidemeter.settings import Settings
from sidemeter.traces import Traces

__all__ = ["TracedRecorder"]


class TracedRecorder(Recorder):
    """A recorder whose calls and commits are spans."""

    def __init__(
        self,
        buffer: Buffer,
        usage: Usage,
        settings: Settings,
        clock: Clock,
        stored: Callable[[], None],
        *,
        keep: Callable[[], None],
        traces: Traces,
    ) -> None:
        super().__init__(buffer, usage, settings, clock, stored, keep=keep)
        self._traces = traces

    def record_nowait(self, event: Event) -> str:
        """See `Recorder.record_nowait`."""
        with self._traces.recording(1):
            event_id = super().record_nowait(event)
            self._traces.taken(self._next_seq - 1, self._next_seq - 1)
            return event_id

    async def record_admitted(
        self, events: Sequence[Event], *, paid: bool = False, ends: str | None = None
    ) -> list[Receipt]:
        """See `Recorder.record_admitted`."""
        with self._traces.recording(len(events)):
            self._traces.taken(self._next_seq, self._next_seq + len(events) - 1)
            return await super().record_admitted(events, paid=paid, ends=ends)

    async def _commit(self) -> None:
        with self._traces.committing(self._gathering[0].rows) as failed:
            await super()._commit()
            if self._failing:
                failed("the disk refused it")
