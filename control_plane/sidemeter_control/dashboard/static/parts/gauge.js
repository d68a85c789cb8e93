// How much of an allowance or a budget is used, with marks where somebody is told of it.
import { html } from "../vendor/htm-preact.js";
import { percent } from "../ground/decimal.js";
import { percentText, t } from "../ground/words.js";

const within = (share) => `${Math.min(100, Math.max(0, share))}%`;

/**
 * `used` and `whole` are decimals, `words` what they say ("12 of 100 calls"), `end` what happens at the end.
 * `marks`: percentages; `held`: a decimal of the rest that agents hold.
 */
export function Gauge({ name, used, whole, words, end, marks = [], held = "0", stopped = false }) {
  const share = percent(used, whole);
  const tone = stopped || share >= 100 ? "full" : share >= 75 ? "near" : "";
  const label = `${name}: ${words}, ${percentText(share)}`;
  return html`<div class=${`gauge ${tone}`}>
    <div class="row"><span class="strong breaks">${name}</span><span class="value">${words} <span class="muted small">${percentText(share)}</span></span></div>
    <svg role="img" aria-label=${label}><title>${label}</title>
      <rect class="track" width="100%" height="6" y="2" rx="3" />
      ${held !== "0" && html`<rect class="held" x=${within(share)} width=${within(Math.min(100 - share, percent(held, whole)))} height="6" y="2" />`}
      <rect class="used" width=${within(share)} height="6" y="2" rx="3" />
      ${marks.filter((mark) => mark < 100).map((mark) => html`<g key=${mark}><title>${t("An alert at {share}", { share: percentText(mark) })}</title>
        <line class=${`tick ${mark <= share ? "passed" : ""}`} x1=${within(mark)} x2=${within(mark)} y1="0" y2="10" /></g>`)}
    </svg>
    ${end && html`<p class="end">${end}</p>`}
  </div>`;
}
