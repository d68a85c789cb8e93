// The operator's pages: who is asked for a key, and which view an address is.
import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { signIn, signOut, whose } from "./ground/server.js";
import { leave } from "./ground/arrival.js";
import { keyIn, usePlace } from "./ground/router.js";
import { onLanguage, t, teach } from "./ground/words.js";
import { GERMAN_FOR_OPERATORS } from "./ground/de_operator.js";
import { useAnswer, useDeed } from "./ground/live.js";
import { Choices } from "./parts/choices.js";
import { Shell } from "./parts/shell.js";
import { Empty, Head, Trouble, Waiting } from "./parts/basic.js";
import { Field } from "./parts/forms.js";
import { Overview } from "./pages/overview.js";

teach("de", GERMAN_FOR_OPERATORS);

// What is not looked at first is fetched when it is.
const VIEWS = {
  "": async () => Overview,
  customers: async (key) => (key ? (await import("./pages/customer.js")).Customer : (await import("./pages/customers.js")).Customers),
  meters: async (key) => (key ? (await import("./pages/meter.js")).MeterEditor : (await import("./pages/meters.js")).Meters),
  plans: async (key) => (key ? (await import("./pages/plan.js")).PlanView : (await import("./pages/plans.js")).Plans),
  events: async () => (await import("./pages/events.js")).Events,
  "dead-letters": async () => (await import("./pages/dead_letters.js")).DeadLetters,
  agents: async () => (await import("./pages/agents.js")).Agents,
  webhooks: async () => (await import("./pages/webhooks.js")).Webhooks,
  audit: async () => (await import("./pages/audit.js")).Audit,
  keys: async () => (await import("./pages/keys.js")).Keys,
};

function useView(path) {
  const [view, setView] = useState(path === "/" ? { path, Shown: Overview } : { path: null, Shown: null });
  useEffect(() => {
    let left = false;
    const load = VIEWS[path.split("/")[1]] ?? (async () => Nowhere);
    load(keyIn(path)).then((Shown) => left || setView({ path, Shown }), (problem) => left || setView({ path, Shown: () => html`<${Trouble} problem=${problem} />` }));
    return () => {
      left = true;
    };
  }, [path]);
  return view;
}

const Nowhere = () => html`<${Head} title=${t("Nothing is here")} /><div class="card"><${Empty} title=${t("There is no page at this address.")}><a href="/">${t("To the overview")}</a></${Empty}></div>`;

function Door({ problem, onSignedIn }) {
  const [secret, setSecret] = useState("");
  const enter = useDeed(async () => onSignedIn(await signIn(secret.trim())));
  const submit = (event) => {
    event.preventDefault();
    if (secret.trim()) enter.run();
  };
  return html`<main class="door" id="main">
    <h1 class="brand">Sidemeter</h1>
    <${Trouble} problem=${enter.problem ?? problem} />
    <form class="stack" onSubmit=${submit}>
      <${Field} label=${t("API key with the READ scope")} type="password" value=${secret} onValue=${setSecret} required spellcheck="false"
        hint=${t("sidemeter-control serve printed an admin key at its first start. It is handed over once, and not kept in this browser.")} />
      <button class="main-deed" disabled=${enter.busy}>${enter.busy ? t("Working …") : t("Sign in")}</button>
    </form>
    <${Choices} />
  </main>`;
}

const BADGES = "query Badges { deadLetters(first: 100) { edges { node { id } } pageInfo { hasNextPage } } }";

function Inside({ who, onOut }) {
  const { path } = usePlace();
  const view = useView(path);
  const letters = useAnswer(BADGES, {}, { every: 5000 });
  useEffect(() => {
    if (letters.problem?.code === "UNAUTHENTICATED") onOut(letters.problem);
  }, [letters.problem]);
  const found = letters.data?.deadLetters;
  const badges = found ? { "/dead-letters": found.pageInfo.hasNextPage ? "100+" : found.edges.length } : {};
  return html`<${Shell} badges=${badges} who=${who} onLeave=${() => signOut().finally(() => onOut(null))}>${view.Shown ? html`<${view.Shown} key=${view.path} name=${keyIn(view.path)} />` : html`<${Waiting} />`}</${Shell}>`;
}

function Pages({ begun }) {
  const [, draw] = useState(0);
  const [{ who, problem }, setWho] = useState(begun);
  useEffect(() => onLanguage(() => draw((count) => count + 1)), []);
  const signedIn = (found) => {
    leave();
    setWho({ who: found, problem: null });
  };
  return who ? html`<${Inside} who=${who} onOut=${(why) => setWho({ who: null, problem: why })} />` : html`<${Door} problem=${problem} onSignedIn=${signedIn} />`;
}

/** A key in a link does not stay in the address. */
function givenKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  return given;
}

const given = givenKey();
const begun = await (given ? signIn(given) : whose()).then((who) => ({ who, problem: null }), (problem) => ({ who: null, problem }));
// A key for one customer sees that customer's own page, and nothing here.
if (begun.who?.customer) location.replace("/portal/");
else render(html`<${Pages} begun=${begun} />`, document.getElementById("page"));
