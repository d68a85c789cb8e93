"""The watch over the database: what it must hold, whether it does, and what happens to one that does not."""

import logging
from pathlib import Path
from typing import Final

import aiosqlite
import msgspec

from sidemeter import counted as counted_batches
from sidemeter import damaged, kept, schema
from sidemeter.batches import Counted
from sidemeter.clock import Clock
from sidemeter.damaged import Damage, Damaged
from sidemeter.errors import StorageRefused
from sidemeter.figures import Figures, audit, figures
from sidemeter.mark import Facts, Mark

__all__ = ["Watch"]

log = logging.getLogger(__name__)

_HEAD_BYTES: Final = 100

_KNOWS_ITSELF: Final = 2
"""From this form on a database says which file it is, and how many of its rows are settled."""


class Watch:
    """Knows from the mark what the database at `path` must hold, and keeps the mark up to date.

    `facts` is None until the file that is there was seen to be one to go on with. `agent_id`, `last_seq` and what was
    counted last outlast a database: what goes on in a new one is the same agent, and numbers its rows from there. `rebuilds` counts new ones, and
    those that came back to a directory that was taken away.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._mark: Mark | None = None
        self._exact = False
        self._counted: Counted | None = None
        self.facts: Facts | None = None
        self.agent_id = ""
        self.last_seq = 0
        self.rebuilds = 0
        self.pending: list[Damage] = []

    def before(self) -> None:
        """Look at the bytes of the file that SQLite is about to open. Blocks; raises Damaged, StorageRefused, OSError."""
        if self._mark is None:
            self._mark = Mark.open(self._path.with_name("mark"))
            self._learn(self._mark.facts)
        _check_kinds(self._path)
        size = self._path.stat().st_size if self._path.exists() else 0
        if not size and (self.facts is not None or _log_of(self._path).exists()):
            raise Damaged("it is empty" if self._path.exists() else "it is gone")
        if size:
            with self._path.open("rb") as file:
                _check_head(file.read(_HEAD_BYTES))

    async def opened(self, conn: aiosqlite.Connection) -> tuple[Figures, int]:
        """Make the file what this agent needs, or see that it is: its figures, and how many rows were settled in it.

        Raises Damaged, StorageRefused, sqlite3.Error.
        """
        form = await schema.form_of(conn)
        if form > schema.FORM and self.facts is None:
            raise StorageRefused(f"the buffer has form {form}; this agent reads form {schema.FORM}")
        if (
            self.facts is not None and not self.facts.form <= form <= schema.FORM
        ):  # more, where an upgrade was cut short
            raise Damaged(f"it says that it has form {form}, and had {self.facts.form}")
        if form < schema.FORM:
            await self._make(conn, form)
        found = (await figures(conn))._replace(counted=await counted_batches.newest(conn))
        await audit(conn, found, self.facts)
        said = await kept.meta(conn)
        self.agent_id = said.get("agent_id", self.agent_id)
        if self.facts is None:
            self.facts = Facts(said["file_id"], schema.FORM)
        self._exact = True
        self.last_seq = max(self.last_seq, found.last_seq)
        return found, said["settled_rows"]

    def note(
        self,
        last_seq: int,
        committed: int,
        settled: int,
        settled_seq: int,
        open_losses: int,
        *,
        kept: int,
        kept_from_seq: int,
        counted: Counted | None,
        refused: int,
        losses: int,
    ) -> None:
        """Write down what the database holds now."""
        self.last_seq, self._counted = max(self.last_seq, last_seq), counted
        if self.facts is not None:
            file_id, boot_id = self.facts.file_id, self._clock.boot_id()
            self.facts = Facts(
                file_id,
                schema.FORM,
                self.agent_id,
                self.last_seq,
                committed,
                settled,
                settled_seq,
                open_losses,
                boot_id,
                kept=kept,
                kept_from_seq=kept_from_seq,
                counted=counted,
                refused=refused,
                losses=losses,
            )
            self._write(self.facts)

    def give_up(self, damage: Damaged) -> None:
        """Move the file aside, to be read back; what has to be known of it is written down first. Blocks; raises OSError."""
        facts = self.facts or Facts(f"unknown-{self._clock.token_hex(8)}", schema.FORM)
        moved = damaged.move_aside(
            self._path.parent,
            Damage(
                facts=facts,
                reason=str(damage),
                noticed_at_us=self._clock.now_us(),
                exact=self._exact and self.facts is not None,
                same_file=damage.same_file,
                overtaken=damage.overtaken,
            ),
        )
        log.error("the buffer is damaged: %s; it is in damaged/%d now and is read back", damage, moved.number)
        self.facts = None
        self.rebuilds += 1
        self.pending = damaged.pending(self._path.parent)

    def make_way(self, *, foreign: bool, own_mark: bool) -> None:
        """Prepare the directory for what this agent holds open: its files there were taken away, or replaced.

        Without its `own_mark` the mark is begun anew; a `foreign` database is moved aside, to be read back. Blocks; raises
        OSError.
        """
        directory, found = self._path.parent, None
        if not own_mark:
            mark = Mark.open(self._path.with_name("mark"))
            found = mark.facts
            if self._mark is not None:
                self._mark.close()
            self._mark = mark
        damaged.remember(directory, self.pending)
        if foreign:
            unique = self._clock.token_hex(8)
            facts = found or Facts("unknown", schema.FORM)
            damaged.move_aside(
                directory,
                Damage(
                    facts=msgspec.structs.replace(facts, file_id=f"{facts.file_id}-{unique}"),
                    reason="it was put in the place of the buffer of a running agent",
                    noticed_at_us=self._clock.now_us(),
                    exact=found is None or found.clean or found.boot_id == self._clock.boot_id(),
                    same_file=found is not None,
                ),
            )
        self.pending = damaged.pending(directory)
        self.rebuilds += 1
        if self.facts is not None:
            self._write(self.facts)

    def forget(self) -> None:
        """Another agent has the files: whatever this one knows of them is no longer so. Blocks."""
        self.close(clean=False)
        self.facts = None
        self.rebuilds += 1

    def finish(self, damage: Damage) -> None:
        """A damaged database was read back. Blocks; raises OSError."""
        self.sync()  # what the disk has of the mark must not name a database that nobody knows of any more
        damaged.finish(self._path.parent, damage)
        self.pending = damaged.pending(self._path.parent)

    def sync(self) -> None:
        """Return once the mark is on disk. Blocks; raises OSError."""
        if self._mark is not None:
            self._mark.sync()

    def close(self, *, clean: bool) -> None:
        """Close the mark; `clean` says that the database will not be written before it is opened again. Blocks."""
        if self._mark is None:
            return
        mark, self._mark = self._mark, None
        try:
            if clean and self._exact and self.facts is not None:
                mark.write(msgspec.structs.replace(self.facts, clean=True))
            mark.sync()
        except OSError as exc:
            log.warning("the mark of the buffer cannot be synced: %s", exc)
        finally:
            mark.close()

    def _learn(self, facts: Facts | None) -> None:
        directory = self._path.parent
        self.pending = damaged.pending(directory)
        if facts is None:
            if self._path.exists():
                log.warning("the buffer of %s has no mark; it is made anew", directory)
            return
        if facts.form > schema.FORM:
            raise StorageRefused(f"the buffer has form {facts.form}; this agent reads form {schema.FORM}")
        self.agent_id, self.last_seq, self._counted = facts.agent_id, facts.last_seq, facts.counted
        self._exact = facts.clean or facts.boot_id == self._clock.boot_id()
        begun = damaged.begun(directory, facts.file_id)
        if begun is None:
            self.facts = facts
        elif not begun.moved:
            damaged.move_aside(directory, begun)
            self.pending = damaged.pending(directory)

    async def _make(self, conn: aiosqlite.Connection, form: int) -> None:
        """Make the tables of this form, from those of `form`; 0 is an empty file."""
        ((tables,),) = await conn.execute_fetchall("SELECT count(*) FROM sqlite_schema")
        if form == 0 and tables:
            raise Damaged("it is a database, but not a buffer")
        await conn.execute("BEGIN IMMEDIATE")
        await (schema.upgrade(conn, form) if form else schema.create(conn))
        if form < _KNOWS_ITSELF:
            await kept.put(conn, file_id=self._clock.token_hex(16), settled_rows=0, agent_id=self.agent_id or None)
            await counted_batches.go_on_from(conn, self._counted)
        await conn.commit()

    def _write(self, facts: Facts) -> None:
        if self._mark is not None:
            self._mark.write(facts)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _check_kinds(path: Path) -> None:
    for each in (path, _log_of(path)):
        if each.exists() and not each.is_file():
            raise Damaged(f"{each.name} is not a file")


def _check_head(head: bytes) -> None:
    """Refuse a head that a buffer never has. SQLite takes some of them for a file that it must not write, or worse."""
    sound = (
        head[:16] == b"SQLite format 3\0"
        and head[16:18] == b"\x10\x00"  # pages of 4096 bytes
        and set(head[18:20]) <= {1, 2}
        and head[20:24] == b"\0\x40\x20\x20"
        and int.from_bytes(head[44:48], "big") in {0, 4}  # 0 before there is a table
        and int.from_bytes(head[56:60], "big") in {0, 1}  # UTF-8
    )
    if not sound:
        raise Damaged("its first bytes are not those of a buffer")
