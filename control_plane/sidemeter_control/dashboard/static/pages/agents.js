// The agents, what waits at them, and which part of a hard limit each has.
import { html, useState } from "../vendor/htm-preact.js";
import { drawn } from "../ground/decimal.js";
import { useAnswer, useDeed, useSettled } from "../ground/live.js";
import { ask } from "../ground/server.js";
import { ago, moment, number, t, tn } from "../ground/words.js";
import { Ago, Answered, Card, Empty, Head, Pulse, Tag, Trouble } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";
import { Gauge } from "../parts/gauge.js";
import { Table } from "../parts/table.js";
import { AGENT_STATES, useAgents } from "./agent_states.js";

export function Agents() {
  const answer = useAgents();
  return html`<${Head} title=${t("Agents and leases")} note=${t("An agent runs beside each service. It keeps events until they are counted, and holds a part of each hard limit.")}><${Pulse} answer=${answer} /></${Head}>
    <${Answered} answer=${answer}>${({ agents, recovery }) => html`${recovery && html`<${Recovery} recovery=${recovery} agents=${agents} again=${answer.again} />`}
      <${Card} title=${t("Agents")} flush>${agents.length === 0 ? html`<${Empty} title=${t("No agent has called yet")}><p>${t("Start one beside your service:")}</p><code class="breaks">sidemeter agent --control-plane ${location.origin}</code></${Empty}>` : html`<${List} agents=${agents} />`}</${Card}>
      <${Losses} agents=${agents} /><${Leases} agents=${agents} />`}</${Answered}>`;
}

const List = ({ agents }) => html`<${Table} label=${t("Agents")} rows=${agents.map((each) => ({ ...each, key: each.id }))} columns=${[
  { key: "service", title: t("Service"), cell: (each) => html`<span class="breaks">${each.service}</span> <span class="muted small mono breaks">${each.id}</span>` },
  { key: "state", title: t("State"), cell: (each) => html`<${Tag} tone=${AGENT_STATES[each.state]?.tone}>${AGENT_STATES[each.state]?.text() ?? each.state}</${Tag}>` },
  { key: "backlog", title: t("Waiting"), number: true, cell: (each) => number(each.backlog) },
  { key: "oldest", title: t("Oldest of them"), wide: true, cell: (each) => (each.backlog > 0 && each.oldestPending ? html`<${Ago} at=${each.oldestPending} />` : "–") },
  { key: "seen", title: t("Heard of"), cell: (each) => html`<span class="nowrap"><${Ago} at=${each.lastSeen} /></span>` },
  { key: "version", title: t("Version"), wide: true, cell: (each) => each.version },
  { key: "epoch", title: t("Starts"), wide: true, number: true, cell: (each) => number(each.epoch) },
]} />`;

function Losses({ agents }) {
  const losses = agents.flatMap((agent) => agent.lossDeclarations.map((each) => ({ ...each, key: each.id, agent })));
  if (!losses.length) return null;
  return html`<${Card} title=${t("Declared as lost")} note=${t("Events that were acknowledged and never counted, because a disk was damaged.")} flush><${Table} label=${t("Declared as lost")} rows=${losses} columns=${[
    { key: "agent", title: t("Service"), cell: (each) => html`${each.agent.service} <span class="mono small muted">${each.agent.id}</span>` },
    { key: "events", title: t("Events"), number: true, cell: (each) => (each.events === null ? t("unknown") : number(each.events)) },
    { key: "reason", title: t("Why"), cell: (each) => html`<span class="breaks">${each.reason}</span>` },
    { key: "at", title: t("Noticed"), cell: (each) => moment(each.noticedAt) },
  ]} /></${Card}>`;
}

function Recovery({ recovery, again }) {
  const [ending, setEnding] = useState(false);
  return html`<div class="note warn" role="status"><strong>${t("Recovering from an older copy of the database.")}</strong>
    ${t("Since {when} nothing more is granted of hard limits, until every holder has told what it holds.", { when: ago(recovery.since) })}
    ${recovery.awaited.length > 0 && ` ${t("Awaited: {agents}", { agents: recovery.awaited.join(", ") })}`}
    <div class="row"><button type="button" class="danger" onClick=${() => setEnding(true)}>${t("End it …")}</button></div>
    ${ending && html`<${Reasoned} title=${t("End the recovery?")} text=${t("Only where nobody who is awaited will ever spend again: else limits are exceeded.")} deed=${t("End it")}
      run=${(reason) => ask("mutation End($reason: String!) { endRecovery(reason: $reason) }", { reason })} onClose=${(changed) => { setEnding(false); if (changed) again(); }} />`}</div>`;
}

/** A deed that has to be given a reason. */
function Reasoned({ title, text, deed, run, onClose }) {
  const [reason, setReason] = useState("");
  const doing = useDeed(async () => {
    await run(reason);
    onClose(true);
  });
  return html`<${Dialog} title=${title} deed=${deed} danger busy=${doing.busy} disabled=${!reason} onSubmit=${doing.run} onClose=${() => onClose(false)}>
    <${Trouble} problem=${doing.problem} /><p>${text}</p><${Field} label=${t("Why")} value=${reason} onValue=${setReason} required hint=${t("It stands in the audit log.")} /></${Dialog}>`;
}

const HARD = `query Hard($search: String) { customers(first: 50, search: $search) { edges { node { key name
  quotas { enforcement limit leased inDoubt feature { key name } } budgets { key enforcement limitId leased inDoubt } } } } }`;

function Leases({ agents }) {
  const [search, setSearch] = useState("");
  const [chosen, setChosen] = useState(null);
  const answer = useAnswer(HARD, { search: useSettled(search) || null }, { every: 5000 });
  return html`<${Card} title=${t("Hard limits and who holds them")} note=${t("Of the first 50 customers that are found. An agent spends its part without asking.")} flush>
    <div class="pad"><${Field} label=${t("Search by key or name")} type="search" value=${search} onValue=${setSearch} /></div>
    <${Answered} answer=${answer}>${({ customers }) => {
      const limits = customers.edges.flatMap(({ node }) => limitsOf(node));
      if (!limits.length) return html`<${Empty} title=${t("No hard limit is shared by agents")}>${t("A limit that is HARD is shared as soon as an agent asks for a part of it.")}</${Empty}>`;
      return html`<${Table} label=${t("Hard limits and who holds them")} rows=${limits} open=${(each) => chosen === each.key && html`<${Holders} id=${each.key} agents=${agents} />`} columns=${[
        { key: "limit", title: t("Limit"), cell: (each) => html`<button type="button" class="open" aria-expanded=${String(chosen === each.key)} onClick=${() => setChosen(chosen === each.key ? null : each.key)}><span class="breaks">${each.customer} · ${each.name}</span></button>` },
        { key: "leased", title: t("Held by agents"), number: true, cell: (each) => number(each.leased ?? "0", 2) },
        { key: "doubt", title: t("In doubt"), number: true, cell: (each) => (drawn(each.inDoubt) > 0 ? html`<span class="warn strong">${number(each.inDoubt, 2)}</span>` : "0") },
      ]} />`;
    }}</${Answered}></${Card}>`;
}

function limitsOf(customer) {
  const name = customer.name ?? customer.key;
  return [
    ...customer.quotas.filter((each) => each.enforcement === "HARD" && each.leased !== null).map((each) => ({ ...each, key: `${customer.key}/${each.feature.key}`, customer: name, name: each.feature.name ?? each.feature.key })),
    ...customer.budgets.filter((each) => each.limitId).map((each) => ({ ...each, key: each.limitId, customer: name, name: t("budget {key}", { key: each.key }) })),
  ];
}

const LIMIT = "query Limit($id: ID!) { limit(id: $id) { id committed limit holders { agent epoch granted returned used state } } }";
const WRITE_OFF = "mutation WriteOff($limit: ID!, $agent: ID!, $epoch: Int!, $reason: String!) { writeOffLease(limit: $limit, agent: $agent, epoch: $epoch, reason: $reason) { id } }";
const HOLDING = { CURRENT: ["good", () => t("spends")], SUPERSEDED: ["warn", () => t("gone, in doubt")], TWINS: ["bad", () => t("two spoke as one")] };

function Holders({ id, agents }) {
  const [away, setAway] = useState(null);
  const answer = useAnswer(LIMIT, { id }, { every: 2000 });
  return html`<div class="stack tight pad"><${Answered} answer=${answer}>${({ limit }) => {
    if (!limit || !limit.holders.length) return html`<p class="muted">${t("No agent holds a part of it now.")}</p>`;
    const nameOf = (agent) => agents.find((each) => each.id === agent)?.service;
    return html`<${Gauge} name=${t("Held or used")} used=${limit.committed} whole=${limit.limit} words=${t("{used} of {limit}", { used: number(limit.committed), limit: number(limit.limit) })} />
      <${Table} label=${t("Holders of {limit}", { limit: id })} rows=${limit.holders.map((each) => ({ ...each, key: `${each.agent} ${each.epoch}` }))} columns=${[
        { key: "agent", title: t("Agent"), cell: (each) => html`${nameOf(each.agent)} <span class="mono small muted breaks">${each.agent} · ${tn("start {n}", "start {n}", each.epoch)}</span>` },
        { key: "state", title: t("State"), cell: (each) => html`<${Tag} tone=${HOLDING[each.state]?.[0]}>${HOLDING[each.state]?.[1]() ?? each.state}</${Tag}>` },
        { key: "granted", title: t("Granted"), number: true, cell: (each) => number(each.granted) },
        { key: "used", title: t("Used"), number: true, cell: (each) => number(each.used) },
        { key: "returned", title: t("Given back"), number: true, wide: true, cell: (each) => number(each.returned) },
        { key: "deed", title: "", cell: (each) => html`<button type="button" class="plain small" onClick=${() => setAway(each)}>${t("Write off")}</button>` },
      ]} />`;
  }}</${Answered}>
  ${away && html`<${Reasoned} title=${t("Write off what agent {agent} holds?", { agent: away.agent })} text=${t("It is free for others then. Only where this start of the agent will never spend again: else the limit is exceeded.")} deed=${t("Write off")}
    run=${(reason) => ask(WRITE_OFF, { limit: id, agent: away.agent, epoch: away.epoch, reason })} onClose=${(changed) => { setAway(null); if (changed) answer.again(); }} />`}</div>`;
}
