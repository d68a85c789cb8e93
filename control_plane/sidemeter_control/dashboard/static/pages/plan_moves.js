// Who is on older versions of a plan, and moving them to the newest, with what that would cost each of them.
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { compare } from "../ground/decimal.js";
import { useAnswer, useDeed } from "../ground/live.js";
import { at } from "../ground/router.js";
import { ask } from "../ground/server.js";
import { say } from "../ground/say.js";
import { number, t, tn } from "../ground/words.js";
import { Card, Money, Tag, Trouble, Waiting } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";
import { Table } from "../parts/table.js";

const LOOKED_AT = 20;
const AMOUNT = "{ rounded amount currency }";
const MOVE = `mutation Move($plan: ID!, $from: Int!, $to: Int!, $at: ChangeAt, $preview: Boolean) {
  moveSubscribers(plan: $plan, fromVersion: $from, toVersion: $to, at: $at, preview: $preview) { remaining moves { customer subscription current ${AMOUNT} new ${AMOUNT} moved problem } } }`;

/** The newest versions before the one that is published now. */
function useOlder({ key, version }) {
  const versions = Array.from({ length: Math.min(version - 1, LOOKED_AT) }, (_, index) => version - 1 - index);
  const query = `query Older($key: ID!) { ${versions.map((each) => `v${each}: plan(key: $key, version: ${each}) { version subscribers }`).join(" ") || "__typename"} }`;
  const answer = useAnswer(query, { key }, { every: 5000, skip: !versions.length });
  return { ...answer, older: versions.map((each) => answer.data?.[`v${each}`]).filter((each) => each?.subscribers > 0) };
}

/** Nothing, unless there is somebody to move. */
export function Moves({ plan, onMoved }) {
  const { older, again } = useOlder(plan);
  const [from, setFrom] = useState(null);
  const done = () => {
    setFrom(null);
    again();
    onMoved();
  };
  if (!older.length && from === null) return null;
  return html`<${Card} title=${t("On older versions")} note=${t("They pay what their version says until they are moved.")} flush>
    <${Table} label=${t("On older versions")} rows=${older.map((each) => ({ ...each, key: each.version }))} columns=${[
      { key: "version", title: t("Version"), cell: (each) => number(each.version) },
      { key: "subscribers", title: t("Subscribers"), number: true, cell: (each) => number(each.subscribers) },
      { key: "deed", title: html`<span class="unseen">${t("What to do")}</span>`, cell: (each) => html`<span class="row end"><button type="button" class="small" aria-label=${t("Move them to version {n}", { n: plan.version })} onClick=${() => setFrom(each.version)}>${t("Move …")}</button></span>` },
    ]} />${from !== null && html`<${Move} plan=${plan} from=${from} onClose=${() => setFrom(null)} onMoved=${done} />`}</${Card}>`;
}

const WHEN = { PERIOD_END: () => t("when their billing period ends"), NOW: () => t("at once, this period included") };

function Move({ plan, from, onClose, onMoved }) {
  const [when, setWhen] = useState("PERIOD_END");
  const asked = (preview) => ask(MOVE, { plan: plan.key, from, to: plan.version, at: when, preview });
  const look = useDeed(async () => (await asked(true)).moveSubscribers);
  useEffect(() => {
    look.run();
  }, [when]);
  const move = useDeed(async () => {
    const { moves, remaining } = (await asked(false)).moveSubscribers;
    const moved = moves.filter((each) => each.moved).length;
    say(tn("{n} subscriber is moved.", "{n} subscribers are moved.", moved));
    if (remaining || moved < moves.length) look.run();
    else onMoved();
  });
  const found = look.done;
  const more = found?.moves.filter((each) => compare(each.new.amount, each.current.amount) > 0).length ?? 0;
  const movable = found?.moves.filter((each) => !each.problem).length ?? 0;
  return html`<${Dialog} title=${t("Move who is on version {from} to version {to}?", { from, to: plan.version })} deed=${t("Move")} busy=${move.busy || look.busy} disabled=${!movable} onSubmit=${move.run} onClose=${onClose}>
    <${Trouble} problem=${move.problem ?? look.problem} />
    <${Field} label=${t("From when on")} value=${when} onValue=${setWhen} options=${Object.fromEntries(Object.entries(WHEN).map(([key, text]) => [key, text()]))} />
    ${found ? html`<p>${tn("{n} subscriber can be moved.", "{n} subscribers can be moved.", movable)} ${tn("{n} of them would pay more for this period.", "{n} of them would pay more for this period.", more)}</p>
      <${Table} label=${t("What this period would cost")} rows=${found.moves.map((each) => ({ ...each, key: each.subscription }))} columns=${[
        { key: "customer", title: t("Customer"), cell: (each) => html`<a class="breaks" href=${at("customers", each.customer)}>${each.customer}</a>${each.problem && html`<div class="small bad breaks" lang="en">${each.problem}</div>`}` },
        { key: "current", title: t("As it is"), number: true, cell: (each) => html`<${Money} of=${each.current} />` },
        { key: "new", title: t("On the newest"), number: true, cell: (each) => html`<${Money} of=${each.new} />${compare(each.new.amount, each.current.amount) > 0 ? html` <${Tag} tone="warn">${t("more")}</${Tag}>` : ""}` },
      ]} />${found.remaining && html`<p class="muted small">${t("These are the first of them: move again for the others.")}</p>`}` : html`<${Waiting} />`}
  </${Dialog}>`;
}
