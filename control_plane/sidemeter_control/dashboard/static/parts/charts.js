// Drawings in SVG, each with a table of its figures. Numbers are rounded for drawing only.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { t } from "../ground/words.js";

const LEFT = 52;
const TOP = 10;
const BOTTOM = 24;

/** The width of a place, so that letters keep their size. */
export function useWidth() {
  const place = useRef(null);
  const [width, setWidth] = useState(640);
  useEffect(() => {
    const seen = new ResizeObserver(([entry]) => setWidth(Math.max(240, Math.round(entry.contentRect.width))));
    seen.observe(place.current);
    return () => seen.disconnect();
  }, []);
  return [place, width];
}

/** Round steps from 0 (or below) to beyond the largest value. */
export function ticks(least, most, wanted = 4) {
  const span = most - least || 1;
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const first = Math.floor(least / step);
  const last = Math.max(first + 1, Math.ceil(most / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

/** A drawing, its words, and its figures: { heads, rows } of texts. */
function Frame({ place, label, caption, figures, legend, children }) {
  return html`<figure class="chart" ref=${place}>
    ${caption && html`<figcaption>${caption}</figcaption>`}
    ${legend}
    <div role="img" aria-label=${label}>${children}</div>
    <details class="figures"><summary>${t("As a table")}</summary>
      <div class="scroll" tabindex="0" role="group" aria-label=${label}><table>
        <thead><tr>${figures.heads.map((head, index) => html`<th scope="col" class=${index ? "number" : ""}>${head}</th>`)}</tr></thead>
        <tbody>${figures.rows.map((row) => html`<tr>${row.map((cell, index) => (index ? html`<td class="number">${cell}</td>` : html`<th scope="row">${cell}</th>`))}</tr>`)}</tbody>
      </table></div>
    </details>
  </figure>`;
}

/** Which colour is what. One series needs no key: its heading says it. */
const Key = ({ names }) => names.length > 1 && html`<ul class="key">${names.map((name, index) => html`<li key=${name}><span class=${`swatch fill-${(index % 6) + 1}`}></span>${name}</li>`)}</ul>`;

const Grid = ({ steps, y, width, text }) => steps.map((step) => html`<g key=${step}>
  <line class=${step === 0 ? "zero" : "axis"} x1=${LEFT} x2=${width} y1=${y(step)} y2=${y(step)} />
  <text x=${LEFT - 8} y=${y(step) + 4} text-anchor="end">${text(step)}</text></g>`);

/** Every so many labels that they do not touch. */
const spaced = (count, room, each) => Math.max(1, Math.ceil((count * each) / room));

/**
 * Bars over time, on each other: `columns` of { label, title, values: [number per name] }.
 * `text(value)` writes a value on the axis; `figures` as in Frame.
 */
export function Bars({ label, caption, names, columns, text, figures, height = 220 }) {
  const [place, width] = useWidth();
  const totals = columns.map(({ values }) => values.reduce((sum, value) => sum + Math.max(0, value), 0));
  const steps = ticks(Math.min(0, ...columns.flatMap(({ values }) => values)), Math.max(0, ...totals));
  const y = scale(steps, height);
  const room = (width - LEFT) / Math.max(1, columns.length);
  const bar = Math.min(48, Math.max(1, room * 0.72));
  const every = spaced(columns.length, width - LEFT, 52);
  return html`<${Frame} place=${place} label=${label} caption=${caption} figures=${figures} legend=${html`<${Key} names=${names} />`}>
    <svg viewBox=${`0 0 ${width} ${height}`} aria-hidden="true">
      <${Grid} steps=${steps} y=${y} width=${width} text=${text} />
      ${columns.map((column, index) => html`<${Column} key=${column.label} column=${column} y=${y} x=${LEFT + room * index} room=${room} bar=${bar} height=${height}
        words=${index % every === 0 ? column.label : ""} />`)}
    </svg>
  </${Frame}>`;
}

function Column({ column, x, y, room, bar, height, words }) {
  let top = 0;
  const pieces = column.values.map((value, index) => {
    const from = value < 0 ? 0 : top;
    if (value > 0) top += value;
    const edge = Math.min(y(from), y(from + value));
    return value !== 0 && html`<rect key=${index} class=${`fill-${(index % 6) + 1}`} x=${x + (room - bar) / 2} width=${bar} y=${edge} height=${Math.max(1, Math.abs(y(from) - y(from + value)))} />`;
  });
  return html`<g>${pieces}
    <rect class="hit" x=${x} y=${TOP} width=${room} height=${height - TOP - BOTTOM}><title>${column.title}</title></rect>
    ${words && html`<text x=${x + room / 2} y=${height - 6} text-anchor="middle">${words}</text>`}</g>`;
}

/** Those whose names do not touch the one before. */
function apart(marks, xOf) {
  let last = -Infinity;
  return marks.filter((mark) => xOf(mark) - last > 64 && (last = xOf(mark)));
}

const scale = (steps, height, top = TOP) => {
  const [least, most] = [steps[0], steps.at(-1)];
  return (value) => top + (height - top - BOTTOM) * (1 - (value - least) / (most - least));
};

/**
 * Lines over a quantity: `lines` of { name, before, points: [[x, y]] }. `marks`: [{ x, text }].
 * `xText` and `text` write a value on its axis; `title(index)` what stands at a point.
 */
export function Lines({ label, caption, lines, marks = [], xText, text, title, figures, height = 240 }) {
  const [place, width] = useWidth();
  const all = lines.flatMap(({ points }) => points);
  const steps = ticks(0, Math.max(0, ...all.map((point) => point[1])));
  const end = Math.max(...all.map((point) => point[0])) || 1;
  const across = ticks(0, end, Math.max(2, Math.floor(width / 130))).filter((value) => value <= end);
  const y = scale(steps, height, 24);
  const right = width - 12;
  const x = (value) => LEFT + ((right - LEFT) * value) / end;
  const named = apart(marks.filter((mark) => mark.x < end), (mark) => x(mark.x));
  const points = lines[0]?.points ?? [];
  const step = points.length > 1 ? x(points[1][0]) - x(points[0][0]) : 20;
  return html`<${Frame} place=${place} label=${label} caption=${caption} figures=${figures} legend=${lines.length > 1 && html`<${LineKey} lines=${lines} />`}>
    <svg viewBox=${`0 0 ${width} ${height}`} aria-hidden="true">
      <${Grid} steps=${steps} y=${y} width=${right} text=${text} />
      ${across.map((value) => html`<text key=${value} x=${x(value)} y=${height - 6} text-anchor="middle">${xText(value)}</text>`)}
      ${marks.filter((mark) => mark.x < end).map((mark) => html`<g key=${mark.x}><line class="mark" x1=${x(mark.x)} x2=${x(mark.x)} y1="18" y2=${height - BOTTOM} />
        ${named.includes(mark) && html`<text x=${x(mark.x)} y="12" text-anchor="middle">${mark.text}</text>`}</g>`)}
      ${lines.map((line) => html`<polyline key=${line.name} class=${`line ${line.before ? "before" : ""}`} points=${line.points.map((point) => `${x(point[0])},${y(point[1])}`).join(" ")} />`)}
      ${points.map((point, index) => html`<rect key=${index} class="hit" x=${x(point[0]) - step / 2} y=${TOP} width=${step} height=${height - TOP - BOTTOM}><title>${title(index)}</title></rect>`)}
    </svg>
  </${Frame}>`;
}

const LineKey = ({ lines }) => html`<ul class="key">${lines.map((line) => html`<li key=${line.name}>
  <svg width="22" height="8" aria-hidden="true"><line class=${`line ${line.before ? "before" : ""}`} x1="0" x2="22" y1="4" y2="4" /></svg>${line.name}</li>`)}</ul>`;

/** Of each name more or less than nothing: `rows` of { key, name, value, text }, the largest first. */
export function Differences({ label, rows, figures }) {
  const [place, width] = useWidth();
  const most = Math.max(...rows.map(({ value }) => Math.abs(value)), 1e-9);
  const middle = rows.some(({ value }) => value < 0) ? 0.62 : 0.36;
  const least = rows.some(({ value }) => value > 0);
  const zero = width * middle;
  const room = Math.min(least ? width - zero - 76 : Infinity, rows.some(({ value }) => value < 0) ? zero - width * 0.3 - 76 : Infinity);
  const height = rows.length * 26 + 4;
  return html`<${Frame} place=${place} label=${label} figures=${figures}>
    <svg viewBox=${`0 0 ${width} ${height}`} aria-hidden="true">
      <line class="zero" x1=${zero} x2=${zero} y1="0" y2=${height} />
      ${rows.map(({ key, name, value, text }, index) => {
        const long = (Math.abs(value) / most) * Math.max(10, room);
        return html`<g key=${key}><title>${`${name}: ${text}`}</title>
          <text x="0" y=${index * 26 + 17} class="said">${shortened(name, width * 0.3)}</text>
          <rect class=${value < 0 ? "less" : "more"} x=${value < 0 ? zero - long : zero} y=${index * 26 + 5} width=${long} height="16" rx="2" />
          <text x=${value < 0 ? zero - long - 6 : zero + long + 6} y=${index * 26 + 17} text-anchor=${value < 0 ? "end" : "start"}>${text}</text></g>`;
      })}
    </svg>
  </${Frame}>`;
}

const shortened = (text, room) => {
  const most = Math.max(6, Math.floor(room / 6.2));
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
};

/** The last minutes of a figure, without an axis: its present value stands beside it. */
export function Spark({ values, label }) {
  if (values.length < 4) return null;
  const most = Math.max(...values, 1e-9);
  const at = values.map((value, index) => `${((index / (values.length - 1)) * 100).toFixed(2)},${(26 - (value / most) * 24).toFixed(2)}`);
  return html`<svg viewBox="0 0 100 28" preserveAspectRatio="none" role="img" aria-label=${label}>
    <path class="area" d=${`M0,28 L${at.join(" L")} L100,28 Z`} /><path d=${`M${at.join(" L")}`} /></svg>`;
}
