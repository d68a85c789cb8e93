// One plan: its versions, and a draft of the next one with everything that it would change.
import { html, useState } from "../vendor/htm-preact.js";
import { useAnswer, useDeed } from "../ground/live.js";
import { at, go } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { say } from "../ground/say.js";
import { day, number, t, tn } from "../ground/words.js";
import { Answered, Card, Empty, Head, Stats, Trouble } from "../parts/basic.js";
import { Dialog } from "../parts/forms.js";
import { Changes, useDraftDiff } from "./plan_changes.js";
import { Effect } from "./plan_effect.js";
import { DraftForm } from "./plan_form.js";
import { Moves } from "./plan_moves.js";
import { Prices } from "./plan_prices.js";

const QUERY = `query OnePlan($key: ID!) {
  plan(key: $key) { key version name currency interval subscribers publishedAt definition }
  meters { key name unit archivedAt groupBy { key } } features { key name meter { key } }
}`;
const NEW = { key: "", name: "", currency: "EUR", charges: [], entitlements: [] };
const KEPT = (key) => `sidemeter-draft-${key}`;

const kept = (key) => JSON.parse(sessionStorage.getItem(KEPT(key)) ?? "null");

export function PlanView({ name: key }) {
  const isNew = key === "+new";
  const answer = useAnswer(QUERY, { key });
  return html`<${Answered} answer=${answer}>${({ plan, meters, features }) => (plan || isNew
    ? html`<${Editor} key=${plan?.version} plan=${plan} place=${key} meters=${meters} features=${features} again=${answer.again} />`
    : html`<${Head} title=${t("No such plan")} /><div class="card"><${Empty} title=${t("There is no plan {key}", { key })}><a href="/plans">${t("All plans")}</a></${Empty}></div>`)}</${Answered}>`;
}

function Editor({ plan, place, meters, features, again }) {
  const published = plan?.definition ?? null;
  const [draft, setDraft] = useState(() => kept(place) ?? published ?? NEW);
  const [publishing, setPublishing] = useState(false);
  const change = (next) => {
    setDraft(next);
    sessionStorage.setItem(KEPT(place), JSON.stringify(next));
  };
  const forget = () => {
    sessionStorage.removeItem(KEPT(place));
    setDraft(published ?? NEW);
  };
  const isChanged = JSON.stringify(draft) !== JSON.stringify(published ?? NEW);
  const diff = useDraftDiff(draft, isChanged && plan !== null);
  // What is wrong with a field, or with anything within it.
  const wrong = (field, within = false) => (diff.problem?.field === field || (within && diff.problem?.field?.startsWith(field)) ? diff.problem.message : null);
  const done = (version) => {
    sessionStorage.removeItem(KEPT(place));
    setPublishing(false);
    say(t("Version {n} is published", { n: version }));
    if (plan) again();
    else go(at("plans", draft.key));
  };
  return html`<${Head} title=${plan ? (plan.name ?? plan.key) : t("Draft a plan")} above=${html`<a href="/plans">${t("Plans")}</a>${plan && html` / <span class="mono">${plan.key}</span>`}`}
      note=${isChanged ? t("This draft is kept in this tab until it is published.") : t("Change anything below: it is a draft until it is published.")}>
      ${isChanged && html`<button type="button" onClick=${forget}>${t("Drop the draft")}</button>`}
      <button type="button" class="main-deed" disabled=${!isChanged || !draft.key} onClick=${() => setPublishing(true)}>${t("Publish …")}</button></${Head}>
    ${plan && html`<${Stats} of=${[
      { label: t("Published"), value: t("version {n}", { n: plan.version }), note: day(plan.publishedAt) },
      { label: t("Subscribers of it"), value: number(plan.subscribers) },
      { label: t("Draft"), value: isChanged ? (diff.count === null ? t("changed") : tn("{n} change", "{n} changes", diff.count)) : t("unchanged"), note: diff.problem ? t("cannot be published yet") : null, tone: "bad" },
    ]} />`}
    ${diff.problem && html`<${Trouble} problem=${diff.problem} />`}
    <div class="two">
      <${Card} title=${t("The draft")}><${DraftForm} draft=${draft} onDraft=${change} meters=${meters} features=${features} isNew=${!plan} wrong=${wrong} again=${again} /></${Card}>
      <div class="stack">
        ${plan && html`<${Moves} plan=${plan} onMoved=${again} />`}
        <${Prices} draft=${draft} published=${published} meters=${meters} />
        ${plan && html`<${Changes} diff=${diff} isChanged=${isChanged} />`}
        ${plan && html`<${Effect} draft=${draft} />`}
      </div>
    </div>
    ${publishing && html`<${Publish} draft=${draft} plan=${plan} diff=${diff} onDone=${done} onClose=${() => setPublishing(false)} />`}`;
}

const PUBLISH = "mutation Publish($input: PlanInput!) { publishPlan(input: $input) { version } }";

function Publish({ draft, plan, diff, onDone, onClose }) {
  const publish = useDeed(async () => onDone((await ask(PUBLISH, { input: draft })).publishPlan.version));
  return html`<${Dialog} title=${t("Publish version {n} of {plan}?", { n: (plan?.version ?? 0) + 1, plan: draft.name || draft.key })} deed=${t("Publish")} busy=${publish.busy} onSubmit=${publish.run} onClose=${onClose}>
    <${Trouble} problem=${publish.problem} />
    <p>${t("A version never changes. Who subscribes from now on gets this one.")} ${plan && plan.subscribers > 0 ? tn("{n} subscriber stays on version {version} until it is moved.", "{n} subscribers stay on version {version} until they are moved.", plan.subscribers, { version: plan.version }) : ""}</p>
    ${plan && html`<${Changes} diff=${diff} isChanged bare />`}
  </${Dialog}>`;
}
