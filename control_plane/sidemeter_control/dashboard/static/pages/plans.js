// What is sold: the newest version of every plan.
import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../ground/live.js";
import { at } from "../ground/router.js";
import { day, number, t } from "../ground/words.js";
import { Answered, Empty, Head } from "../parts/basic.js";
import { Table } from "../parts/table.js";
import { Features } from "./features.js";

const QUERY = "query Plans { plans { key version name currency interval intervalCount subscribers publishedAt charges { key name model } } features { key name meter { key } } meters { key name } }";

export function Plans() {
  const answer = useAnswer(QUERY, {}, { every: 5000 });
  return html`<${Head} title=${t("Plans")} note=${t("A plan is a price list in versions. A version never changes: a new one is published beside it.")}><a class="button" href="/plans/+new">${t("Draft a plan")}</a></${Head}>
    <${Answered} answer=${answer}>${({ plans, features, meters }) => html`<section class="card"><div class="body flush">${plans.length === 0
      ? html`<${Empty} title=${t("No plan yet")}><p>${t("Draft one: you see what it would cost at any quantity before anybody is on it.")}</p><a href="/plans/+new">${t("Draft a plan")}</a></${Empty}>`
      : html`<${Table} label=${t("Plans")} rows=${plans} columns=${[
        { key: "key", title: t("Plan"), cell: (each) => html`<a class="breaks" href=${at("plans", each.key)}>${each.name ?? each.key}</a>${each.name && html` <span class="muted small mono">${each.key}</span>`}` },
        { key: "charges", title: t("Charges"), wide: true, cell: (each) => html`<span class="breaks">${each.charges.map((charge) => charge.name ?? charge.key).join(", ") || "–"}</span>` },
        { key: "currency", title: t("Currency"), cell: (each) => each.currency },
        { key: "version", title: t("Version"), number: true, cell: (each) => number(each.version) },
        { key: "published", title: t("Published"), wide: true, cell: (each) => day(each.publishedAt) },
        { key: "subscribers", title: t("Subscribers"), number: true, cell: (each) => number(each.subscribers) },
      ]} />`}</div></section><${Features} features=${features} meters=${meters} again=${answer.again} />`}</${Answered}>`;
}
