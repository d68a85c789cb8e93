// The overview: what comes in, what is wrong, and what all customers owe.
import { html } from "../vendor/htm-preact.js";
import { drawn } from "../ground/decimal.js";
import { useAnswer } from "../ground/live.js";
import { usePace } from "../ground/pace.js";
import { at } from "../ground/router.js";
import { totals, useSpend } from "../ground/spend.js";
import { compact, lasting, money, number, t, tn } from "../ground/words.js";
import { Ago, Answered, Card, Empty, Head, Money, Pulse, Stats, Tag, Trouble, Waiting } from "../parts/basic.js";
import { Spark } from "../parts/charts.js";
import { Table } from "../parts/table.js";
import { AGENT_STATES, useAgents } from "./agent_states.js";

const NEWEST = "query Newest { events(first: 1) { edges { node { time receivedAt } } } plans { key } meters { key } }";
const SHOWN = 8;

export function Overview() {
  const pace = usePace();
  const spend = useSpend();
  const agents = useAgents();
  const newest = useAnswer(NEWEST, {}, { every: 2000 });
  return html`<${Head} title=${t("Overview")}><${Pulse} answer=${{ at: spend.at, problem: spend.problem }} /></${Head}>
    <${Trouble} problem=${spend.problem ?? pace.problem} />
    ${pace.now?.recovering && html`<${Recovering} />`}
    <${Stats} of=${[...spent(spend), ...flow(pace, agents, newest)]} />
    ${newest.data && html`<${FirstSteps} newest=${newest.data} customers=${spend.customers} />`}
    <div class="two">
      <${Spenders} spend=${spend} />
      <${AgentList} agents=${agents} />
    </div>`;
}

const spent = ({ customers, more }) => {
  if (customers === null) return [{ label: t("All customers, this period"), value: "–", large: true }];
  const [first, ...others] = totals(customers);
  const count = tn("{n} customer", "{n} customers", customers.length) + (more ? "+" : "");
  return [{
    label: t("All customers, this period"),
    value: first ? html`<${Money} of=${first} />` : "–",
    large: true,
    note: [...others.map(money), count].join(" · "),
  }];
};

function flow({ now, rates }, agents, newest) {
  const rate = rates.length ? rates.slice(-3).reduce((sum, each) => sum + each, 0) / Math.min(3, rates.length) : null;
  const lag = lagOf(agents.data?.agents);
  const event = newest.data?.events.edges[0]?.node;
  const words = rate === null ? "–" : compact(rate);
  return [
    { label: t("Events per second"), value: words, note: event ? html`${t("the newest")}: <${Ago} at=${event.receivedAt} />` : t("none yet"),
      drawing: html`<${Spark} values=${rates} label=${t("Events per second in the last minute")} />` },
    { label: t("Lag"), value: lasting(lag ?? 0), note: lag === null ? t("no event waits at an agent") : t("the oldest event that waits at an agent"), tone: lag > 60 ? "warn" : "" },
    { label: t("Waiting at agents"), value: now ? number(now.backlog) : "–", note: agents.data && tn("{n} agent", "{n} agents", agents.data.agents.length) },
    { label: t("Dead letters"), value: now ? html`<a href="/dead-letters">${number(now.letters)}</a>` : "–", tone: now?.letters ? "warn" : "", note: now && (now.letters ? t("could not be counted: look why") : t("everything was counted")) },
    now?.lost ? { label: t("Lost events"), value: number(now.lost), tone: "bad", note: t("declared by agents whose disk was damaged") } : null,
  ];
}

function lagOf(agents) {
  const oldest = (agents ?? []).filter(({ backlog, oldestPending }) => backlog > 0 && oldestPending).map((agent) => (Date.now() - new Date(agent.oldestPending)) / 1000);
  return oldest.length ? Math.max(0, ...oldest) : null;
}

const Recovering = () => html`<div class="note warn" role="status"><strong>${t("Recovering from an older copy of the database.")}</strong> ${t("Nothing more is granted of hard limits until every holder has told what it holds.")} <a href="/agents">${t("See who is awaited")}</a></div>`;

/** What a newcomer does next, as long as something is missing. */
function FirstSteps({ newest, customers }) {
  if (customers === null) return null;
  const steps = [
    [newest.meters.length > 0, t("Define what is counted"), "/meters", t("Meters")],
    [newest.plans.length > 0, t("Publish what it costs"), "/plans", t("Plans")],
    [customers.length > 0, t("Add a customer and subscribe it to a plan"), "/customers", t("Customers")],
    [newest.events.edges.length > 0, t("Send events: start an agent with a key of the scope AGENT"), "/keys", t("Keys")],
  ];
  if (steps.every(([done]) => done)) return null;
  return html`<${Card} title=${t("First steps")}><ol class="items">${steps.map(([done, text, address, name]) => html`<li key=${address}><div class="row spread">
    <span class="row"><${Tag} tone=${done ? "good" : ""}>${done ? t("done") : t("to do")}</${Tag}>${text}</span>${!done && html`<a href=${address}>${name}</a>`}</div></li>`)}</ol></${Card}>`;
}

function Spenders({ spend }) {
  if (spend.customers === null) return html`<${Card} title=${t("Who owes most")}><${Waiting} /></${Card}>`;
  if (!spend.customers.length) return html`<${Card} title=${t("Who owes most")} flush><${Empty} title=${t("No customer yet")}><a href="/customers">${t("Add the first one")}</a></${Empty}></${Card}>`;
  const rows = [...spend.customers].sort((a, b) => drawn(b.cost.total.amount) - drawn(a.cost.total.amount)).slice(0, SHOWN);
  const columns = [
    { key: "name", title: t("Customer"), cell: (each) => html`<a class="breaks" href=${at("customers", each.key)}>${each.name ?? each.key}</a>` },
    { key: "plan", title: t("Plan"), wide: true, cell: (each) => planOf(each) },
    { key: "cost", title: t("Owes now"), number: true, cell: (each) => html`<${Money} of=${each.cost.total} />` },
  ];
  return html`<${Card} title=${t("Who owes most")} actions=${html`<a href="/customers">${t("All customers")}</a>`} flush>
    <${Table} label=${t("Who owes most")} columns=${columns} rows=${rows} /></${Card}>`;
}

/** The plan a customer is on now, or where there is none, that. */
export function planOf({ subscriptions }) {
  const current = subscriptions.filter(({ status }) => status !== "ENDED").at(-1);
  return current ? (current.plan.name ?? current.plan.key) : html`<span class="muted">${t("no plan")}</span>`;
}

function AgentList({ agents }) {
  return html`<${Card} title=${t("Agents")} actions=${html`<a href="/agents">${t("Agents and leases")}</a>`} flush><${Answered} answer=${agents}>${({ agents: all }) => all.length === 0
    ? html`<${Empty} title=${t("No agent has called yet")}>${t("Start one beside your service:")} <code>sidemeter agent --control-plane ${location.origin}</code></${Empty}>`
    : html`<${Table} label=${t("Agents")} rows=${all.slice(0, SHOWN).map((each) => ({ ...each, key: each.id }))} columns=${[
      { key: "service", title: t("Service"), cell: (each) => html`<span class="breaks">${each.service}</span>` },
      { key: "state", title: t("State"), cell: (each) => html`<${Tag} tone=${AGENT_STATES[each.state]?.tone}>${AGENT_STATES[each.state]?.text() ?? each.state}</${Tag}>` },
      { key: "backlog", title: t("Waiting"), number: true, cell: (each) => number(each.backlog) },
    ]} />`}</${Answered}></${Card}>`;
}
