// One meter, tried on the newest events while it is being defined.
import { html, useState } from "../vendor/htm-preact.js";
import { useAnswer, useDeed, useSettled } from "../ground/live.js";
import { go } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { say } from "../ground/say.js";
import { number, t, tn } from "../ground/words.js";
import { Ago, Answered, Card, Empty, Head, Stats, Tag, Trouble } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";
import { Table } from "../parts/table.js";
import { AGGREGATIONS } from "./meters.js";

const QUERY = `query OneMeter($key: ID!) {
  meter(key: $key) { key name eventType aggregation valueProperty percentile unit archivedAt groupBy { key property } filters { property in notIn } }
  events(first: 100) { edges { node { type data } } }
}`;
const PREVIEW = `query Preview($meter: MeterInput!) {
  meterPreview(meter: $meter, first: 20) { value events { gives dimensions problem event { id source subject time data voided } } }
}`;
const BLANK = { key: "", name: "", eventType: "", aggregation: "SUM", valueProperty: "", percentile: "", unit: "", groupBy: [], filters: [] };

export function MeterEditor({ name: key }) {
  const isNew = key === "+new";
  const answer = useAnswer(QUERY, { key });
  return html`<${Answered} answer=${answer}>${({ meter, events }) => {
    if (!isNew && !meter) return html`<${Head} title=${t("No such meter")} /><div class="card"><${Empty} title=${t("There is no meter {key}", { key })}><a href="/meters">${t("All meters")}</a></${Empty}></div>`;
    const types = [...new Set(events.edges.map(({ node }) => node.type))];
    return html`<${Editor} meter=${meter} types=${types} events=${events.edges.map(({ node }) => node)} />`;
  }}</${Answered}>`;
}

function drafted(meter, types) {
  if (!meter) return { ...BLANK, eventType: types[0] ?? "" };
  const filters = meter.filters.map((each) => ({ property: each.property, way: each.in ? "in" : "notIn", values: (each.in ?? each.notIn).join(", ") }));
  return { ...meter, name: meter.name ?? "", valueProperty: meter.valueProperty ?? "", percentile: meter.percentile ?? "", unit: meter.unit ?? "", groupBy: meter.groupBy.map(({ key, property }) => ({ key, property })), filters };
}

/** What the API takes: what was left empty is absent. */
function inputOf(draft) {
  const text = (value) => value || null;
  const values = (each) => each.values.split(",").map((value) => value.trim()).filter(Boolean);
  return {
    key: draft.key || "draft", name: text(draft.name), eventType: draft.eventType, aggregation: draft.aggregation, unit: text(draft.unit),
    valueProperty: draft.aggregation === "COUNT" ? null : text(draft.valueProperty), percentile: draft.aggregation === "PERCENTILE" ? text(draft.percentile) : null,
    groupBy: draft.groupBy.filter((each) => each.property).map((each) => ({ key: each.key || each.property, property: each.property })),
    filters: draft.filters.filter((each) => each.property && each.values).map((each) => ({ property: each.property, [each.way]: values(each) })),
  };
}

/** The dotted paths in the data of events, for the fields to offer. */
function paths(events, type) {
  const found = new Set();
  const walk = (data, prefix) => Object.entries(data ?? {}).forEach(([name, value]) => (value && typeof value === "object" && !Array.isArray(value) && !(JSON.isRawJSON?.(value)) ? walk(value, `${prefix}${name}.`) : found.add(prefix + name)));
  events.filter((event) => event.type === type).forEach((event) => walk(event.data, ""));
  return [...found];
}

function Editor({ meter, types, events }) {
  const [draft, setDraft] = useState(() => drafted(meter, types));
  const [archiving, setArchiving] = useState(false);
  const put = (name) => (value) => setDraft({ ...draft, [name]: value });
  const input = inputOf(draft);
  const preview = useAnswer(PREVIEW, { meter: useSettled(input) }, { every: 2000, skip: !draft.eventType });
  const save = useDeed(async () => {
    const name = meter ? "updateMeter" : "createMeter";
    await ask(`mutation Save($input: MeterInput!) { ${name}(input: $input) { key } }`, { input });
    say(t("Saved"));
    go("/meters");
  });
  const problem = save.problem ?? preview.problem;
  const wrong = (field) => (problem?.field?.startsWith(field) ? problem.message : null);
  const offered = paths(events, draft.eventType);
  return html`<${Head} title=${meter ? (meter.name ?? meter.key) : t("Define a meter")} above=${html`<a href="/meters">${t("Meters")}</a>${meter && html` / <span class="mono">${meter.key}</span>`}`}>
      ${meter && !meter.archivedAt && html`<button type="button" class="danger" onClick=${() => setArchiving(true)}>${t("Archive")}</button>`}
      <button type="button" class="main-deed" disabled=${save.busy || !draft.key || meter?.archivedAt} onClick=${save.run}>${save.busy ? t("Working …") : meter ? t("Save the definition") : t("Create the meter")}</button></${Head}>
    <${Trouble} problem=${save.problem} />
    ${meter?.archivedAt && html`<p class="note">${t("This meter is archived: it goes on counting for the plans that price it, and cannot be changed.")}</p>`}
    <datalist id="paths">${offered.map((path) => html`<option key=${path} value=${path} />`)}</datalist>
    <datalist id="types">${types.map((type) => html`<option key=${type} value=${type} />`)}</datalist>
    <div class="two form-first">
      <${Card} title=${t("Definition")}><${Definition} draft=${draft} put=${put} wrong=${wrong} isNew=${!meter} /></${Card}>
      <div class="stack"><${Preview} preview=${preview} draft=${draft} /></div>
    </div>
    ${archiving && html`<${Archive} meter=${meter} onClose=${() => setArchiving(false)} />`}`;
}

function Definition({ draft, put, wrong, isNew }) {
  const aggregations = Object.fromEntries(Object.entries(AGGREGATIONS).map(([key, text]) => [key, `${text()} (${key})`]));
  return html`<div class="stack">
    <div class="fields">
      <${Field} label=${t("Key")} value=${draft.key} onValue=${put("key")} wrong=${draft.key ? wrong("key") : null} disabled=${!isNew} required hint=${isNew ? t("It never changes.") : null} />
      <${Field} label=${t("Name")} value=${draft.name} onValue=${put("name")} wrong=${wrong("name")} />
    </div>
    <${Field} label=${t("Type of event")} value=${draft.eventType} onValue=${put("eventType")} wrong=${wrong("eventType")} list="types" required />
    <${Field} label=${t("What is counted of them")} value=${draft.aggregation} onValue=${put("aggregation")} options=${aggregations} />
    <div class="fields">
      ${draft.aggregation !== "COUNT" && html`<${Field} label=${t("Property in data")} value=${draft.valueProperty} onValue=${put("valueProperty")} wrong=${wrong("valueProperty")} list="paths" />`}
      ${draft.aggregation === "PERCENTILE" && html`<${Field} label=${t("Which percentile")} value=${draft.percentile} onValue=${put("percentile")} wrong=${wrong("percentile")} inputmode="decimal" />`}
      <${Field} label=${t("Unit")} value=${draft.unit} onValue=${put("unit")} wrong=${wrong("unit")} />
    </div>
    <${Rows} title=${t("Split by")} rows=${draft.groupBy} onRows=${put("groupBy")} blank=${{ key: "", property: "" }} add=${t("Add a dimension")} wrong=${wrong("groupBy")}
      row=${(each, change) => html`<${Field} label=${t("Property in data")} value=${each.property} onValue=${(property) => change({ ...each, property })} list="paths" />
        <${Field} label=${t("Name")} value=${each.key} onValue=${(key) => change({ ...each, key })} placeholder=${each.property} />`} />
    <${Rows} title=${t("Only events where")} rows=${draft.filters} onRows=${put("filters")} blank=${{ property: "", way: "in", values: "" }} add=${t("Add a filter")} wrong=${wrong("filters")}
      row=${(each, change) => html`<${Field} label=${t("Property in data")} value=${each.property} onValue=${(property) => change({ ...each, property })} list="paths" />
        <${Field} label=${t("is")} value=${each.way} onValue=${(way) => change({ ...each, way })} options=${{ in: t("one of"), notIn: t("none of") }} />
        <${Field} label=${t("Values, with commas between")} value=${each.values} onValue=${(values) => change({ ...each, values })} />`} />
  </div>`;
}

/** Some rows of fields that can be added and taken away. */
function Rows({ title, rows, onRows, blank, add, row, wrong }) {
  const change = (index) => (value) => onRows(rows.map((each, at) => (at === index ? value : each)));
  return html`<fieldset class="stack tight"><legend>${title}</legend>
    ${rows.map((each, index) => html`<div class="part" key=${index}><div class="stack tight pad"><div class="fields">${row(each, change(index))}</div>
      <div><button type="button" class="plain small" onClick=${() => onRows(rows.filter((_, at) => at !== index))}>${t("Take away")}</button></div></div></div>`)}
    ${wrong && html`<span class="wrong small bad">${wrong}</span>`}
    <div><button type="button" class="small" onClick=${() => onRows([...rows, blank])}>${add}</button></div></fieldset>`;
}

function Preview({ preview, draft }) {
  if (!draft.eventType) return html`<${Card} title=${t("What it would count")} flush><${Empty} title=${t("Which events?")}>${t("Say the type of event first. Events that have come in are tried here at once.")}</${Empty}></${Card}>`;
  if (preview.problem && preview.problem.field) return html`<${Card} title=${t("What it would count")}><p class="muted">${preview.problem.message}</p></${Card}>`;
  return html`<${Answered} answer=${preview}>${({ meterPreview: { value, events } }) => {
    const counted = events.filter((each) => each.gives !== null).length;
    const bad = events.filter((each) => each.problem !== null).length;
    return html`<${Stats} of=${[
        { label: t("These events come to"), value: value === null ? "–" : `${number(value)} ${draft.unit}`, note: draft.aggregation === "TIME_WEIGHTED" ? t("its value depends on the time it is asked for") : null },
        { label: t("Counted"), value: number(counted), note: tn("of the newest {n} event", "of the newest {n} events", events.length) },
        { label: t("Could not be counted"), value: number(bad), note: bad ? t("they would be dead letters") : null, tone: bad ? "bad" : "" },
      ]} />
      <${Card} title=${t("What it would count")} note=${t("The newest events of this type, as this definition reads them. Nothing is stored.")} flush>${events.length === 0
        ? html`<${Empty} title=${t("No event of this type has come in")}>${t("Send one, or say another type.")}</${Empty}>`
        : html`<${Table} label=${t("What it would count")} rows=${events.map((each) => ({ ...each, key: `${each.event.source} ${each.event.id}` }))} columns=${[
          { key: "time", title: t("Time"), cell: ({ event }) => html`<span class="nowrap"><${Ago} at=${event.time} /></span>` },
          { key: "gives", title: t("Gives"), number: true, cell: (each) => givesView(each, draft) },
          { key: "group", title: t("Group"), cell: (each) => html`<span class="breaks">${Object.entries(each.dimensions ?? {}).map(([key, text]) => `${key}: ${text ?? "–"}`).join(", ")}</span>` },
          { key: "data", title: t("Data"), wide: true, cell: ({ event }) => html`<span class="mono small breaks">${JSON.stringify(event.data)}</span>` },
        ]} />`}</${Card}>`;
  }}</${Answered}>`;
}

const givesView = ({ gives, problem, event }, draft) => {
  if (problem) return html`<span class="bad small reason">${problem}</span>`;
  if (gives === null) return html`<${Tag}>${event.voided ? t("void") : t("filtered out")}</${Tag}>`;
  return draft.aggregation === "UNIQUE_COUNT" ? gives : number(gives);
};

function Archive({ meter, onClose }) {
  const archive = useDeed(async () => {
    await ask("mutation Archive($key: ID!) { archiveMeter(key: $key) { key } }", { key: meter.key });
    go("/meters");
  });
  return html`<${Dialog} title=${t("Archive the meter {key}?", { key: meter.key })} deed=${t("Archive")} danger busy=${archive.busy} onSubmit=${archive.run} onClose=${onClose}>
    <${Trouble} problem=${archive.problem} /><p>${t("It is offered no more, and goes on counting for the plans that price it.")}</p></${Dialog}>`;
}
