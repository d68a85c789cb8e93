// What a customer wants to spend at most, and what happens when it does.
import { html, useState } from "../vendor/htm-preact.js";
import { drawn, isDecimal } from "../ground/decimal.js";
import { useDeed } from "../ground/live.js";
import { ask } from "../ground/server.js";
import { ago, money, number, percentText, t } from "../ground/words.js";
import { Card, Tag, Trouble } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";
import { Gauge } from "../parts/gauge.js";
import { currencyOf } from "./credits.js";

/** What has to be asked of a budget for these words. */
export const BUDGET_FIELDS = "key byCustomer unit amount spent remaining currency slice enforcement thresholds period periodStart resetsAt leased inDoubt meter { key name unit }";

const PERIODS = { BILLING_PERIOD: () => t("billing period"), DAY: () => t("day"), WEEK: () => t("week"), MONTH: () => t("month"), YEAR: () => t("year"), NEVER: () => t("for ever") };

const amountOf = (budget, text) => (budget.unit === "MONEY" && budget.currency ? money({ rounded: text, currency: budget.currency }) : `${number(text)} ${budget.meter?.unit ?? ""}`.trim());

function ends(budget) {
  const reached = drawn(budget.spent) >= drawn(budget.amount);
  const again = budget.resetsAt ? ` ${t("It begins anew {when}.", { when: ago(budget.resetsAt) })}` : "";
  if (budget.enforcement === "SOFT") return (reached ? t("Reached: nothing is stopped, an alert was raised.") : t("When it is spent an alert is raised, and nothing is stopped.")) + again;
  return (reached ? t("Reached: further use is refused.") : t("When it is spent further use is refused.")) + again;
}

/** Who caps the budget is known by its slice: the whole customer, or where dimensions have values. */
const sliceText = (slice) => Object.entries(slice ?? {}).map(([key, value]) => `${key}: ${value}`).join(", ");

/** A slice as somebody wrote it; null: everything, or what is no slice is `undefined`. */
function sliceOf(text) {
  const pairs = text.split(",").map((each) => each.trim()).filter(Boolean).map((each) => each.match(/^([^:]+?)\s*:\s*(.+)$/));
  if (pairs.includes(null)) return undefined;
  return pairs.length ? Object.fromEntries(pairs.map(([, key, value]) => [key, value])) : null;
}

/** All budgets of a customer; `meters` are those that one may be of. */
export function Budgets({ customer, meters, again, mine = false }) {
  const [edited, setEdited] = useState(null);
  const blank = { key: "", unit: "MONEY", amount: "", period: "MONTH", enforcement: "SOFT", thresholds: [50, 75, 90, 100] };
  return html`<${Card} title=${t("Budgets")} actions=${html`<button type="button" onClick=${() => setEdited(blank)}>${t("Set a budget")}</button>`}>
    ${customer.budgets.length === 0 ? html`<p class="muted">${t("None yet. A budget raises alerts before too much is spent, and may stop further use.")}</p>`
      : customer.budgets.map((budget) => html`<div class="stack tight" key=${budget.key}><${Gauge} name=${budgetName(budget)} used=${budget.spent} whole=${budget.amount} marks=${budget.thresholds}
          held=${drawn(budget.leased) > 0 ? budget.leased : "0"} stopped=${budget.enforcement === "HARD" && drawn(budget.remaining) <= 0}
          words=${t("{used} of {limit}", { used: amountOf(budget, budget.spent), limit: amountOf(budget, budget.amount) })} end=${ends(budget)} />
        <div class="row spread"><span class="small muted">${[PERIODS[budget.period]?.() ?? budget.period, budget.thresholds.length ? t("alerts at {marks}", { marks: budget.thresholds.map(percentText).join(", ") }) : null].filter(Boolean).join(" · ")}</span>
          ${!mine || budget.byCustomer ? html`<button type="button" class="plain small" aria-label=${t("Change the budget {key}", { key: budget.key })} onClick=${() => setEdited(budget)}>${t("Change")}</button>` : html`<${Tag}>${t("set for you")}</${Tag}>`}</div></div>`)}
    ${edited && html`<${Edit} customer=${customer} meters=${meters} budget=${edited} onClose=${(changed) => { setEdited(null); if (changed) again(); }} />`}
  </${Card}>`;
}

const budgetName = (budget) => [budget.key, sliceText(budget.slice)].filter(Boolean).join(" · ");

const SET = "mutation Set($input: BudgetInput!) { setBudget(input: $input) { key } }";
const REMOVE = "mutation Remove($key: ID!) { removeBudget(key: $key) }";

function Edit({ customer, meters, budget, onClose }) {
  const isNew = !budget.key;
  const [input, setInput] = useState({ ...budget, meter: budget.meter?.key ?? "", slice: sliceText(budget.slice), thresholds: budget.thresholds.join(", ") });
  const put = (name) => (value) => setInput({ ...input, [name]: value });
  const save = useDeed(async () => {
    await ask(SET, { input: {
      key: input.key, customer: customer.key, unit: input.unit, meter: input.unit === "METER" ? input.meter : null, amount: input.amount, period: input.period,
      enforcement: input.enforcement, thresholds: marksOf(input.thresholds), slice: sliceOf(input.slice),
    } });
    onClose(true);
  });
  const remove = useDeed(async () => {
    await ask(REMOVE, { key: budget.key });
    onClose(true);
  });
  const problem = save.problem ?? remove.problem;
  const wrong = (field) => (problem?.field?.startsWith(field) ? problem.message : null);
  const sliceWrong = sliceOf(input.slice) === undefined ? t("A dimension, a colon and its value: team: a") : wrong("slice");
  const amountWrong = input.amount && !isDecimal(input.amount) ? t("A number with a point: 100 or 99.50") : wrong("amount");
  return html`<${Dialog} title=${isNew ? t("Set a budget") : t("Change the budget {key}", { key: budget.key })} deed=${t("Save")} busy=${save.busy} disabled=${!input.key || !isDecimal(input.amount) || sliceOf(input.slice) === undefined} onSubmit=${save.run} onClose=${() => onClose(false)}>
    <${Trouble} problem=${problem} />
    ${isNew && html`<${Field} label=${t("Name")} value=${input.key} onValue=${put("key")} wrong=${wrong("key")} required hint=${t("Letters, digits and . _ : - without spaces.")} />`}
    <div class="fields">
      <${Field} label=${t("Of what")} value=${input.unit} onValue=${put("unit")} options=${{ MONEY: t("money"), METER: t("usage of a meter") }} />
      ${input.unit === "METER" && html`<${Field} label=${t("Meter")} value=${input.meter} onValue=${put("meter")} wrong=${wrong("meter")} options=${{ "": "", ...Object.fromEntries(meters.map((each) => [each.key, each.name ?? each.key])) }} />`}
      <${Field} label=${currencyOf(customer) && input.unit === "MONEY" ? t("At most, in {currency}", { currency: currencyOf(customer) }) : t("At most")} value=${input.amount} onValue=${put("amount")} wrong=${amountWrong} inputmode="decimal" required />
      <${Field} label=${t("In each")} value=${input.period} onValue=${put("period")} options=${Object.fromEntries(Object.entries(PERIODS).map(([key, text]) => [key, text()]))} />
    </div>
    <${Field} label=${t("Only where")} value=${input.slice} onValue=${put("slice")} wrong=${sliceWrong} hint=${t("Everything, unless it says of which team, key or model, by a meter’s dimensions: team: a, model: x")} />
    <${Field} label=${t("When it is reached")} value=${input.enforcement} onValue=${put("enforcement")} wrong=${wrong("enforcement")} options=${{ SOFT: t("raise an alert, stop nothing"), HARD: t("refuse further use") }} />
    <${Field} label=${t("Alerts at percent")} value=${input.thresholds} onValue=${put("thresholds")} wrong=${wrong("thresholds")} hint=${t("With commas between: 50, 75, 90, 100")} />
    ${!isNew && html`<div><button type="button" class="danger" disabled=${remove.busy} onClick=${remove.run}>${t("Remove this budget")}</button></div>`}
  </${Dialog}>`;
}

const marksOf = (text) => text.split(/[\s,;%]+/).filter(Boolean).map(Number);

