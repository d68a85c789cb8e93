// What a customer has used over time, of any meter and split by any of its dimensions.
import { html, useMemo, useState } from "../vendor/htm-preact.js";
import { drawn, sum } from "../ground/decimal.js";
import { useAnswer } from "../ground/live.js";
import { compact, day, monthText, number, shortDay, shortHour, t } from "../ground/words.js";
import { Answered, Card, Empty, Tabs } from "../parts/basic.js";
import { Bars } from "../parts/charts.js";
import { Field } from "../parts/forms.js";

const DAY_MS = 86_400_000;
const RANGES = {
  day: { ms: DAY_MS, window: "HOUR", text: () => t("24 hours") },
  week: { ms: 7 * DAY_MS, window: "DAY", text: () => t("7 days") },
  month: { ms: 31 * DAY_MS, window: "DAY", text: () => t("31 days") },
  year: { ms: 365 * DAY_MS, window: "MONTH", text: () => t("A year") },
};
const SHOWN = 5;

const USAGE = `query Usage($key: ID!, $meter: ID!, $from: DateTime!, $to: DateTime!, $window: Window!, $groupBy: [String!]) {
  customer(key: $key) { usage(meter: $meter, from: $from, to: $to, window: $window, groupBy: $groupBy) { windowStart windowEnd dimensions value events } }
}`;

/** `meters`: those that are offered for choice, each { key name unit aggregation groupBy { key } }. */
export function Usage({ customer, meters, every = 5000 }) {
  const [chosen, setMeter] = useState("");
  const [split, setSplit] = useState("");
  const [range, setRange] = useState("week");
  const meter = meters.find(({ key }) => key === chosen) ?? meters[0];
  if (!meter) return html`<${Card} title=${t("Usage over time")} flush><${Empty} title=${t("Nothing is counted yet")}>${t("A meter turns events into a quantity; there is none.")}</${Empty}></${Card}>`;
  const dimension = meter.groupBy.some(({ key }) => key === split) ? split : "";
  const label = meter.name ?? meter.key;
  return html`<${Card} title=${t("Usage over time")} actions=${html`<${Tabs} label=${t("Over how long")} of=${Object.fromEntries(Object.entries(RANGES).map(([key, each]) => [key, each.text()]))} value=${range} onChoose=${setRange} />`}>
    <div class="fields">
      <${Field} label=${t("Meter")} value=${meter.key} onValue=${setMeter} options=${Object.fromEntries(meters.map((each) => [each.key, each.name ?? each.key]))} />
      ${meter.groupBy.length > 0 && html`<${Field} label=${t("Split by")} value=${dimension} onValue=${setSplit} options=${{ "": t("nothing"), ...Object.fromEntries(meter.groupBy.map(({ key }) => [key, key])) }} />`}
    </div>
    <${Drawn} key=${`${meter.key} ${dimension} ${range}`} customer=${customer} meter=${meter} label=${label} dimension=${dimension} range=${RANGES[range]} every=${every} />
  </${Card}>`;
}

function Drawn({ customer, meter, label, dimension, range, every }) {
  const [from, to] = useMemo(() => {
    const end = Math.ceil(Date.now() / 3_600_000) * 3_600_000;
    return [new Date(end - range.ms).toISOString(), new Date(end).toISOString()];
  }, [range]);
  const answer = useAnswer(USAGE, { key: customer.key, meter: meter.key, from, to, window: range.window, groupBy: dimension ? [dimension] : [] }, { every });
  return html`<${Answered} answer=${answer}>${(data) => {
    const rows = data.customer.usage;
    if (!rows.length) return html`<${Empty} title=${t("Nothing was used in this time")}>${t("Choose a longer time or another meter.")}</${Empty}>`;
    return html`<${Chart} rows=${rows} from=${from} to=${to} customer=${customer} meter=${meter} label=${label} dimension=${dimension} window=${range.window} />`;
  }}</${Answered}>`;
}

const nameOf = (row, dimension) => (dimension ? (row.dimensions[dimension] ?? t("none")) : "");

function Chart({ rows, from, to, customer, meter, label, dimension, window, names = largest(rows, dimension) }) {
  const at = { HOUR: shortHour, DAY: shortDay, MONTH: monthText }[window];
  const full = { HOUR: (each) => `${shortDay(each, customer.timeZone)} ${shortHour(each, customer.timeZone)}`, DAY: (each) => day(each, customer.timeZone), MONTH: (each) => monthText(each, customer.timeZone) }[window];
  const starts = allStarts(rows, from, to, window);
  const found = new Map();
  for (const row of rows) {
    const name = names.includes(nameOf(row, dimension)) ? nameOf(row, dimension) : t("all others");
    const key = `${new Date(row.windowStart).getTime()} ${name}`;
    found.set(key, [...(found.get(key) ?? []), row.value ?? "0"]);
  }
  const shown = rows.some((row) => !names.includes(nameOf(row, dimension))) ? [...names, t("all others")] : names;
  const value = (start, name) => sum(found.get(`${start} ${name}`) ?? ["0"]);
  const columns = starts.map((start) => ({
    label: at(start, customer.timeZone),
    title: [full(start), ...shown.map((name) => `${name || label}: ${number(value(start, name))} ${meter.unit ?? ""}`)].join("\n"),
    values: shown.map((name) => drawn(value(start, name))),
  }));
  const total = sum(rows.map((row) => row.value ?? "0"));
  const adds = ["SUM", "COUNT"].includes(meter.aggregation);
  const caption = adds ? t("{total} {unit} in all", { total: number(total), unit: meter.unit ?? label }) : null;
  const figures = { heads: [t("Time"), ...shown.map((name) => name || label)], rows: starts.map((start) => [full(start), ...shown.map((name) => number(value(start, name)))]).reverse() };
  return html`<${Bars} label=${`${t("Usage over time")}: ${label}`} caption=${caption} names=${shown} columns=${columns} text=${compact} figures=${figures} />`;
}

/** The groups that used most, so that a chart has no more colours than can be told apart. */
function largest(rows, dimension) {
  const by = new Map();
  for (const row of rows) by.set(nameOf(row, dimension), (by.get(nameOf(row, dimension)) ?? 0) + drawn(row.value));
  return [...by].sort((a, b) => b[1] - a[1]).slice(0, SHOWN).map(([name]) => name);
}

/** Every window of the time, those without events too; where the clocks change a window has another length. */
function allStarts(rows, from, to, window) {
  const known = [...new Set(rows.map((row) => new Date(row.windowStart).getTime()))].sort((a, b) => a - b);
  if (window === "MONTH") return known;
  const step = window === "HOUR" ? 3_600_000 : DAY_MS;
  const near = (each) => known.some((start) => Math.abs(start - each) < step / 2);
  const filled = [];
  for (let each = known[0] - step; each >= new Date(from) - step / 2; each -= step) filled.push(Math.max(each, new Date(from).getTime()));
  for (let each = known[0] + step; each < new Date(to); each += step) if (!near(each)) filled.push(each);
  return [...new Set([...filled, ...known])].sort((a, b) => a - b);
}
