// What will be owed at the end of the period, and how sure that is.
import { html } from "../vendor/htm-preact.js";
import { drawn } from "../ground/decimal.js";
import { day, money, number, t } from "../ground/words.js";
import { Card } from "../parts/basic.js";
import { Outlook } from "../parts/outlook.js";

const AMOUNT = "{ rounded amount currency }";
/** What has to be asked of a forecast for these words. */
export const FORECAST_FIELDS = `periodEnd enough basis cost { low ${AMOUNT} middle ${AMOUNT} high ${AMOUNT} } meters { meter unit soFar low middle high reason }`;

/** The figure beside what is owed now; null where there is none. */
export const projected = ({ forecast }) => forecast && {
  label: t("Likely at the end of the period"),
  value: forecast.cost ? `≈ ${money(forecast.cost.middle)}` : "–",
  note: forecast.cost ? t("before credits, {low} to {high} in 8 of 10 cases", { low: money(forecast.cost.low), high: money(forecast.cost.high) }) : html`<span class="breaks">${forecast.basis}</span>`,
};

/** Where it is going: what is owed before credits, what is likely, and the budgets of money on the way. */
export function Forecast({ customer }) {
  const { forecast, cost, budgets, timeZone } = customer;
  if (!forecast) return null;
  const lang = customer.language.toLowerCase();
  if (!forecast.cost) return html`<${Card} title=${t("Where it is going")}><p class="muted" lang=${lang}>${forecast.basis}</p></${Card}>`;
  const { low, middle, high } = forecast.cost;
  const currency = middle.currency;
  const marks = budgets.filter((each) => each.unit === "MONEY" && each.currency === currency).map((each) => ({ value: drawn(each.amount), text: `${each.key}: ${money({ rounded: each.amount, currency })}` }));
  const meters = forecast.meters.filter((each) => each.middle !== null);
  return html`<${Card} title=${t("Where it is going")} note=${t("Before credits, at the end of the period on {day}", { day: day(forecast.periodEnd, timeZone) })}>
    <${Outlook} now=${{ value: drawn(cost.beforeCredits.amount), text: money(cost.beforeCredits) }} low=${{ value: drawn(low.amount), text: money(low) }}
      middle=${{ value: drawn(middle.amount), text: money(middle) }} high=${{ value: drawn(high.amount), text: money(high) }} marks=${marks} />
    ${meters.length > 0 && html`<dl class="facts">${meters.map((each) => html`<dt key=${each.meter}>${each.meter}</dt>
      <dd>${t("{now} now, likely {middle} ({low} to {high})", { now: number(each.soFar), middle: number(each.middle, 0), low: number(each.low, 0), high: number(each.high, 0) })}</dd>`)}</dl>`}
    <p class="small muted" lang=${lang}>${forecast.basis}</p></${Card}>`;
}
