"""What `sidemeter-control audit verify` looks at: the log of a database that is stopped, or of a control plane that runs."""

from collections.abc import Callable
from dataclasses import dataclass

from sidemeter_control.access.auditing import check
from sidemeter_control.access.chain import BEFORE_THE_FIRST, Head
from sidemeter_control.remote import Remote
from sidemeter_control.store import audit
from sidemeter_control.store.database import Database

__all__ = ["Verified", "of_database", "of_server"]

Report = Callable[[str, int, int], None]
"""Takes the step, how much of it is done, and of how much."""

_QUERY = """query($after: String, $noted: String) {
  auditCheck(after: $after, noted: $noted) { head more problem brokenAt }
}"""


@dataclass(frozen=True, slots=True)
class Verified:
    """The head of what was found to be as it was written, and what is wrong after it, if anything is."""

    head: str
    problem: str | None
    broken_at: int | None

    @property
    def entries(self) -> int:
        """How many entries are as they were written."""
        return int(self.head.partition(":")[0])


async def of_database(database: Database, noted: str | None, report: Report) -> Verified:
    """The whole log of an open database. InvalidInput when `noted` is no head."""
    wanted = None if noted is None else Head.read(noted)
    head, more, broken = BEFORE_THE_FIRST, True, None
    async with database.read() as conn:
        total = (await audit.head(conn)).seq
        while more and broken is None:
            found = await check(conn, head, wanted)
            head, more, broken = found.head, found.more, found.broken
            report("looking at the audit log", head.seq, total)
    return Verified(str(head), None if broken is None else broken.problem, None if broken is None else broken.seq)


def of_server(url: str, key: str, noted: str | None, report: Report) -> Verified:
    """The whole log of the control plane at `url`. ControlError when it does not answer, or refuses."""
    with Remote(url, key) as remote:
        after: str | None = None
        while True:
            found = remote.ask(_QUERY, after=after, noted=noted)["auditCheck"]
            verified = Verified(found["head"], found["problem"], found["brokenAt"])
            report("looking at the audit log", verified.entries, verified.entries)
            if not found["more"] or verified.problem is not None:
                return verified
            after = verified.head
