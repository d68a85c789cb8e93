// The overview: asks GraphQL once a second and shows the answer. Amounts stay the exact strings they arrive as.
const QUERY = `query Overview {
  customers(first: 100) {
    edges { node {
      key name
      cost { total { rounded currency } asOf lines { charge text amount { rounded currency } parts { text amount { rounded currency } } } }
      quotas { feature { key name } kind enforcement allowed limit used }
    } }
    pageInfo { hasNextPage }
  }
  agents { id service version backlog lastSeen state }
}`;
const INTERVAL_MS = 1000;
// The key is handed over once; then a cookie that no script reads stands for it. The header says that a page of ours asks.
const HEADERS = { "Content-Type": "application/json", "Sidemeter-Page": "overview" };

const at = (id) => document.getElementById(id);
const keyOfLink = new URLSearchParams(location.hash.slice(1)).get("key");
let timer;

/** An element with classes, text or children. Text is never parsed as HTML. */
function element(name, { className, text, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

// Intl takes a decimal's text digit for digit; a number would round it first.
const quantities = new Intl.NumberFormat(undefined, { maximumFractionDigits: 9 });
const grouped = (text) => quantities.format(text);
const money = ({ rounded, currency }) => new Intl.NumberFormat(undefined, { style: "currency", currency, currencyDisplay: "code" }).format(rounded);

/** Adds exact decimal strings of one currency. */
function added(amounts) {
  const digits = Math.max(0, ...amounts.map((text) => text.split(".")[1]?.length ?? 0));
  const scaled = (text) => {
    const [whole, fraction = ""] = text.split(".");
    return BigInt(whole + fraction.padEnd(digits, "0"));
  };
  const sum = amounts.reduce((total, text) => total + scaled(text), 0n);
  const sign = sum < 0n ? "-" : "";
  const text = String(sum < 0n ? -sum : sum).padStart(digits + 1, "0");
  return sign + (digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text);
}

function quotaView(quota) {
  const name = quota.feature.name ?? quota.feature.key;
  if (quota.kind !== "METERED") return element("div", { className: "quota", text: `${name}: ${quota.allowed ? "included" : "not included"}` });
  if (quota.limit === null) return element("div", { className: "quota", text: `${name}: ${grouped(quota.used)} used, no limit` });
  const share = Number(quota.limit) > 0 ? Number(quota.used) / Number(quota.limit) : 1; // only the width of a bar
  const words = `${name}: ${grouped(quota.used)} of ${grouped(quota.limit)}${quota.allowed ? "" : " – limit reached, refused"}`;
  const bar = element("progress", { max: 1, value: Math.min(share, 1), "aria-label": words });
  bar.className = share >= 1 ? "full" : share >= 0.75 ? "near" : "";
  return element("div", { className: quota.allowed ? "quota" : "quota reached", text: words }, bar);
}

function lineRows(line) {
  const row = (className, text, amount) =>
    element("tr", { className }, element("td", { text }), element("td", { className: "number", text: money(amount) }));
  const parts = line.parts.length > 1 ? line.parts.map((part) => row("part", part.text, part.amount)) : [];
  return [row("line", line.text, line.amount), ...parts];
}

function customerView(customer, open) {
  const summary = element("summary", {},
    element("span", { className: "name", text: customer.name ?? customer.key }),
    element("div", { className: "quotas" }, ...customer.quotas.map(quotaView)),
    element("span", { className: "cost", text: money(customer.cost.total) }));
  const lines = element("tbody", {}, ...customer.cost.lines.flatMap(lineRows));
  const view = element("details", { "data-key": customer.key }, summary, customer.cost.lines.length
    ? element("table", {}, lines)
    : element("p", { text: "Not subscribed to a plan yet: call the subscribe mutation." }));
  view.open = open;
  return view;
}

function figuresOf(customers, agents) {
  const totals = customers.map((each) => each.cost.total).filter(({ currency }) => currency !== "XXX"); // XXX: no currency yet
  const spend = [...new Set(totals.map(({ currency }) => currency))].map((currency) =>
    [money({ rounded: added(totals.filter((each) => each.currency === currency).map(({ rounded }) => rounded)), currency }), "all customers, this period"]);
  const waiting = agents.reduce((total, agent) => total + agent.backlog, 0);
  return [...spend, [String(customers.length), "customers"], [String(agents.length), "agents"], [grouped(String(waiting)), "events waiting at agents"]];
}

function show({ customers, agents }) {
  const list = customers.edges.map((edge) => edge.node);
  const open = new Set([...document.querySelectorAll("details[open]")].map((each) => each.dataset.key));
  const focused = document.activeElement?.closest("details")?.dataset.key;
  at("figures").replaceChildren(...figuresOf(list, agents).map(([value, label]) =>
    element("div", { className: "figure" }, element("strong", { text: value }), element("span", { text: label }))));
  at("customer-list").replaceChildren(...(list.length ? list.map((each) => customerView(each, open.has(each.key)))
    : [element("p", { className: "empty", text: "No customer yet. Create one with the upsertCustomer mutation in the GraphQL explorer." })]));
  if (focused !== undefined) document.querySelector(`details[data-key="${CSS.escape(focused)}"] summary`)?.focus();
  at("agent-rows").replaceChildren(...(agents.length ? agents.map((agent) => element("tr", {},
    element("td", { text: agent.service }), element("td", { text: agent.version }),
    element("td", { className: "number", text: grouped(String(agent.backlog)) }), element("td", { text: agent.state }),
    element("td", { text: new Date(agent.lastSeen).toLocaleTimeString() })))
    : [element("tr", {}, element("td", { colspan: 5, text: "No agent has called yet. Start one: sidemeter agent --control-plane URL" }))]));
  for (const id of ["figures", "customers", "agents"]) at(id).hidden = false;
  at("door").hidden = true;
  at("leave").hidden = false;
  const asOf = list.length ? list[0].cost.asOf : undefined;
  at("freshness").textContent = asOf ? `Live, as of ${new Date(asOf).toLocaleTimeString()}` : "Live";
}

function complain(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
  at("freshness").textContent = "Not connected";
}

/** Shows nothing but the question for a key. */
function askForKey(text) {
  clearTimeout(timer);
  for (const id of ["figures", "customers", "agents", "leave"]) at(id).hidden = true;
  complain(text);
  at("door").hidden = false;
  at("key").focus();
}

async function logIn(key) {
  try {
    const answer = await fetch("/session", { method: "POST", headers: HEADERS, body: JSON.stringify({ key }) });
    if (answer.ok) return refresh();
    if (answer.status === 401) return askForKey("This key is unknown, expired or revoked. Enter another one.");
    askForKey((await answer.json()).detail);
  } catch (error) {
    askForKey(`The control plane does not answer (${error.message}). Try again.`);
  }
}

async function refresh() {
  clearTimeout(timer);
  try {
    const answer = await fetch("/graphql", {
      method: "POST",
      headers: HEADERS,
      body: JSON.stringify({ query: QUERY, operationName: "Overview" }),
    });
    if (answer.status === 401) return askForKey(at("leave").hidden ? "" : "The session has ended. Enter the key again.");
    const { data, errors, detail } = await answer.json();
    if (errors?.[0].extensions?.code === "FORBIDDEN") return askForKey(errors[0].message);
    if (!data) return complain(errors?.[0].message ?? detail);
    at("problem").hidden = true;
    show(data);
  } catch (error) {
    complain(`The control plane does not answer (${error.message}). Trying again.`);
  }
  timer = setTimeout(refresh, INTERVAL_MS);
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  logIn(at("key").value.trim());
  at("key").value = "";
});
at("leave").addEventListener("click", async () => {
  await fetch("/session", { method: "DELETE", headers: HEADERS });
  askForKey("");
});
if (keyOfLink) {
  history.replaceState(null, "", location.pathname); // a key in a link does not stay in the address
  logIn(keyOfLink);
} else {
  refresh();
}
