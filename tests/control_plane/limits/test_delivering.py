"""Webhooks are delivered at least once, signed, retried on a clock that nobody can set, and given up after ten attempts."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from planes import older_database
from receivers import Receiver, answer, hang, receiver, signature
from shop import Shop, open_shop, us

from sidemeter_control.clock import SystemClock
from sidemeter_control.errors import Conflict, InvalidInput, NotFound, StoreUnavailable
from sidemeter_control.limits.alerting import look
from sidemeter_control.limits.alerts import Alert, AlertKind, Finding
from sidemeter_control.limits.budgeting import set_budget
from sidemeter_control.limits.budgets import BudgetSpec, BudgetUnit
from sidemeter_control.limits.delivering import MAX_AT_ONCE, MAX_AT_ONCE_EACH, MAX_WAITING, Delivering
from sidemeter_control.limits.endpoints import enable_webhook, redeliver, remove_webhook, rotate_secret, set_webhook
from sidemeter_control.limits.posting import Posted, Poster
from sidemeter_control.limits.raising import raise_alerts
from sidemeter_control.limits.webhooks import (
    MAX_ATTEMPTS,
    MAX_WEBHOOKS,
    OVERLAP_S,
    RETRY_AFTER_S,
    Delivery,
    DeliveryState,
    Webhook,
    check_secret,
)
from sidemeter_control.store import audit, customers, webhooks

NOW = "2026-11-21"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, NOW) as opened:
        await opened.customer("acme")
        yield opened


@pytest.fixture
async def got() -> AsyncIterator[Receiver]:
    async with receiver() as opened:
        yield opened


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    made = Poster(private=True, within_ms=10_000)
    yield made
    await made.close()


async def hook(shop: Shop, url: str, *kinds: AlertKind, secret: str | None = None) -> Webhook:
    made, _ = await set_webhook(shop.database, shop.clock, url, kinds or None, secret, private=True)
    return made


async def alert(shop: Shop, number: int = 0, kind: AlertKind = AlertKind.LIMIT_DENIED) -> Alert:
    finding = Finding(
        kind=kind, what=f"limit-{number}", period_start_us=0, name="n", used=Decimal(1), amount=Decimal(1)
    )
    async with shop.database.write() as conn:
        (acme,) = (await customers.get(conn, ["acme"])).values()
        (raised,) = await raise_alerts(conn, shop.clock, acme, [finding])
    return raised


async def log(shop: Shop, state: DeliveryState | None = None) -> list[Delivery]:
    """Every delivery, the oldest first."""
    async with shop.database.read() as conn:
        return list(await webhooks.page(conn, 200, state=state))[::-1]


async def test_an_alert_reaches_each_webhook_that_wants_it_signed_with_its_secret(
    shop: Shop, got: Receiver, poster: Poster
) -> None:
    async with receiver() as other, receiver() as third:
        first, secret = await set_webhook(shop.database, shop.clock, got.url, None, private=True)
        own = await hook(shop, other.url, AlertKind.BUDGET_THRESHOLD, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        await hook(shop, third.url, AlertKind.OVERAGE_STARTED)
        spec = BudgetSpec(
            key="b", customer="acme", amount=Decimal(100), unit=BudgetUnit.METER, meter="tokens", thresholds=(90,)
        )
        await set_budget(shop.database, shop.clock, spec)
        await shop.use("acme", NOW, "95")
        (raised,) = await look(shop.database, shop.clock, "acme")
        shop.clock.advance(3)
        assert await Delivering(shop.database, shop.clock, poster.post).once() == 2
        assert third.received == []
    assert secret == first.secret
    (received,) = got.received
    assert received.headers["content-type"] == "application/json"
    assert received.headers["webhook-timestamp"] == str(us(NOW) // 1_000_000 + 3)
    assert received.headers["webhook-signature"] == signature(first.secret, received)
    assert other.received[0].headers["webhook-signature"] == signature(own.secret, other.received[0])
    assert signature(first.secret, received) != signature(own.secret, received)
    assert json.loads(received.body) == {
        "type": "alert.budget_threshold",
        "timestamp": "2026-11-21T00:00:00Z",
        "data": {
            "id": raised.id,
            "customer": "acme",
            "kind": "budget_threshold",
            "what": "budget:b",
            "threshold": 90,
            "used": "95",
            "amount": "100",
            "periodStart": "2026-11-01T00:00:00Z",
            "at": "2026-11-21T00:00:00Z",
            "text": "90% of the budget b is spent: 95 tokens of 100 tokens",
        },
    }
    assert [(each.state, each.attempts, each.last_status, each.alert_id) for each in await log(shop)] == [
        (DeliveryState.DELIVERED, 1, 204, raised.id)
    ] * 2


async def test_what_is_not_taken_is_sent_again_the_same_later_and_later_until_it_is_given_up(
    shop: Shop, got: Receiver, poster: Poster
) -> None:
    made = await hook(shop, got.url)
    got.answer = answer(500)
    await alert(shop)
    delivering = Delivering(shop.database, shop.clock, poster.post)
    assert await delivering.once() == 1
    for wait_s in RETRY_AFTER_S:
        shop.clock.advance(wait_s - 1)
        assert await delivering.once() == 0
        (delivery,) = await log(shop, DeliveryState.PENDING)
        assert (delivery.last_status, delivery.last_error) == (500, "answered 500")
        shop.clock.advance(1 + wait_s / 5)
        assert await delivering.once() == 1
    shop.clock.advance(10 * RETRY_AFTER_S[-1])
    assert await delivering.once() == 0
    (delivery,) = await log(shop)
    assert (delivery.state, delivery.attempts) == (DeliveryState.FAILED, MAX_ATTEMPTS)
    assert delivery.ended_at_us is not None
    assert len(got.received) == MAX_ATTEMPTS
    assert len({(each.headers["webhook-id"], each.body) for each in got.received}) == 1
    assert len({each.headers["webhook-timestamp"] for each in got.received}) == MAX_ATTEMPTS
    assert all(each.headers["webhook-signature"] == signature(made.secret, each) for each in got.received)


async def test_it_is_taken_when_the_receiver_is_well_again(shop: Shop, got: Receiver) -> None:
    await hook(shop, got.url)
    await alert(shop)
    poster = Poster(private=True, within_ms=1_000)
    delivering = Delivering(shop.database, shop.clock, poster.post)
    for failing, error in (
        (answer(302, f"Location: {got.url}"), "answered 302"),
        (hang, "no answer within 1 s"),
        (answer(200, "x: " + "y" * 1_000_000), "RemoteProtocolError"),
    ):
        got.answer = failing
        assert await delivering.once() == 1
        (delivery,) = await log(shop, DeliveryState.PENDING)
        assert error in (delivery.last_error or "")
        shop.clock.advance(RETRY_AFTER_S[delivery.attempts - 1] * 1.2)
    got.answer = answer(200, body=b"x" * 1_000_000)
    assert await delivering.once() == 1
    (delivery,) = await log(shop)
    assert (delivery.state, delivery.attempts, delivery.last_error) == (DeliveryState.DELIVERED, 4, None)
    await poster.close()


async def test_a_receiver_that_is_gone_gets_nothing_more_until_its_webhook_is_enabled_again(
    shop: Shop, got: Receiver, poster: Poster
) -> None:
    made = await hook(shop, got.url)
    got.answer = answer(410)
    for number in range(MAX_AT_ONCE_EACH + 1):  # one more than one turn sends
        await alert(shop, number)
    delivering = Delivering(shop.database, shop.clock, poster.post)
    assert await delivering.once() == MAX_AT_ONCE_EACH
    first, *_, last = await log(shop, DeliveryState.FAILED)
    assert (first.attempts, first.last_status, first.last_error) == (1, 410, "answered 410")
    assert (last.attempts, last.last_error) == (0, "the webhook answered 410 Gone, and is disabled")
    assert last.ended_at_us is not None
    await alert(shop, 100)
    shop.clock.advance(RETRY_AFTER_S[-1])
    assert await delivering.once() == 0
    assert len(await log(shop)) == MAX_AT_ONCE_EACH + 1
    with pytest.raises(Conflict, match="is disabled: enableWebhook"):
        await redeliver(shop.database, shop.clock, first.id)
    async with shop.database.read() as conn:
        disabled = await webhooks.get(conn, made.id)
        (entry,) = [each for each in await audit.page(conn, 10) if each.action == "disableWebhook"]
    assert disabled is not None
    assert disabled.disabled_at_us is not None
    assert (entry.actor, entry.target) == ("receiver", f"webhook {made.id}")
    got.answer = answer(204)
    assert await enable_webhook(shop.database, shop.clock, made.id) == made
    assert await enable_webhook(shop.database, shop.clock, made.id) == made
    await redeliver(shop.database, shop.clock, first.id)
    await alert(shop, 101)
    assert await delivering.once() == 2
    with pytest.raises(NotFound, match="there is no webhook 'none'"):
        await enable_webhook(shop.database, shop.clock, "none")


async def test_a_webhook_that_is_set_again_is_enabled(shop: Shop, got: Receiver, poster: Poster) -> None:
    await hook(shop, got.url)
    got.answer = answer(410)
    await alert(shop)
    await Delivering(shop.database, shop.clock, poster.post).once()
    assert (await hook(shop, got.url)).disabled_at_us is None


async def test_a_message_has_both_signatures_while_a_secret_is_rotated(
    shop: Shop, got: Receiver, poster: Poster
) -> None:
    made = await hook(shop, got.url)
    rotated, secret = await rotate_secret(shop.database, shop.clock, made.id)
    assert (rotated.secret, rotated.old_secret) == (secret, made.secret)
    check_secret(secret)
    delivering = Delivering(shop.database, shop.clock, poster.post)
    for seconds, signing in ((0, [secret, made.secret]), (OVERLAP_S, [secret])):
        shop.clock.advance(seconds)
        await alert(shop, seconds)
        await delivering.once()
        received = got.received[-1]
        assert received.headers["webhook-signature"] == " ".join(signature(each, received) for each in signing)
    with pytest.raises(NotFound, match="there is no webhook 'none'"):
        await rotate_secret(shop.database, shop.clock, "none")


async def test_a_webhook_of_an_older_database_signs_with_the_one_secret_it_has(tmp_path: Path) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    row = f"INSERT INTO webhooks (id, url, secret, created_at_us) VALUES ('w', 'https://a.test/', '{secret}', 7)"
    async with older_database(tmp_path, "0014", row) as database, database.read() as conn:
        assert await webhooks.list_all(conn) == [Webhook("w", "https://a.test/", None, 7, secret)]


async def test_a_wall_clock_that_is_set_back_delays_nothing(shop: Shop, got: Receiver, poster: Poster) -> None:
    await hook(shop, got.url)
    got.answer = answer(503)
    await alert(shop)
    delivering = Delivering(shop.database, shop.clock, poster.post)
    await delivering.once()
    shop.clock.set_wall(us("2020-01-01"))
    shop.clock.advance(RETRY_AFTER_S[0] * 1.2)
    assert await delivering.once() == 1


async def test_whoever_starts_anew_sends_what_was_not_taken_with_the_attempts_that_were_made(
    shop: Shop, got: Receiver, poster: Poster
) -> None:
    await hook(shop, got.url)
    got.answer = answer(500)
    await alert(shop)
    await Delivering(shop.database, shop.clock, poster.post).once()
    got.answer = answer(204)
    assert await Delivering(shop.database, shop.clock, poster.post).once() == 1
    (delivery,) = await log(shop)
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 2)
    assert await Delivering(shop.database, shop.clock, poster.post).once() == 0


async def test_what_was_sent_and_could_not_be_noted_is_sent_again_under_the_same_id(
    shop: Shop, got: Receiver, poster: Poster
) -> None:
    await hook(shop, got.url)
    await alert(shop)
    broken = True

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        posted = await poster.post(url, headers, body)
        if broken:
            raise StoreUnavailable("the disk is full")
        return posted

    delivering = Delivering(shop.database, shop.clock, post)
    with pytest.raises(StoreUnavailable):
        await delivering.once()
    broken = False
    shop.clock.advance(RETRY_AFTER_S[0])
    assert await delivering.once() == 1
    assert len({each.headers["webhook-id"] for each in got.received}) == 1
    assert len(got.received) == 2


async def test_a_message_is_delivered_anew_when_somebody_asks_for_it(shop: Shop, got: Receiver, poster: Poster) -> None:
    await hook(shop, got.url)
    await alert(shop)
    delivering = Delivering(shop.database, shop.clock, poster.post)
    await delivering.once()
    (first,) = await log(shop)
    again = await redeliver(shop.database, shop.clock, first.id)
    assert (again.state, again.attempts, again.message_id) == (DeliveryState.PENDING, 0, first.message_id)
    assert await delivering.once() == 1
    assert len({(each.headers["webhook-id"], each.body) for each in got.received}) == 1
    assert [each.state for each in await log(shop)] == [DeliveryState.DELIVERED] * 2
    with pytest.raises(NotFound, match="there is no delivery 'none'"):
        await redeliver(shop.database, shop.clock, "none")


async def test_nothing_more_is_sent_to_a_webhook_that_was_removed(shop: Shop, got: Receiver, poster: Poster) -> None:
    made = await hook(shop, got.url)
    await alert(shop)
    delivering = Delivering(shop.database, shop.clock, poster.post)
    assert await remove_webhook(shop.database, shop.clock, made.id) is True
    assert await remove_webhook(shop.database, shop.clock, made.id) is False
    await alert(shop, 1)
    assert await delivering.once() == 0
    (delivery,) = await log(shop)
    assert (delivery.state, delivery.last_error) == (DeliveryState.FAILED, "the webhook was removed")
    with pytest.raises(Conflict, match="was removed"):
        await redeliver(shop.database, shop.clock, delivery.id)
    assert got.received == []


async def test_a_webhook_that_is_removed_while_it_is_posted_to_stays_given_up(shop: Shop, got: Receiver) -> None:
    made = await hook(shop, got.url)
    await alert(shop)

    async def post(_url: str, _headers: Mapping[str, str], _body: bytes) -> Posted:
        await remove_webhook(shop.database, shop.clock, made.id)
        return Posted(500)

    delivering = Delivering(shop.database, shop.clock, post)
    assert await delivering.once() == 1
    (delivery,) = await log(shop)
    assert delivery.last_error == "the webhook was removed"
    shop.clock.advance(RETRY_AFTER_S[0] * 1.2)
    assert await delivering.once() == 0


async def test_an_alert_and_what_is_sent_of_it_are_one_transaction(shop: Shop, got: Receiver) -> None:
    await hook(shop, got.url)
    finding = Finding(
        kind=AlertKind.LIMIT_DENIED, what="x", period_start_us=0, name="n", used=Decimal(1), amount=Decimal(1)
    )
    acme = await shop.customer("acme")

    async def cut_short() -> None:
        async with shop.database.write() as conn:
            assert len(await raise_alerts(conn, shop.clock, acme, [finding])) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await cut_short()
    assert await log(shop) == []
    async with shop.database.write() as conn:
        assert len(await raise_alerts(conn, shop.clock, acme, [finding, finding])) == 1
    assert len(await log(shop)) == 1


def test_a_turn_is_bounded() -> None:
    assert (MAX_AT_ONCE, MAX_AT_ONCE_EACH, MAX_WAITING) == (50, 5, 10_000)


@pytest.mark.parametrize(
    ("at_once", "each", "turns"),
    [(3, 9, ["aab", "abb"]), (9, 2, ["aabb", "ab"]), (9, 3, ["aaabbb"]), (3, 1, ["ab", "ab", "ab"])],
)
async def test_one_turn_posts_so_many_at_once_and_so_many_to_each(
    shop: Shop, at_once: int, each: int, turns: list[str]
) -> None:
    for name in "ab":
        await hook(shop, f"http://127.0.0.1:1/{name}")
    for number in range(3):
        await alert(shop, number)
    posted: list[str] = []

    async def post(url: str, _headers: Mapping[str, str], _body: bytes) -> Posted:
        posted.append(url[-1])
        return Posted(204)

    delivering = Delivering(shop.database, shop.clock, post, at_once=at_once, at_once_each=each)
    found = []
    while await delivering.once():
        found.append("".join(sorted(posted)))
        posted.clear()
    assert found == turns


@pytest.mark.parametrize(("count", "first"), [(1, 1), (2, 2), (3, 2)])
async def test_only_so_many_wait_in_memory_and_the_others_in_the_database(shop: Shop, count: int, first: int) -> None:
    await hook(shop, "http://127.0.0.1:1/")
    for number in range(count):
        await alert(shop, number)

    async def post(_url: str, _headers: Mapping[str, str], _body: bytes) -> Posted:
        return Posted(204)

    delivering = Delivering(shop.database, shop.clock, post, most_waiting=2)
    assert [await delivering.once(), await delivering.once()] == [first, count - first]


async def test_a_receiver_that_hangs_keeps_no_other_from_its_turn(shop: Shop, got: Receiver) -> None:
    poster = Poster(private=True, within_ms=2_000)
    async with receiver() as stuck:
        stuck.answer = hang
        await hook(shop, stuck.url)
        await hook(shop, got.url)
        for number in range(MAX_AT_ONCE_EACH + 1):
            await alert(shop, number)
        await Delivering(shop.database, shop.clock, poster.post).once()
        assert (len(stuck.received), len(got.received)) == (MAX_AT_ONCE_EACH, MAX_AT_ONCE_EACH)
    await poster.close()


async def test_a_webhook_is_changed_by_its_url_and_keeps_its_secret_unless_a_new_one_is_given(shop: Shop) -> None:
    url = "https://example.com/hook"
    made, secret = await set_webhook(shop.database, shop.clock, url, None)
    assert secret == made.secret
    kinds = (AlertKind.LIMIT_DENIED,)
    changed, shown = await set_webhook(shop.database, shop.clock, url, kinds)
    assert (changed.id, changed.secret, changed.kinds, shown) == (made.id, made.secret, kinds, None)
    other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    renewed, shown = await set_webhook(shop.database, shop.clock, url, kinds, other)
    assert (renewed.secret, renewed.old_secret, shown) == (other, made.secret, other)
    async with shop.database.read() as conn:
        assert await webhooks.list_all(conn) == [renewed]


async def test_two_webhooks_have_secrets_of_their_own(shop: Shop) -> None:
    urls = ("https://example.com/a", "https://example.com/b")
    made = [await set_webhook(shop.database, SystemClock(), url, None) for url in urls]
    secrets = {webhook.secret for webhook, _ in made}
    assert len(secrets) == 2
    for secret in secrets:
        check_secret(secret)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"url": "http://example.com/"}, "url: must begin with https://"),
        ({"url": "https://127.0.0.1/"}, "url: must not be a private"),
        ({"url": "https://example.com/", "secret": "hunter2"}, "secret: must be whsec_"),
    ],
)
async def test_a_wrong_webhook_is_refused(shop: Shop, fields: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidInput, match=error):
        await set_webhook(shop.database, shop.clock, kinds=None, **fields)


async def test_there_are_only_so_many_webhooks(shop: Shop) -> None:
    """MAX_WEBHOOKS; one that is there already can still be changed."""
    for number in range(MAX_WEBHOOKS):
        await hook(shop, f"https://example.com/{number}")
    with pytest.raises(Conflict, match="there are 20 webhooks, and no more are allowed"):
        await hook(shop, "https://example.com/more")
    await hook(shop, "https://example.com/0", AlertKind.LIMIT_DENIED)


async def test_what_is_ended_in_the_middle_of_an_attempt_is_tried_again_by_the_next(
    shop: Shop, got: Receiver, poster: Poster
) -> None:
    await hook(shop, got.url)
    await alert(shop)
    began = asyncio.Event()

    async def post(_url: str, _headers: Mapping[str, str], _body: bytes) -> Posted:
        began.set()
        await asyncio.Event().wait()
        return Posted(204)

    turn = asyncio.create_task(Delivering(shop.database, shop.clock, post).once())
    await began.wait()
    turn.cancel()
    await asyncio.wait([turn])
    assert await Delivering(shop.database, shop.clock, poster.post).once() == 1
    assert (await log(shop))[0].state is DeliveryState.DELIVERED
