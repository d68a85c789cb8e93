// Who changed what.
import { html, useState } from "../vendor/htm-preact.js";
import { useAnswer, useDeed } from "../ground/live.js";
import { ask } from "../ground/server.js";
import { moment, t } from "../ground/words.js";
import { Answered, Empty, Head, Json, Pulse, Trouble } from "../parts/basic.js";
import { Pages, Table } from "../parts/table.js";

const QUERY = `query Audit($after: String) { auditLog(first: 50, after: $after) { edges { cursor node { at actor actorName action target detail } } pageInfo { hasNextPage endCursor } } }`;

const CHECK = "query Check($after: String) { auditCheck(after: $after) { head more problem brokenAt } }";

/** Whether every entry is as it was written, from the first to the last. */
async function checked() {
  let after = null;
  for (;;) {
    const { auditCheck: found } = await ask(CHECK, { after });
    if (found.problem || !found.more) return found;
    after = found.head;
  }
}

const Outcome = ({ of }) => (of.problem
  ? html`<p class="note bad" role="alert"><strong>${t("Entry {n} is not as it was written:", { n: of.brokenAt })}</strong> ${of.problem}</p>`
  : html`<div class="note good" role="status"><strong>${t("Every entry is as it was written.")}</strong> ${t("Note this head elsewhere: it shows a log that was written anew.")} <code class="breaks">${of.head}</code></div>`);

export function Audit() {
  const [after, setAfter] = useState(null);
  const [open, setOpen] = useState(null);
  const check = useDeed(checked);
  const answer = useAnswer(QUERY, { after }, { every: after ? 0 : 3000 });
  return html`<${Head} title=${t("Audit log")} note=${t("Every change that was made, by whom, newest first.")}>${!after && html`<${Pulse} answer=${answer} />`}<button type="button" disabled=${check.busy} onClick=${() => check.run()}>${check.busy ? t("Working …") : t("Check the log")}</button></${Head}>
    <${Trouble} problem=${check.problem} />${check.done && html`<${Outcome} of=${check.done} />`}
    <${Answered} answer=${answer}>${({ auditLog: log }) => html`<section class="card"><div class="body flush">${log.edges.length === 0 ? html`<${Empty} title=${t("Nothing was changed yet")} />`
      : html`<${Table} label=${t("Audit log")} rows=${log.edges.map(({ cursor, node }) => ({ ...node, key: cursor }))}
        open=${(entry) => open === entry.key && html`<div class="pad"><${Json} of=${entry.detail} /></div>`} columns=${[
          { key: "at", title: t("When"), cell: (entry) => html`<button type="button" class="open" aria-expanded=${String(open === entry.key)} onClick=${() => setOpen(open === entry.key ? null : entry.key)}><time class="nowrap" datetime=${entry.at}>${moment(entry.at)}</time></button>` },
          { key: "action", title: t("What"), cell: (entry) => html`<span class="mono small breaks">${entry.action}</span>` },
          { key: "target", title: t("Of what"), cell: (entry) => html`<span class="breaks">${entry.target}</span>` },
          { key: "actor", title: t("Who"), cell: (entry) => html`<span class="breaks">${entry.actorName ?? entry.actor}</span>${entry.actorName && html` <span class="mono small muted breaks wide">${entry.actor}</span>`}` },
        ]} />`}</div></section>
      <${Pages} page=${log.pageInfo} after=${after} onAfter=${setAfter} />`}</${Answered}>`;
}
