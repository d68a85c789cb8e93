// All customers: found by a part of their name, in any order.
import { html, useMemo, useState } from "../vendor/htm-preact.js";
import { compare } from "../ground/decimal.js";
import { useAnswer, useDeed, useSettled } from "../ground/live.js";
import { at, go, useSearch } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { MOST_CUSTOMERS, useSpend } from "../ground/spend.js";
import { collated, number, t, tn } from "../ground/words.js";
import { Empty, Head, Money, Pulse, Tag, Trouble, Waiting } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";
import { Table } from "../parts/table.js";
import { nearest, sharedWords } from "./quotas.js";
import { planOf } from "./overview.js";

const PAGE = 25;

// What is equal keeps the order of the names, whichever way the rest goes.
const ORDERS = {
  name: () => 0,
  cost: (a, b) => compare(a.cost.total.amount, b.cost.total.amount),
  plan: (a, b) => collated(planKey(a), planKey(b)),
};
const planKey = (each) => each.subscriptions.at(-1)?.plan.key ?? "";
const nameOf = (each) => each.name ?? each.key;

function ordered(rows, { by, down }) {
  const order = ORDERS[by] ?? ORDERS.cost;
  const sign = down ? -1 : 1;
  return [...rows].sort((a, b) => sign * order(a, b) || (by === "name" ? sign : 1) * collated(nameOf(a), nameOf(b)));
}

export function Customers() {
  const [search, setSearch] = useSearch("search");
  const [order, setOrder] = useSearch("sort");
  const [page, setPage] = useSearch("page");
  const [adding, setAdding] = useState(false);
  const spend = useSpend(useSettled(search, 200));
  const sort = { by: order.replace("-", "") || "cost", down: order ? order.startsWith("-") : true };
  const rows = useMemo(() => ordered(spend.customers ?? [], sort), [spend.customers, sort.by, sort.down]);
  const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
  const here = Math.min(Number(page) || 0, last);
  const look = (text) => {
    setPage("");
    setSearch(text);
  };
  return html`<${Head} title=${t("Customers")}><${Pulse} answer=${spend} /><button type="button" class="main-deed" onClick=${() => setAdding(true)}>${t("Add a customer")}</button></${Head}>
    <div class="row spread"><${Field} label=${t("Search by key or name")} type="search" value=${search} onValue=${look} />
      <span class="muted small" role="status">${spend.customers && tn("{n} customer", "{n} customers", rows.length)}${spend.more ? ` – ${t("only the first {n} by key: search for others", { n: number(MOST_CUSTOMERS) })}` : ""}</span></div>
    <${Trouble} problem=${spend.problem} again=${spend.again} />
    <section class="card"><div class="body flush">${spend.customers === null ? html`<${Waiting} />` : rows.length === 0 ? html`<${None} search=${search} onAdd=${() => setAdding(true)} />`
      : html`<${Rows} rows=${rows.slice(here * PAGE, (here + 1) * PAGE)} sort=${sort} onSort=${({ by, down }) => { setPage(""); setOrder((down ? "-" : "") + by); }} />`}</div></section>
    ${last > 0 && html`<nav class="row spread" aria-label=${t("Pages")}><button type="button" disabled=${here === 0} onClick=${() => setPage(String(here - 1))}>${t("Previous page")}</button>
      <span class="muted small">${t("Page {page} of {pages}", { page: here + 1, pages: last + 1 })}</span>
      <button type="button" disabled=${here === last} onClick=${() => setPage(String(here + 1))}>${t("Next page")}</button></nav>`}
    ${adding && html`<${Adding} onClose=${() => setAdding(false)} />`}`;
}

const None = ({ search, onAdd }) => (search
  ? html`<${Empty} title=${t("No customer has “{search}” in its key or name", { search })}>${t("Look for a shorter part of it.")}</${Empty}>`
  : html`<${Empty} title=${t("No customer yet")}><p>${t("A customer is who pays. Its subjects are whose usage is its own: by default its key.")}</p><button type="button" class="plain" onClick=${onAdd}>${t("Add the first one")}</button></${Empty}>`);

function Rows({ rows, sort, onSort }) {
  const keys = rows.map(({ key }) => key);
  const quotas = useAnswer(useMemo(() => quotasOf(keys.length), [keys.length]), Object.fromEntries(keys.map((key, index) => [`k${index}`, key])), { every: 5000 });
  const of = Object.fromEntries(keys.map((key, index) => [key, quotas.data?.[`c${index}`]?.quotas]));
  return html`<${Table} label=${t("Customers")} rows=${rows} sort=${sort} onSort=${onSort} columns=${[
    { key: "name", title: t("Customer"), sorts: true, cell: (each) => html`<a class="breaks" href=${at("customers", each.key)}>${each.name ?? each.key}</a>${each.name && html` <span class="muted small mono breaks">${each.key}</span>`}` },
    { key: "plan", title: t("Plan"), sorts: true, wide: true, cell: planOf },
    { key: "limit", title: t("Nearest limit"), wide: true, cell: (each) => html`<${Nearest} quotas=${of[each.key]} />` },
    { key: "cost", title: t("Owes now"), sorts: true, number: true, cell: (each) => html`<${Money} of=${each.cost.total} />` },
  ]} />`;
}

const quotasOf = (count) => `query Nearest(${Array.from({ length: count }, (_, index) => `$k${index}: ID!`).join(", ")}) {
  ${Array.from({ length: count }, (_, index) => `c${index}: customer(key: $k${index}) { quotas { kind allowed limit used enforcement feature { key name } } }`).join("\n  ")}
}`;

function Nearest({ quotas }) {
  const found = quotas && nearest(quotas);
  if (!found) return html`<span class="muted">–</span>`;
  return html`<${Tag} tone=${found.tone}>${found.name} ${sharedWords(found)}</${Tag}>`;
}

const ADD = "mutation Add($input: CustomerInput!) { upsertCustomer(input: $input) { key } }";
const SUBSCRIBE = "mutation Subscribe($input: SubscribeInput!) { subscribe(input: $input) { id } }";

function Adding({ onClose }) {
  const plans = useAnswer("query Offered { plans { key name } }");
  const [input, setInput] = useState({ key: "", name: "", language: "EN", timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone, subjects: "" });
  const [plan, setPlan] = useState("");
  const put = (name) => (value) => setInput({ ...input, [name]: value });
  const add = useDeed(async () => {
    const subjects = input.subjects.split(/[\s,]+/).filter(Boolean);
    await ask(ADD, { input: { ...input, name: input.name || null, subjects: subjects.length ? subjects : null } });
    if (plan) await ask(SUBSCRIBE, { input: { customer: input.key, plan } });
    go(at("customers", input.key));
  });
  const wrong = (field) => (add.problem?.field === field ? add.problem.message : null);
  return html`<${Dialog} title=${t("Add a customer")} deed=${t("Add")} busy=${add.busy} disabled=${!input.key} onSubmit=${add.run} onClose=${onClose}>
    <${Trouble} problem=${add.problem} />
    <${Field} label=${t("Key")} value=${input.key} onValue=${put("key")} wrong=${wrong("key")} required hint=${t("How your programs name it. It never changes.")} />
    <${Field} label=${t("Name")} value=${input.name} onValue=${put("name")} wrong=${wrong("name")} />
    <${Field} label=${t("Subjects")} value=${input.subjects} onValue=${put("subjects")} wrong=${wrong("subjects")} hint=${t("Whose usage is theirs, with commas between. Empty: its key.")} />
    <div class="fields"><${Field} label=${t("Time zone")} value=${input.timeZone} onValue=${put("timeZone")} wrong=${wrong("timeZone")} />
      <${Field} label=${t("Language of its bill")} value=${input.language} onValue=${put("language")} options=${{ EN: "English", DE: "Deutsch" }} /></div>
    <${Field} label=${t("Plan")} value=${plan} onValue=${setPlan} options=${{ "": t("none yet"), ...Object.fromEntries((plans.data?.plans ?? []).map((each) => [each.key, each.name ?? each.key])) }} />
  </${Dialog}>`;
}
