"""The schema as it is printed: a change of the contract is a change of this file, and never of what clients rely on.

Write the snapshot anew with `python tests/contract/test_schema.py`.
"""

import os
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    print_ast,
    print_schema,
)
from graphql.utilities.get_default_value_ast import get_default_value_ast

from sidemeter_control.api.schema import SCHEMA

SNAPSHOT = Path(__file__).parent / "schema.graphql"
SHARED = Path(os.environ.get("SIDEMETER_SHARED", Path(__file__).parents[3] / "shared"))
CONTRACT = SHARED / "design" / "schema.graphql"

# What the product has beyond the contract, whose types may grow.
GROWN = {
    "ApiKey.createdAt(): DateTime!",
    "ApiKey.customer(): ID",
    "ApiKey.expiresAt(): DateTime",
    "ApiKey.formerSecretUntil(): DateTime",
    "ApiKey.id(): ID!",
    "ApiKey.lastUsedAt(): DateTime",
    "ApiKey.name(): String!",
    "ApiKey.prefix(): String",
    "ApiKey.revokedAt(): DateTime",
    "ApiKey.scopes(): [Scope!]!",
    "ApiKey.service(): String",
    "ApiKeyConnection.edges(): [ApiKeyEdge!]!",
    "ApiKeyConnection.pageInfo(): PageInfo!",
    "ApiKeyEdge.cursor(): String!",
    "ApiKeyEdge.node(): ApiKey!",
    "ApiKeyInput.customer: ID",
    "ApiKeyInput.service: String",
    "AuditCheck.brokenAt(): Int",
    "AuditCheck.head(): String!",
    "AuditCheck.more(): Boolean!",
    "AuditCheck.problem(): String",
    "AuditEntry.hash(): String",
    "Budget.byCustomer(): Boolean!",
    "GraphQLObjectType ApiKey",
    "GraphQLObjectType ApiKeyConnection",
    "GraphQLObjectType ApiKeyEdge",
    "GraphQLObjectType AuditCheck",
    "Mutation.endPortalLinks(overlapSeconds: Int! = 0): Boolean!",
    "Mutation.rotateApiKey(id: ID!, overlapSeconds: Int! = 3600): ApiKeySecret!",
    "Query.apiKeys(after: String, first: Int = 50): ApiKeyConnection!",
    "Query.auditCheck(after: String, noted: String): AuditCheck!",
    "Budget.limitId(): ID",
    "Plan.definition(): JSON!",
    "AuditEntry.actorName(): String",
    "Correction.actor(): ID!",
    "Correction.at(): DateTime!",
    "Correction.kind(): CorrectionKind!",
    "Correction.reason(): String!",
    "CorrectionKind.CORRECT",
    "CorrectionKind.VOID",
    "Event.corrections(): [Correction!]!",
    "GraphQLEnumType CorrectionKind",
    "GraphQLObjectType Correction",
    "Mutation.updateMeter(input: MeterInput!): Meter!",
    "DeadLetter.replayedAt(): DateTime",
    "DeadLetter.replayedBy(): ID",
    "Query.replayedDeadLetters(after: String, first: Int = 50): DeadLetterConnection!",
    "AgentStatus.lossDeclarations(): [LossDeclaration!]!",
    "GraphQLObjectType LossDeclaration",
    "GraphQLObjectType LossDeclarationConnection",
    "GraphQLObjectType LossDeclarationEdge",
    "LossDeclaration.agent(): ID!",
    "LossDeclaration.epoch(): Int!",
    "LossDeclaration.events(): Decimal",
    "LossDeclaration.firstRow(): Decimal!",
    "LossDeclaration.id(): ID!",
    "LossDeclaration.lastRow(): Decimal",
    "LossDeclaration.noticedAt(): DateTime!",
    "LossDeclaration.reason(): String!",
    "LossDeclaration.receivedAt(): DateTime!",
    "LossDeclarationConnection.edges(): [LossDeclarationEdge!]!",
    "LossDeclarationConnection.pageInfo(): PageInfo!",
    "LossDeclarationEdge.cursor(): String!",
    "LossDeclarationEdge.node(): LossDeclaration!",
    "Customer.language(): Language!",
    "CustomerInput.language: Language = EN",
    "GraphQLEnumType Language",
    "Language.DE",
    "Language.EN",
    'OutcomeInput.property: String = "id"',
    "PriceLine.match(): JSON",
    (
        "Query.pricePreview(charge: ChargeInput!, currency: String!, language: Language = EN, "
        'timeZone: String = "UTC", usage: UsageInput!): Price!'
    ),
    "UsageInput.final: Boolean = true",
    "Query.lossDeclarations(after: String, first: Int = 50): LossDeclarationConnection!",
    "GraphQLObjectType AddOn",
    "AddOn.effectiveAt(): DateTime!",
    "AddOn.expiresAt(): DateTime",
    "AddOn.feature(): Feature!",
    "AddOn.grantedAt(): DateTime!",
    "AddOn.id(): ID!",
    "AddOn.quantity(): Decimal",
    "AddOn.revokeReason(): String",
    "AddOn.revokedAt(): DateTime",
    "GraphQLInputObjectType AddOnInput",
    "AddOnInput.customer: ID!",
    "AddOnInput.effectiveAt: DateTime",
    "AddOnInput.expiresAt: DateTime",
    "AddOnInput.feature: ID!",
    "AddOnInput.idempotencyKey: String",
    "AddOnInput.quantity: Decimal",
    "Customer.addOns(): [AddOn!]!",
    "Customer.entitlementOverrides(): [EntitlementOverride!]!",
    "Entitlement.graceDays(): Int!",
    "Entitlement.overageUpTo(): Decimal",
    "Entitlement.rolloverMax(): Decimal",
    "Entitlement.rolloverMin(): Decimal",
    "EntitlementInput.graceDays: Int = 0",
    "EntitlementInput.rolloverMin: Decimal",
    "GraphQLObjectType EntitlementOverride",
    "EntitlementOverride.effectiveAt(): DateTime!",
    "EntitlementOverride.entitlement(): Entitlement!",
    "EntitlementOverride.expiresAt(): DateTime",
    "EntitlementOverride.setAt(): DateTime!",
    "GraphQLInputObjectType EntitlementOverrideInput",
    "EntitlementOverrideInput.customer: ID!",
    "EntitlementOverrideInput.effectiveAt: DateTime",
    "EntitlementOverrideInput.enforcement: Enforcement = SOFT",
    "EntitlementOverrideInput.expiresAt: DateTime",
    "EntitlementOverrideInput.feature: ID!",
    "EntitlementOverrideInput.graceDays: Int = 0",
    "EntitlementOverrideInput.kind: EntitlementKind!",
    "EntitlementOverrideInput.limit: Decimal",
    "EntitlementOverrideInput.overageUpTo: Decimal",
    "EntitlementOverrideInput.reset: ResetPeriod = BILLING_PERIOD",
    "EntitlementOverrideInput.rolloverMax: Decimal",
    "EntitlementOverrideInput.rolloverMin: Decimal",
    "EntitlementOverrideInput.value: JSON",
    "Mutation.grantAddOn(input: AddOnInput!): AddOn!",
    "Mutation.removeEntitlement(customer: ID!, feature: ID!): Boolean!",
    "Mutation.revokeAddOn(id: ID!, reason: String!): AddOn!",
    "Mutation.setEntitlement(input: EntitlementOverrideInput!): EntitlementOverride!",
    "Quota.ceiling(): Decimal",
    "Quota.graceEndsAt(): DateTime",
    "Quota.parts(): [QuotaPart!]!",
    "GraphQLObjectType QuotaPart",
    "QuotaPart.quantity(): Decimal",
    "QuotaPart.source(): QuotaSource!",
    "QuotaPart.text(): String!",
    "GraphQLEnumType QuotaSource",
    "QuotaSource.ADD_ON",
    "QuotaSource.CREDITS",
    "QuotaSource.OVERRIDE",
    "QuotaSource.PLAN",
    "QuotaSource.ROLLOVER",
    "CreditAllocation.amount(): Decimal!",
    "CreditAllocation.charge(): ID",
    "CreditAllocation.from(): DateTime!",
    "CreditAllocation.grant(): ID!",
    "CreditAllocation.to(): DateTime!",
    "CreditBalance.allocations(): [CreditAllocation!]!",
    "CreditBalance.used(): Decimal!",
    "CreditGrant.automatic(): Boolean!",
    "CreditGrant.burned(): Decimal!",
    "CreditGrant.charges(): [ID!]",
    "CreditGrant.feature(): Feature",
    "CreditGrant.purchased(): Boolean!",
    "CreditGrant.recurrence(): Interval",
    "CreditGrant.rolloverMax(): Decimal!",
    "CreditGrant.rolloverMin(): Decimal!",
    "CreditGrant.unit(): CreditUnit!",
    "CreditGrantInput.charges: [ID!]",
    "CreditGrantInput.recurrenceAnchor: DateTime",
    "CreditResetInput.at: DateTime",
    "CreditResetInput.customer: ID!",
    "CreditResetInput.feature: ID",
    "CreditResetInput.preserveOverage: Boolean = false",
    "CreditResetInput.unit: CreditUnit! = MONEY",
    "Customer.credits(at: DateTime, feature: ID, unit: CreditUnit! = MONEY): CreditBalance!",
    "Customer.topUps(): [TopUp!]!",
    "GraphQLInputObjectType CreditResetInput",
    "GraphQLInputObjectType TopUpInput",
    "GraphQLObjectType CreditAllocation",
    "GraphQLObjectType TopUp",
    "Mutation.removeTopUp(customer: ID!, feature: ID, unit: CreditUnit! = MONEY): Boolean!",
    "Mutation.resetCredits(input: CreditResetInput!): CreditBalance!",
    "Mutation.setTopUp(input: TopUpInput!): TopUp!",
    "TopUp.amount(): Decimal!",
    "TopUp.below(): Decimal!",
    "TopUp.feature(): Feature",
    "TopUp.maxPerPeriod(): Int!",
    "TopUp.unit(): CreditUnit!",
    "TopUpInput.amount: Decimal!",
    "TopUpInput.below: Decimal!",
    "TopUpInput.customer: ID!",
    "TopUpInput.feature: ID",
    "TopUpInput.maxPerPeriod: Int = 10",
    "TopUpInput.unit: CreditUnit! = MONEY",
    "Commitment.amount(): Decimal!",
    "Commitment.discountPercentage(): Decimal!",
    "Commitment.overageFactor(): Decimal!",
    "Commitment.smoothingMonths(): Int",
    "Commitment.trueUp(): Boolean!",
    "CommitmentInput.amount: Decimal!",
    "CommitmentInput.discountPercentage: Decimal",
    'CommitmentInput.overageFactor: Decimal = "1"',
    "CommitmentInput.smoothingMonths: Int",
    "CommitmentInput.trueUp: Boolean = true",
    "CustomerSubscription.pauses(): [Pause!]!",
    "CustomerSubscription.replacedBy(): ID",
    "CustomerSubscription.replaces(): ID",
    "DiffKind.ADDED",
    "DiffKind.CHANGED",
    "DiffKind.REMOVED",
    "FieldDiff.after(): JSON",
    "FieldDiff.before(): JSON",
    "FieldDiff.field(): String!",
    "GraphQLEnumType DiffKind",
    "GraphQLEnumType ProrationRule",
    "GraphQLInputObjectType CommitmentInput",
    "GraphQLObjectType Commitment",
    "GraphQLObjectType FieldDiff",
    "GraphQLObjectType MoveResult",
    "GraphQLObjectType PartDiff",
    "GraphQLObjectType Pause",
    "GraphQLObjectType PlanDiff",
    "GraphQLObjectType SubscriberMove",
    "MoveResult.moves(): [SubscriberMove!]!",
    "MoveResult.remaining(): Boolean!",
    "Mutation.moveSubscribers(at: ChangeAt = PERIOD_END, fromVersion: Int!, plan: ID!, preview: Boolean = true, toVersion: Int!): MoveResult!",
    "Mutation.pauseSubscription(subscription: ID!, until: DateTime): CustomerSubscription!",
    "Mutation.resumeSubscription(subscription: ID!): CustomerSubscription!",
    "PartDiff.fields(): [FieldDiff!]!",
    "PartDiff.key(): ID!",
    "PartDiff.kind(): DiffKind!",
    "Pause.from(): DateTime!",
    "Pause.to(): DateTime",
    "Plan.commitment(): Commitment",
    "Plan.minimumSpend(): Decimal",
    "Plan.proration(): ProrationRule!",
    "Plan.trialDays(): Int!",
    "PlanDiff.charges(): [PartDiff!]!",
    "PlanDiff.entitlements(): [PartDiff!]!",
    "PlanDiff.fields(): [FieldDiff!]!",
    "PlanInput.commitment: CommitmentInput",
    "PlanInput.proration: ProrationRule = SECONDS",
    "ProrationRule.CALENDAR_DAYS",
    "ProrationRule.SECONDS",
    "ProrationRule.THIRTY_DAY_MONTHS",
    "Query.planDiff(from: Int!, plan: ID!, to: Int!): PlanDiff!",
    "SubscriberMove.current(): Money!",
    "SubscriberMove.customer(): ID!",
    "SubscriberMove.moved(): Boolean!",
    "SubscriberMove.new(): Money!",
    "SubscriberMove.problem(): String",
    "SubscriberMove.subscription(): ID!",
    "GraphQLObjectType Recovery",
    "Mutation.endRecovery(reason: String!): Boolean!",
    "Query.limit(id: ID!): Limit",
    "Query.recovery(): Recovery",
    "Recovery.awaited(): [ID!]!",
    "Recovery.holders(): Int",
    "Recovery.knownHolders(): Int!",
    "Recovery.since(): DateTime!",
    "Budget.asOf(): DateTime!",
    "Budget.currency(): String",
    "Budget.meter(): Meter",
    "Budget.period(): ResetPeriod!",
    "Budget.periodStart(): DateTime",
    "Budget.slice(): JSON!",
    "Budget.unit(): BudgetUnit!",
    "Alert.what(): String!",
    "DeliveryState.DELIVERED",
    "DeliveryState.FAILED",
    "DeliveryState.PENDING",
    "GraphQLEnumType DeliveryState",
    "GraphQLInputObjectType WebhookInput",
    "GraphQLObjectType Webhook",
    "GraphQLObjectType WebhookDelivery",
    "GraphQLObjectType WebhookDeliveryConnection",
    "GraphQLObjectType WebhookDeliveryEdge",
    "GraphQLObjectType WebhookSecret",
    "Mutation.redeliver(id: ID!): WebhookDelivery!",
    "Mutation.removeWebhook(id: ID!): Boolean!",
    "Mutation.setWebhook(input: WebhookInput!): WebhookSecret!",
    "Query.webhookDeliveries(after: String, first: Int = 50, state: DeliveryState): WebhookDeliveryConnection!",
    "Query.webhooks(): [Webhook!]!",
    "Webhook.createdAt(): DateTime!",
    "Webhook.events(): [String!]",
    "Webhook.id(): ID!",
    "Webhook.url(): String!",
    "WebhookDelivery.alert(): ID!",
    "WebhookDelivery.attempts(): Int!",
    "WebhookDelivery.createdAt(): DateTime!",
    "WebhookDelivery.endedAt(): DateTime",
    "WebhookDelivery.id(): ID!",
    "WebhookDelivery.lastError(): String",
    "WebhookDelivery.lastStatus(): Int",
    "WebhookDelivery.message(): ID!",
    "WebhookDelivery.state(): DeliveryState!",
    "WebhookDelivery.webhook(): ID!",
    "WebhookDeliveryConnection.edges(): [WebhookDeliveryEdge!]!",
    "WebhookDeliveryConnection.pageInfo(): PageInfo!",
    "WebhookDeliveryEdge.cursor(): String!",
    "WebhookDeliveryEdge.node(): WebhookDelivery!",
    "WebhookInput.events: [String!]",
    "WebhookInput.secret: String",
    "WebhookInput.url: String!",
    "WebhookSecret.secret(): String",
    "WebhookSecret.webhook(): Webhook!",
    "Alert.amount(): Decimal!",
    "Alert.periodStart(): DateTime",
    "Alert.used(): Decimal!",
}


def printed() -> str:
    return print_schema(SCHEMA._schema) + "\n"


def facts(schema: GraphQLSchema) -> set[str]:
    """Every name that a client can rely on, with its type, arguments and defaults, one line each."""
    return {fact for kind in schema.type_map.values() if not kind.name.startswith("__") for fact in facts_of(kind)}


def facts_of(kind: GraphQLNamedType) -> set[str]:
    match kind:
        case GraphQLObjectType():
            fields = {
                f"{kind}.{name}({', '.join(sorted(given(*arg) for arg in field.args.items()))}): {field.type}"
                for name, field in kind.fields.items()
            }
        case GraphQLInputObjectType():
            fields = {f"{kind}.{given(name, field)}" for name, field in kind.fields.items()}
        case GraphQLEnumType():
            fields = {f"{kind}.{name}" for name in kind.values}
        case _:
            fields = set()
    return {f"{type(kind).__name__} {kind}"} | fields


def given(name: str, value) -> str:
    default = get_default_value_ast(value)
    return f"{name}: {value.type}" + (f" = {print_ast(default)}" if default else "")


def test_the_schema_is_the_one_that_is_written_down() -> None:
    assert printed() == SNAPSHOT.read_text(), "run this file as a program if the change is meant"


def test_everything_in_it_is_in_the_contract_word_for_word_or_said_to_be_more() -> None:
    if not CONTRACT.exists():
        pytest.skip(f"the contract is not beside this clone: {CONTRACT}")
    extra = facts(build_schema(SNAPSHOT.read_text())) - facts(build_schema(CONTRACT.read_text()))
    assert sorted(extra) == sorted(GROWN)


def test_everything_in_it_is_described() -> None:
    undescribed = {
        str(kind)
        for kind in SCHEMA._schema.type_map.values()
        if not kind.name.startswith("__") and not kind.description and kind.name not in {"CustomerEdge", "EventEdge"}
    }
    assert undescribed == set()


if __name__ == "__main__":
    SNAPSHOT.write_text(printed())
