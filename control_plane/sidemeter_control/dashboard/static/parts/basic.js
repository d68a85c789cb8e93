// Small parts of every view.
import { html, useState } from "../vendor/htm-preact.js";
import { useArrival } from "../ground/arrival.js";
import { ago, clock, exactMoney, moment, money, t } from "../ground/words.js";

/** A part of a view under a heading of its own. */
export function Card({ title, note, actions, flush, children, id }) {
  return html`<section class="card" id=${id} aria-label=${title}>
    ${title && html`<header><h2>${title}</h2>${actions && html`<div class="row actions">${actions}</div>`}${note && html`<p>${note}</p>`}</header>`}
    <div class=${flush ? "body flush" : "body"}>${children}</div>
  </section>`;
}

/** Figures in a row; each { label, value, note, tone, large, drawing }. */
export const Stats = ({ of }) => html`<dl class="stats">${of.filter(Boolean).map((each) => html`<div class="stat" key=${each.label}>
    <dt>${each.label}</dt><dd class=${each.large ? "value large" : "value"}>${each.value}</dd>
    ${each.note && html`<dd class=${`under ${each.tone ?? ""}`}>${each.note}</dd>`}
    ${each.drawing && html`<dd class="spark">${each.drawing}</dd>`}
  </div>`)}</dl>`;

/** An amount, its last digit in the title. */
export const Money = ({ of }) => html`<span title=${exactMoney(of)}>${money(of)}</span>`;

export const Tag = ({ tone = "", children }) => html`<span class=${`tag ${tone}`}>${children}</span>`;

/** A moment as people say it; the exact one in the title. */
export const Ago = ({ at }) => html`<time datetime=${at} title=${moment(at)}>${ago(at)}</time>`;
export const Moment = ({ at, timeZone }) => html`<time datetime=${at} class="nowrap">${moment(at, timeZone)}</time>`;

/** What to do where there is nothing yet. */
export const Empty = ({ title, children }) => html`<div class="empty"><strong>${title}</strong>${children && html`<div>${children}</div>`}</div>`;

export const Waiting = () => html`<div class="waiting" role="status">${t("Asking …")}</div>`;

/** Whether what is shown is of now. */
export function Pulse({ answer }) {
  if (!answer.at) return null;
  return answer.problem
    ? html`<span class="pulse late">${t("Not connected, as of {at}", { at: clock(answer.at) })}</span>`
    : html`<span class="pulse">${t("Live, as of {at}", { at: clock(answer.at) })}</span>`;
}

const NEXT = {
  UNREACHABLE: () => t("The control plane does not answer. It is asked again by itself; see that sidemeter-control serve is running."),
  UNAUTHENTICATED: () => t("This key is unknown, expired or revoked. Sign in with another one."),
  FORBIDDEN: () => t("This key may not do that. Sign in with one that has the scope."),
  NOT_FOUND: () => t("It may have been removed, or its key is another one."),
  CONFLICT: () => t("Something else stands against it. Mend that, then try again."),
  INVALID_INPUT: () => t("Mend this field, then try again."),
  INVALID_QUERY: () => t("The pages and the control plane do not fit together: load the page anew."),
  INTERNAL: () => t("It is in the log of the control plane, under this id. Try again; if it stays, say the id to whoever runs it."),
  BUSY: () => t("Too much is going on at once. Try again in a moment."),
  RATE_LIMITED: () => t("This key asks more often than it may. Try again in a moment, or close other tabs."),
  STORE_UNAVAILABLE: () => t("The database is busy or its disk is full. Try again in a moment."),
};

// Of these the words here say all there is; else the control plane's own, which are English, say what it is about.
const WHOLE = ["UNREACHABLE", "UNAUTHENTICATED", "BUSY", "RATE_LIMITED"];

/** What went wrong, and how to go on. */
export function Trouble({ problem, again }) {
  if (!problem) return null;
  const next = NEXT[problem.code]?.() ?? t("Try again.");
  const told = !WHOLE.includes(problem.code) && problem.message;
  return html`<div class="note bad" role="alert">
    ${told && html`<strong lang="en">${told}</strong> `}<span>${next}</span> <span class="muted small mono">${problem.code}</span>
    ${again && html`<div class="row"><button type="button" onClick=${again}>${t("Try again")}</button></div>`}
  </div>`;
}

/** What an answer is while it is not there, and what is wrong with it; else what `children` makes of its data. */
export function Answered({ answer, children }) {
  if (answer.data === null) return answer.problem ? html`<${Trouble} problem=${answer.problem} again=${answer.again} />` : html`<${Waiting} />`;
  return html`${answer.problem && html`<${Trouble} problem=${answer.problem} again=${answer.again} />`}${children(answer.data)}`;
}

/** The heading of a view, which is where somebody who cannot see begins to read it. */
export function Head({ title, note, above, children }) {
  const heading = useArrival(title);
  return html`<div class="head"><div>
    ${above && html`<p class="crumb">${above}</p>`}<h1 tabindex="-1" ref=${heading}>${title}</h1>${note && html`<p>${note}</p>`}
  </div>${children && html`<div class="actions">${children}</div>`}</div>`;
}

/** Choices of which one holds: { value: label }. */
export const Tabs = ({ label, of, value, onChoose }) => html`<div class="tabs" role="group" aria-label=${label}>${Object.entries(of).map(
  ([each, text]) => html`<button type="button" key=${each} aria-pressed=${String(each === String(value))} onClick=${() => onChoose(each)}>${text}</button>`,
)}</div>`;

/** JSON as it is read best. */
export const Json = ({ of }) => html`<pre class="small" tabindex="0">${JSON.stringify(of, null, 2)}</pre>`;

/** A text with a button that copies it. */
export function Secret({ text, label }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return html`<div class="secret"><code aria-label=${label}>${text}</code><button type="button" onClick=${copy}>${copied ? t("Copied") : t("Copy")}</button></div>`;
}
