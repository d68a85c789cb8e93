// One customer: what it owes now and why, what it uses, and what happens at its limits.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useAnswer } from "../ground/live.js";
import { useHeard } from "../ground/pushed.js";
import { sayMoved } from "../ground/say.js";
import { ago, day, money, t } from "../ground/words.js";
import { Ago, Answered, Card, Empty, Head, Money, Pulse, Stats, Tag } from "../parts/basic.js";
import { BUDGET_FIELDS, Budgets } from "./budgets.js";
import { COST_FIELDS, CostLines } from "./cost_lines.js";
import { CREDIT_FIELDS, Credits } from "./credits.js";
import { QUOTA_FIELDS, QuotaView, atTheLimit, nearest, sharedWords } from "./quotas.js";
import { FORECAST_FIELDS, Forecast, projected } from "./forecast.js";
import { Plan, SUBSCRIPTION_FIELDS } from "./subscription.js";
import { PortalLink } from "./portal_link.js";
import { Usage } from "./usage.js";

/** What both the operator's and the customer's own page show. */
export const SHARED_FIELDS = `key name currency timeZone language
  cost { ${COST_FIELDS} } quotas { ${QUOTA_FIELDS} } budgets { ${BUDGET_FIELDS} } credits { ${CREDIT_FIELDS} }
  alerts(first: 10) { id kind threshold what at text }
  forecast { ${FORECAST_FIELDS} }`;

const QUERY = `query OneCustomer($key: ID!) {
  customer(key: $key) { ${SHARED_FIELDS} subjects subscriptions { ${SUBSCRIPTION_FIELDS} } }
  meters { key name unit aggregation archivedAt groupBy { key } }
}`;

const COST = "subscription Cost($customer: ID!) { costChanged(customer: $customer) { asOf } }";
const ALERT = "subscription Alert($customer: ID!) { alertRaised(customer: $customer) { id } }";
const QUOTA = "subscription Quota($customer: ID!, $feature: ID!) { quotaChanged(customer: $customer, feature: $feature) { asOf } }";
const MOST_QUOTAS = 20;

/** What is asked of one customer, at once when something of it changes; without pushes as often as a person looks. */
export function useCustomer(query, key) {
  const [features, setFeatures] = useState([]);
  const again = useRef(() => {});
  const topics = [COST, ALERT].map((each) => ({ query: each, variables: { customer: key } })).concat(features.map((feature) => ({ query: QUOTA, variables: { customer: key, feature } })));
  const isHeard = useHeard(topics, () => again.current());
  const answer = useAnswer(query, { key }, { every: isHeard ? 10_000 : 1000 });
  again.current = answer.again;
  const found = (answer.data?.customer?.quotas ?? []).filter(({ kind }) => kind === "METERED").slice(0, MOST_QUOTAS).map(({ feature }) => feature.key);
  useEffect(() => setFeatures(found), [found.join()]);
  return answer;
}

export function Customer({ name: key }) {
  const answer = useCustomer(QUERY, key);
  return html`<${Answered} answer=${answer}>${({ customer, meters }) => (customer === null
    ? html`<${Head} title=${t("No such customer")} /><div class="card"><${Empty} title=${t("There is no customer {key}", { key })}><a href="/customers">${t("All customers")}</a></${Empty}></div>`
    : html`<${Shown} customer=${customer} meters=${meters.filter((each) => !each.archivedAt)} answer=${answer} />`)}</${Answered}>`;
}

function Shown({ customer, meters, answer }) {
  const [linking, setLinking] = useState(false);
  useSaid(customer.cost.total);
  return html`<${Head} title=${customer.name ?? customer.key} above=${html`<a href="/customers">${t("Customers")}</a> / <span class="mono">${customer.key}</span>`}
      note=${customer.subjects.length > 1 || customer.subjects[0] !== customer.key ? t("Subjects: {subjects}", { subjects: customer.subjects.join(", ") }) : null}><${Pulse} answer=${answer} /><button type="button" onClick=${() => setLinking(true)}>${t("Link for the customer")}</button></${Head}>
    <${Figures} customer=${customer} />
    <div class="two">
      <div class="stack"><${CostLines} customer=${customer} cost=${customer.cost} /><${Forecast} customer=${customer} /><${Usage} customer=${customer} meters=${meters} /><${Plan} customer=${customer} again=${answer.again} /></div>
      <div class="stack"><${Limits} customer=${customer} /><${Budgets} customer=${customer} meters=${meters} again=${answer.again} /><${Credits} customer=${customer} again=${answer.again} mayGive /><${Alerts} customer=${customer} /></div>
    </div>
    ${linking && html`<${PortalLink} customer=${customer} onClose=${() => setLinking(false)} />`}`;
}

/** A screen reader is told of an amount that moved, at the next pause. */
export function useSaid(total) {
  const before = useRef(total.rounded);
  useEffect(() => {
    if (before.current !== total.rounded) sayMoved(t("Owes now {amount}", { amount: money(total) }));
    before.current = total.rounded;
  }, [total.rounded]);
}

/** The answers that are looked for first: how much, until when, and what is near its limit. */
export function Figures({ customer, mine = false }) {
  const { cost, quotas, timeZone } = customer;
  const near = nearest(quotas);
  return html`<${Stats} of=${[
    { label: mine ? t("You owe now") : t("Owes now"), value: html`<${Money} of=${cost.total} />`, large: true, note: t("{from} – {to}, ends {when}", { from: day(cost.from, timeZone), to: day(cost.to, timeZone), when: ago(cost.to) }) },
    projected(customer),
    near && { label: t("Nearest limit"), value: html`${near.name} <${Tag} tone=${near.tone || "good"}>${sharedWords(near)}</${Tag}>`, note: atTheLimit(near.quota), tone: near.tone },
  ]} />`;
}

/** What may be used, and what happens at the end of it. */
export const Limits = ({ customer, mine = false }) => html`<${Card} title=${t("Limits")}>${customer.quotas.length === 0
  ? html`<p class="muted">${t("No plan, add-on or override says what may be used, so nothing is limited here.")}</p>`
  : customer.quotas.map((quota) => html`<${QuotaView} key=${quota.feature.key} quota=${quota} mine=${mine} />`)}</${Card}>`;

/** What was said of budgets and quotas, newest first. */
export const Alerts = ({ customer }) => html`<${Card} title=${t("Alerts")}>${customer.alerts.length === 0
  ? html`<p class="muted">${t("None. One is raised when a budget or quota reaches one of its marks.")}</p>`
  : html`<ul class="items">${customer.alerts.map((alert) => html`<li key=${alert.id}><span lang=${customer.language.toLowerCase()}>${alert.text}</span><span class="small muted"><${Ago} at=${alert.at} /></span></li>`)}</ul>`}</${Card}>`;
