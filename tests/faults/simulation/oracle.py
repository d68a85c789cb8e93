"""The oracle: outside of everything. It remembers what was issued, and what was promised for it, and watches."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidemeter.events import Event, Receipt

from .world import World

if TYPE_CHECKING:
    from .disk import Disk
    from .plane import Books, Plane

__all__ = ["CALL", "ODD", "POISON", "SUBJECTS", "Issue", "Key", "Oracle"]

CALL: Final = "call"
ODD: Final = "odd"
"""A type of event that the control plane of the simulation cannot read: a dead letter."""
POISON: Final = "poison"
"""A type of event for which the control plane of the simulation refuses a whole batch."""
SUBJECTS: Final = ("acme", "globex", "initech")
NANO: Final = 10**9

Key = tuple[str, str]
"""The source and the id of an event."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One event as its caller means it. `tag` is the oracle's name for it, and in its data; `key` None: minted."""

    tag: str
    key: Key | None
    type: str
    subject: str
    time_us: int | None
    number: int
    pad: int

    @property
    def data(self) -> str:
        """The text that must arrive."""
        return f'{{"tag":"{self.tag}","n":{self.number},"pad":"{"x" * self.pad}"}}'

    def event(self) -> Event:
        """What the caller hands to the agent."""
        source, name = self.key or (None, None)
        return Event(name, source, self.type, self.subject, self.time_us, self.data)


class Oracle:
    """Every check of safety is made at the step that could break it; `verdict` asks for the rest when all is done.

    `at_risk` are tags whose only copy a fault destroyed: those may be missing if they are declared lost. `forgiven`
    are keys of which every copy is gone by faults that no program can notice.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.disks: list[Disk] = []
        self.issues: dict[str, Issue] = {}
        self.acknowledged: dict[Key, str] = {}
        self.accepted: defaultdict[str, set[str]] = defaultdict(set)
        self.refused: set[str] = set()
        self.at_risk: set[str] = set()
        self.forgiven: set[Key] = set()
        self._once_stored: set[Key] = set()
        self.to_repeat: list[Issue] = []
        self._tags: defaultdict[Key, set[str]] = defaultdict(set)
        self._key_of: dict[str, Key] = {}
        self.plane: Plane

    # What callers tell it

    def issue(self, kind: str, *, named: bool, rival: Issue | None = None, pad: int = 0) -> Issue:
        """A fresh event, written down before anyone else sees it; `rival`: another event with the same name."""
        rng, tag = self.world.rng, f"t{len(self.issues)}"
        key = rival.key if rival else ("shop", f"id-{tag}") if named else None
        time_us = 1_767_225_600_000_000 + rng.randrange(7_200_000_000) if rng.random() < 0.5 else None
        issue = Issue(tag, key, kind, rng.choice(SUBJECTS), time_us, rng.randint(1, 999), pad)
        self.issues[tag] = issue
        if key is not None:
            self._tags[key].add(tag)
        return issue

    def answered(self, issues: Sequence[Issue], receipts: Sequence[Receipt]) -> None:
        """Events were acknowledged: each is durable somewhere, now."""
        for issue, receipt in zip(issues, receipts, strict=True):
            key = (receipt.source, receipt.id)
            if issue.key not in {None, key}:
                self.world.violated(f"{issue.tag} was acknowledged as {key}, and is {issue.key}")
            self._note_key(issue.tag, key)
            self.world.note("acknowledged", issue.tag, key[1], "duplicate" if receipt.duplicate else "")
            self._owe(key, issue.tag, "acknowledged")

    def taken(self, issue: Issue, event_id: str, source: str, process: str) -> None:
        """An event was accepted by `record_nowait`: it is promised to be kept unless its process is killed."""
        self._note_key(issue.tag, (source, event_id))
        self.accepted[process].add(issue.tag)
        self.world.note("accepted", issue.tag, event_id)

    def flushed(self, issues: Iterable[Issue]) -> None:
        """What was accepted is durable now, as `flush` says."""
        for issue in issues:
            self.world.note("flushed", issue.tag)
            self._owe(self._key_of[issue.tag], issue.tag, "flushed")

    def turned_away(self, issues: Iterable[Issue], why: str) -> None:
        """Events were refused: nothing of them is kept. One with a name may have been kept at another try."""
        for issue in issues:
            self.world.note("refused", issue.tag, why)
            if issue.key is None:
                self.refused.add(issue.tag)
            else:
                self.to_repeat.append(issue)

    def left_open(self, issues: Iterable[Issue]) -> None:
        """Nobody answered, or nobody waited for the answer."""
        self.to_repeat.extend(issue for issue in issues if issue.key is not None)

    def drained(self, process: str, pending: int, *, healthy: bool) -> None:
        """An agent ended in order: what it had accepted is durable, unless its disk did not take it."""
        if pending and healthy:
            self.world.violated(f"{process} ended in order on a healthy disk, and dropped {pending} accepted events")
        if not pending:
            for tag in sorted(self.accepted[process]):
                if self._key_of[tag] in self.forgiven | self._once_stored:
                    continue
                self._owe(self._key_of[tag], tag, f"accepted by {process} before it drained")

    # What it watches

    def holds(self, key: Key) -> bool:
        """Whether an event is in the control plane, or in a directory that an agent can go on from."""
        return self.plane.books.has(key) or any(
            tag in disk.held for tag in self._tags.get(key, ()) for disk in self.disks
        )

    def gone(self, disk: "Disk", tags: Iterable[str]) -> None:
        """A directory no longer holds these."""
        for tag in sorted(tags):
            key = self._named(tag)
            if (
                key is None
                or key not in self.acknowledged
                or key in self.forgiven
                or tag in self.at_risk
                or self.holds(key)
            ):
                continue
            if key in self._once_stored and not disk.keeps_all:
                self.forgiven.add(key)  # as the keep rule says, before the agent heard of the older control plane
            else:
                self.world.violated(f"{tag} {key} was acknowledged, and is gone from {disk.name} and nowhere else")

    def destroyed(self, disk: "Disk") -> None:
        """A fault that can be noticed damages this directory: what only it holds may have to be declared lost."""
        self.at_risk |= disk.held

    @property
    def losses(self) -> dict[str, int | None]:
        """What the control plane knows of losses now: how many events each took, None where nobody knows."""
        return {loss.id: loss.events for loss in self.plane.books.losses.values()}

    @property
    def declared(self) -> int:
        """How many events are declared lost."""
        return sum(events or 0 for events in self.losses.values())

    def set_back(self, disk: "Disk", held: frozenset[str]) -> None:
        """An older copy takes this directory's place. Nobody can notice what only the newer one held."""
        for tag in disk.held - held:
            key = self._named(tag)
            others = (
                any(each in other.held for each in self._tags[key] for other in self.disks if other is not disk)
                if key
                else True
            )
            if key is not None and not others and not self.plane.books.has(key):
                self.forgiven.add(key)

    def rolled_back(self, before: "Books") -> None:
        """The control plane is an older copy now: what neither it nor an agent holds is gone, and nobody can notice.

        What a damage took is noticed: that comes back, or is declared.
        """
        self._once_stored |= before.events.keys() | before.letters.keys()
        gone = {key for key in [*self.acknowledged, *self._once_stored] if not self.holds(key)}
        self.forgiven |= {key for key in gone if not self._tags[key] & self.at_risk}

    def counted(self, books: "Books", new: Iterable[Key]) -> None:
        """The control plane committed events that it did not hold."""
        for key in new:
            self._check_stored(key, books.events[key])
        events, total = books.totals()
        counted = [self.issues[self._tag_of(event)] for event in books.events.values() if event[2] == CALL]
        if (events, total) != (len(counted), NANO * sum(issue.number for issue in counted)):
            self.world.violated(f"the totals say {(events, total)}, the stored events are {len(counted)}")

    def settled(self, books: "Books", keys: Iterable[Key]) -> None:
        """The control plane answered that a batch with these events is counted."""
        for key in keys:
            if not books.has(key):
                self.world.violated(f"{key} was answered for as counted, and is not")

    # The end

    def missing(self) -> list[Key]:
        """What was acknowledged and is not in the control plane, nor set aside, declared, or beyond what can be noticed."""
        aside = frozenset[str]().union(*(disk.set_aside for disk in self.disks))
        absent = [
            key
            for key in self.acknowledged
            if not self.plane.books.has(key) and key not in self.forgiven and not self._tags[key] & aside
        ]
        destroyed = [key for key in absent if self._tags[key] & self.at_risk]
        if None in self.losses.values() or len(destroyed) <= self.declared:
            return [key for key in absent if key not in destroyed]
        return absent

    def _check_stored(self, key: Key, event: tuple[str, str, str, str, int, str]) -> None:
        tag = self._tag_of(event)
        issue = self.issues.get(tag)
        if issue is None:
            self.world.violated(f"{event} is stored and was never issued")
            return
        if tag in self.refused:
            self.world.violated(f"{tag} was refused, and is stored as {key}")
        if issue.key not in {None, key} or self._key_of.setdefault(tag, key) != key:
            self.world.violated(f"{tag} is stored as {key}, and is {self._key_of.get(tag)}")
        self._tags[key].add(tag)
        if event[2:4] != (issue.type, issue.subject) or event[5] != issue.data:
            self.world.violated(f"{event} is stored otherwise than issued: {issue}")
        if issue.time_us not in {None, event[4]}:
            self.world.violated(f"{event} is stored with another time than issued: {issue}")

    def _named(self, tag: str) -> Key | None:
        """Under which name an event is known; None while nobody gave it one."""
        return self._key_of.get(tag) or self.issues[tag].key

    def _tag_of(self, event: tuple[str, str, str, str, int, str]) -> str:
        return event[5].partition('"tag":"')[2].partition('"')[0]

    def _note_key(self, tag: str, key: Key) -> None:
        known = self._key_of.setdefault(tag, key)
        if known != key:
            self.world.violated(f"{tag} is known as {known}, and now as {key}")
        self._tags[key].add(tag)

    def _owe(self, key: Key, tag: str, how: str) -> None:
        self.acknowledged[key] = tag
        if not self.holds(key):
            self.world.violated(f"{tag} {key} was {how}, and is nowhere durable")
