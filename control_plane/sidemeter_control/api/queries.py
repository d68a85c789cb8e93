"""Every query of the contract: one verb or one store read each, under a key with the scope READ."""

from contextlib import suppress
from typing import Annotated

import strawberry

from sidemeter_control.access.auditing import check
from sidemeter_control.access.chain import BEFORE_THE_FIRST, Head
from sidemeter_control.api.agent_types import AgentStatus, DeadLetter, LossDeclaration
from sidemeter_control.api.audit_types import AuditCheck, AuditConnection
from sidemeter_control.api.auth import Gate
from sidemeter_control.api.bounds import DEFAULT_PAGE, page_size
from sidemeter_control.api.context import Info
from sidemeter_control.api.customer_types import Customer, From, MaybeFrom, customer_of
from sidemeter_control.api.event_types import Event, event_place, event_position
from sidemeter_control.api.key_types import ApiKey, keys_page
from sidemeter_control.api.lease_types import Limit, Recovery
from sidemeter_control.api.meter_types import DimensionFilter, Meter, MeterInput, UsageRow, usage_rows
from sidemeter_control.api.pages import Connection, connection, numbers, position
from sidemeter_control.api.pricing_inputs import ChargeInput, PlanInput, UsageInput
from sidemeter_control.api.pricing_types import Feature, Plan, Price, meter_of
from sidemeter_control.api.scalars import Instant
from sidemeter_control.api.simulation_types import Simulation
from sidemeter_control.api.subscription_types import PlanDiff
from sidemeter_control.api.trial_types import MeterPreview
from sidemeter_control.api.webhook_types import Webhook, WebhookDelivery
from sidemeter_control.errors import NotFound
from sidemeter_control.limits.handed_out import limit_as_held
from sidemeter_control.limits.webhooks import DeliveryState
from sidemeter_control.metering.trying import try_meter
from sidemeter_control.metering.windows import Window
from sidemeter_control.pricing.catalogue import draft_beside, find_plan
from sidemeter_control.pricing.differences import differences
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.preview import preview
from sidemeter_control.pricing.simulation import simulate
from sidemeter_control.pricing.words import Language
from sidemeter_control.store import (
    agents,
    audit,
    customers,
    dead_letters,
    events,
    features,
    losses,
    meters,
    plans,
    recoveries,
    state,
    webhooks,
)
from sidemeter_control.store.keys import Scope

__all__ = ["Query"]


@strawberry.type
class Query:
    """What is defined, what was used, what it costs."""

    @strawberry.field
    async def meters(self, info: Info) -> list[Meter]:
        """Every meter, archived ones too, by key."""
        found = await info.context.ask(lambda conn: meters.list_all(conn, archived=True))
        return [Meter.of(meter) for meter in found]

    @strawberry.field
    async def meter(self, info: Info, key: strawberry.ID) -> Meter | None:
        """One meter; null when there is none of that key."""
        return await meter_of(info, key)

    @strawberry.field
    async def meter_preview(self, info: Info, meter: MeterInput, first: int | None = DEFAULT_PAGE) -> MeterPreview:
        """What a meter would make of the newest events of its type; stores nothing."""
        defined, size = meter.noun(info.context.now_us), page_size(first)
        return MeterPreview.of(await info.context.ask(lambda conn: try_meter(conn, defined, size)))

    @strawberry.field
    async def features(self, info: Info) -> list[Feature]:
        """Every feature, by key."""
        return [Feature.of(feature) for feature in await info.context.ask(features.list_all)]

    @strawberry.field
    async def plans(self, info: Info) -> list[Plan]:
        """The newest version of every plan, by key."""
        return [Plan.of(plan) for plan in await info.context.ask(plans.list_newest)]

    @strawberry.field
    async def plan(self, info: Info, key: strawberry.ID, version: int | None = None) -> Plan | None:
        """One version of a plan, by default the newest; null when there is none."""
        if version is None:
            newest = await info.context.ask(lambda conn: plans.newest_versions(conn, [key]))
            version = newest.get(key, 0)
        wanted = key, version
        found = (await info.context.ask(lambda conn: plans.get(conn, [wanted]))).get(wanted)
        return None if found is None else Plan.of(found)

    @strawberry.field
    async def plan_diff(
        self,
        info: Info,
        plan: strawberry.ID,
        from_: Annotated[int, strawberry.argument(name="from")],
        to: int,
    ) -> PlanDiff:
        """What is different between two versions of a plan."""
        before = await info.context.ask(lambda conn: find_plan(conn, plan, from_))
        after = await info.context.ask(lambda conn: find_plan(conn, plan, to))
        return PlanDiff.of(differences(before, after))

    @strawberry.field
    async def draft_diff(self, info: Info, plan: PlanInput) -> PlanDiff:
        """What a draft would change of the newest version of its plan; refused as publishPlan would refuse it."""
        spec, now_us = plan.spec(), info.context.now_us
        newest, draft = await info.context.ask(lambda conn: draft_beside(conn, spec, now_us))
        return PlanDiff.of(differences(newest, draft))

    @strawberry.field
    async def customers(
        self, info: Info, first: int | None = DEFAULT_PAGE, after: str | None = None, search: str | None = None
    ) -> Connection[Customer]:
        """Customers by key; `search` is a part of the key or the name, in any case."""
        size = page_size(first)
        start = position(after)
        found = await info.context.ask(lambda conn: customers.page(conn, size + 1, after=start, search=search))
        return connection(found, size, Customer.of, lambda customer: customer.key)

    @strawberry.field
    async def customer(self, info: Info, key: strawberry.ID) -> Customer | None:
        """One customer; null when there is none of that key."""
        found = await info.context.loaders.one_customer(key)
        return None if found is None else Customer.of(found)

    @strawberry.field
    async def usage(  # noqa: PLR0917 -- the contract's arguments
        self,
        info: Info,
        meter: strawberry.ID,
        from_: From,
        to: Instant,
        customer: strawberry.ID | None = None,
        window: Window | None = None,
        time_zone: str | None = "UTC",
        group_by: list[str] | None = None,
        filter: list[DimensionFilter] | None = None,
    ) -> list[UsageRow]:
        """A meter's quantity over [from, to), exact at both ends: one row per window, customer and group.

        Rows without events are absent.
        """
        return await usage_rows(
            info,
            meter,
            (from_, to),
            customer=None if customer is None else await customer_of(info, customer),
            window=window,
            time_zone=time_zone or "UTC",
            group_by=group_by or (),
            filters=filter or (),
        )

    @strawberry.field
    async def events(  # noqa: PLR0917 -- the contract's arguments
        self,
        info: Info,
        customer: strawberry.ID | None = None,
        type: str | None = None,
        from_: MaybeFrom = None,
        to: Instant | None = None,
        first: int | None = DEFAULT_PAGE,
        after: str | None = None,
    ) -> Connection[Event]:
        """Events as they are stored, newest first."""
        size, start = page_size(first), event_position(after)
        subjects = None if customer is None else (await customer_of(info, customer)).subjects
        found = await info.context.ask(
            lambda conn: events.page(conn, size + 1, after=start, subjects=subjects, type=type, from_us=from_, to_us=to)
        )
        return connection(found, size, Event.of, event_place)

    @strawberry.field
    async def dead_letters(
        self, info: Info, first: int | None = DEFAULT_PAGE, after: str | None = None
    ) -> Connection[DeadLetter]:
        """What could not be counted, newest first."""
        return await _letters(info, first, after, replayed=False)

    @strawberry.field
    async def replayed_dead_letters(
        self, info: Info, first: int | None = DEFAULT_PAGE, after: str | None = None
    ) -> Connection[DeadLetter]:
        """What could not be counted and was later, by replayDeadLetters: when, and who asked for it. Newest first."""
        return await _letters(info, first, after, replayed=True)

    @strawberry.field
    async def loss_declarations(
        self, info: Info, first: int | None = DEFAULT_PAGE, after: str | None = None
    ) -> Connection[LossDeclaration]:
        """What agents declared as lost, newest first: acknowledged events that a damaged disk took."""
        size, start = page_size(first), numbers(after, 1)
        before = start[0] if start else None
        found = await info.context.ask(lambda conn: losses.page(conn, size + 1, before=before))
        return connection(found, size, LossDeclaration.of, lambda declared: declared.seq)

    @strawberry.field
    async def audit_log(
        self, info: Info, first: int | None = DEFAULT_PAGE, after: str | None = None
    ) -> AuditConnection:
        """Who changed what, newest first."""
        size, start = page_size(first), numbers(after, 1)
        before = start[0] if start else None
        return AuditConnection.of(await info.context.ask(lambda conn: audit.page(conn, size + 1, before=before)), size)

    @strawberry.field
    async def audit_check(self, info: Info, after: str | None = None, noted: str | None = None) -> AuditCheck:
        """Whether the audit log is as it was written, 10,000 entries at a time, the oldest first. Needs the scope ADMIN.

        after: the `head` of the check before; noted: a head as somebody wrote it down once.
        """
        Gate.require(info.context.key, Scope.ADMIN)
        head = BEFORE_THE_FIRST if after is None else Head.read(after, "after")
        wanted = None if noted is None else Head.read(noted, "noted")
        return AuditCheck.of(await info.context.ask(lambda conn: check(conn, head, wanted)))

    @strawberry.field
    async def api_keys(
        self, info: Info, first: int | None = DEFAULT_PAGE, after: str | None = None
    ) -> Connection[ApiKey]:
        """Every key there ever was, the oldest first, without secrets. Needs the scope ADMIN."""
        Gate.require(info.context.key, Scope.ADMIN)
        return await keys_page(info, page_size(first), after)

    @strawberry.field
    async def webhooks(self, info: Info) -> list[Webhook]:
        """Where alerts are sent, the oldest first."""
        return [Webhook.of(each) for each in await info.context.ask(webhooks.list_all)]

    @strawberry.field
    async def webhook_deliveries(
        self, info: Info, first: int | None = DEFAULT_PAGE, after: str | None = None, state: DeliveryState | None = None
    ) -> Connection[WebhookDelivery]:
        """What was sent to webhooks, or is to be, newest first."""
        size, start = page_size(first), numbers(after, 1)
        before = start[0] if start else None
        found = await info.context.ask(lambda conn: webhooks.page(conn, size + 1, before=before, state=state))
        return connection(found, size, WebhookDelivery.of, lambda delivery: delivery.seq)

    @strawberry.field
    async def agents(self, info: Info) -> list[AgentStatus]:
        """Every agent there ever was, the one heard of last first."""
        service = info.context.key.service
        found = await info.context.ask(agents.list_all)
        return [AgentStatus.of(each, info.context.now_us) for each in found if service in {None, each.service}]

    @strawberry.field
    async def limit(self, info: Info, id: strawberry.ID) -> Limit | None:
        """A hard limit by its id, "customer/feature", and who has which part of it; null when none is shared by leases."""
        now_us = info.context.now_us
        with suppress(NotFound):
            return Limit.of(await info.context.ask(lambda conn: limit_as_held(conn, id, now_us)))
        return None

    @strawberry.field
    async def recovery(self, info: Info) -> Recovery | None:
        """The recovery that is under way; null when none is, as nearly always."""
        under_way = await info.context.ask(recoveries.current)
        if under_way is None:
            return None
        return Recovery.of(under_way, (await info.context.ask(state.get)).holders)

    @strawberry.field
    async def price_preview(
        self,
        currency: str,
        charge: ChargeInput,
        usage: UsageInput,
        language: Language | None = Language.EN,
        time_zone: str | None = "UTC",
    ) -> Price:
        """Price a usage under a charge; stores nothing. timeZone: whose clock the bands of a day are about."""
        price = preview(
            currency,
            charge.spec(),
            usage.spec(),
            language=language or Language.EN,
            time_zone=time_zone or "UTC",
        )
        return Price.of(price)

    @strawberry.field
    async def simulate(
        self, info: Info, plan: PlanInput, from_: From, to: Instant, customers: list[strawberry.ID] | None = None
    ) -> Simulation:
        """Price the stored usage of a period under a draft plan; stores nothing.

        Of those customers, whatever they are on; by default of all who were on a plan of the draft's key.
        """
        context = info.context
        return Simulation.of(await simulate(context.ask, plan.spec(), Period(from_, to), customers, context.now_us))


async def _letters(info: Info, first: int | None, after: str | None, *, replayed: bool) -> Connection[DeadLetter]:
    size, start = page_size(first), numbers(after, 1)
    before = start[0] if start else None
    found = await info.context.ask(lambda conn: dead_letters.page(conn, size + 1, before=before, replayed=replayed))
    return connection(found, size, DeadLetter.of, lambda letter: letter.id)
