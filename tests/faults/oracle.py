"""The oracle: a service outside of both programs that remembers what it issued and what it was promised."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Self

from .letters import Letter, letters_of
from .reading import Kept, has_table, read

__all__ = ["EVENT_TYPE", "SUBJECTS", "WHEN", "Event", "Oracle", "Tally", "Turn", "batches_of", "tag_of"]

EVENT_TYPE: Final = "fault.call"
SUBJECTS: Final = ("acme", "globex", "initech")
WHEN: Final = "2026-01-01T00:00:00Z"

Event = dict[str, Any]
"""An event as a caller sends it. Its `data.tag` is the oracle's own name for it, whatever id it has or gets."""


@dataclass
class Tally:
    """What one or many rounds came to. `lost` and `doubled` must be 0, `wrong` empty.

    `outside` counts what was acknowledged and whose last copy was destroyed on purpose. A sweep adds how many there are of
    each system call at least (`calls`), and which were struck how (`swept`). Where control planes share a database,
    `silences_ms` is for how long none of them accepted anything, by the fault.
    """

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    issued: int = 0
    acknowledged: int = 0
    stored: int = 0
    declared: int = 0
    dead_letters: int = 0
    outside: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    swept: dict[str, list[int]] = field(default_factory=dict)
    silences_ms: dict[str, list[int]] = field(default_factory=dict)

    def __iadd__(self, other: "Tally") -> Self:
        self.faults.update(other.faults)
        self.wrong.extend(other.wrong)
        self.calls |= {call: min(last, self.calls.get(call, last)) for call, last in other.calls.items()}
        self.swept |= {blow: sorted({*ks, *self.swept.get(blow, ())}) for blow, ks in other.swept.items()}
        self.silences_ms |= {
            fault: sorted([*each, *self.silences_ms.get(fault, ())]) for fault, each in other.silences_ms.items()
        }
        for name in (
            "rounds",
            "issued",
            "acknowledged",
            "stored",
            "declared",
            "dead_letters",
            "outside",
            "lost",
            "doubled",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def broken(self) -> bool:
        """Whether a promise was."""
        return bool(self.lost or self.doubled or self.wrong)

    def check(self, *faults: str) -> None:
        """Fail unless everything promised holds and each of `faults` happened."""
        assert not self.wrong, "\n".join(self.wrong)
        assert (self.lost, self.doubled) == (0, 0), self
        assert self.stored, "nothing was stored: the round proved nothing"
        missing = [fault for fault in faults if not self.faults[fault]]
        assert not missing, f"did not happen: {missing}; what did: {dict(self.faults)}"


class Turn(random.Random):
    """The randomness of the `n`-th round of a kind; a kind that sweeps takes its `n`-th part."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.n = n


class Oracle:
    """Issues events, and remembers them: those acknowledged, those clearly refused, those nobody answered for.

    An event with an id of its own may be sent again until it is acknowledged. One without is sent once: only the
    agent could tell a repeat from a second event. With `others`, the control plane holds what other oracles issued too.
    """

    def __init__(self, rng: random.Random, *, others: bool = False) -> None:
        self._rng = rng
        self._others = others
        self._run = f"{rng.getrandbits(48):012x}"
        self.issued: dict[str, Event] = {}
        self.acknowledged: set[str] = set()
        self.kept: defaultdict[object, set[str]] = defaultdict(set)
        """What each agent acknowledged, as far as its directory was not destroyed since."""
        self.outside: set[str] = set()
        self.refused: set[str] = set()
        self.unanswered: dict[str, Event] = {}
        self.destroyed = False
        """Whether the round destroys what only the disk held: without that, nothing may be declared lost."""
        self.faults: Counter[str] = Counter()
        self.bad: dict[str, str] = {}
        """The code under which an event may become a dead letter; every other is good, and must not."""
        self.surely_bad: set[str] = set()

    def copy(self, rng: random.Random) -> "Oracle":
        """One that remembers the same, and then goes its own way."""
        other = Oracle(rng, others=self._others)
        other.issued, other.unanswered = dict(self.issued), dict(self.unanswered)
        other.acknowledged, other.refused = set(self.acknowledged), set(self.refused)
        return other

    def issue(
        self,
        count: int,
        *,
        own_ids: bool | None = None,
        pad: int = 0,
        time: str | None = WHEN,
        bad: str | None = None,
        surely: bool = False,
        **data_too: object,
    ) -> list[Event]:
        """Fresh events, written down before anyone else sees them; `pad` characters make each of them larger.

        Without a `time` they get the agent's. `bad` is the code of the dead letters that they may become, or `surely`
        do. `data_too` goes into their data.
        """
        events = []
        for _ in range(count):
            tag = f"{self._run}-{len(self.issued)}"
            data: Event = {"tag": tag, "n": self._rng.randint(1, 999), "cost": f"{self._rng.randint(0, 999)}.10"}
            if pad:
                data["pad"] = f"{self._rng.getrandbits(64):x}".ljust(pad, "x")
            event: Event = {"type": EVENT_TYPE, "subject": self._rng.choice(SUBJECTS), "data": data | data_too}
            if time is not None:
                event["time"] = time
            if bad is not None:
                self.bad[tag] = bad
                self.surely_bad |= {tag} if surely else set()
            if own_ids if own_ids is not None else self._rng.random() < 0.5:
                event |= {"id": f"id-{tag}", "source": "oracle"}
            self.issued[tag] = event
            events.append(event)
        return events

    def answered(self, events: Iterable[Event], keeper: object = None) -> None:
        """They were acknowledged by `keeper` as durable, or as duplicates of something durable."""
        for event in events:
            self.acknowledged.add(tag_of(event))
            self.kept[keeper].add(tag_of(event))
            self.unanswered.pop(tag_of(event), None)

    def destroyed_at(self, keeper: object, database: Kept, *, but: Iterable[str] = ()) -> None:
        """What `keeper` kept is destroyed, `but` for these: what nobody else has is outside of every promise."""
        self.kept[keeper] = set(but)
        self.rolled_back(database)

    def rolled_back(self, database: Kept) -> None:
        """The control plane's database is an older one now: what no agent keeps either is outside of every promise."""
        gone = self.acknowledged - _stored_tags(database) - self._dead(letters_of(database))
        gone = gone.difference(*self.kept.values())
        self.acknowledged -= gone
        self.outside |= gone

    def turned_away(self, events: Iterable[Event]) -> None:
        """They were clearly refused: nothing of them may be kept. One that went out before may be, all the same."""
        for event in events:
            if "id" in event:
                self.unanswered[tag_of(event)] = event
            else:
                self.refused.add(tag_of(event))

    def left_open(self, events: Iterable[Event]) -> None:
        """No answer came: kept or not, nobody knows. Those with an id of their own are to be sent again."""
        self.unanswered |= {tag_of(event): event for event in events if "id" in event}

    def to_repeat(self, count: int) -> list[Event]:
        """Some of the events that are to be sent again."""
        return list(self.unanswered.values())[:count]

    def has_arrived(self, database: Kept, event: Event) -> bool:
        """Whether the control plane holds an event with an id of its own, counted or as a dead letter."""
        stored = read(database, "SELECT 1 FROM events WHERE source = ? AND id = ?", event["source"], event["id"])
        return bool(stored) or tag_of(event) in self._dead(letters_of(database))

    def missing(self, database: Kept) -> int:
        """How many acknowledged events the control plane does not hold, less those declared lost."""
        tags, declared = _stored_tags(database), _declared(database)
        return max(len(self.acknowledged - tags - self._dead(letters_of(database))) - declared, 0)

    def verdict(self, database: Kept) -> Tally:
        """What the control plane's database holds, against what was issued and promised."""
        rows = [row for row in _stored(database) if not self._others or f'"{self._run}-' in row[4]]
        tags = Counter(json.loads(row[4] or "{}").get("tag") for row in rows)
        letters = [
            letter for letter in letters_of(database) if not self._others or letter.data.get("tag") in self.issued
        ]
        absent = self.acknowledged - tags.keys() - self._dead(letters)
        declared = min(_declared(database), len(absent))
        unnoticed = (self.acknowledged & self.surely_bad) - {letter.data.get("tag") for letter in letters}
        wrong = [fault for row in rows if (fault := self._fault_of(row))]
        wrong += [fault for letter in letters if (fault := self._fault_of_letter(letter))]
        wrong += [f"no dead letter, and bad: {self.issued[tag]}" for tag in unnoticed]
        if declared and not self.destroyed:
            wrong.append(f"{declared} events were declared lost, and nothing destroyed them")
        return Tally(
            rounds=1,
            faults=Counter(self.faults),
            issued=len(self.issued),
            acknowledged=len(self.acknowledged),
            stored=len(rows),
            declared=declared,
            dead_letters=len(letters),
            outside=len(self.outside),
            lost=len(absent) - declared,
            doubled=sum(count - 1 for count in tags.values()) + len(self.refused & tags.keys()),
            wrong=wrong,
        )

    def _fault_of(self, row: Sequence[Any]) -> str | None:
        source, event_id, kind, subject, data, time_us = row
        issued = self.issued.get(json.loads(data or "{}").get("tag"))
        if issued is None:
            return f"stored and never issued: {row}"
        times = [_micros(issued["time"])] if "time" in issued else [time_us]
        if (kind, subject, [time_us]) != (issued["type"], issued["subject"], times) or _exact(data) != _exact(
            json.dumps(issued["data"])
        ):
            return f"stored otherwise than issued: {row}, issued {issued}"
        if "id" in issued and (source, event_id) != (issued["source"], issued["id"]):
            return f"stored under another id: {row}, issued {issued}"
        return None

    def _dead(self, letters: Iterable[Letter]) -> set[str]:
        return {letter.data["tag"] for letter in letters if letter.data.get("tag") in self.bad}

    def _fault_of_letter(self, letter: Letter) -> str | None:
        tag = letter.data.get("tag")
        issued = self.issued.get(tag)
        if issued is None:
            return f"a dead letter of what was never issued: {letter}"
        if self.bad.get(tag) != letter.code or not letter.reason:
            return f"a dead letter of an event that is {self.bad.get(tag, 'good')}: {letter}"
        if letter.data != issued["data"] or (letter.type, letter.subject) != (issued["type"], issued["subject"]):
            return f"a dead letter that says otherwise than was issued: {letter}, issued {issued}"
        return None

    def totals(self, database: Kept) -> tuple[int, Decimal]:
        """The events and the sum of `n` that meters must show: over what is stored, each once, less what cannot be."""
        rows = {tag: data["n"] for data in _data(database) if (tag := data.get("tag"))}
        uncounted = {letter.data.get("tag") for letter in letters_of(database) if letter.meter == "units"}
        return len(rows), Decimal(sum(n for tag, n in rows.items() if tag not in uncounted))


def tag_of(event: Event) -> str:
    """The oracle's name for an event."""
    return str(event["data"]["tag"])


def batches_of(database: Kept) -> int:
    """How many batches a control plane has counted."""
    ((count,),) = read(database, "SELECT count(*) FROM batches")
    return int(count)


def _micros(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1_000_000)


def _exact(data: str) -> Any:
    return json.loads(data, parse_float=Decimal, object_pairs_hook=tuple)


def _stored(database: Kept) -> list[tuple[Any, ...]]:
    return read(database, f"SELECT source, id, type, subject, data, time_us FROM events WHERE type = '{EVENT_TYPE}'")


def _data(database: Kept) -> list[dict[str, Any]]:
    return [json.loads(row[4] or "{}") for row in _stored(database)]


def _stored_tags(database: Kept) -> set[str]:
    return {data["tag"] for data in _data(database) if "tag" in data}


def _declared(database: Kept) -> int:
    """How many events are declared lost; one declaration that does not know how many covers any number."""
    if not has_table(database, "loss_declarations"):
        return 0
    counts = [events for (events,) in read(database, "SELECT events FROM loss_declarations")]
    return 1 << 40 if None in counts else sum(counts)
