// A customer's own page, opened by a link that was signed for it.
import { html, render, useEffect, useMemo, useState } from "./vendor/htm-preact.js";
import { signIn, signOut, whose } from "./ground/server.js";
import { hasChosenLanguage, moment, onLanguage, speakFor, t } from "./ground/words.js";
import { Answered, Card, Empty, Head, Pulse, Trouble } from "./parts/basic.js";
import { Choices } from "./parts/choices.js";
import { Budgets } from "./pages/budgets.js";
import { CostLines } from "./pages/cost_lines.js";
import { Credits } from "./pages/credits.js";
import { Alerts, Figures, Limits, SHARED_FIELDS, useCustomer, useSaid } from "./pages/customer.js";
import { Forecast } from "./pages/forecast.js";
import { Usage } from "./pages/usage.js";

const METER = "key name unit aggregation archivedAt groupBy { key }";
const QUERY = `query Mine($key: ID!) {
  customer(key: $key) { ${SHARED_FIELDS} subscriptions { id status periodEnd plan { name key charges { meter { ${METER} } } } } metered: quotas { feature { meter { ${METER} } } } }
}`;

/** The meters that somebody sees who sees only itself: those that it pays for or has quotas of. */
function metersOf(customer) {
  const all = [...customer.subscriptions.filter(({ status }) => status !== "ENDED").flatMap(({ plan }) => plan.charges.map(({ meter }) => meter)), ...customer.metered.map(({ feature }) => feature.meter)];
  return [...new Map(all.filter(Boolean).map((meter) => [meter.key, meter])).values()];
}

function Mine({ who, onOut }) {
  const answer = useCustomer(QUERY, who.customer);
  useEffect(() => {
    if (answer.problem?.code === "UNAUTHENTICATED") onOut(answer.problem);
  }, [answer.problem]);
  const language = answer.data?.customer?.language;
  useEffect(() => {
    if (language && !hasChosenLanguage()) speakFor(language.toLowerCase());
  }, [language]);
  return html`<${Answered} answer=${answer}>${({ customer }) => (customer
    ? html`<${Shown} customer=${customer} answer=${answer} who=${who} onOut=${onOut} />` : html`<${Nobody} />`)}</${Answered}>`;
}

function Shown({ customer, answer, who, onOut }) {
  const meters = useMemo(() => metersOf(customer), [JSON.stringify(customer.subscriptions), JSON.stringify(customer.metered)]);
  const plans = customer.subscriptions.filter(({ status }) => status !== "ENDED").map(({ plan }) => plan.name ?? plan.key);
  useSaid(customer.cost.total);
  return html`<${Head} title=${customer.name ?? customer.key} note=${plans.length ? t("Usage and cost on the plan {plan}", { plan: plans.join(", ") }) : t("Usage and cost")}><${Pulse} answer=${answer} /></${Head}>
    <${Figures} customer=${customer} mine />
    <div class="two">
      <div class="stack"><${CostLines} customer=${customer} cost=${customer.cost} /><${Forecast} customer=${customer} /><${Usage} customer=${customer} meters=${meters} /></div>
      <div class="stack"><${Limits} customer=${customer} mine /><${Budgets} customer=${customer} meters=${meters} again=${answer.again} mine /><${Credits} customer=${customer} /><${Alerts} customer=${customer} /></div>
    </div>
    ${who.expiresAt && html`<footer class="row spread small muted no-print"><span>${t("This page can be opened until {when}.", { when: moment(who.expiresAt) })}</span>
      <button type="button" class="plain small" onClick=${() => signOut().finally(() => onOut(null))}>${t("Sign out")}</button></footer>`}`;
}

const Nobody = () => html`<${Head} title=${t("Usage and cost")} /><${Card} flush><${Empty} title=${t("This page opens by a link")}>${t("The link has ended, or it is not whole. Ask for a new one where you got it.")}</${Empty}></${Card}>`;

function Portal({ begun }) {
  const [, draw] = useState(0);
  const [{ who, problem }, setWho] = useState(begun);
  useEffect(() => onLanguage(() => draw((count) => count + 1)), []);
  return html`<a class="skip" href="#main">${t("Skip to the content")}</a>
    <main class="portal" id="main" tabindex="-1"><div class="row end"><${Choices} /></div>
      ${problem && problem.code !== "UNAUTHENTICATED" && html`<${Trouble} problem=${problem} />`}
      ${who?.customer ? html`<${Mine} who=${who} onOut=${(why) => setWho({ who: null, problem: why })} />` : html`<${Nobody} />`}</main>`;
}

/** The token in a link does not stay in the address. */
function givenToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("link");
  if (given) history.replaceState(null, "", location.pathname);
  return given;
}

const given = givenToken();
const begun = await (given ? signIn(given) : whose()).then((who) => ({ who, problem: null }), (problem) => ({ who: null, problem }));
render(html`<${Portal} begun=${begun} />`, document.getElementById("page"));
