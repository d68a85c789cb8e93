// Keys: who may ask and change what.
import { html, useState } from "../vendor/htm-preact.js";
import { useAnswer, useDeed } from "../ground/live.js";
import { ask } from "../ground/server.js";
import { moment, t } from "../ground/words.js";
import { Answered, Card, Empty, Head, Secret, Tag, Trouble } from "../parts/basic.js";
import { Checks, Dialog, Field } from "../parts/forms.js";
import { Table } from "../parts/table.js";

// Until keys are listed by themselves, the audit log says which were made and which are revoked.
const QUERY = "query Keys($after: String) { auditLog(first: 200, after: $after) { edges { node { at action target detail } } pageInfo { hasNextPage endCursor } } }";
const CREATE = "mutation Create($input: ApiKeyInput!) { createApiKey(input: $input) { id secret } }";
const REVOKE = "mutation Revoke($id: ID!) { revokeApiKey(id: $id) }";

export const SCOPES = {
  AGENT: () => t("AGENT: send events, take leases"), READ: () => t("READ: ask anything"), WRITE: () => t("WRITE: ask and change"), ADMIN: () => t("ADMIN: all of it, and keys"),
};

function keysOf(log) {
  const revoked = new Set(log.filter(({ action }) => action === "revokeApiKey").map(({ target }) => target));
  return log.filter(({ action }) => action === "createApiKey").map(({ at, target, detail }) => ({ key: target, id: target.replace("key ", ""), at, ...detail, revoked: revoked.has(target) }));
}

export function Keys() {
  const answer = useAnswer(QUERY, {}, { every: 5000 });
  const [making, setMaking] = useState(false);
  const [ending, setEnding] = useState(null);
  return html`<${Head} title=${t("Keys")} note=${t("Each program gets a key of its own, with no more than it needs. A secret is shown once.")}><button type="button" class="main-deed" onClick=${() => setMaking(true)}>${t("Create a key")}</button></${Head}>
    <${Answered} answer=${answer}>${({ auditLog }) => {
      const keys = keysOf(auditLog.edges.map(({ node }) => node));
      return html`<${Card} flush>${keys.length === 0 ? html`<${Empty} title=${t("No key yet")} />` : html`<${Table} label=${t("Keys")} rows=${keys} faint=${(each) => each.revoked} columns=${[
        { key: "name", title: t("Name"), cell: (each) => html`<span class="breaks">${each.name}</span> <span class="mono small muted breaks">${each.id}</span>` },
        { key: "scopes", title: t("May"), cell: (each) => html`<span class="row">${(each.scopes ?? []).map((scope) => html`<${Tag} key=${scope}>${scope}</${Tag}>`)}</span>` },
        { key: "at", title: t("Made"), wide: true, cell: (each) => moment(each.at) },
        { key: "deed", title: "", cell: (each) => (each.revoked ? html`<${Tag}>${t("revoked")}</${Tag}>` : html`<button type="button" class="plain small" aria-label=${t("Revoke the key {name}", { name: each.name })} onClick=${() => setEnding(each)}>${t("Revoke")}</button>`) },
      ]} />`}</${Card}>`;
    }}</${Answered}>
    ${making && html`<${Create} onClose=${() => { setMaking(false); answer.again(); }} />`}
    ${ending && html`<${Revoke} of=${ending} onClose=${() => { setEnding(null); answer.again(); }} />`}`;
}

function Create({ onClose }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["READ"]);
  const create = useDeed(async () => (await ask(CREATE, { input: { name, scopes } })).createApiKey);
  const wrong = (field) => (create.problem?.field === field ? create.problem.message : null);
  if (create.done) {
    return html`<${Dialog} title=${t("The key {name} is made", { name })} onClose=${onClose}>
      <p>${t("Copy the secret now. It is stored nowhere and never shown again.")}</p><${Secret} text=${create.done.secret} label=${t("Secret")} /></${Dialog}>`;
  }
  return html`<${Dialog} title=${t("Create a key")} deed=${t("Create")} busy=${create.busy} disabled=${!name || !scopes.length} onSubmit=${create.run} onClose=${onClose}>
    <${Trouble} problem=${create.problem} />
    <${Field} label=${t("Name")} value=${name} onValue=${setName} wrong=${wrong("name")} required hint=${t("Of the program or person that gets it.")} />
    <${Checks} label=${t("What it may")} of=${Object.fromEntries(Object.entries(SCOPES).map(([key, text]) => [key, text()]))} chosen=${scopes} onValue=${setScopes} />
  </${Dialog}>`;
}

function Revoke({ of, onClose }) {
  const revoke = useDeed(async () => {
    await ask(REVOKE, { id: of.id });
    onClose();
  });
  return html`<${Dialog} title=${t("Revoke the key {name}?", { name: of.name })} deed=${t("Revoke")} danger busy=${revoke.busy} onSubmit=${revoke.run} onClose=${onClose}>
    <${Trouble} problem=${revoke.problem} /><p>${t("It opens nothing from then on, at once. That cannot be taken back.")}</p></${Dialog}>`;
}
