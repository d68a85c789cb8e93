// Events as they come in.
import { html, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { useAnswer, useDeed, useSettled } from "../ground/live.js";
import { at, useSearch } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { lately, moment, t } from "../ground/words.js";
import { Answered, Empty, Head, Json, Moment, Pulse, Tag, Trouble } from "../parts/basic.js";
import { Check, Dialog, Field } from "../parts/forms.js";
import { Pages, Table } from "../parts/table.js";

const QUERY = `query Events($customer: ID, $type: String, $after: String) {
  events(customer: $customer, type: $type, first: 50, after: $after) {
    edges { node { id source type subject customer time receivedAt data voided corrections { kind reason at actor } } } pageInfo { hasNextPage endCursor }
  }
}`;

const keyOf = (event) => `${event.source} ${event.id}`;

export function Events() {
  const [customer, setCustomer] = useSearch("customer");
  const [type, setType] = useSearch("type");
  const [after, setAfter] = useState(null);
  const [live, setLive] = useState(true);
  const [open, setOpen] = useState(null);
  const [asked, settledType] = [useSettled(customer.trim()), useSettled(type.trim())];
  const answer = useAnswer(QUERY, { customer: asked || null, type: settledType || null, after }, { every: live && !after ? 1000 : 0 });
  const look = (set) => (value) => {
    setAfter(null);
    set(value);
  };
  return html`<${Head} title=${t("Events")} note=${t("Every event that was accepted, newest first, as it counts now.")}>${live && !after ? html`<${Pulse} answer=${answer} />` : html`<span class="pulse late">${t("Standing still")}</span>`}</${Head}>
    <div class="row spread"><div class="row">
      <${Field} label=${t("Customer")} type="search" value=${customer} onValue=${look(setCustomer)} placeholder=${t("its key")} />
      <${Field} label=${t("Type")} type="search" value=${type} onValue=${look(setType)} placeholder=${t("all")} /></div>
      <${Check} label=${t("Show new ones as they come")} checked=${live} onValue=${setLive} /></div>
    <${Answered} answer=${answer}>${({ events }) => html`<section class="card"><div class="body flush">${events.edges.length === 0
      ? html`<${Empty} title=${asked || settledType ? t("No such event") : t("No event has come in yet")}>${asked || settledType ? t("Look for another customer or type.") : html`<p>${t("Send the first one:")}</p><code class="breaks">curl ${location.origin}/v1/events -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '[{"type":"call","subject":"acme"}]'</code>`}</${Empty}>`
      : html`<${Rows} events=${events.edges.map(({ node }) => ({ ...node, key: keyOf(node) }))} open=${open} onOpen=${setOpen} again=${answer.again} />`}</div></section>
      <${Pages} page=${events.pageInfo} after=${after} onAfter=${setAfter} />`}</${Answered}>`;
}

function Rows({ events, open, onOpen, again }) {
  const seen = useRef(null);
  const fresh = useMemo(() => {
    const known = seen.current;
    const found = new Set(known ? events.map(({ key }) => key).filter((key) => !known.has(key)) : []);
    seen.current = new Set(events.map(({ key }) => key));
    return found;
  }, [events.map(({ key }) => key).join()]);
  return html`<${Table} label=${t("Events")} rows=${events} faint=${(event) => event.voided} arrived=${(event) => fresh.has(event.key)}
    open=${(event) => open === event.key && html`<${Detail} event=${event} again=${again} />`} columns=${[
      { key: "time", title: t("Time"), cell: (event) => html`<button type="button" class="open" aria-expanded=${String(open === event.key)} onClick=${() => onOpen(open === event.key ? null : event.key)}><time class="nowrap" datetime=${event.time} title=${moment(event.time)}>${lately(event.time)}</time></button>` },
      { key: "type", title: t("Type"), cell: (event) => html`<span class="mono small breaks">${event.type}</span> ${event.voided ? html`<${Tag} tone="bad">${t("void")}</${Tag}>` : event.corrections.length > 0 && html`<${Tag} tone="accent">${t("corrected")}</${Tag}>`}` },
      { key: "subject", title: t("Subject"), cell: (event) => html`<span class="breaks">${event.subject}</span>` },
      { key: "customer", title: t("Customer"), wide: true, cell: (event) => (event.customer ? html`<a class="breaks" href=${at("customers", event.customer)}>${event.customer}</a>` : html`<${Tag} tone="warn">${t("nobody's")}</${Tag}>`) },
      { key: "data", title: t("Data"), wide: true, cell: (event) => html`<span class="mono small breaks">${JSON.stringify(event.data)}</span>` },
    ]} />`;
}

function Detail({ event, again }) {
  const [saying, setSaying] = useState(null);
  return html`<div class="stack tight pad"><dl class="facts">
      <dt>${t("Id")}</dt><dd class="mono small">${event.id}</dd><dt>${t("Source")}</dt><dd class="mono small">${event.source}</dd>
      <dt>${t("Happened")}</dt><dd><${Moment} at=${event.time} /></dd><dt>${t("Received")}</dt><dd><${Moment} at=${event.receivedAt} /></dd>
      <dt>${t("Data")}</dt><dd><${Json} of=${event.data} /></dd></dl>
    ${event.corrections.length > 0 && html`<ul class="items">${event.corrections.map((each) => html`<li key=${each.at}><span>${each.kind === "VOID" ? t("Void") : t("Corrected")}: ${each.reason}</span><span class="small muted"><${Moment} at=${each.at} /> · <span class="mono">${each.actor}</span></span></li>`)}</ul>`}
    <div class="row"><button type="button" onClick=${() => setSaying("correct")}>${t("Correct it")}</button>${!event.voided && html`<button type="button" class="danger" onClick=${() => setSaying("void")}>${t("Let it count nowhere")}</button>`}</div>
    ${saying && html`<${Correct} event=${event} how=${saying} onClose=${(changed) => { setSaying(null); if (changed) again(); }} />`}</div>`;
}

const VOID = "mutation Void($source: String!, $id: String!, $reason: String!) { voidEvent(source: $source, id: $id, reason: $reason) { id } }";
const CORRECT = "mutation Correct($source: String!, $id: String!, $data: JSON!, $reason: String!) { correctEvent(source: $source, id: $id, data: $data, reason: $reason) { id } }";

function Correct({ event, how, onClose }) {
  const [reason, setReason] = useState("");
  const [data, setData] = useState(JSON.stringify(event.data, null, 2));
  const deed = useDeed(async () => {
    const { source, id } = event;
    if (how === "void") await ask(VOID, { source, id, reason });
    else await ask(CORRECT, { source, id, reason, data: JSON.parse(data) });
    onClose(true);
  });
  return html`<${Dialog} title=${how === "void" ? t("Let this event count nowhere?") : t("Correct this event")} deed=${how === "void" ? t("Let it count nowhere") : t("Correct")} danger=${how === "void"} busy=${deed.busy} disabled=${!reason} onSubmit=${deed.run} onClose=${() => onClose(false)}>
    <${Trouble} problem=${deed.problem} />
    <p>${t("The event stays as it is; this is said of it, and every total follows at once.")}</p>
    ${how === "correct" && html`<${Field} label=${t("What its data should say")} value=${data} onValue=${setData} rows="8" />`}
    <${Field} label=${t("Why")} value=${reason} onValue=${setReason} required hint=${t("It stands in the audit log.")} />
  </${Dialog}>`;
}
