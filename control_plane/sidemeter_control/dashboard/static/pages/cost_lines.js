// What is owed and why: each line opens to its steps, and those to the events behind them.
import { html, useState } from "../vendor/htm-preact.js";
import { useAnswer } from "../ground/live.js";
import { exactMoney, money, number, t } from "../ground/words.js";
import { Answered, Card, Empty, Money, Moment } from "../parts/basic.js";
import { Pages, Scroll } from "../parts/table.js";

/** What has to be asked of a cost for these lines. */
export const COST_FIELDS = `from to asOf pendingAgents
  total { rounded amount currency } beforeCredits { rounded amount currency } credits { rounded amount currency }
  lines { charge text quantity amount { rounded amount currency } parts { text amount { rounded amount currency } } }`;

const keyOf = (line, index) => `${line.charge} ${index}`;

/** The lines of a cost, in the customer's language. */
export function CostLines({ customer, cost, note, actions }) {
  const [open, setOpen] = useState([]);
  const lang = customer.language?.toLowerCase();
  const toggle = (key) => setOpen(open.includes(key) ? open.filter((each) => each !== key) : [...open, key]);
  const credits = cost.credits.amount.replace(/[0.-]/g, "") !== "";
  if (!cost.lines.length) return html`<${Card} title=${t("What is owed, and why")} flush><${Empty} title=${t("Nothing is owed yet")}>${customer.subscriptions.length ? t("Fees and usage of this period appear here as soon as there are any.") : t("Without a subscription to a plan nothing is priced.")}</${Empty}></${Card}>`;
  return html`<${Card} title=${t("What is owed, and why")} note=${note} actions=${actions} flush>
    <${Scroll} label=${t("What is owed, and why")}><table>
      <thead><tr><th scope="col">${t("For what")}</th><th scope="col" class="number wide">${t("Quantity")}</th><th scope="col" class="number">${t("Amount")}</th></tr></thead>
      <tbody>${cost.lines.map((line, index) => html`<${Line} key=${keyOf(line, index)} customer=${customer} cost=${cost} line=${line} index=${index} lang=${lang}
        open=${open.includes(keyOf(line, index))} onToggle=${() => toggle(keyOf(line, index))} />`)}</tbody>
      <tfoot>
        ${credits && html`<tr><th scope="row">${t("Before credits")}</th><td class="wide"></td><td class="number"><${Money} of=${cost.beforeCredits} /></td></tr>
          <tr><th scope="row">${t("Paid by credits")}</th><td class="wide"></td><td class="number">${money({ ...cost.credits, rounded: negative(cost.credits.rounded) })}</td></tr>`}
        <tr><th scope="row">${t("In all")}</th><td class="wide"></td><td class="number"><${Money} of=${cost.total} /></td></tr>
      </tfoot>
    </table></${Scroll}>
    ${cost.pendingAgents > 0 && html`<p class="note">${t("Agents hold events that have not arrived yet: the amount may still rise for what has happened already.")}</p>`}
  </${Card}>`;
}

const negative = (text) => (text.startsWith("-") ? text.slice(1) : `-${text}`);

function Line({ customer, cost, line, index, lang, open, onToggle }) {
  const [events, setEvents] = useState(false);
  const steps = line.parts;
  return html`<tr>
      <th scope="row"><button type="button" class="open" aria-expanded=${String(open)} onClick=${onToggle}><span class="breaks" lang=${lang}>${line.text}</span></button></th>
      <td class="number wide">${line.quantity === null ? "" : number(line.quantity)}</td>
      <td class="number"><${Money} of=${line.amount} /></td></tr>
    ${open && steps.map((part, at) => html`<tr key=${at} class=${`sub ${at === steps.length - 1 && line.quantity === null ? "last" : ""}`}>
      <td lang=${lang} class="breaks">${part.text}</td><td class="wide"></td><td class="number" title=${exactMoney(part.amount)}>${money(part.amount)}</td></tr>`)}
    ${open && line.quantity !== null && html`<tr class=${events ? "sub" : "sub last"}><td colspan="3">
      <button type="button" class="plain small" aria-expanded=${String(events)} onClick=${() => setEvents(!events)}>${events ? t("Hide the events") : t("The events behind it")}</button></td></tr>`}
    ${open && events && html`<tr class="inside"><td colspan="3"><${Behind} customer=${customer} cost=${cost} charge=${line.charge} index=${index} /></td></tr>`}`;
}

const BEHIND = `query Behind($key: ID!, $from: DateTime, $to: DateTime, $after: String) {
  customer(key: $key) { cost(from: $from, to: $to) { lines { charge explain(first: 20, after: $after) {
    edges { node { id source type subject time data voided } } pageInfo { hasNextPage endCursor } } } } }
}`;

function Behind({ customer, cost, charge, index }) {
  const [after, setAfter] = useState(null);
  const answer = useAnswer(BEHIND, { key: customer.key, from: cost.from, to: cost.to, after }, { every: after ? 0 : 5000 });
  return html`<${Answered} answer=${answer}>${(data) => {
    const lines = data.customer.cost.lines;
    const found = (lines[index]?.charge === charge ? lines[index] : lines.find((each) => each.charge === charge))?.explain;
    if (!found?.edges.length) return html`<${Empty} title=${t("No event is behind it")}>${t("It is owed whatever was used.")}</${Empty}>`;
    return html`<${Scroll} label=${t("The events behind it")}><table><thead><tr><th scope="col">${t("Time")}</th><th scope="col">${t("Subject")}</th><th scope="col" class="wide">${t("Id")}</th><th scope="col">${t("Data")}</th></tr></thead>
      <tbody>${found.edges.map(({ node }) => html`<tr key=${`${node.source} ${node.id}`}><td><${Moment} at=${node.time} timeZone=${customer.timeZone} /></td><td class="breaks">${node.subject}</td>
        <td class="mono small breaks wide">${node.id}</td><td class="mono small breaks">${JSON.stringify(node.data)}</td></tr>`)}</tbody></table></${Scroll}>
      <${Pages} page=${found.pageInfo} after=${after} onAfter=${setAfter} />`;
  }}</${Answered}>`;
}
