"""The gate: which keys are let in, and for what."""

import asyncio

import pytest
from fakes import ManualClock
from sqlalchemy import select

from sidemeter_control.access.attempts import FREE_GUESSES, FREE_MISSES
from sidemeter_control.access.keyring import MAX_OVERLAP_S
from sidemeter_control.api.auth import MAX_CACHED_KEYS, Gate, Narrow
from sidemeter_control.errors import Forbidden, InvalidInput, NotFound, TooManyAttempts, Unauthenticated
from sidemeter_control.store import keys
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope
from sidemeter_control.store.tables import api_keys

READ, WRITE, AGENT, ADMIN = Scope.READ, Scope.WRITE, Scope.AGENT, Scope.ADMIN


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def gate(database: Database, clock: ManualClock) -> Gate:
    return Gate(database, clock)


@pytest.mark.parametrize(
    ("held", "allowed"),
    [(READ, {READ}), (WRITE, {READ, WRITE}), (AGENT, {AGENT}), (ADMIN, {READ, WRITE, AGENT, ADMIN})],
)
async def test_a_scope_allows_exactly_what_it_includes(gate: Gate, held: Scope, allowed: set[Scope]) -> None:
    _, secret = await gate.make("probe", frozenset({held}), None)
    for scope in Scope:
        if scope in allowed:
            assert (await gate.admit(f"Bearer {secret}", scope)).name == "probe"
        else:
            with pytest.raises(Forbidden, match=scope.value):
                await gate.admit(f"Bearer {secret}", scope)


async def test_one_of_several_scopes_is_enough(gate: Gate) -> None:
    _, secret = await gate.make("service", frozenset({AGENT}), None)
    assert await gate.admit(f"Bearer {secret}", AGENT, WRITE)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic YTpi", "Bearer smk_nobody", "smk_nobody"])
async def test_no_key_and_an_unknown_key_are_refused(gate: Gate, header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        await gate.admit(header, READ)


async def test_a_key_ends_when_it_expires_also_when_it_was_used_before(gate: Gate, clock: ManualClock) -> None:
    _, secret = await gate.make("brief", frozenset({READ}), clock.now_us() + 1_000_000)
    await gate.admit(f"Bearer {secret}", READ)
    clock.advance(1)
    with pytest.raises(Unauthenticated):
        await gate.admit(f"Bearer {secret}", READ)


async def test_a_revoked_key_is_refused_at_once(gate: Gate) -> None:
    key, secret = await gate.make("leaked", frozenset({READ}), None)
    await gate.admit(f"Bearer {secret}", READ)
    await gate.revoke(key.id)
    with pytest.raises(Unauthenticated):
        await gate.admit(f"Bearer {secret}", READ)
    with pytest.raises(NotFound):
        await gate.revoke(key.id)


async def test_where_several_share_a_database_what_one_revokes_or_replaces_no_other_takes(
    database: Database, clock: ManualClock
) -> None:
    database.is_shared = True
    here, there = Gate(database, clock), Gate(database, clock)
    key, secret = await here.make("probe", frozenset({READ}), None)
    assert (await there.admit(f"Bearer {secret}", READ)).id == key.id
    _, replaced = await here.replace_secret(key.id, 0)
    with pytest.raises(Unauthenticated):
        await there.admit(f"Bearer {secret}", READ)
    assert (await there.admit(f"Bearer {replaced}", READ)).id == key.id
    await here.revoke(key.id)
    with pytest.raises(Unauthenticated):
        await there.admit(f"Bearer {replaced}", READ)


async def test_where_several_begin_at_once_one_makes_the_first_key(database: Database, clock: ManualClock) -> None:
    made = await asyncio.gather(*(Gate(database, clock).first_key(None) for _ in range(3)))
    assert sorted(secret is None for secret in made) == [False, True, True]


async def test_a_use_that_is_noted_later_does_not_hide_a_later_one(database: Database, clock: ManualClock) -> None:
    here, there = Gate(database, clock), Gate(database, clock)
    _, secret = await here.make("probe", frozenset({READ}), None)
    await here.admit(f"Bearer {secret}", READ)
    clock.advance(5)
    await there.admit(f"Bearer {secret}", READ)
    for gate in (there, here):
        assert await gate.note_uses_once() == 1
    async with database.read() as conn:
        assert [each.last_used_at_us for each in await keys.every(conn)] == [clock.now_us()]


async def test_a_key_revoked_while_it_is_looked_up_is_not_remembered(gate: Gate) -> None:
    key, secret = await gate.make("racing", frozenset({READ}), None)
    await asyncio.gather(gate.admit(f"Bearer {secret}", READ), gate.revoke(key.id), return_exceptions=True)
    with pytest.raises(Unauthenticated):
        await gate.admit(f"Bearer {secret}", READ)


async def test_the_secret_is_nowhere_in_the_database(gate: Gate, database: Database) -> None:
    _, secret = await gate.make("quiet", frozenset({READ}), None)
    async with database.read() as conn:
        rows = (await conn.execute(select(api_keys))).all()
    assert secret.removeprefix("smk_") not in repr(rows)


@pytest.mark.parametrize(
    ("name", "scopes", "expires_in_us", "field"),
    [
        ("", {READ}, None, "name"),
        ("n" * 257, {READ}, None, "name"),
        ("n", set(), None, "scopes"),
        ("n", {READ}, 0, "expiresAt"),
    ],
)
async def test_a_wrong_key_is_refused_by_field(
    gate: Gate, clock: ManualClock, name: str, scopes: set[Scope], expires_in_us: int | None, field: str
) -> None:
    expires = None if expires_in_us is None else clock.now_us() + expires_in_us
    with pytest.raises(InvalidInput) as refused:
        await gate.make(name, frozenset(scopes), expires)
    assert refused.value.field == field


async def test_the_first_admin_key_is_made_once(gate: Gate) -> None:
    secret = await gate.first_key(None)
    assert secret is not None
    assert await gate.admit(f"Bearer {secret}", ADMIN)
    assert await gate.first_key(None) is None


async def test_a_given_admin_key_is_taken_and_nothing_needs_showing(gate: Gate) -> None:
    assert await gate.first_key("from-the-environment") is None
    assert await gate.first_key("from-the-environment") is None
    assert await gate.admit("Bearer from-the-environment", ADMIN)


async def test_a_given_admin_key_that_was_revoked_stays_revoked(gate: Gate) -> None:
    await gate.first_key("from-the-environment")
    await gate.revoke((await gate.admit("Bearer from-the-environment", ADMIN)).id)
    await gate.first_key("from-the-environment")
    with pytest.raises(Unauthenticated):
        await gate.admit("Bearer from-the-environment", ADMIN)


async def test_only_so_many_keys_are_remembered(database: Database, clock: ManualClock) -> None:
    assert Gate(database, clock)._remembered == MAX_CACHED_KEYS
    gate = Gate(database, clock, remembered=2)
    secrets = [(await gate.make(f"key {n}", frozenset({READ}), None))[1] for n in range(3)]
    for secret in secrets * 2:
        assert await gate.admit(f"Bearer {secret}", READ)
    assert len(gate._known) == 2


async def test_a_replaced_secret_is_taken_until_its_overlap_ends_and_never_again(
    gate: Gate, clock: ManualClock
) -> None:
    key, former = await gate.make("rotated", frozenset({READ}), None)
    _, secret = await gate.replace_secret(key.id, 60)
    clock.advance(59)
    for each in (former, secret):
        assert (await gate.admit(f"Bearer {each}", READ)).id == key.id
    clock.advance(1)
    with pytest.raises(Unauthenticated):
        await gate.admit(f"Bearer {former}", READ)
    assert await gate.admit(f"Bearer {secret}", READ)


async def test_a_key_can_be_replaced_again_within_the_overlap(gate: Gate, clock: ManualClock) -> None:
    key, first = await gate.make("rotated", frozenset({READ}), None)
    _, second = await gate.replace_secret(key.id, 60)
    _, third = await gate.replace_secret(key.id, 10)
    for each in (first, second, third):
        assert await gate.admit(f"Bearer {each}", READ)
    await gate.revoke(key.id)
    for each in (first, second, third):
        with pytest.raises(Unauthenticated):
            await gate.admit(f"Bearer {each}", READ)


@pytest.mark.parametrize("overlap_s", [-1, MAX_OVERLAP_S + 1])
async def test_an_overlap_beyond_all_measure_is_refused(gate: Gate, overlap_s: int) -> None:
    key, _ = await gate.make("rotated", frozenset({READ}), None)
    with pytest.raises(InvalidInput, match="overlapSeconds"):
        await gate.replace_secret(key.id, overlap_s)
    await gate.replace_secret(key.id, MAX_OVERLAP_S)


async def test_only_a_key_in_force_is_replaced(gate: Gate, clock: ManualClock) -> None:
    key, _ = await gate.make("brief", frozenset({READ}), clock.now_us() + 1)
    clock.advance(1)
    for each in (key.id, "key_x"):
        with pytest.raises(NotFound):
            await gate.replace_secret(each, 0)


async def test_a_given_admin_key_that_was_replaced_does_not_come_back(gate: Gate) -> None:
    await gate.first_key("from-the-environment")
    key = await gate.admit("Bearer from-the-environment", ADMIN)
    await gate.replace_secret(key.id, 0)
    await gate.first_key("from-the-environment")
    with pytest.raises(Unauthenticated):
        await gate.admit("Bearer from-the-environment", ADMIN)


async def test_when_a_key_was_used_last_is_noted_once_in_a_while(
    gate: Gate, database: Database, clock: ManualClock
) -> None:
    key, secret = await gate.make("used", frozenset({READ}), None)
    for _ in range(3):
        await gate.admit(f"Bearer {secret}", READ)
        clock.advance(1)
    assert await gate.note_uses_once() == 1
    assert await gate.note_uses_once() == 0
    async with database.read() as conn:
        found = await keys.by_id(conn, key.id)
    assert found is not None
    assert found.last_used_at_us == clock.now_us() - 1_000_000


@pytest.mark.parametrize(
    ("scopes", "only", "field"),
    [
        ({ADMIN}, {"customer": "acme"}, "scopes"),
        ({AGENT}, {"customer": "acme"}, "scopes"),
        ({ADMIN}, {"service": "chat"}, "scopes"),
        ({READ}, {"customer": "acme", "service": "chat"}, "service"),
        ({READ}, {"service": ""}, "service"),
    ],
)
async def test_a_narrow_key_that_would_reach_further_is_refused(
    gate: Gate, scopes: set[Scope], only: dict[str, str], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await gate.make("narrow", frozenset(scopes), None, **only)
    assert refused.value.field == field


async def test_there_is_no_key_for_a_customer_that_there_is_not(gate: Gate) -> None:
    with pytest.raises(NotFound):
        await gate.make("narrow", frozenset({READ}), None, customer="acme")


async def test_a_door_that_heeds_no_narrow_key_lets_none_in(gate: Gate) -> None:
    _, secret = await gate.make("narrow", frozenset({READ}), None, service="chat")
    with pytest.raises(Forbidden, match="one service"):
        await gate.admit(f"Bearer {secret}", READ)
    assert await gate.admit(f"Bearer {secret}", READ, heeds=(Narrow.SERVICE,))


async def test_whoever_guesses_waits_and_learns_nothing_meanwhile(gate: Gate, clock: ManualClock) -> None:
    await gate.first_key("correct-horse-battery")
    for _ in range(FREE_GUESSES + 1):
        with pytest.raises(Unauthenticated):
            await gate.admit("Bearer wrong", ADMIN, source="192.0.2.1")
    for guess in ("wrong", "correct-horse-battery"):
        with pytest.raises(TooManyAttempts):
            await gate.admit(f"Bearer {guess}", ADMIN, source="192.0.2.1")
    assert await gate.admit("Bearer correct-horse-battery", ADMIN, source="192.0.2.2")
    clock.advance(1)
    assert await gate.admit("Bearer correct-horse-battery", ADMIN, source="192.0.2.1")


async def test_keys_that_nobody_guesses_are_let_in_from_an_address_that_waits(gate: Gate) -> None:
    good = "smk_" + "g" * 43
    await gate.first_key(good)
    for _ in range(FREE_MISSES + 1):
        with pytest.raises(Unauthenticated):
            await gate.admit(f"Bearer smk_{'x' * 43}", ADMIN, source="192.0.2.1")
    with pytest.raises(TooManyAttempts):
        await gate.admit(f"Bearer smk_{'x' * 43}", ADMIN, source="192.0.2.1")
    assert await gate.admit(f"Bearer {good}", ADMIN, source="192.0.2.1")


async def test_what_has_no_key_at_all_is_no_guess(gate: Gate) -> None:
    for _ in range(FREE_GUESSES + 5):
        with pytest.raises(Unauthenticated):
            await gate.admit(None, ADMIN, source="192.0.2.1")
