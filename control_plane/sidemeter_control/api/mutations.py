"""Every mutation of the contract: one verb each, under a key with the scope WRITE, or ADMIN for keys."""

import strawberry

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.budget_types import Budget, BudgetInput, budget_of
from sidemeter_control.api.context import Info
from sidemeter_control.api.credit_inputs import CreditGrantInput, CreditResetInput, TopUpInput
from sidemeter_control.api.credit_types import CreditBalance, CreditGrant, TopUp, balance_of, standing
from sidemeter_control.api.customer_types import Customer, customer_of
from sidemeter_control.api.entitlement_types import AddOn, AddOnInput, EntitlementOverride, EntitlementOverrideInput
from sidemeter_control.api.event_types import (
    Event,
    EventInput,
    IngestResult,
    Rejection,
    ReplayResult,
    data_text,
    letter_number,
    read_events,
)
from sidemeter_control.api.key_types import ApiKeyInput, ApiKeySecret
from sidemeter_control.api.lease_types import Limit
from sidemeter_control.api.meter_types import Meter, MeterInput
from sidemeter_control.api.pricing_inputs import CustomerInput, FeatureInput, PlanInput, SubscribeInput
from sidemeter_control.api.pricing_types import Feature, Plan
from sidemeter_control.api.scalars import Instant, Json, json_text
from sidemeter_control.api.subscription_types import CustomerSubscription, MoveResult, shown
from sidemeter_control.api.webhook_types import Webhook, WebhookDelivery, WebhookInput, WebhookSecret
from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.budgeting import remove_budget, set_budget
from sidemeter_control.limits.catalogue import create_feature
from sidemeter_control.limits.endpoints import enable_webhook, redeliver, remove_webhook, rotate_secret, set_webhook
from sidemeter_control.limits.features import new_feature
from sidemeter_control.limits.given import grant_add_on, remove_entitlement, revoke_add_on, set_entitlement
from sidemeter_control.limits.handed_out import write_off
from sidemeter_control.limits.webhooks import read_kinds
from sidemeter_control.metering.catalogue import archive_meter, create_meter, update_meter
from sidemeter_control.metering.correcting import correct_event, void_event
from sidemeter_control.metering.holders import end_recovery
from sidemeter_control.pricing.catalogue import publish_plan, subscribe
from sidemeter_control.pricing.changes import ChangeAt
from sidemeter_control.pricing.credits.granting import (
    grant_credits,
    remove_top_up,
    reset_credits,
    set_top_up,
    void_credits,
)
from sidemeter_control.pricing.credits.grants import CreditUnit, Denomination
from sidemeter_control.pricing.customers import new_customer
from sidemeter_control.pricing.lifecycle import cancel, change_plan, pause, resume
from sidemeter_control.pricing.moves import move_subscribers
from sidemeter_control.pricing.register import upsert_customer
from sidemeter_control.pricing.words import Language
from sidemeter_control.store.keys import Scope

__all__ = ["Mutation"]


@strawberry.type
class Mutation:
    """Changes, each of them one transaction."""

    @strawberry.mutation
    async def create_meter(self, info: Info, input: MeterInput) -> Meter:
        """Define a meter; it counts the events that are stored already, too.

        Many of them it counts in the background: until `backfill` is done, it answers what it has counted so far.
        """
        context, clock = info.context, info.context.clock
        made = create_meter(context.database, input.noun(clock.now_us()), by=context.key.id, new_id=clock.new_id)
        return Meter.of(await context.changed(made))

    @strawberry.mutation
    async def update_meter(self, info: Info, input: MeterInput) -> Meter:
        """Give a meter another definition, under its key.

        It answers by the old one until the new one has counted the events that are stored; `backfill` says how far that is.
        """
        context, clock = info.context, info.context.clock
        changed = update_meter(context.database, input.noun(clock.now_us()), by=context.key.id, new_id=clock.new_id)
        return Meter.of(await context.changed(changed))

    @strawberry.mutation
    async def archive_meter(self, info: Info, key: strawberry.ID) -> Meter:
        """Offer a meter no more. It goes on counting for the plans that price it."""
        context = info.context
        archived = archive_meter(context.database, key, context.clock.now_us(), by=context.key.id)
        return Meter.of(await context.changed(archived))

    @strawberry.mutation
    async def create_feature(self, info: Info, input: FeatureInput) -> Feature:
        """Define something a customer may use."""
        context = info.context
        feature = new_feature(input.key, name=input.name, meter_key=input.meter, now_us=context.clock.now_us())
        return Feature.of(await context.changed(create_feature(context.database, feature, by=context.key.id)))

    @strawberry.mutation
    async def publish_plan(self, info: Info, input: PlanInput) -> Plan:
        """Add a version of the plan; versions never change."""
        context = info.context
        published = publish_plan(context.database, context.clock, input.spec(), by=context.key.id)
        return Plan.of(await context.changed(published))

    @strawberry.mutation
    async def upsert_customer(self, info: Info, input: CustomerInput) -> Customer:
        """Write the customer as the input says, new or in place of what was there."""
        customer = new_customer(
            input.key,
            name=input.name,
            currency=input.currency,
            time_zone=input.time_zone or "UTC",
            subjects=input.subjects or (),
            metadata=_metadata(input.metadata),
            language=input.language or Language.EN,
            prepaid=bool(input.prepaid),
            now_us=info.context.clock.now_us(),
        )
        context = info.context
        return Customer.of(await context.changed(upsert_customer(context.database, customer, by=context.key.id)))

    @strawberry.mutation
    async def subscribe(self, info: Info, input: SubscribeInput) -> CustomerSubscription:
        """Put a customer on a plan."""
        context = info.context
        return await shown(
            info, await context.changed(subscribe(context.database, context.clock, input.spec(), by=context.key.id))
        )

    @strawberry.mutation
    async def change_plan(
        self,
        info: Info,
        subscription: strawberry.ID,
        plan: strawberry.ID,
        version: int | None = None,
        at: ChangeAt | None = ChangeAt.PERIOD_END,
    ) -> CustomerSubscription:
        """Go on with a plan, by default its newest version; answers the subscription that replaces this one.

        A change at the period's end is taken back by cancelling that subscription.
        """
        context = info.context
        change = change_plan(
            context.database,
            context.clock,
            subscription,
            plan=plan,
            version=version,
            at=_when(at),
            by=context.key.id,
        )
        return await shown(info, await context.changed(change))

    @strawberry.mutation
    async def cancel_subscription(
        self, info: Info, subscription: strawberry.ID, at: ChangeAt | None = ChangeAt.PERIOD_END
    ) -> CustomerSubscription:
        """End a subscription; one that has not begun is called off, and the one that it would replace goes on."""
        context = info.context
        ended = cancel(context.database, context.clock, subscription, _when(at), by=context.key.id)
        return await shown(info, await context.changed(ended))

    @strawberry.mutation
    async def pause_subscription(
        self, info: Info, subscription: strawberry.ID, until: Instant | None = None
    ) -> CustomerSubscription:
        """Pause from now on: no fees, no entitlements, and what is used meanwhile is not billed."""
        context = info.context
        paused = pause(context.database, context.clock, subscription, until, by=context.key.id)
        return await shown(info, await context.changed(paused))

    @strawberry.mutation
    async def resume_subscription(self, info: Info, subscription: strawberry.ID) -> CustomerSubscription:
        """End a pause now, or take back a cancellation that has not taken effect."""
        context = info.context
        resumed = resume(context.database, context.clock, subscription, by=context.key.id)
        return await shown(info, await context.changed(resumed))

    @strawberry.mutation
    async def move_subscribers(  # noqa: PLR0917 -- the contract's arguments
        self,
        info: Info,
        plan: strawberry.ID,
        from_version: int,
        to_version: int,
        at: ChangeAt | None = ChangeAt.PERIOD_END,
        preview: bool | None = True,
    ) -> MoveResult:
        """Move the subscribers of one version to another, or with preview only see what it would cost them."""
        context = info.context
        move = move_subscribers(
            context.database,
            context.clock,
            plan,
            from_version=from_version,
            to_version=to_version,
            at=_when(at),
            preview=preview is not False,
            by=context.key.id,
        )
        return MoveResult.of(await context.changed(move))

    @strawberry.mutation
    async def grant_add_on(self, info: Info, input: AddOnInput) -> AddOn:
        """Give a customer more of a feature than its plan does."""
        context = info.context
        made = grant_add_on(context.database, context.clock, input.spec(), by=context.key.id)
        return AddOn.of(await context.changed(made))

    @strawberry.mutation
    async def revoke_add_on(self, info: Info, id: strawberry.ID, reason: str) -> AddOn:
        """End an add-on at once. One that was revoked before stays as it was."""
        context = info.context
        revoked = revoke_add_on(context.database, context.clock, id, reason, by=context.key.id)
        return AddOn.of(await context.changed(revoked))

    @strawberry.mutation
    async def set_entitlement(self, info: Info, input: EntitlementOverrideInput) -> EntitlementOverride:
        """Say what a customer may use of a feature, in place of its plans and of what was set before."""
        context = info.context
        made = set_entitlement(context.database, context.clock, input.override(), by=context.key.id)
        return EntitlementOverride.of(await context.changed(made))

    @strawberry.mutation
    async def remove_entitlement(self, info: Info, customer: strawberry.ID, feature: strawberry.ID) -> bool:
        """Let a customer's plans say again what it may use of a feature; false when nothing was set."""
        context = info.context
        removed = remove_entitlement(context.database, context.clock, customer, feature, by=context.key.id)
        return await context.changed(removed)

    @strawberry.mutation
    async def grant_credits(self, info: Info, input: CreditGrantInput) -> CreditGrant:
        """Give a customer credits: money, or units of a feature."""
        context = info.context
        granted = grant_credits(context.database, context.clock, input.spec(), by=context.key.id)
        made = await context.changed(granted)
        return await standing(info, await customer_of(info, made.customer_key), made)

    @strawberry.mutation
    async def void_credits(self, info: Info, grant: strawberry.ID, reason: str) -> CreditGrant:
        """End a grant now. What it has paid stays paid."""
        context = info.context
        voided = void_credits(context.database, context.clock, grant, reason, by=context.key.id)
        ended = await context.changed(voided)
        return await standing(info, await customer_of(info, ended.customer_key), ended)

    @strawberry.mutation
    async def reset_credits(self, info: Info, input: CreditResetInput) -> CreditBalance:
        """Reset a customer's credits, as the end of a billing period does; answers what they stand at then."""
        context = info.context
        wanted = input.reset(context.clock.now_us())
        reset = await context.changed(reset_credits(context.database, context.clock, wanted, by=context.key.id))
        customer = await customer_of(info, reset.customer_key)
        return CreditBalance.of(await balance_of(info, customer, reset.denomination, reset.at_us))

    @strawberry.mutation
    async def set_top_up(self, info: Info, input: TopUpInput) -> TopUp:
        """Buy credits each time the balance falls below a threshold. There is one rule for each kind of credits."""
        context = info.context
        rule = input.rule(context.clock.now_us())
        return TopUp.of(await context.changed(set_top_up(context.database, rule, by=context.key.id)))

    @strawberry.mutation
    async def remove_top_up(
        self,
        info: Info,
        customer: strawberry.ID,
        unit: CreditUnit = CreditUnit.MONEY,
        feature: strawberry.ID | None = None,
    ) -> bool:
        """Buy no more; answers whether there was a rule."""
        of = Denomination.read(unit, feature)
        context = info.context
        return await context.changed(remove_top_up(context.database, context.clock, customer, of, by=context.key.id))

    @strawberry.mutation
    async def set_budget(self, info: Info, input: BudgetInput) -> Budget:
        """Cap what a customer, or a slice of one, spends in each period. Its key is its own among all customers'."""
        context = info.context
        wanted = set_budget(
            context.database, context.clock, input.spec(), by=context.key.id, by_customer=context.key.is_link
        )
        made = await context.changed(wanted)
        return await budget_of(info, await customer_of(info, made.customer_key), made.key)

    @strawberry.mutation
    async def remove_budget(self, info: Info, key: strawberry.ID) -> bool:
        """Cap nothing by it any more; answers whether there was one of that key. The alerts that it raised stay."""
        context = info.context
        removed = remove_budget(
            context.database, context.clock, key, by=context.key.id, by_customer=context.key.is_link
        )
        return await context.changed(removed)

    @strawberry.mutation
    async def set_webhook(self, info: Info, input: WebhookInput) -> WebhookSecret:
        """Send alerts to a URL, of all customers. The secret is answered where it is new, and not shown again."""
        context = info.context
        made = set_webhook(
            context.database,
            context.clock,
            input.url,
            read_kinds(input.events),
            input.secret,
            private=context.private_webhooks,
            by=context.key.id,
        )
        webhook, secret = await context.changed(made)
        return WebhookSecret(webhook=Webhook.of(webhook), secret=secret)

    @strawberry.mutation
    async def rotate_webhook_secret(self, info: Info, id: strawberry.ID) -> WebhookSecret:
        """Sign with a new secret, which is answered and not shown again; for a day the one before it signs as well."""
        context = info.context
        made = rotate_secret(context.database, context.clock, id, by=context.key.id)
        webhook, secret = await context.changed(made)
        return WebhookSecret(webhook=Webhook.of(webhook), secret=secret)

    @strawberry.mutation
    async def enable_webhook(self, info: Info, id: strawberry.ID) -> Webhook:
        """Send alerts again to a webhook whose receiver had said that it is gone; redeliver sends what was given up."""
        context = info.context
        return Webhook.of(await context.changed(enable_webhook(context.database, context.clock, id, by=context.key.id)))

    @strawberry.mutation
    async def remove_webhook(self, info: Info, id: strawberry.ID) -> bool:
        """Send nothing there any more, also of what is on its way; answers whether there was one of that id."""
        context = info.context
        return await context.changed(remove_webhook(context.database, context.clock, id, by=context.key.id))

    @strawberry.mutation
    async def redeliver(self, info: Info, id: strawberry.ID) -> WebhookDelivery:
        """Send a message once more, whatever became of that delivery, under the same webhook-id; answers the new delivery."""
        context = info.context
        made = redeliver(context.database, context.clock, id, by=context.key.id)
        return WebhookDelivery.of(await context.changed(made))

    @strawberry.mutation
    async def ingest(self, info: Info, events: list[EventInput]) -> IngestResult:
        """Count events, each once by its source and id, in one transaction; a bad one is named and stops no other."""
        context = info.context
        good, bad = read_events(events, context.clock)
        recorded = await context.changed(context.ingest.record(good))
        # A dead letter is an accepted event, too: kept, and not counted yet.
        accepted = recorded.accepted + recorded.dead_letters
        return IngestResult(accepted=accepted, duplicates=recorded.duplicates, rejected=bad)

    @strawberry.mutation
    async def void_event(self, info: Info, source: str, id: str, reason: str, subject: str | None = None) -> Event:
        """Let an event count nowhere, from now on; correctEvent takes it back. Sent again, it answers the event as it is.

        `subject` is needed only where the database is spread over a cluster, and several have an event of that source and id.
        """
        context = info.context
        now_us = context.clock.now_us()
        by = context.key.id
        voided = void_event(context.database, source, id, reason, by=by, now_us=now_us, subject=subject)
        return Event.of(await context.changed(voided))

    @strawberry.mutation
    async def correct_event(  # noqa: PLR0917 -- GraphQL names them
        self, info: Info, source: str, id: str, data: Json, reason: str, subject: str | None = None
    ) -> Event:
        """Let an event say something else, from now on. Sent again, it answers the event as it is.

        Refused when a meter cannot count what it says then. `subject` as for voidEvent.
        """
        context = info.context
        now_us = context.clock.now_us()
        text = data_text(data)
        by = context.key.id
        corrected = correct_event(context.database, source, id, text, reason, by=by, now_us=now_us, subject=subject)
        return Event.of(await context.changed(corrected))

    @strawberry.mutation
    async def replay_dead_letters(self, info: Info, ids: list[strawberry.ID]) -> ReplayResult:
        """Count dead letters anew under the rules of now, in one transaction; each leaves the list when it is counted.

        Those that still cannot be counted stay, with the reason of now.
        """
        context = info.context
        refused = await context.changed(context.ingest.replay([letter_number(each) for each in ids], context.key.id))
        return ReplayResult(
            replayed=len(ids) - len(refused),
            failed=[
                Rejection(index=place, code=why.code, message=why.reason) for place, why in sorted(refused.items())
            ],
        )

    @strawberry.mutation
    async def write_off_lease(
        self, info: Info, limit: strawberry.ID, agent: strawberry.ID, epoch: int, reason: str
    ) -> Limit:
        """Free what an agent that is gone had of a hard limit and did not use: it will never spend that.

        Refused for an agent's current epoch while it was heard of within the last ten minutes: it may still spend.
        """
        context = info.context
        now_us = context.clock.now_us()
        freed = write_off(context.database, limit, (agent, epoch), reason, by=context.key.id, now_us=now_us)
        return Limit.of(await context.changed(freed))

    @strawberry.mutation
    async def end_recovery(self, info: Info, reason: str) -> bool:
        """End the recovery under way: whoever has not told what it holds of hard limits will never spend it.

        Needs the scope ADMIN: where that is not so, limits are exceeded.
        """
        context = info.context
        Gate.require(context.key, Scope.ADMIN)
        now_us = context.clock.now_us()
        await context.changed(end_recovery(context.database, reason, by=context.key.id, now_us=now_us))
        return True

    @strawberry.mutation
    async def create_api_key(self, info: Info, input: ApiKeyInput) -> ApiKeySecret:
        """Make a key; its secret is answered once. Needs the scope ADMIN."""
        context = info.context
        Gate.require(context.key, Scope.ADMIN)
        made = context.gate.make(
            input.name,
            frozenset(input.scopes),
            input.expires_at,
            customer=input.customer,
            service=input.service,
            by=context.key.id,
        )
        key, secret = await context.changed(made)
        return ApiKeySecret(id=strawberry.ID(key.id), secret=secret)

    @strawberry.mutation
    async def rotate_api_key(self, info: Info, id: strawberry.ID, overlap_seconds: int = 3600) -> ApiKeySecret:
        """Give a key another secret; the one it has is still taken for so long. Needs the scope ADMIN."""
        context = info.context
        Gate.require(context.key, Scope.ADMIN)
        key, secret = await context.changed(context.gate.replace_secret(id, overlap_seconds, by=context.key.id))
        return ApiKeySecret(id=strawberry.ID(key.id), secret=secret)

    @strawberry.mutation
    async def revoke_api_key(self, info: Info, id: strawberry.ID) -> bool:
        """End a key at once, with every secret and session of it. Needs the scope ADMIN."""
        Gate.require(info.context.key, Scope.ADMIN)
        await info.context.changed(info.context.gate.revoke(id, by=info.context.key.id))
        return True

    @strawberry.mutation
    async def create_portal_link(
        self, info: Info, customer: strawberry.ID, expires_in_seconds: int | None = 3600
    ) -> str:
        """A signed link to the customer's own pages, for at most a day: whoever has it sees what they show.

        What follows `#link=` may be sent to /graphql as a key, too. It reaches that customer alone, and changes only budgets.
        """
        context = info.context
        lasts_s = 3600 if expires_in_seconds is None else expires_in_seconds
        token = await context.changed(context.gate.portal.make(customer, lasts_s, by=context.key.id))
        return f"{context.gate.origins.base_url}/portal/#link={token}"

    @strawberry.mutation
    async def end_portal_links(self, info: Info, overlap_seconds: int = 0) -> bool:
        """Take no portal link that was made until now, after so many seconds, and sign anew. Needs the scope ADMIN."""
        Gate.require(info.context.key, Scope.ADMIN)
        await info.context.changed(info.context.gate.portal.end_all(overlap_seconds, by=info.context.key.id))
        return True


def _when(at: ChangeAt | None) -> ChangeAt:
    return at or ChangeAt.PERIOD_END


def _metadata(value: Json | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput("metadata", "must be an object")
    return json_text(value)
