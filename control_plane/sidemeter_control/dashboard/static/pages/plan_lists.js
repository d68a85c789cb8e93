// The parts of a charge that are lists of their own: rates by dimension, bands by the time of day, what settles an outcome.
import { html } from "../vendor/htm-preact.js";
import { chosenLanguage, t } from "../ground/words.js";
import { Field } from "../parts/forms.js";

/** The same object with a field said, or where it is empty without it. */
export function said(of, name, value) {
  const next = { ...of };
  if (value === "" || value === null || value === undefined) delete next[name];
  else next[name] = value;
  return next;
}

export const replaced = (list, index, value) => list.map((each, at) => (at === index ? value : each));
export const without = (list, index) => list.filter((_, at) => at !== index);

/** A table with a row for each element: a cell for each of `columns`, { title, cell(row, index) }, and a way to take it away. */
function Lines({ rows, columns, add, take, onRows, wrong, empty }) {
  return html`<div class="scroll"><table class="tiers"><thead><tr>${columns.map(({ title }) => html`<th scope="col" key=${title}>${title}</th>`)}<th><span class="unseen">${t("Take away")}</span></th></tr></thead>
    <tbody>${rows.map((row, index) => html`<tr key=${index}>${columns.map(({ title, cell }) => html`<td key=${title}>${cell(row, index)}</td>`)}
      <td><button type="button" class="plain small" aria-label=${take(index + 1)} onClick=${() => onRows(without(rows, index))}>×</button></td></tr>`)}</tbody></table></div>
    ${rows.length === 0 && html`<p class="muted small">${empty}</p>`}
    ${wrong && html`<span class="wrong small bad">${wrong}</span>`}
    <div><button type="button" class="small" onClick=${() => onRows([...rows, add.row])}>${add.text}</button></div>`;
}

const listed = (value) => (value === undefined ? "" : [value].flat().join(", "));
const values = (text) => {
  const found = text.split(",").map((each) => each.trim());
  return found.length > 1 ? found : found[0];
};

/** Rates: for which values of the meter's dimensions, at which price. */
export function Rates({ of, meter, onRates, wrong }) {
  const dimensions = [...new Set([...(meter?.groupBy ?? []).map(({ key }) => key), ...of.flatMap(({ match }) => Object.keys(match))])];
  if (!dimensions.length) return html`<p class="muted small">${t("This meter has no dimensions: give it some on its page.")}</p>`;
  const columns = [
    ...dimensions.map((dimension) => ({
      title: dimension,
      cell: (rate, index) => html`<input aria-label=${t("Rate {n}: {name}", { n: index + 1, name: dimension })} placeholder=${t("any")} value=${listed(rate.match[dimension])}
        onInput=${(event) => onRates(replaced(of, index, { ...rate, match: said(rate.match, dimension, values(event.currentTarget.value)) }))} />`,
    })),
    { title: t("Unit price"), cell: (rate, index) => html`<input aria-label=${t("Rate {n}: {name}", { n: index + 1, name: t("Unit price") })} inputmode="decimal" value=${rate.unitPrice}
        onInput=${(event) => onRates(replaced(of, index, { ...rate, unitPrice: event.currentTarget.value }))} />` },
  ];
  return html`<${Lines} rows=${of} columns=${columns} onRows=${onRates} wrong=${wrong} empty=${t("No rate yet: it needs one.")}
    take=${(n) => t("Take rate {n} away", { n })} add=${{ text: t("Add a rate"), row: { match: {}, unitPrice: "0" } }} />
    <p class="muted small">${t("Several values with commas between. Of two rates that fit, the one that says more counts.")}</p>`;
}

const DAYS = [1, 2, 3, 4, 5, 6, 7];
const dayName = (day, weekday) => new Intl.DateTimeFormat(chosenLanguage(), { weekday, timeZone: "UTC" }).format(Date.UTC(2024, 0, day)); // a Monday is the first

/** Bands: on which days, from when to when, at which price. */
export function Bands({ of, onBands, wrong }) {
  const put = (index, name) => (event) => onBands(replaced(of, index, { ...of[index], [name]: event.currentTarget.value }));
  const turn = (band, index, day) => {
    const before = band.days ?? DAYS;
    const days = DAYS.filter((each) => (each === day) !== before.includes(each));
    onBands(replaced(of, index, days.length === DAYS.length ? said(band, "days", null) : { ...band, days }));
  };
  const time = (name, text) => ({ title: text, cell: (band, index) => html`<input type="time" aria-label=${t("Band {n}: {name}", { n: index + 1, name: text })} value=${band[name]} onInput=${put(index, name)} />` });
  const columns = [
    { title: t("Days"), cell: (band, index) => html`<div class="row days" role="group" aria-label=${t("Band {n}: {name}", { n: index + 1, name: t("Days") })}>${DAYS.map((day) => html`<button type="button" class="small" key=${day}
        aria-label=${dayName(day, "long")} aria-pressed=${String((band.days ?? DAYS).includes(day))} onClick=${() => turn(band, index, day)}>${dayName(day, "narrow")}</button>`)}</div>` },
    time("from", t("From")), time("to", t("To")),
    { title: t("Unit price"), cell: (band, index) => html`<input aria-label=${t("Band {n}: {name}", { n: index + 1, name: t("Unit price") })} inputmode="decimal" value=${band.unitPrice} onInput=${put(index, "unitPrice")} />` },
  ];
  return html`<${Lines} rows=${of} columns=${columns} onRows=${onBands} wrong=${wrong} empty=${t("No band yet: it needs one.")}
    take=${(n) => t("Take band {n} away", { n })} add=${{ text: t("Add a band"), row: { from: "08:00", to: "18:00", unitPrice: "0" } }} />
    <p class="muted small">${t("On the clocks of the customer's time zone. A band that ends no later than it begins ends on the next day.")}</p>`;
}

/** Which later event settles what is charged provisionally. */
export function Outcome({ of, onOutcome, wrong }) {
  const put = (name) => (value) => onOutcome({ ...of, [name]: value });
  const hours = (text) => put("windowHours")(/^\d+$/.test(text) ? Number(text) : 0);
  return html`<div class="fields">
    <${Field} label=${t("Type of the event that confirms")} value=${of.confirmType} onValue=${put("confirmType")} wrong=${wrong("confirmType")} required />
    <${Field} label=${t("Type of the event that takes it back")} value=${of.reverseType} onValue=${put("reverseType")} wrong=${wrong("reverseType")} required />
    <${Field} label=${t("Within so many hours")} value=${of.windowHours || ""} onValue=${hours} wrong=${wrong("windowHours")} inputmode="numeric" required />
    <${Field} label=${t("Property that both have in common")} value=${of.property ?? "id"} onValue=${put("property")} wrong=${wrong("property")} hint=${t("A dotted path in the data of both events.")} />
  </div>`;
}

/** What a charge of these models begins with. */
export const FIRST = { rates: [], bands: [], outcome: { confirmType: "", reverseType: "", windowHours: 72, property: "id" } };
