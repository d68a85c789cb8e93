// What a customer may use, and what happens at its end: in words, for every view that shows it.
import { html } from "../vendor/htm-preact.js";
import { compare, drawn, minus, percent } from "../ground/decimal.js";
import { ago, number, percentText, t } from "../ground/words.js";
import { Tag } from "../parts/basic.js";
import { Gauge } from "../parts/gauge.js";

/** What has to be asked of a quota for these words. */
export const QUOTA_FIELDS = `feature { key name meter { unit } } kind enforcement allowed value limit used remaining overage leased inDoubt periodStart resetsAt ceiling graceEndsAt
  parts { source text quantity }`;

const nameOf = ({ feature }) => feature.name ?? feature.key;

/** The metered quota of which most is used: { name, share, tone }; null where there is none. */
export function nearest(quotas) {
  const found = quotas.filter((each) => each.kind === "METERED" && each.limit !== null)
    .map((each) => ({ quota: each, name: nameOf(each), share: percent(each.used, each.limit) }))
    .sort((a, b) => b.share - a.share)[0];
  return found ? { ...found, tone: !found.quota.allowed || found.share >= 100 ? "bad" : found.share >= 75 ? "warn" : "" } : null;
}

export const sharedWords = ({ share }) => percentText(share);

/** What happens at the limit, as the customer has to know it. */
export function atTheLimit(quota) {
  const { enforcement, limit, ceiling, allowed, graceEndsAt, used } = quota;
  const again = quota.resetsAt ? ` ${t("It begins anew {when}.", { when: ago(quota.resetsAt) })}` : "";
  if (limit === null) return t("No limit.");
  if (enforcement === "SOFT") return (compare(used, limit) >= 0 ? t("Beyond what is included: use goes on, and is counted.") : t("At the limit use goes on, and is counted.")) + again;
  if (!allowed) return t("Reached: every further use is refused.") + again;
  if (graceEndsAt) return t("Reached: use goes on until {when}, then it is refused.", { when: ago(graceEndsAt) });
  if (ceiling !== null && compare(ceiling, limit) > 0) return t("At the limit {n} more are let through, then every use is refused.", { n: number(minus(ceiling, limit)) }) + again;
  if (ceiling === null) return t("At the limit a time of grace begins, after which use is refused.") + again;
  return t("At the limit every further use is refused.") + again;
}

/** One quota: a gauge where something is counted, else whether it is there. */
export function QuotaView({ quota, mine = false }) {
  const name = nameOf(quota);
  if (quota.kind !== "METERED") {
    return html`<div class="row spread"><span class="strong breaks">${name}</span><${Tag} tone=${quota.allowed ? "good" : ""}>${quota.kind === "STATIC" && quota.value !== null ? String(quota.value) : quota.allowed ? t("included") : t("not included")}</${Tag}></div>`;
  }
  const unit = quota.feature.meter?.unit ? ` ${quota.feature.meter.unit}` : "";
  if (quota.limit === null) return html`<div class="row spread"><span class="strong breaks">${name}</span><span>${number(quota.used)}${unit} <span class="muted small">${t("no limit")}</span></span></div>`;
  const held = !mine && quota.leased && drawn(quota.leased) > 0 ? quota.leased : "0";
  return html`<div class="stack tight"><${Gauge} name=${name} used=${quota.used} whole=${quota.limit} held=${held} stopped=${!quota.allowed}
      words=${`${t("{used} of {limit}", { used: number(quota.used), limit: number(quota.limit) })}${unit}`} end=${atTheLimit(quota)} />
    ${quota.parts.length > 1 && html`<p class="small muted">${quota.parts.map((part) => part.text).join(" + ")}</p>`}
    ${!mine && held !== "0" && html`<p class="small muted">${t("{n} of the rest are held by agents", { n: number(held, 2) })}</p>`}
    ${!mine && quota.inDoubt && drawn(quota.inDoubt) > 0 && html`<p class="small warn">${t("{n} are in doubt: agents that are gone held them", { n: number(quota.inDoubt, 2) })}</p>`}</div>`;
}

