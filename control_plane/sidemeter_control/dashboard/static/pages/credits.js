// What was paid in advance or given, and what of it is left.
import { html, useState } from "../vendor/htm-preact.js";
import { drawn, isDecimal } from "../ground/decimal.js";
import { useDeed } from "../ground/live.js";
import { ask } from "../ground/server.js";
import { day, money, number, t } from "../ground/words.js";
import { Card, Tag, Trouble } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";
import { Gauge } from "../parts/gauge.js";

/** What has to be asked of credits in money for these words. */
export const CREDIT_FIELDS = "balance overage limitId grants { id amount balance burned priority effectiveAt expiresAt voidedAt purchased automatic }";

/** The customer's own, or that of what it owes; null before either is known. */
export const currencyOf = ({ currency, cost }) => currency ?? (cost.total.currency === "XXX" ? null : cost.total.currency);

/** Credits in money; `onGive` where somebody may give more. */
export function Credits({ customer, again, mayGive }) {
  const [giving, setGiving] = useState(false);
  const { credits } = customer;
  const currency = currencyOf(customer);
  const amount = (text) => (currency ? money({ rounded: text, currency }) : number(text));
  const active = credits.grants.filter((grant) => !grant.voidedAt);
  if (!active.length && !mayGive) return null;
  return html`<${Card} title=${t("Credits")} actions=${mayGive && html`<button type="button" onClick=${() => setGiving(true)}>${t("Give credits")}</button>`}>
    ${active.length === 0 ? html`<p class="muted">${t("None. Credits pay what is owed before anything is billed.")}</p>` : html`
      <p><span class="strong">${amount(credits.balance)}</span> <span class="muted">${t("left to pay with")}${credits.limitId && `. ${t("No more than that may be spent.")}`}</span></p>
      ${drawn(customer.cost?.credits?.amount ?? "0") > 0 && html`<p class="small muted">${t("What is used takes of them at once, a fee when it is due. What is owed has both taken off.")}</p>`}
      ${active.map((grant) => html`<${Gauge} key=${grant.id} name=${grant.purchased ? t("Bought") : t("Given")} used=${grant.burned} whole=${grant.amount}
        words=${t("{left} of {amount} left", { left: amount(grant.balance), amount: amount(grant.amount) })} end=${expiry(grant, customer.timeZone)} />`)}`}
    ${drawn(credits.overage) > 0 && html`<p><${Tag} tone="warn">${t("{amount} not covered", { amount: amount(credits.overage) })}</${Tag}></p>`}
    ${giving && html`<${Give} customer=${customer} onClose=${(changed) => { setGiving(false); if (changed) again(); }} />`}
  </${Card}>`;
}

const expiry = (grant, timeZone) => (grant.expiresAt ? t("until {day}", { day: day(grant.expiresAt, timeZone) }) : t("does not expire"));

const GRANT = "mutation Grant($input: CreditGrantInput!) { grantCredits(input: $input) { id } }";

function Give({ customer, onClose }) {
  const [amount, setAmount] = useState("");
  const [until, setUntil] = useState("");
  const [once] = useState(() => crypto.randomUUID?.() ?? String(performance.now()));
  const give = useDeed(async () => {
    await ask(GRANT, { input: { customer: customer.key, unit: "MONEY", amount, expiresAt: until ? `${until}T00:00:00Z` : null, idempotencyKey: once } });
    onClose(true);
  });
  const wrong = (field) => (give.problem?.field === field ? give.problem.message : null);
  return html`<${Dialog} title=${t("Give credits")} deed=${t("Give")} busy=${give.busy} disabled=${!isDecimal(amount)} onSubmit=${give.run} onClose=${() => onClose(false)}>
    <${Trouble} problem=${give.problem} />
    <${Field} label=${currencyOf(customer) ? t("Amount in {currency}", { currency: currencyOf(customer) }) : t("Amount")} value=${amount} onValue=${setAmount} inputmode="decimal" wrong=${wrong("amount")} required />
    <${Field} label=${t("Until (empty: for ever)")} type="date" value=${until} onValue=${setUntil} wrong=${wrong("expiresAt")} />
  </${Dialog}>`;
}
