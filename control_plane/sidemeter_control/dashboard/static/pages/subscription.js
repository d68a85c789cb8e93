// The plan a customer is on, what it changes to, and what other plans would have cost.
import { html, useState } from "../vendor/htm-preact.js";
import { drawn } from "../ground/decimal.js";
import { useAnswer, useDeed } from "../ground/live.js";
import { at } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { day, money, t } from "../ground/words.js";
import { Card, Empty, Money, Tag, Trouble } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";
import { Table } from "../parts/table.js";

export const SUBSCRIPTION_FIELDS = "id status startAt endAt periodStart periodEnd trialEnd replacedBy plan { key name version currency definition }";

const STATUS = {
  SCHEDULED: ["", () => t("scheduled")], TRIALING: ["accent", () => t("on trial")], ACTIVE: ["good", () => t("active")], PAUSED: ["warn", () => t("paused")], ENDED: ["", () => t("ended")],
};
const Status = ({ of }) => html`<${Tag} tone=${STATUS[of]?.[0]}>${STATUS[of]?.[1]() ?? of}</${Tag}>`;

const PLANS = "query Plans { plans { key name version currency definition } }";

/** The subscriptions of a customer. */
export function Plan({ customer, again }) {
  const [changing, setChanging] = useState(false);
  const plans = useAnswer(PLANS);
  const current = customer.subscriptions.filter(({ status }) => status !== "ENDED");
  const ended = customer.subscriptions.filter(({ status }) => status === "ENDED");
  return html`<${Card} title=${t("Plan")} actions=${html`<button type="button" onClick=${() => setChanging(true)}>${current.length ? t("Change the plan") : t("Subscribe to a plan")}</button>`}>
    ${current.length === 0 && html`<p class="muted">${t("On no plan: what is used costs nothing, and nothing is allowed by a plan.")}</p>`}
    ${current.map((each) => html`<div class="stack tight" key=${each.id}>
      <div class="row"><a class="strong breaks" href=${at("plans", each.plan.key)}>${each.plan.name ?? each.plan.key}</a><span class="muted small">${t("version {n}", { n: each.plan.version })}</span><${Status} of=${each.status} /></div>
      <dl class="facts"><dt>${t("Period")}</dt><dd>${day(each.periodStart, customer.timeZone)} – ${day(each.periodEnd, customer.timeZone)}</dd>
        <dt>${t("Since")}</dt><dd>${day(each.startAt, customer.timeZone)}</dd>
        ${each.trialEnd && html`<dt>${t("Trial until")}</dt><dd>${day(each.trialEnd, customer.timeZone)}</dd>`}
        ${each.endAt && html`<dt>${t("Ends")}</dt><dd>${day(each.endAt, customer.timeZone)}</dd>`}</dl></div>`)}
    ${ended.length > 0 && html`<p class="small muted">${t("Before:")} ${ended.map((each) => `${each.plan.name ?? each.plan.key} (${day(each.startAt, customer.timeZone)} – ${day(each.endAt, customer.timeZone)})`).join(", ")}</p>`}
    ${plans.data && current.length > 0 && html`<${WhatIf} customer=${customer} current=${current.at(-1)} plans=${plans.data.plans} />`}
    ${changing && plans.data && html`<${Change} customer=${customer} current=${current.at(-1)} plans=${plans.data.plans} onClose=${(changed) => { setChanging(false); if (changed) again(); }} />`}
  </${Card}>`;
}

const SIMULATE = `query WhatIf($plan: PlanInput!, $from: DateTime!, $to: DateTime!, $customers: [ID!]) {
  simulate(plan: $plan, from: $from, to: $to, customers: $customers) { rows { current { rounded amount currency } simulated { rounded amount currency } difference { rounded amount currency } } }
}`;

/** What this period's usage would have cost on each other plan of the currency, once somebody asks. */
function WhatIf({ customer, current, plans }) {
  const others = plans.filter((each) => each.key !== current.plan.key && each.currency === current.plan.currency);
  const compare = useDeed(async () => {
    const rows = [];
    for (const plan of others) {
      const { simulate } = await ask(SIMULATE, { plan: plan.definition, from: current.periodStart, to: current.periodEnd, customers: [customer.key] });
      if (simulate.rows[0]) rows.push({ key: plan.key, plan, ...simulate.rows[0] });
    }
    return rows.sort((a, b) => drawn(a.simulated.amount) - drawn(b.simulated.amount));
  });
  if (!others.length) return null;
  return html`<div class="stack tight">
    <div class="row spread"><h3>${t("Would another plan cost less?")}</h3><button type="button" disabled=${compare.busy} onClick=${() => compare.run()}>${compare.busy ? t("Working …") : t("Compare")}</button></div>
    <p class="small muted">${t("The usage of this period so far, with the fees of the whole period, as each plan would price it; before credits.")}</p>
    <${Trouble} problem=${compare.problem} />
    ${compare.done?.length === 0 && html`<${Empty} title=${t("There is nothing to compare yet")} />`}
    ${compare.done?.length > 0 && html`<${Table} label=${t("What other plans would have cost")} rows=${compare.done} columns=${[
      { key: "plan", title: t("Plan"), cell: (row) => row.plan.name ?? row.plan.key },
      { key: "cost", title: t("Would cost"), number: true, cell: (row) => html`<${Money} of=${row.simulated} />` },
      { key: "difference", title: t("Than now"), number: true, cell: (row) => html`<span class=${drawn(row.difference.amount) < 0 ? "good" : ""}>${signed(row.difference)}</span>` },
    ]} />`}
  </div>`;
}

/** An amount with its sign, also where it is more. */
export const signed = (amount) => (drawn(amount.rounded) > 0 ? "+" : "") + money(amount);

const SUBSCRIBE = "mutation Subscribe($input: SubscribeInput!) { subscribe(input: $input) { id } }";
const CHANGE = "mutation Change($id: ID!, $plan: ID!, $at: ChangeAt!) { changePlan(subscription: $id, plan: $plan, at: $at) { id } }";
const CANCEL = "mutation Cancel($id: ID!, $at: ChangeAt!) { cancelSubscription(subscription: $id, at: $at) { id } }";

function Change({ customer, current, plans, onClose }) {
  const [plan, setPlan] = useState(plans[0]?.key ?? "");
  const [when, setWhen] = useState("PERIOD_END");
  const change = useDeed(async () => {
    if (!current) await ask(SUBSCRIBE, { input: { customer: customer.key, plan } });
    else if (plan === "-") await ask(CANCEL, { id: current.id, at: when });
    else await ask(CHANGE, { id: current.id, plan, at: when });
    onClose(true);
  });
  const choices = Object.fromEntries(plans.map((each) => [each.key, `${each.name ?? each.key} (${t("version {n}", { n: each.version })})`]));
  return html`<${Dialog} title=${current ? t("Change the plan") : t("Subscribe to a plan")} deed=${t("Save")} busy=${change.busy} disabled=${!plan} onSubmit=${change.run} onClose=${() => onClose(false)}>
    <${Trouble} problem=${change.problem} />
    ${plans.length === 0 ? html`<p>${t("There is no plan yet.")} <a href="/plans">${t("Publish one")}</a></p>` : html`<${Field} label=${t("Plan")} value=${plan} onValue=${setPlan} options=${current ? { ...choices, "-": t("end the subscription") } : choices} />`}
    ${current && html`<${Field} label=${t("When")} value=${when} onValue=${setWhen} options=${{ PERIOD_END: t("at the end of the period, on {day}", { day: day(current.periodEnd, customer.timeZone) }), NOW: t("now, both parts of the period prorated") }} />`}
  </${Dialog}>`;
}
