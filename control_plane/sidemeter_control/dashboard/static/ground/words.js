// The words of the pages, and how numbers, money and times are written, in the language that is chosen.
import { GERMAN } from "./de.js";

const KEPT = "sidemeter-language";
const TEXTS = { en: {}, de: { ...GERMAN } };
export const LANGUAGES = { en: "English", de: "Deutsch" };

let language = document.documentElement.lang === "de" ? "de" : "en";
// The dialect somebody has set, where it is one of this language: dates differ between London and New York.
const localeOf = (wanted) => navigator.languages.find((each) => each.toLowerCase().startsWith(wanted)) ?? { en: "en-GB", de: "de-DE" }[wanted];
let locale = localeOf(language);
let plurals = new Intl.PluralRules(locale);
let formats = new Map();
const listeners = new Set();

/** "en" or "de". */
export const chosenLanguage = () => language;

/** Speak a language from now on; every page is drawn anew. */
export function speak(wanted) {
  localStorage.setItem(KEPT, wanted);
  speakFor(wanted);
}

export const hasChosenLanguage = () => localStorage.getItem(KEPT) !== null;

/** The same for who has not chosen: it is not kept. */
export function speakFor(wanted) {
  if (!(wanted in TEXTS)) return;
  language = wanted;
  locale = localeOf(wanted);
  plurals = new Intl.PluralRules(locale);
  formats = new Map();
  document.documentElement.lang = wanted;
  for (const listener of listeners) listener();
}

/** More words of a language, of pages that not everybody sees. */
export const teach = (which, texts) => Object.assign(TEXTS[which], texts);

/** Calls back when the language changes; answers how to stop that. */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));

/** The English text in the language of the page, with {names} replaced. */
export const t = (text, values = {}) => filled(TEXTS[language][text] ?? text, values);

/** One of two texts, by a count that stands in them as {n}. */
export function tn(one, other, count, values = {}) {
  const [single, several] = TEXTS[language][other] ?? [one, other];
  return filled(plurals.select(Number(count)) === "one" ? single : several, { n: number(count), ...values });
}

function format(make, kind, options) {
  const key = kind + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, make(options));
  return formats.get(key);
}
const numbers = (options) => format((each) => new Intl.NumberFormat(locale, each), "n", options);
const dates = (options) => format((each) => new Intl.DateTimeFormat(locale, each), "d", options);

/** A decimal, digit for digit: Intl takes its text without rounding. */
export const number = (text, places = 9) => (text === null || text === undefined ? "–" : numbers({ maximumFractionDigits: places }).format(text));

/** A large figure in few characters, where the exact one stands beside it or in its title: 12.3K. */
export const compact = (value) => numbers({ notation: "compact", maximumFractionDigits: 1 }).format(value);

export const percentText = (whole) => numbers({ style: "percent" }).format(whole / 100);

/** An amount in its currency's minor units. XXX: no currency yet. */
export const money = (amount) => (!amount || amount.currency === "XXX" ? "–" : numbers({ style: "currency", currency: amount.currency }).format(amount.rounded ?? amount.amount));

/** An amount to its last digit. */
export const exactMoney = (amount) =>
  amount.currency === "XXX" ? "–" : numbers({ style: "currency", currency: amount.currency, maximumFractionDigits: 20 }).format(amount.amount);

/** An amount on an axis. */
export const shortMoney = (value, currency) => numbers({ style: "currency", currency, notation: "compact", maximumFractionDigits: 1, minimumFractionDigits: 0 }).format(value);

/** A unit price, which may be far below a cent. */
export const unitMoney = (text, currency) => numbers({ style: "currency", currency, maximumFractionDigits: 12 }).format(text);

const zone = (timeZone) => (timeZone ? { timeZone } : {});
export const day = (at, timeZone) => dates({ day: "numeric", month: "short", year: "numeric", ...zone(timeZone) }).format(new Date(at));
export const shortDay = (at, timeZone) => dates({ day: "numeric", month: "short", ...zone(timeZone) }).format(new Date(at));
export const shortHour = (at, timeZone) => dates({ hour: "2-digit", minute: "2-digit", ...zone(timeZone) }).format(new Date(at));
export const monthText = (at, timeZone) => dates({ month: "short", year: "numeric", ...zone(timeZone) }).format(new Date(at));
export const clock = (at) => dates({ timeStyle: "medium" }).format(new Date(at));
/** Of today the time, of another day that too. */
export const lately = (at, now = new Date()) => (new Date(at).toDateString() === now.toDateString() ? clock(at) : `${shortDay(at)}, ${clock(at)}`);
export const moment = (at, timeZone) => dates({ dateStyle: "medium", timeStyle: "medium", ...zone(timeZone) }).format(new Date(at));

const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 60], ["month", 18], ["year", Infinity]];

/** "3 minutes ago", "in 2 days". */
export function ago(at, now = Date.now()) {
  let value = (new Date(at) - now) / 1000;
  for (const [unit, most] of STEPS) {
    if (Math.abs(Math.round(value)) < most || most === Infinity) {
      return format((each) => new Intl.RelativeTimeFormat(locale, each), "r", { numeric: "auto" }).format(Math.round(value), unit);
    }
    value /= { second: 60, minute: 60, hour: 24, day: 30.44, month: 12 }[unit];
  }
}

/** How long something takes, in its two largest units. */
export function lasting(seconds) {
  const all = seconds;
  const parts = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const found = [];
  for (const [length, unit] of parts) {
    const count = Math.floor(seconds / length);
    if (count && found.length < 2) found.push(numbers({ style: "unit", unit, unitDisplay: "short" }).format(count));
    seconds -= count * length;
  }
  return found.join(" ") || numbers({ style: "unit", unit: "second", unitDisplay: "short", maximumFractionDigits: 1 }).format(all);
}

/** The order of two texts as people look for them: 9 before 10. */
export const collated = (a, b) => format((each) => new Intl.Collator(locale, each), "c", { numeric: true }).compare(a, b);
