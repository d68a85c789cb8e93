// What a draft would change of the version that is published, field by field.
import { html } from "../vendor/htm-preact.js";
import { useAnswer, useSettled } from "../ground/live.js";
import { t } from "../ground/words.js";
import { Card, Tag, Waiting } from "../parts/basic.js";

const PART = "key kind fields { field before after }";
const QUERY = `query DraftDiff($plan: PlanInput!) { draftDiff(plan: $plan) { fields { field before after } charges { ${PART} } entitlements { ${PART} } } }`;

/** { found, count, problem }: what is different, null while it is not known or the draft is refused. */
export function useDraftDiff(draft, wanted) {
  const answer = useAnswer(QUERY, { plan: useSettled(draft) }, { skip: !wanted });
  if (!wanted) return { found: null, count: null, problem: null };
  const problem = answer.problem;
  const found = problem || !answer.fresh ? null : (answer.data?.draftDiff ?? null);
  const count = found && found.fields.length + found.charges.length + found.entitlements.length;
  return { found, count, problem };
}

const KINDS = { ADDED: ["good", () => t("added")], REMOVED: ["bad", () => t("removed")], CHANGED: ["accent", () => t("changed")] };

const written = (value) => (value === null ? t("nothing") : typeof value === "object" ? JSON.stringify(value) : String(value));

const isList = (value) => Array.isArray(value) && value.every((each) => each !== null && typeof each === "object");

/** Of lists of the same length only what is another in them, by its place: a tier's price. */
function inside({ field, before, after }) {
  if (!isList(before) || !isList(after) || before.length !== after.length) return [{ field, before, after }];
  return after.flatMap((each, index) => [...new Set([...Object.keys(before[index]), ...Object.keys(each)])]
    .filter((name) => JSON.stringify(before[index][name]) !== JSON.stringify(each[name]))
    .map((name) => ({ field: `${field}[${index + 1}].${name}`, before: before[index][name] ?? null, after: each[name] ?? null })));
}

const FieldChange = ({ of }) => inside(of).map((each) => html`<li key=${each.field}><span class="mono small">${each.field}</span> <span class="breaks"><del class="muted">${written(each.before)}</del> → <ins>${written(each.after)}</ins></span></li>`);

export function Changes({ diff, isChanged, bare }) {
  const inside = !isChanged ? html`<p class="muted">${t("Nothing yet: the draft says what is published.")}</p>` : diff.problem ? html`<p class="muted">${t("Known as soon as the draft is complete.")}</p>` : diff.found === null ? html`<${Waiting} />` : html`<${Found} found=${diff.found} />`;
  return bare ? inside : html`<${Card} title=${t("What it would change")}>${inside}</${Card}>`;
}

function Found({ found }) {
  const parts = [...found.charges.map((each) => [t("Charge"), each]), ...found.entitlements.map((each) => [t("Entitlement"), each])];
  if (!found.fields.length && !parts.length) return html`<p class="muted">${t("Nothing: it means the same as what is published.")}</p>`;
  return html`<ul class="items">
    ${found.fields.length > 0 && html`<li><span class="strong">${t("The plan")}</span><ul class="changes">${found.fields.map((each) => html`<${FieldChange} key=${each.field} of=${each} />`)}</ul></li>`}
    ${parts.map(([what, part]) => html`<li key=${`${what} ${part.key}`}><div class="row"><span class="strong">${what} <span class="mono">${part.key}</span></span><${Tag} tone=${KINDS[part.kind][0]}>${KINDS[part.kind][1]()}</${Tag}></div>
      ${part.kind !== "REMOVED" && html`<ul class="changes">${part.fields.filter((each) => each.field !== "key").map((each) => html`<${FieldChange} key=${each.field} of=${each} />`)}</ul>`}</li>`)}
  </ul>`;
}
