// What could not be counted: why, and once more when that is mended.
import { html, useState } from "../vendor/htm-preact.js";
import { useAnswer, useDeed } from "../ground/live.js";
import { at } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { say } from "../ground/say.js";
import { t, tn } from "../ground/words.js";
import { Ago, Answered, Empty, Head, Pulse, Tabs, Trouble } from "../parts/basic.js";
import { Pages, Table } from "../parts/table.js";

const FIELDS = "edges { node { id reason receivedAt raw meter replayedAt replayedBy } } pageInfo { hasNextPage endCursor }";
const WAITING = `query Letters($after: String) { found: deadLetters(first: 50, after: $after) { ${FIELDS} } }`;
const REPLAYED = `query Replayed($after: String) { found: replayedDeadLetters(first: 50, after: $after) { ${FIELDS} } }`;
const REPLAY = "mutation Replay($ids: [ID!]!) { replayDeadLetters(ids: $ids) { replayed failed { index code message } } }";

export function DeadLetters() {
  const [which, setWhich] = useState("waiting");
  const [after, setAfter] = useState(null);
  const [chosen, setChosen] = useState([]);
  const answer = useAnswer(which === "waiting" ? WAITING : REPLAYED, { after }, { every: 2000 });
  const replay = useDeed(async (ids) => {
    const { replayDeadLetters: done } = await ask(REPLAY, { ids });
    setChosen([]);
    answer.again();
    say(outcome(done));
    return done;
  });
  const choose = (wanted) => {
    setWhich(wanted);
    setAfter(null);
    setChosen([]);
    replay.forget();
  };
  return html`<${Head} title=${t("Dead letters")} note=${t("Events that were accepted and could not be counted. Mend what is wrong, for instance a meter, then count them anew.")}><${Pulse} answer=${answer} /></${Head}>
    <${Tabs} label=${t("Which")} of=${{ waiting: t("Waiting"), replayed: t("Counted later") }} value=${which} onChoose=${choose} />
    <${Trouble} problem=${replay.problem} />
    ${replay.done && html`<p class=${`note ${replay.done.failed.length ? "warn" : "good"}`} role="status">${outcome(replay.done)}</p>`}
    <${Answered} answer=${answer}>${({ found }) => {
      const letters = found.edges.map(({ node }) => ({ ...node, key: node.id }));
      return html`${which === "waiting" && letters.length > 0 && html`<div class="row">
          <button type="button" class="main-deed" disabled=${replay.busy || !chosen.length} onClick=${() => replay.run(chosen)}>${replay.busy ? t("Working …") : tn("Count {n} chosen letter anew", "Count {n} chosen letters anew", chosen.length)}</button>
          <button type="button" onClick=${() => setChosen(chosen.length === letters.length ? [] : letters.map(({ id }) => id))}>${chosen.length === letters.length ? t("Choose none") : t("Choose all on this page")}</button></div>`}
        <section class="card"><div class="body flush">${letters.length === 0 ? html`<${None} which=${which} />` : html`<${Rows} letters=${letters} which=${which} chosen=${chosen} onChosen=${setChosen} />`}</div></section>
        <${Pages} page=${found.pageInfo} after=${after} onAfter=${setAfter} />`;
    }}</${Answered}>`;
}

const outcome = ({ replayed, failed }) => [tn("{n} letter is counted now.", "{n} letters are counted now.", replayed), failed.length ? `${tn("{n} still cannot be:", "{n} still cannot be:", failed.length)} ${[...new Set(failed.map(({ message }) => message))].join("; ")}` : ""].join(" ").trim();

const None = ({ which }) => (which === "waiting" ? html`<${Empty} title=${t("Everything was counted")}>${t("An event that a meter cannot read appears here with the reason. It is never lost.")}</${Empty}>` : html`<${Empty} title=${t("None was counted later yet")} />`);

const Rows = ({ letters, which, chosen, onChosen }) => html`<${Table} label=${t("Dead letters")} rows=${letters} columns=${[
  { key: "reason", title: t("Why"), cell: (each) => html`<div class="row top">${which === "waiting" && html`<input type="checkbox" aria-label=${t("Choose letter {id}", { id: each.id })} checked=${chosen.includes(each.id)}
      onChange=${(event) => onChosen(event.currentTarget.checked ? [...chosen, each.id] : chosen.filter((id) => id !== each.id))} />`}<span class="breaks">${each.reason}</span></div>` },
  { key: "meter", title: t("Meter"), cell: (each) => (each.meter ? html`<a class="breaks" href=${at("meters", each.meter)}>${each.meter}</a>` : html`<span class="muted">${t("none of them")}</span>`) },
  { key: "at", title: which === "waiting" ? t("Received") : t("Counted"), cell: (each) => html`<span class="nowrap"><${Ago} at=${each.replayedAt ?? each.receivedAt} /></span>` },
  { key: "raw", title: t("The event as it came"), wide: true, cell: (each) => html`<span class="mono small breaks">${each.raw}</span>` },
]} />`;
