// What a draft would have come to for those who were on the plan in a time that is past.
import { html, useState } from "../vendor/htm-preact.js";
import { drawn } from "../ground/decimal.js";
import { useDeed } from "../ground/live.js";
import { at } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { money, t, tn } from "../ground/words.js";
import { Card, Empty, Money, Stats, Tabs, Trouble } from "../parts/basic.js";
import { Differences } from "../parts/charts.js";
import { signed } from "./subscription.js";

const AMOUNT = "{ rounded amount currency }";
const SIMULATE = `query Effect($plan: PlanInput!, $from: DateTime!, $to: DateTime!) {
  simulate(plan: $plan, from: $from, to: $to) { total ${AMOUNT} difference ${AMOUNT} rows { customer current ${AMOUNT} simulated ${AMOUNT} difference ${AMOUNT} } }
}`;
const SHOWN = 12;

function interval(which) {
  const now = new Date();
  const month = (offset) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + offset, 1)).toISOString();
  return { last: [month(-1), month(0)], this: [month(0), now.toISOString()] }[which];
}

export function Effect({ draft }) {
  const [which, setWhich] = useState("last");
  const simulate = useDeed(async () => {
    const [from, to] = interval(which);
    return (await ask(SIMULATE, { plan: draft, from, to })).simulate;
  });
  return html`<${Card} title=${t("What it would have come to")} note=${t("The usage of everybody who was on this plan, priced as it is and as the draft would, before credits.")}>
    <div class="row"><${Tabs} label=${t("Of which time")} of=${{ last: t("last month"), this: t("this month") }} value=${which} onChoose=${setWhich} />
      <button type="button" disabled=${simulate.busy} onClick=${() => simulate.run()}>${simulate.busy ? t("Working …") : t("Simulate")}</button></div>
    <${Trouble} problem=${simulate.problem} />
    ${simulate.done && html`<${Outcome} found=${simulate.done} />`}
  </${Card}>`;
}

function Outcome({ found }) {
  if (!found.rows.length) return html`<${Empty} title=${t("Nobody was on this plan then")}>${t("Choose another time.")}</${Empty}>`;
  const moved = found.rows.filter((row) => drawn(row.difference.amount) !== 0).sort((a, b) => Math.abs(drawn(b.difference.amount)) - Math.abs(drawn(a.difference.amount)));
  const shown = moved.slice(0, SHOWN).sort((a, b) => drawn(b.difference.amount) - drawn(a.difference.amount));
  const more = moved.filter((row) => drawn(row.difference.amount) > 0).length;
  return html`<${Stats} of=${[
      { label: t("All of them would pay"), value: html`<${Money} of=${found.total} />`, note: signed(found.difference) },
      { label: t("Would pay more"), value: `${more}`, note: tn("of {n} customer", "of {n} customers", found.rows.length) },
      { label: t("Would pay less"), value: `${moved.length - more}` },
    ]} />
    ${shown.length === 0 ? html`<p class="muted">${t("Nobody would pay another amount.")}</p>` : html`<${Differences} label=${t("Who would pay more or less")}
      rows=${shown.map((row) => ({ key: row.customer, name: row.customer, value: drawn(row.difference.amount), text: signed(row.difference) }))}
      figures=${{ heads: [t("Customer"), t("As it is"), t("Under the draft"), t("Difference")], rows: found.rows.map((row) => [html`<a href=${at("customers", row.customer)}>${row.customer}</a>`, money(row.current), money(row.simulated), signed(row.difference)]) }} />
      ${moved.length > SHOWN && html`<p class="small muted">${t("The {n} largest; all are in the table.", { n: SHOWN })}</p>`}`}`;
}
