"""The gate: which keys are let in, and for what."""

import asyncio

import pytest
from fakes import ManualClock
from sqlalchemy import select

from sidemeter_control.api.auth import MAX_CACHED_KEYS, Gate
from sidemeter_control.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
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
