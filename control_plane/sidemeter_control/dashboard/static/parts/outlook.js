// How far something has come, how far it will likely go, and what stands on the way.
import { html } from "../vendor/htm-preact.js";
import { t } from "../ground/words.js";
import { useWidth } from "./charts.js";

const HEIGHT = 74;
const BAR = 26;

/** Each of the four is { value, text }; `marks` are budgets, the same. */
export function Outlook({ now, low, middle, high, marks }) {
  const [place, width] = useWidth();
  const most = Math.max(high.value, now.value, ...marks.map(({ value }) => value).filter((value) => value < high.value * 2)) * 1.08 || 1;
  const x = (value) => Math.min(1, value / most) * width;
  const shown = marks.filter(({ value }) => value <= most);
  const label = t("Now {now}, likely {middle}, in 8 of 10 cases {low} to {high}", { now: now.text, middle: middle.text, low: low.text, high: high.text });
  return html`<figure class="chart" ref=${place}><div role="img" aria-label=${[label, ...marks.map(({ text }) => text)].join(". ")}>
    <svg viewBox=${`0 0 ${width} ${HEIGHT}`} aria-hidden="true">
      <rect class="track" x="0" width=${width} y=${BAR} height="14" rx="4" />
      <rect class="spread" x=${x(low.value)} width=${Math.max(2, x(high.value) - x(low.value))} y=${BAR} height="14"><title>${`${low.text} – ${high.text}`}</title></rect>
      <rect class="fill-1" x="0" width=${x(now.value)} y=${BAR} height="14" rx="4"><title>${t("now")}: ${now.text}</title></rect>
      <line class="likely" x1=${x(middle.value)} x2=${x(middle.value)} y1=${BAR - 4} y2=${BAR + 18} />
      ${shown.map((mark) => html`<g key=${mark.text}><line class="mark" x1=${x(mark.value)} x2=${x(mark.value)} y1="14" y2=${BAR + 18} /><text x=${x(mark.value)} y="10" text-anchor=${anchor(x(mark.value), width)}>${mark.text}</text></g>`)}
      <text class="said" x="0" y=${HEIGHT - 14}>${t("now")} ${now.text}</text>
      <text class="said" x=${x(middle.value)} y=${HEIGHT - 14} text-anchor=${x(middle.value) - x(now.value) < 90 && x(middle.value) < width - 140 ? "start" : anchor(x(middle.value), width)}>${t("likely")} ${middle.text}</text>
      <text x=${x(high.value)} y=${HEIGHT} text-anchor=${anchor(x(high.value), width)}>${low.text} – ${high.text}</text>
    </svg></div></figure>`;
}

const anchor = (x, width) => (x < 90 ? "start" : x > width - 90 ? "end" : "middle");
