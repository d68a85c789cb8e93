// Keys: who may ask and change what.
import { html, useState } from "../vendor/htm-preact.js";
import { useAnswer, useDeed } from "../ground/live.js";
import { ask } from "../ground/server.js";
import { ago, t } from "../ground/words.js";
import { Ago, Answered, Card, Empty, Head, Secret, Tag, Trouble } from "../parts/basic.js";
import { Checks, Dialog, Field } from "../parts/forms.js";
import { Pages, Table } from "../parts/table.js";

const QUERY = `query Keys($after: String) { apiKeys(first: 100, after: $after) {
  edges { node { id name prefix scopes customer service createdAt expiresAt revokedAt lastUsedAt formerSecretUntil } } pageInfo { hasNextPage endCursor } } }`;
const CREATE = "mutation Create($input: ApiKeyInput!) { createApiKey(input: $input) { id secret } }";
const REVOKE = "mutation Revoke($id: ID!) { revokeApiKey(id: $id) }";

export const SCOPES = {
  AGENT: () => t("AGENT: send events, take leases"), READ: () => t("READ: ask anything"), WRITE: () => t("WRITE: ask and change"), ADMIN: () => t("ADMIN: all of it, and keys"),
};

export function Keys() {
  const [after, setAfter] = useState(null);
  const answer = useAnswer(QUERY, { after }, { every: 5000 });
  const [asked, setAsked] = useState(null);
  const done = () => {
    setAsked(null);
    answer.again();
  };
  return html`<${Head} title=${t("Keys")} note=${t("Each program gets a key of its own, with no more than it needs. A secret is shown once.")}><button type="button" class="main-deed" onClick=${() => setAsked({ Form: Create })}>${t("Create a key")}</button></${Head}>
    <${Answered} answer=${answer}>${({ apiKeys: { edges, pageInfo } }) => html`<${Card} flush>${edges.length === 0 ? html`<${Empty} title=${t("No key yet")} />`
      : html`<${Rows} keys=${edges.map(({ node }) => ({ ...node, key: node.id }))} onAsk=${setAsked} />`}</${Card}><${Pages} page=${pageInfo} after=${after} onAfter=${setAfter} />`}</${Answered}>
    ${asked && html`<${asked.Form} of=${asked.of} onClose=${done} />`}`;
}

const isOver = ({ revokedAt, expiresAt }) => revokedAt !== null || (expiresAt !== null && new Date(expiresAt) < Date.now());

const Rows = ({ keys, onAsk }) => html`<${Table} label=${t("Keys")} rows=${keys} faint=${isOver} columns=${[
  { key: "name", title: t("Name"), cell: (each) => html`<span class="breaks">${each.name}</span> ${each.prefix && html`<span class="mono small muted">${each.prefix}…</span>`}` },
  { key: "scopes", title: t("May"), cell: (each) => html`<span class="row">${each.scopes.map((scope) => html`<${Tag} key=${scope}>${scope}</${Tag}>`)}${(each.customer ?? each.service) && html`<${Tag} tone="accent">${each.customer ? t("only customer {key}", { key: each.customer }) : t("only service {key}", { key: each.service })}</${Tag}>`}</span>` },
  { key: "used", title: t("Last used"), wide: true, cell: (each) => (each.lastUsedAt ? html`<${Ago} at=${each.lastUsedAt} />` : html`<span class="muted">${t("never")}</span>`) },
  { key: "until", title: t("Ends"), wide: true, cell: (each) => (each.expiresAt ? html`<${Ago} at=${each.expiresAt} />` : "–") },
  { key: "deed", title: html`<span class="unseen">${t("What to do")}</span>`, cell: (each) => (isOver(each) ? html`<${Tag}>${each.revokedAt ? t("revoked") : t("expired")}</${Tag}>` : html`<span class="row end">
    ${each.formerSecretUntil && html`<${Tag} tone="warn">${t("former secret ends {when}", { when: ago(each.formerSecretUntil) })}</${Tag}>`}
    <button type="button" class="plain small" aria-label=${t("Replace the secret of {name}", { name: each.name })} onClick=${() => onAsk({ Form: Rotate, of: each })}>${t("Replace")}</button>
    <button type="button" class="plain small" aria-label=${t("Revoke the key {name}", { name: each.name })} onClick=${() => onAsk({ Form: Revoke, of: each })}>${t("Revoke")}</button></span>`) },
]} />`;

const Shown = ({ title, secret, onClose }) => html`<${Dialog} title=${title} onClose=${onClose}>
  <p>${t("Copy the secret now. It is stored nowhere and never shown again.")}</p><${Secret} text=${secret} label=${t("Secret")} /></${Dialog}>`;

const FOR = { all: () => t("everything"), customer: () => t("one customer"), service: () => t("one service") };

function Create({ onClose }) {
  const [input, setInput] = useState({ name: "", scopes: ["READ"], whose: "all", which: "", until: "" });
  const put = (name) => (value) => setInput({ ...input, [name]: value });
  const { name, scopes, whose, which, until } = input;
  const create = useDeed(async () => (await ask(CREATE, { input: {
    name, scopes, expiresAt: until ? `${until}T00:00:00Z` : null, customer: whose === "customer" ? which : null, service: whose === "service" ? which : null,
  } })).createApiKey);
  const wrong = (field) => (create.problem?.field === field ? create.problem.message : null);
  if (create.done) return html`<${Shown} title=${t("The key {name} is made", { name })} secret=${create.done.secret} onClose=${onClose} />`;
  return html`<${Dialog} title=${t("Create a key")} deed=${t("Create")} busy=${create.busy} disabled=${!name || !scopes.length || (whose !== "all" && !which)} onSubmit=${create.run} onClose=${onClose}>
    <${Trouble} problem=${create.problem} />
    <${Field} label=${t("Name")} value=${name} onValue=${put("name")} wrong=${wrong("name")} required hint=${t("Of the program or person that gets it.")} />
    <${Checks} label=${t("What it may")} of=${Object.fromEntries(Object.entries(SCOPES).map(([key, text]) => [key, text()]))} chosen=${scopes} onValue=${put("scopes")} />
    <div class="fields"><${Field} label=${t("Of what")} value=${whose} onValue=${put("whose")} options=${Object.fromEntries(Object.entries(FOR).map(([key, text]) => [key, text()]))} />
      ${whose !== "all" && html`<${Field} label=${whose === "customer" ? t("Key of the customer") : t("Name of the service")} value=${which} onValue=${put("which")} wrong=${wrong(whose)} />`}
      <${Field} label=${t("Until (empty: for ever)")} type="date" value=${until} onValue=${put("until")} wrong=${wrong("expiresAt")} /></div>
  </${Dialog}>`;
}

const ROTATE = "mutation Rotate($id: ID!, $overlap: Int!) { rotateApiKey(id: $id, overlapSeconds: $overlap) { id secret } }";
const OVERLAPS = { 0: () => t("at once"), 3600: () => t("in an hour"), 86400: () => t("in a day"), 604800: () => t("in a week") };

function Rotate({ of, onClose }) {
  const [overlap, setOverlap] = useState("3600");
  const rotate = useDeed(async () => (await ask(ROTATE, { id: of.id, overlap: Number(overlap) })).rotateApiKey);
  if (rotate.done) return html`<${Shown} title=${t("The new secret of {name}", { name: of.name })} secret=${rotate.done.secret} onClose=${onClose} />`;
  return html`<${Dialog} title=${t("Replace the secret of {name}?", { name: of.name })} deed=${t("Replace")} busy=${rotate.busy} onSubmit=${rotate.run} onClose=${onClose}>
    <${Trouble} problem=${rotate.problem} /><p>${t("The key gets another secret. The one it has is taken until everybody has changed over.")}</p>
    <${Field} label=${t("The former secret ends")} value=${overlap} onValue=${setOverlap} options=${Object.fromEntries(Object.entries(OVERLAPS).map(([key, text]) => [key, text()]))} /></${Dialog}>`;
}

function Revoke({ of, onClose }) {
  const revoke = useDeed(async () => {
    await ask(REVOKE, { id: of.id });
    onClose();
  });
  return html`<${Dialog} title=${t("Revoke the key {name}?", { name: of.name })} deed=${t("Revoke")} danger busy=${revoke.busy} onSubmit=${revoke.run} onClose=${onClose}>
    <${Trouble} problem=${revoke.problem} /><p>${t("It opens nothing from then on, at once. That cannot be taken back.")}</p></${Dialog}>`;
}
