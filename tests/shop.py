"""A control plane's database with meters, plans, customers and events, for tests of what is priced and allowed."""

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from fakes import ManualClock
from planes import open_database

from sidemeter_control.limits.catalogue import create_feature
from sidemeter_control.limits.features import new_feature
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, PropertyFilter, new_meter
from sidemeter_control.pricing.catalogue import publish_plan, subscribe
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel, TierSpec
from sidemeter_control.pricing.customers import Customer, new_customer
from sidemeter_control.pricing.plans import EntitlementSpec, PlanSpec
from sidemeter_control.pricing.register import upsert_customer
from sidemeter_control.pricing.subscriptions import SubscribeSpec, Subscription
from sidemeter_control.pricing.words import Language
from sidemeter_control.store import meters
from sidemeter_control.store.database import Database

BASE = ChargeSpec(key="base", name="Base fee", model=PricingModel.FLAT, amount=Decimal(49))
TOKENS = ChargeSpec(
    key="tokens",
    name="Tokens",
    meter="tokens",
    model=PricingModel.GRADUATED,
    tiers=(TierSpec(up_to=Decimal(1000), unit_price=Decimal("0.01")), TierSpec(unit_price=Decimal("0.004"))),
)
CALLS = ChargeSpec(key="calls", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal("0.0333"))


def us(text: str) -> int:
    """Microseconds of a day or an instant, in UTC unless it says otherwise."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * 1_000_000


@dataclass
class Shop:
    """Meters `tokens` (a SUM) and `calls` (a COUNT without tests); features `tokens`, `sso`, `region`."""

    database: Database
    clock: ManualClock
    numbers: Iterable[int] = field(default_factory=itertools.count)

    async def stock(self) -> None:
        tokens = new_meter("tokens", "llm", Aggregation.SUM, value_property="tokens", unit="tokens", now_us=0)
        live = PropertyFilter("mode", not_in=("test",))
        calls = new_meter("calls", "llm", Aggregation.COUNT, filters=(live,), unit="calls", now_us=0)
        async with self.database.write() as conn:
            for meter in (tokens, calls):
                await meters.add(conn, meter)
        for key, meter_key in (("tokens", "tokens"), ("calls", "calls"), ("sso", None), ("region", None)):
            await create_feature(self.database, new_feature(key, meter_key=meter_key, now_us=0))

    async def customer(
        self,
        key: str,
        *,
        time_zone: str = "UTC",
        subjects: tuple[str, ...] = (),
        language: Language = Language.EN,
        prepaid: bool = False,
    ) -> Customer:
        made = new_customer(key, time_zone=time_zone, subjects=subjects, language=language, prepaid=prepaid, now_us=0)
        return await upsert_customer(self.database, made)

    async def sell(
        self,
        customer: Customer,
        *charges: ChargeSpec,
        entitlements: tuple[EntitlementSpec, ...] = (),
        start: str = "2026-11-01",
        trial_days: int = 0,
        plan: str = "pro",
    ) -> Subscription:
        """Publish a plan of these charges and put the customer on it."""
        spec = PlanSpec(key=plan, currency="USD", charges=charges, entitlements=entitlements)
        await publish_plan(self.database, self.clock, spec)
        wanted = SubscribeSpec(customer=customer.key, plan=plan, start_at_us=us(start), trial_days=trial_days)
        return await subscribe(self.database, self.clock, wanted)

    async def use(self, subject: str, at: str, tokens: str, mode: str = "live") -> None:
        """One event, counted."""
        data = f'{{"tokens": {tokens}, "mode": "{mode}"}}'
        event = Event(
            id=f"e{next(iter(self.numbers))}", source="shop", type="llm", subject=subject, time_us=us(at), data=data
        )
        recorded = await Ingest(self.database, self.clock, max_future_s=10**9).record([event])
        assert recorded.accepted == 1


@asynccontextmanager
async def open_shop(directory: Path, now: str = "2026-11-21") -> AsyncIterator[Shop]:
    """A stocked shop on a new SQLite file."""
    async with open_database(directory) as database:
        shop = Shop(database, ManualClock(us(now)))
        await shop.stock()
        yield shop
