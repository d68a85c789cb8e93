// The fields of a plan's draft: its terms, its charges, and what it allows.
import { html, useState } from "../vendor/htm-preact.js";
import { isDecimal } from "../ground/decimal.js";
import { number, t, tn, unitMoney } from "../ground/words.js";
import { Field } from "../parts/forms.js";
import { AddFeature } from "./features.js";
import { FIELDS, MODELS, TIER_FIELDS, TIER_WORDS, WRITTEN } from "./models.js";
import { Bands, FIRST, Outcome, Rates, replaced, said, without } from "./plan_lists.js";

export function DraftForm({ draft, onDraft, meters, features, isNew, wrong, again }) {
  const put = (name) => (value) => onDraft(said(draft, name, value));
  const charges = draft.charges ?? [];
  const entitlements = draft.entitlements ?? [];
  const setCharges = (next) => onDraft({ ...draft, charges: next });
  const setEntitlements = (next) => onDraft(said(draft, "entitlements", next.length ? next : null));
  return html`<div class="stack">
    <div class="fields">
      ${isNew && html`<${Field} label=${t("Key")} value=${draft.key} onValue=${(key) => onDraft({ ...draft, key })} wrong=${wrong("key")} required hint=${t("It never changes.")} />`}
      <${Field} label=${t("Name")} value=${draft.name ?? ""} onValue=${put("name")} wrong=${wrong("name")} />
      <${Field} label=${t("Currency")} value=${draft.currency} onValue=${(currency) => onDraft({ ...draft, currency: currency.toUpperCase() })} wrong=${wrong("currency")} maxlength="3" />
      <${Field} label=${t("Billed each")} value=${draft.interval ?? "MONTH"} onValue=${put("interval")} options=${{ DAY: t("day"), WEEK: t("week"), MONTH: t("month"), QUARTER: t("quarter"), YEAR: t("year") }} />
      <${Field} label=${t("Days of trial")} value=${draft.trialDays ?? ""} onValue=${(text) => onDraft(said(draft, "trialDays", /^\d+$/.test(text) ? Number(text) : null))} wrong=${wrong("trialDays")} inputmode="numeric" />
      <${Field} label=${t("At least, in each period")} value=${draft.minimumSpend ?? ""} onValue=${put("minimumSpend")} wrong=${wrong("minimumSpend")} inputmode="decimal" />
    </div>
    <fieldset class="stack tight"><legend>${t("Charges")}</legend>
      ${charges.length === 0 && html`<p class="muted small">${t("None yet: a fee, or a price for what a meter counts.")}</p>`}
      ${charges.map((charge, index) => html`<${Charge} key=${index} charge=${charge} currency=${draft.currency} meters=${meters} wrong=${(field, within) => wrong(`charges.${charge.key}.${field}`, within)} onCharge=${(next) => setCharges(replaced(charges, index, next))} onAway=${() => setCharges(without(charges, index))} />`)}
      <div class="row"><button type="button" onClick=${() => setCharges([...charges, { key: freeKey("fee", charges), model: "FLAT", amount: "0" }])}>${t("Add a fee")}</button>
        ${meters.length > 0 && html`<button type="button" onClick=${() => setCharges([...charges, { key: freeKey(meters[0].key, charges), meter: meters[0].key, model: "PER_UNIT", unitPrice: "0" }])}>${t("Add a price of usage")}</button>`}</div>
    </fieldset>
    <fieldset class="stack tight"><legend>${t("What it allows")}</legend>
      ${entitlements.map((each, index) => html`<${Entitlement} key=${index} of=${each} features=${features} wrong=${(field) => wrong(`entitlements.${each.feature}.${field}`)} onChange=${(next) => setEntitlements(replaced(entitlements, index, next))} onAway=${() => setEntitlements(without(entitlements, index))} />`)}
      ${features.length === 0 && html`<p class="muted small">${t("There is no feature yet. Add one to allow or limit it.")}</p>`}
      <div class="row">${features.length > 0 && html`<button type="button" onClick=${() => setEntitlements([...entitlements, entitlementOf(features.find(({ key }) => !entitlements.some(({ feature }) => feature === key)) ?? features[0])])}>${t("Allow a feature")}</button>`}<${AddFeature} meters=${meters} onMade=${again} /></div>
    </fieldset>
  </div>`;
}

const freeKey = (wanted, parts) => {
  const taken = parts.map(({ key }) => key);
  let key = wanted;
  for (let count = 2; taken.includes(key); count += 1) key = `${wanted}-${count}`;
  return key;
};

const entitlementOf = (feature) => (feature.meter ? { feature: feature.key, kind: "METERED", limit: "1000" } : { feature: feature.key, kind: "BOOLEAN" });

/** Its price where that is one figure, or how many tiers it has. */
function priceOf({ amount, unitPrice, packagePrice, percentage, tiers }, currency) {
  const figure = amount ?? unitPrice ?? packagePrice;
  if (figure !== undefined && isDecimal(figure) && /^[A-Z]{3}$/.test(currency)) return unitMoney(figure, currency);
  if (percentage !== undefined) return `${percentage} %`;
  return tiers ? tn("{n} tier", "{n} tiers", tiers.length) : null;
}

function Charge({ charge, currency, meters, onCharge, onAway, wrong }) {
  const put = (name) => (value) => onCharge(said(charge, name, value));
  const model = MODELS[charge.model];
  const models = Object.fromEntries(Object.entries(MODELS).filter(([key]) => charge.meter || key === "FLAT").map(([key, each]) => [key, each.text()]));
  const change = (wanted) => onCharge({ ...kept(charge), model: wanted, ...(TIER_FIELDS[wanted] ? { tiers: charge.tiers ?? [{ [TIER_FIELDS[wanted][0]]: "0" }] } : {}), ...Object.fromEntries(MODELS[wanted].fields.filter((name) => name in FIRST).map((name) => [name, FIRST[name]])) });
  const fields = [...model.fields.filter((each) => each !== "tiers" && !WRITTEN.includes(each)), ...(charge.meter ? ["includedUnits", "minimum", "maximum"] : [])];
  return html`<details class="part" open=${!charge.name && !charge.amount && !charge.tiers}><summary><span class="strong breaks">${charge.name ?? charge.key}</span><span class="muted small breaks">${[model.text(), priceOf(charge, currency)].filter(Boolean).join(" · ")}</span></summary><div class="stack tight">
    <div class="fields">
      <${Field} label=${t("Key")} value=${charge.key} onValue=${(key) => onCharge({ ...charge, key })} wrong=${wrong("key")} />
      <${Field} label=${t("Name on the bill")} value=${charge.name ?? ""} onValue=${put("name")} wrong=${wrong("name")} />
      ${charge.meter && html`<${Field} label=${t("Meter")} value=${charge.meter} onValue=${put("meter")} wrong=${wrong("meter")} options=${Object.fromEntries(meters.map((each) => [each.key, each.name ?? each.key]))} />`}
      <${Field} label=${t("How it is priced")} value=${charge.model} onValue=${change} options=${models} wrong=${wrong("model")} />
      ${fields.map((name) => html`<${Field} key=${name} label=${FIELDS[name]()} value=${charge[name] ?? ""} onValue=${put(name)} wrong=${wrong(name)} inputmode="decimal" />`)}
    </div>
    ${TIER_FIELDS[charge.model] && html`<${Tiers} columns=${TIER_FIELDS[charge.model]} tiers=${charge.tiers ?? []} onTiers=${put("tiers")} wrong=${wrong("tiers", true)} />`}
    ${model.fields.includes("rates") && html`<${Rates} of=${charge.rates ?? []} meter=${meters.find(({ key }) => key === charge.meter)} onRates=${(rates) => onCharge({ ...charge, rates })} wrong=${wrong("rates", true)} />`}
    ${model.fields.includes("bands") && html`<${Bands} of=${charge.bands ?? []} onBands=${(bands) => onCharge({ ...charge, bands })} wrong=${wrong("bands", true)} />`}
    ${model.fields.includes("outcome") && html`<${Outcome} of=${charge.outcome ?? FIRST.outcome} onOutcome=${put("outcome")} wrong=${(name) => wrong(`outcome.${name}`)} />`}
    <div><button type="button" class="plain small" onClick=${onAway}>${t("Take this charge away")}</button></div>
  </div></details>`;
}

/** What holds for any model. */
const kept = ({ key, name, meter, includedUnits, minimum, maximum }) => Object.fromEntries(Object.entries({ key, name, meter, includedUnits, minimum, maximum }).filter(([, value]) => value !== undefined));

function Tiers({ columns, tiers, onTiers, wrong }) {
  const put = (index, name) => (event) => onTiers(replaced(tiers, index, said(tiers[index], name, event.currentTarget.value)));
  const add = () => onTiers([...tiers.slice(0, -1), { ...tiers.at(-1), upTo: "" }, { ...tiers.at(-1) }]);
  return html`<div class="scroll"><table class="tiers"><thead><tr><th scope="col">${t("Up to")}</th>${columns.map((name) => html`<th scope="col" key=${name}>${TIER_WORDS[name]()}</th>`)}<th><span class="unseen">${t("Take away")}</span></th></tr></thead>
    <tbody>${tiers.map((tier, index) => html`<tr key=${index}>
      <td>${index === tiers.length - 1 ? html`<span class="muted">${t("all else")}</span>` : html`<input aria-label=${t("Tier {n} up to", { n: index + 1 })} value=${tier.upTo ?? ""} onInput=${put(index, "upTo")} inputmode="decimal" />`}</td>
      ${columns.map((name) => html`<td key=${name}><input aria-label=${`${t("Tier {n}", { n: index + 1 })}: ${TIER_WORDS[name]()}`} value=${tier[name] ?? ""} onInput=${put(index, name)} inputmode="decimal" /></td>`)}
      <td>${tiers.length > 1 && html`<button type="button" class="plain small" aria-label=${t("Take tier {n} away", { n: index + 1 })} onClick=${() => onTiers(lastOpen(without(tiers, index)))}>×</button>`}</td></tr>`)}</tbody></table></div>
    ${wrong && html`<span class="wrong small bad">${wrong}</span>`}
    <div><button type="button" class="small" onClick=${add}>${t("Add a tier")}</button></div>`;
}

/** The last tier has no end. */
const lastOpen = (tiers) => replaced(tiers, tiers.length - 1, said(tiers.at(-1), "upTo", null));

function Entitlement({ of, features, onChange, onAway, wrong }) {
  const put = (name) => (value) => onChange(said(of, name, value));
  const feature = features.find(({ key }) => key === of.feature);
  const end = of.kind !== "METERED" ? "" : of.limit === undefined ? t("no limit") : of.enforcement === "HARD" ? t("then refused") : t("then counted on");
  return html`<details class="part"><summary><span class="strong breaks">${feature?.name ?? of.feature}</span><span class="muted small">${[of.kind === "METERED" ? of.limit && isDecimal(of.limit) && number(of.limit) : of.kind === "STATIC" ? JSON.stringify(of.value) : t("included"), end].filter(Boolean).join(", ")}</span></summary><div class="stack tight">
    <div class="fields">
      <${Field} label=${t("Feature")} value=${of.feature} onValue=${put("feature")} wrong=${wrong("feature")} options=${Object.fromEntries(features.map((each) => [each.key, each.name ?? each.key]))} />
      <${Field} label=${t("What it allows")} value=${of.kind} onValue=${(kind) => onChange({ feature: of.feature, kind })} wrong=${wrong("kind")} options=${{ BOOLEAN: t("it is there"), STATIC: t("it has a value"), METERED: t("so much of it") }} />
      ${of.kind === "METERED" && html`<${Field} label=${t("At most (empty: no limit)")} value=${of.limit ?? ""} onValue=${put("limit")} wrong=${wrong("limit")} inputmode="decimal" />
        <${Field} label=${t("At the limit")} value=${of.enforcement ?? "SOFT"} onValue=${put("enforcement")} options=${{ SOFT: t("count on"), HARD: t("refuse") }} />
        <${Field} label=${t("Begins anew each")} value=${of.reset ?? "BILLING_PERIOD"} onValue=${put("reset")} options=${{ BILLING_PERIOD: t("billing period"), DAY: t("day"), WEEK: t("week"), MONTH: t("month"), YEAR: t("year"), NEVER: t("never") }} />
        ${of.enforcement === "HARD" && html`<${Field} label=${t("So many more are let through")} value=${of.overageUpTo ?? ""} onValue=${put("overageUpTo")} wrong=${wrong("overageUpTo")} inputmode="decimal" />
          <${Field} label=${t("Days of grace")} value=${of.graceDays ?? ""} onValue=${(text) => put("graceDays")(/^\d+$/.test(text) ? Number(text) : null)} wrong=${wrong("graceDays")} inputmode="numeric" />`}`}
      ${of.kind === "STATIC" && html`<${Field} label=${t("Value")} value=${typeof of.value === "string" ? of.value : JSON.stringify(of.value ?? "")} onValue=${put("value")} wrong=${wrong("value")} />`}
    </div>
    <div><button type="button" class="plain small" onClick=${onAway}>${t("Allow it no more")}</button></div></div></details>`;
}
