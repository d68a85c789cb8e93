"""A database that is an older copy of itself grants nothing until all that was granted is known again."""

import shutil
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from fakes import ManualClock
from lessees import Lessee
from planes import open_database
from shop import BASE, Shop, us

from sidemeter_control import backups
from sidemeter_control.errors import Conflict, InvalidInput
from sidemeter_control.limits.recovery import AtStart, Attested, judge
from sidemeter_control.limits.sync_messages import Seen
from sidemeter_control.metering.holders import end_recovery, look_at_start
from sidemeter_control.metering.identity import SyncStatus
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec
from sidemeter_control.store import leases, recoveries, state
from sidemeter_control.store.database import Database

CALLS = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(100), enforcement=Enforcement.HARD)
CALLS_NOW = ("acme/calls", us("2026-11-01"))
OK, RECOVERING = SyncStatus.OK, SyncStatus.RECOVERING


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_database(tmp_path) as made:
        path = made.path
    opened = Shop(await Database.open(f"sqlite:///{path}"), ManualClock(us("2026-11-21")))
    await opened.stock()
    await opened.sell(await opened.customer("acme", subjects=("a", "b")), BASE, entitlements=(CALLS,))
    await look_at_start(opened.database, opened.clock)
    yield opened
    await opened.database.close()


def nobody_looks(*_: object) -> None:
    """What takes the steps of a backup."""


async def start(shop: Shop) -> None:
    """A control plane begins on what is there."""
    shop.database = await Database.open(f"sqlite:///{shop.database.path}")
    await look_at_start(shop.database, shop.clock)


async def restart(shop: Shop, between: Callable[[Path], None] = lambda path: None) -> None:
    """Stop, do what is to be done meanwhile, and start."""
    await shop.database.close()
    between(shop.database.path)
    await start(shop)


def void(_: object) -> None:
    """It was done for what it did."""


async def backup(shop: Shop) -> Path:
    """A copy of the database as it is now."""
    target = shop.database.path.with_name("backup")
    await shop.database.copy_to(target, nobody_looks)
    return target


def restored(shop: Shop, copy: Path) -> Callable[[Path], None]:
    """Put it back, and say so."""

    def put(path: Path) -> None:
        backups.restore(f"sqlite:///{path}", copy, shop.clock, nobody_looks)

    return put


def put_back(copy: Path) -> Callable[[Path], None]:
    """Put it back by hand."""

    def put(path: Path) -> None:
        for companion in ("-wal", "-shm"):
            Path(f"{path}{companion}").unlink(missing_ok=True)
        shutil.copy(copy, path)

    return put


async def held(shop: Shop) -> int:
    async with shop.database.read() as conn:
        found = await leases.holdings(conn, [("acme", "calls", CALLS_NOW[1])])
    return sum(each.holding.held for every in found.values() for each in every)


async def is_recovering(shop: Shop) -> bool:
    async with shop.database.read() as conn:
        return await recoveries.current(conn) is not None


async def test_a_restart_between_a_sync_and_its_answer_forgets_no_grant_and_gives_none_twice(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    question = agent.question({CALLS_NOW: 40})
    lost = await agent.put(question)
    await restart(shop)
    assert await agent.put(question) == lost
    assert (await held(shop), await is_recovering(shop)) == (40, False)


@pytest.mark.parametrize("way", ["restored", "by hand"])
async def test_an_older_copy_grants_nothing_until_every_holder_has_told_what_it_holds(shop: Shop, way: str) -> None:
    first = await Lessee(shop, "first").hello()
    copy = await backup(shop)
    second = await Lessee(shop, "second").hello()
    await first.sync({CALLS_NOW: 60})
    await second.sync({CALLS_NOW: 40})
    await restart(shop, restored(shop, copy) if way == "restored" else put_back(copy))
    newcomer = await Lessee(shop, "third").hello()
    answer = await newcomer.sync({CALLS_NOW: 100})
    assert (answer.status, [each.granted for each in answer.grants]) == (RECOVERING, [0])
    heard = await first.sync(complete=False)  # it hears of the new generation by this
    assert (heard.status, heard.grants[0].granted) == (RECOVERING, 60)
    assert (await first.sync()).status is RECOVERING
    gone = await second.sync()
    assert (gone.status, await held(shop)) == (SyncStatus.UNKNOWN_EPOCH, 80)
    assert (await second.sync()).status is SyncStatus.FENCED
    assert (await newcomer.sync({CALLS_NOW: 100})).status is OK
    assert not await is_recovering(shop)
    for _ in range(8):
        await newcomer.sync({CALLS_NOW: 100})
    assert await held(shop) == 100


async def test_a_later_period_is_granted_from_while_a_recovery_goes_on(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    copy = await backup(shop)
    await agent.sync({CALLS_NOW: 60})
    await restart(shop, put_back(copy))
    shop.clock.advance((us("2026-12-02") - shop.clock.now_us()) // 1_000_000)
    newcomer = await Lessee(shop, "new").hello()
    answer = await newcomer.sync({("acme/calls", us("2026-12-01")): 100})
    assert (answer.status, answer.grants[0].granted) == (RECOVERING, 100)


def without_witness(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same, and the witness is lost."""

    def lose(path: Path) -> None:
        change(path)
        Path(f"{path}.holders").unlink()

    return lose


async def test_without_a_witness_only_an_operator_ends_a_recovery(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 1})
    copy = await backup(shop)
    await agent.sync({CALLS_NOW: 60})
    await restart(shop, without_witness(restored(shop, copy)))
    for _ in range(3):
        answer = await agent.sync({CALLS_NOW: 70})
        assert (answer.status, answer.grants[0].granted) == (RECOVERING, 60)
    await end_recovery(shop.database, "it was alone", by="operator", now_us=shop.clock.now_us())
    answer = await agent.sync({CALLS_NOW: 70})
    assert (answer.status, answer.grants[0].granted) == (OK, 70)


async def test_a_database_whose_witness_is_older_too_hears_of_it_from_agents(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 1})
    copy, generation = await backup(shop), (await state_of(shop)).generation
    await restart(shop, lambda path: void(shutil.copy(f"{path}.holders", f"{path}.holders.copy")))
    await agent.sync({CALLS_NOW: 60})

    def all_of_it(path: Path) -> None:
        put_back(copy)(path)
        shutil.copy(f"{path}.holders.copy", f"{path}.holders")

    await restart(shop, all_of_it)
    answer = await agent.sync({CALLS_NOW: 70})
    assert answer.status is RECOVERING
    assert answer.generation != generation
    assert (await agent.sync({CALLS_NOW: 70})).status is RECOVERING  # who else there was, nobody knows
    await end_recovery(shop.database, "there was one agent only", by="operator", now_us=shop.clock.now_us())
    assert (await agent.sync({CALLS_NOW: 100})).grants[0].granted == 100
    await restart(shop, restored(shop, await backup(shop)))  # and from now on it is known how many there are
    await agent.sync(complete=False)
    assert (await agent.sync()).status is OK


async def test_a_power_cut_before_the_witness_heard_of_a_recovery_is_no_second_one(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 1})
    copy = await backup(shop)
    old: list[bytes] = []

    def restore(path: Path) -> None:
        old.append(Path(f"{path}.holders").read_bytes())
        restored(shop, copy)(path)

    await restart(shop, restore)
    generation = (await state_of(shop)).generation
    await restart(shop, lambda path: void(Path(f"{path}.holders").write_bytes(old[0])))
    assert (await state_of(shop)).generation == generation
    await agent.sync(complete=False)
    assert (await agent.sync()).status is OK


async def state_of(shop: Shop) -> state.State:
    async with shop.database.read() as conn:
        return await state.get(conn)


async def test_a_copy_from_before_there_was_any_lease_recovers_when_one_is_told(shop: Shop) -> None:
    copy = await backup(shop)
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 60})
    await restart(shop, without_witness(restored(shop, copy)))
    assert not await is_recovering(shop)
    assert (await agent.sync()).status is SyncStatus.UNKNOWN_EPOCH
    assert (await held(shop), await is_recovering(shop)) == (60, True)


async def test_a_stranger_that_holds_what_another_control_plane_granted_stops_nobody(shop: Shop) -> None:
    agent, stranger = await Lessee(shop).hello(), Lessee(shop, "stranger", "elsewhere", 3, seen=Seen("other", 5))
    await agent.sync({CALLS_NOW: 60})
    stranger.leases[CALLS_NOW].granted = 50
    assert (await stranger.sync()).status is SyncStatus.UNKNOWN_EPOCH
    assert not await is_recovering(shop)


async def test_agents_that_know_of_no_leases_are_not_waited_for(shop: Shop) -> None:
    agent, old = await Lessee(shop).hello(), await Lessee(shop, "old").hello()
    copy = await backup(shop)
    await agent.sync({CALLS_NOW: 60})
    await restart(shop, restored(shop, copy))
    await agent.sync(complete=False)
    assert (await agent.sync()).status is RECOVERING
    assert (await old.sync(hello_id=None, leases=())).status is OK
    assert (await agent.sync()).status is OK


async def test_a_restore_where_nothing_was_ever_leased_is_no_recovery(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    copy = await backup(shop)
    await restart(shop, restored(shop, copy))
    assert not await is_recovering(shop)
    assert (await agent.sync(subjects=("a",))).status is OK


async def test_the_end_of_a_recovery_needs_one_and_a_reason(shop: Shop) -> None:
    with pytest.raises(Conflict, match="no recovery is under way"):
        await end_recovery(shop.database, "why not", by="operator", now_us=0)
    with pytest.raises(InvalidInput, match="reason: must be 1 to 1024 characters"):
        await end_recovery(shop.database, "", by="operator", now_us=0)


async def test_the_witness_knows_every_holder_before_its_hello_is_answered(shop: Shop) -> None:
    for number in range(3):
        await Lessee(shop, f"agent-{number}").hello()
        assert shop.database.witness.last is not None
        assert shop.database.witness.last.holders == number + 1
    await restart(shop)
    assert shop.database.witness.last == Attested((await state_of(shop)).generation, 0, 3)


async def test_a_witness_that_is_damaged_knows_nothing(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 60})

    def damage(path: Path) -> None:
        witness = Path(f"{path}.holders")
        witness.write_bytes(witness.read_bytes().replace(b'"holders":1', b'"holders":2'))

    await restart(shop, damage)
    assert shop.database.witness.last is not None
    assert shop.database.witness.last.holders is None
    await agent.hello()
    assert shop.database.witness.last.holders is None


OWN = Attested("g2", 5, 3)


@pytest.mark.parametrize(
    ("leased_in", "said", "found"),
    [
        (None, None, AtStart(recovers=True, anew=False, holders=None)),
        ("g2", None, AtStart(recovers=False, anew=False, holders=None)),
        ("g2", Attested("g2", 5, 3), AtStart(recovers=False, anew=False, holders=3)),
        ("g2", Attested("g2", 4, 2), AtStart(recovers=False, anew=False, holders=3)),
        ("g2", Attested("g2", 5, None), AtStart(recovers=False, anew=False, holders=None)),
        ("g2", Attested("g2", 6, 3), AtStart(recovers=True, anew=True, holders=3)),
        ("g2", Attested("g2", 5, 4), AtStart(recovers=True, anew=True, holders=4)),
        ("g2", Attested("g2", 6, None), AtStart(recovers=True, anew=True, holders=None)),
        ("g2", Attested("g9", 6, 4), AtStart(recovers=True, anew=True, holders=None)),
        ("g1", Attested("g1", 6, 4), AtStart(recovers=True, anew=False, holders=4)),
        ("g1", Attested("g1", 6, 2), AtStart(recovers=True, anew=False, holders=None)),
        ("g1", Attested("g9", 6, 4), AtStart(recovers=True, anew=False, holders=None)),
        ("g1", None, AtStart(recovers=True, anew=False, holders=None)),
    ],
    ids=[
        "leases of no generation",
        "no witness",
        "as it was left",
        "the witness is behind, after a crash",
        "the witness does not know",
        "older by grants",
        "older by a hello",
        "older, and nobody knows",
        "older, of an earlier generation",
        "restored",
        "restored, and the witness is behind",
        "restored, and the witness is of another",
        "restored elsewhere",
    ],
)
def test_what_a_database_finds_of_itself_at_its_start(
    leased_in: str | None, said: Attested | None, found: AtStart
) -> None:
    assert judge(OWN, leased_in, said) == found
