// What turns events into quantities.
import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../ground/live.js";
import { at } from "../ground/router.js";
import { percentText, t } from "../ground/words.js";
import { Answered, Empty, Head, Tag } from "../parts/basic.js";
import { Table } from "../parts/table.js";

const QUERY = `query Meters { meters { key name eventType aggregation valueProperty percentile unit archivedAt groupBy { key } filters { property } backfill { done fraction } } }`;

/** How a meter adds up, in a word. */
export const AGGREGATIONS = {
  COUNT: () => t("how many events"), SUM: () => t("the sum of"), MIN: () => t("the smallest"), MAX: () => t("the largest"), AVG: () => t("the mean of"),
  LATEST: () => t("the latest"), UNIQUE_COUNT: () => t("how many different"), TIME_WEIGHTED: () => t("the mean over time of"), PERCENTILE: () => t("a percentile of"),
};

export function Meters() {
  const answer = useAnswer(QUERY, {}, { every: 3000 });
  return html`<${Head} title=${t("Meters")} note=${t("A meter turns events of one type into a quantity that plans price and limits cap.")}><a class="button" href="/meters/+new">${t("Define a meter")}</a></${Head}>
    <${Answered} answer=${answer}>${({ meters }) => html`<section class="card"><div class="body flush">${meters.length === 0
      ? html`<${Empty} title=${t("Nothing is counted yet")}><p>${t("Define what is counted. You see at once what it makes of the events that have come in.")}</p><a href="/meters/+new">${t("Define a meter")}</a></${Empty}>`
      : html`<${Table} label=${t("Meters")} rows=${meters} faint=${(each) => each.archivedAt} columns=${[
        { key: "key", title: t("Meter"), cell: (each) => html`<a class="breaks" href=${at("meters", each.key)}>${each.name ?? each.key}</a>${each.name && html` <span class="muted small mono">${each.key}</span>`}` },
        { key: "what", title: t("Counts"), cell: (each) => html`${AGGREGATIONS[each.aggregation]()} <span class="mono small breaks">${each.valueProperty ?? ""}</span>` },
        { key: "type", title: t("of events"), cell: (each) => html`<span class="mono small breaks">${each.eventType}</span>` },
        { key: "by", title: t("Split by"), wide: true, cell: (each) => each.groupBy.map(({ key }) => key).join(", ") || "–" },
        { key: "state", title: t("State"), cell: (each) => (each.archivedAt ? html`<${Tag}>${t("archived")}</${Tag}>` : each.backfill && !each.backfill.done
          ? html`<${Tag} tone="accent">${t("counting older events: {share}", { share: percentText(Math.floor(each.backfill.fraction * 100)) })}</${Tag}>` : html`<${Tag} tone="good">${t("up to date")}</${Tag}>`) },
      ]} />`}</div></section>`}</${Answered}>`;
}
