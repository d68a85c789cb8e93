// What a charge comes to over a quantity, priced by the control plane itself, beside what it came to before.
import { html, useMemo, useState } from "../vendor/htm-preact.js";
import { drawn } from "../ground/decimal.js";
import { useAnswer, useSettled } from "../ground/live.js";
import { compact, money, number, shortMoney, t } from "../ground/words.js";
import { Waiting } from "../parts/basic.js";
import { Lines } from "../parts/charts.js";
import { Field } from "../parts/forms.js";

const POINTS = 24;
const priced = (name) => Array.from({ length: POINTS + 1 }, (_, index) => `p${index}: pricePreview(currency: $currency, charge: ${name}, usage: $u${index}) { total { rounded amount currency } }`).join("\n");
const QUERY = `query Prices($currency: String!, $charge: ChargeInput!, ${Array.from({ length: POINTS + 1 }, (_, index) => `$u${index}: UsageInput!`).join(", ")}) { ${priced("$charge")} }`;

/** Where the price of a unit changes. */
const breaks = (charge) => (charge.tiers ?? []).map((tier) => tier.upTo).filter(Boolean);

/** The next round number beyond what is worth looking at: the last break and half as much again. */
function farthest(charge) {
  const last = Math.max(0, ...breaks(charge).map(drawn), drawn(charge.includedUnits), drawn(charge.packageSize) * 5);
  const wanted = last > 0 ? last * 1.5 : 1000;
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 1.5, 2, 3, 5, 7.5, 10].map((each) => each * power).find((each) => each >= wanted);
}

/** `before` is the charge as it is published; null where there is none. */
export function PriceChart({ charge, before, currency, unit }) {
  const [wanted, setWanted] = useState("");
  const end = /^\d{1,12}$/.test(wanted) && Number(wanted) > 0 ? Number(wanted) : Math.max(farthest(charge), before ? farthest(before) : 0);
  const settled = useSettled({ charge, before, end });
  const quantities = useMemo(() => Array.from({ length: POINTS + 1 }, (_, index) => String(Math.round((settled.end * index) / POINTS))), [settled.end]);
  const usages = Object.fromEntries(quantities.map((quantity, index) => [`u${index}`, { quantity }]));
  const now = useAnswer(QUERY, { currency, charge: settled.charge, ...usages });
  const changed = settled.before && JSON.stringify(settled.before) !== JSON.stringify(settled.charge);
  const then = useAnswer(QUERY, { currency, charge: settled.before ?? settled.charge, ...usages }, { skip: !changed });
  if (now.problem) return html`<p class="note bad" role="alert">${now.problem.message}</p>`;
  if (!now.data || !now.fresh) return html`<${Waiting} />`;
  const totals = (data) => quantities.map((_, index) => data[`p${index}`].total);
  const lines = [{ name: t("this draft"), points: points(quantities, totals(now.data)) }];
  const old = changed && then.data && then.fresh ? totals(then.data) : null;
  if (old) lines.push({ name: t("as published"), before: true, points: points(quantities, old) });
  const at = (index) => [`${number(quantities[index])} ${unit}: ${money(totals(now.data)[index])}`, old && `${t("as published")}: ${money(old[index])}`].filter(Boolean).join("\n");
  const rows = quantities.map((quantity, index) => [number(quantity), money(totals(now.data)[index]), ...(old ? [money(old[index])] : [])]);
  return html`<div class="stack tight">
    <${Lines} label=${t("Price over quantity of {charge}", { charge: charge.name ?? charge.key })} caption=${t("What it comes to at each quantity in one period")} lines=${lines}
      marks=${breaks(charge).map((text) => ({ x: drawn(text), text: t("from {n}", { n: compact(drawn(text)) }) }))}
      xText=${compact} text=${(value) => shortMoney(value, currency)} title=${at}
      figures=${{ heads: [t("Quantity"), t("this draft"), ...(old ? [t("as published")] : [])], rows }} />
    <div class="fields"><${Field} label=${t("Up to which quantity")} value=${wanted} onValue=${setWanted} placeholder=${String(end)} inputmode="numeric" /></div>
  </div>`;
}

const points = (quantities, totals) => quantities.map((quantity, index) => [drawn(quantity), drawn(totals[index].amount)]);
