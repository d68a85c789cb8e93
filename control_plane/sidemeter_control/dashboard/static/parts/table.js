// Tables: that can be sorted, that open, that go on to a next page.
import { html } from "../vendor/htm-preact.js";
import { t } from "../ground/words.js";

/** A table that may be wider than its place: it is scrolled, by keys too. */
export const Scroll = ({ label, children }) => html`<div class="scroll" tabindex="0" role="group" aria-label=${label}>${children}</div>`;

/**
 * Columns are { key, title, number, wide, cell(row), sorts }, rows any with a `key`.
 * `sort`: { by, down }; `open(row)` answers what is shown under a row, or nothing.
 */
export function Table({ label, columns, rows, sort, onSort, open, faint, foot, arrived }) {
  const shown = columns.filter(Boolean);
  const classOf = (column) => [column.number ? "number" : "", column.wide ? "wide" : ""].join(" ").trim();
  return html`<${Scroll} label=${label}><table>
    <thead><tr>${shown.map((column) => html`<th scope="col" key=${column.key} class=${classOf(column)} aria-sort=${ariaSort(column, sort)}>${heading(column, sort, onSort)}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => {
      const inside = open?.(row);
      return html`<tr key=${row.key} class=${`${faint?.(row) ? "faint" : ""} ${arrived?.(row) ? "arrived" : ""}`}>${shown.map((column, index) =>
        index === 0
          ? html`<th scope="row" key=${column.key} class=${classOf(column)}>${column.cell(row)}</th>`
          : html`<td key=${column.key} class=${classOf(column)}>${column.cell(row)}</td>`)}</tr>
        ${inside && html`<tr class="inside" key=${`${row.key} inside`}><td colspan=${shown.length}>${inside}</td></tr>`}`;
    })}</tbody>
    ${foot && html`<tfoot><tr>${foot}</tr></tfoot>`}
  </table></${Scroll}>`;
}

const ariaSort = (column, sort) => (sort && column.sorts && sort.by === column.key ? (sort.down ? "descending" : "ascending") : undefined);

function heading(column, sort, onSort) {
  if (!column.sorts) return column.title;
  const here = sort?.by === column.key;
  const next = { by: column.key, down: here ? !sort.down : Boolean(column.number) };
  return html`<button type="button" class="sort" onClick=${() => onSort(next)}>${column.title}<span aria-hidden="true">${here ? (sort.down ? "↓" : "↑") : ""}</span></button>`;
}

/** To the next page, and back to the first. */
export function Pages({ page, after, onAfter }) {
  if (!after && !page.hasNextPage) return null;
  return html`<nav class="row spread pages" aria-label=${t("Pages")}>
    <button type="button" disabled=${!after} onClick=${() => onAfter(null)}>${t("First page")}</button>
    <button type="button" disabled=${!page.hasNextPage} onClick=${() => onAfter(page.endCursor)}>${t("Next page")}</button>
  </nav>`;
}
