// Webhooks: where alerts are sent, and what became of each.
import { html, useState } from "../vendor/htm-preact.js";
import { useAnswer, useDeed } from "../ground/live.js";
import { useSearch } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { say } from "../ground/say.js";
import { ago, t, tn } from "../ground/words.js";
import { Ago, Answered, Card, Empty, Head, Secret, Tabs, Tag, Trouble } from "../parts/basic.js";
import { Checks, Dialog, Field } from "../parts/forms.js";
import { Pages, Table } from "../parts/table.js";

const WEBHOOKS = "query Webhooks { webhooks { id url events createdAt disabledAt oldSecretUntil } }";
const DELIVERIES = `query Deliveries($after: String, $state: DeliveryState) { webhookDeliveries(first: 50, after: $after, state: $state) {
  edges { node { id webhook message alert state attempts lastStatus lastError createdAt endedAt } } pageInfo { hasNextPage endCursor } } }`;
const SET = "mutation SetWebhook($input: WebhookInput!) { setWebhook(input: $input) { secret } }";
const ROTATE = "mutation Rotate($id: ID!) { rotateWebhookSecret(id: $id) { secret } }";
const ENABLE = "mutation Enable($id: ID!) { enableWebhook(id: $id) { id } }";
const REMOVE = "mutation Remove($id: ID!) { removeWebhook(id: $id) }";
const REDELIVER = "mutation Redeliver($id: ID!) { redeliver(id: $id) { id } }";

const KINDS = {
  budget_threshold: () => t("so much of a budget is spent"), quota_threshold: () => t("so much of a quota is used"), overage_started: () => t("a quota is exceeded"),
  forecast_exceeds: () => t("a budget or quota will be exceeded"), limit_denied: () => t("an agent refused something"), lease_in_doubt: () => t("a lease is in doubt"),
};
const STATES = { "": () => t("all"), PENDING: () => t("to be sent"), DELIVERED: () => t("delivered"), FAILED: () => t("given up") };
const TONES = { PENDING: "warn", DELIVERED: "good", FAILED: "bad" };
const texts = (of) => Object.fromEntries(Object.entries(of).map(([key, text]) => [key, text()]));

export function Webhooks() {
  const answer = useAnswer(WEBHOOKS, {}, { every: 5000 });
  const [asked, setAsked] = useState(null);
  const done = () => {
    setAsked(null);
    answer.again();
  };
  return html`<${Head} title=${t("Webhooks")} note=${t("Alerts are sent there over https, signed after Standard Webhooks. What is not taken is sent again, for three days.")}>
      <button type="button" class="main-deed" onClick=${() => setAsked({ Form: Edit })}>${t("Add a webhook")}</button></${Head}>
    <${Answered} answer=${answer}>${({ webhooks }) => html`<${Card} flush>${webhooks.length === 0
      ? html`<${Empty} title=${t("No webhook yet")}>${t("Add the address of a program that shall hear of alerts: budgets and quotas near their end, refusals, agents that do not come back.")}</${Empty}>`
      : html`<${Rows} webhooks=${webhooks} onAsk=${setAsked} />`}</${Card}>
      <${Deliveries} urls=${Object.fromEntries(webhooks.map(({ id, url }) => [id, url]))} />`}</${Answered}>
    ${asked && html`<${asked.Form} of=${asked.of} onClose=${done} />`}`;
}

const Rows = ({ webhooks, onAsk }) => html`<${Table} label=${t("Webhooks")} rows=${webhooks.map((each) => ({ ...each, key: each.id }))} faint=${(each) => each.disabledAt !== null} columns=${[
  { key: "url", title: t("Address"), cell: (each) => html`<span class="mono breaks">${each.url}</span>` },
  { key: "events", title: t("Hears that"), wide: true, cell: (each) => (each.events === null ? t("everything") : each.events.map((kind) => KINDS[kind]?.() ?? kind).join(", ")) },
  { key: "since", title: t("Since"), wide: true, cell: (each) => html`<${Ago} at=${each.createdAt} />` },
  { key: "deed", title: html`<span class="unseen">${t("What to do")}</span>`, cell: (each) => html`<span class="row end">
    ${each.disabledAt && html`<${Tag} tone="bad">${t("said that it is gone")}</${Tag}><${Enable} of=${each} onDone=${() => onAsk(null)} />`}
    ${each.oldSecretUntil && new Date(each.oldSecretUntil) > Date.now() && html`<${Tag} tone="warn">${t("former secret ends {when}", { when: ago(each.oldSecretUntil) })}</${Tag}>`}
    <button type="button" class="plain small" aria-label=${t("Change what {name} hears", { name: each.url })} onClick=${() => onAsk({ Form: Edit, of: each })}>${t("Change")}</button>
    <button type="button" class="plain small" aria-label=${t("Replace the secret of {name}", { name: each.url })} onClick=${() => onAsk({ Form: Rotate, of: each })}>${t("Replace the secret")}</button>
    <button type="button" class="plain small" aria-label=${t("Remove the webhook {name}", { name: each.url })} onClick=${() => onAsk({ Form: Remove, of: each })}>${t("Remove")}</button></span>` },
]} />`;

const Shown = ({ secret, onClose }) => html`<${Dialog} title=${t("The secret of the webhook")} onClose=${onClose}>
  <p>${t("Copy the secret now: the receiver checks signatures with it. It is not shown again.")}</p><${Secret} text=${secret} label=${t("Secret")} /></${Dialog}>`;

function Edit({ of, onClose }) {
  const [url, setUrl] = useState(of?.url ?? "");
  const [kinds, setKinds] = useState(of?.events ?? Object.keys(KINDS));
  const every = kinds.length === Object.keys(KINDS).length;
  const put = useDeed(async () => {
    const { secret } = (await ask(SET, { input: { url, events: every ? null : kinds } })).setWebhook;
    if (!secret) onClose();
    return { secret };
  });
  const wrong = (field) => (put.problem?.field === field ? put.problem.message : null);
  if (put.done?.secret) return html`<${Shown} secret=${put.done.secret} onClose=${onClose} />`;
  return html`<${Dialog} title=${of ? t("What shall {name} hear?", { name: of.url }) : t("Add a webhook")} deed=${of ? t("Save") : t("Add")} busy=${put.busy} disabled=${!url || !kinds.length} onSubmit=${put.run} onClose=${onClose}>
    <${Trouble} problem=${put.problem} />
    ${!of && html`<${Field} label=${t("Address")} value=${url} onValue=${setUrl} wrong=${wrong("url")} type="url" placeholder="https://" required hint=${t("Over https, to an address of the Internet.")} />`}
    <${Checks} label=${t("Hears that")} of=${texts(KINDS)} chosen=${kinds} onValue=${setKinds} />
  </${Dialog}>`;
}

function Rotate({ of, onClose }) {
  const rotate = useDeed(async () => (await ask(ROTATE, { id: of.id })).rotateWebhookSecret);
  if (rotate.done) return html`<${Shown} secret=${rotate.done.secret} onClose=${onClose} />`;
  return html`<${Dialog} title=${t("Replace the secret of {name}?", { name: of.url })} deed=${t("Replace")} busy=${rotate.busy} onSubmit=${rotate.run} onClose=${onClose}>
    <${Trouble} problem=${rotate.problem} /><p>${t("For a day each request has two signatures, by the new secret and by the one before, so that the receiver can change over.")}</p></${Dialog}>`;
}

function Remove({ of, onClose }) {
  const remove = useDeed(async () => {
    await ask(REMOVE, { id: of.id });
    onClose();
  });
  return html`<${Dialog} title=${t("Remove the webhook {name}?", { name: of.url })} deed=${t("Remove")} danger busy=${remove.busy} onSubmit=${remove.run} onClose=${onClose}>
    <${Trouble} problem=${remove.problem} /><p>${t("Nothing is sent there any more, also of what waits to be sent.")}</p></${Dialog}>`;
}

function Enable({ of, onDone }) {
  const enable = useDeed(async () => {
    await ask(ENABLE, { id: of.id });
    onDone();
  });
  return html`<button type="button" class="small" disabled=${enable.busy} aria-label=${t("Send to {name} again", { name: of.url })} onClick=${() => enable.run()}>${t("Send again")}</button><${Trouble} problem=${enable.problem} />`;
}

function Deliveries({ urls }) {
  const [state, setState] = useSearch("state");
  const [after, setAfter] = useState(null);
  const answer = useAnswer(DELIVERIES, { after, state: state || null }, { every: 3000 });
  const choose = (wanted) => {
    setAfter(null);
    setState(wanted);
  };
  return html`<${Card} title=${t("What was sent")} flush actions=${html`<${Tabs} label=${t("Which of them")} of=${texts(STATES)} value=${state} onChoose=${choose} />`}>
    <${Answered} answer=${answer}>${({ webhookDeliveries: { edges, pageInfo } }) => html`${edges.length === 0
      ? html`<${Empty} title=${t("Nothing of that kind")}>${t("An alert is sent as soon as it is raised.")}</${Empty}>`
      : html`<${Table} label=${t("What was sent")} rows=${edges.map(({ node }) => ({ ...node, key: node.id }))} columns=${[
        { key: "at", title: t("When"), cell: (each) => html`<span class="nowrap"><${Ago} at=${each.createdAt} /></span>` },
        { key: "to", title: t("Address"), cell: (each) => html`<span class="mono breaks">${urls[each.webhook] ?? t("removed")}</span>` },
        { key: "message", title: t("Message"), wide: true, cell: (each) => html`<span class="mono small breaks">${each.message}</span>` },
        { key: "state", title: t("State"), cell: (each) => html`<span class="row"><${Tag} tone=${TONES[each.state]}>${STATES[each.state]()}</${Tag}><span class="small muted">${tn("{n} attempt", "{n} attempts", each.attempts)}</span></span>
          ${(each.lastError || each.lastStatus) && each.state !== "DELIVERED" && html`<div class="small muted breaks" lang="en">${each.lastError ?? each.lastStatus}</div>`}` },
        { key: "deed", title: html`<span class="unseen">${t("What to do")}</span>`, cell: (each) => (urls[each.webhook] ? html`<${Again} of=${each} onDone=${answer.again} />` : "") },
      ]} />`}<${Pages} page=${pageInfo} after=${after} onAfter=${setAfter} />`}</${Answered}></${Card}>`;
}

function Again({ of, onDone }) {
  const again = useDeed(async () => {
    await ask(REDELIVER, { id: of.id });
    say(t("It is sent once more."));
    onDone();
  });
  return html`<button type="button" class="plain small" disabled=${again.busy} aria-label=${t("Send message {id} once more", { id: of.message })} onClick=${() => again.run()}>${t("Send once more")}</button><${Trouble} problem=${again.problem} />`;
}
