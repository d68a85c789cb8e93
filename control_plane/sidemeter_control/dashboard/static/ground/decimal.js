// Decimals as the texts they arrive as: added and compared digit by digit. A number would round them first.

/** The decimal as a whole number of its last place: "1.50" with 3 digits is 1500n. */
function scaled(text, digits) {
  const [, sign, whole, fraction = ""] = /^([+-]?)(\d*)\.?(\d*)$/.exec(text) ?? refuse(text);
  const all = BigInt((whole || "0") + fraction.padEnd(digits, "0"));
  return sign === "-" ? -all : all;
}

function refuse(text) {
  throw new TypeError(`not a decimal: ${text}`);
}

const places = (text) => text.split(".")[1]?.length ?? 0;

function written(value, digits) {
  const sign = value < 0n ? "-" : "";
  const text = String(value < 0n ? -value : value).padStart(digits + 1, "0");
  return sign + (digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text);
}

/** The exact sum of decimals. */
export function sum(texts) {
  const digits = Math.max(0, ...texts.map(places));
  return written(texts.reduce((total, text) => total + scaled(text, digits), 0n), digits);
}

/** a less b. */
export function minus(a, b) {
  const digits = Math.max(places(a), places(b));
  return written(scaled(a, digits) - scaled(b, digits), digits);
}

/** Below zero, zero or above it, as a is less than, as much as or more than b. */
export function compare(a, b) {
  const digits = Math.max(places(a), places(b));
  const difference = scaled(a, digits) - scaled(b, digits);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** Whole percent of a total, rounded down: "74.9" of "100" is 74, so that nothing is said to be reached before it is. */
export function percent(part, whole) {
  const digits = Math.max(places(part), places(whole));
  const all = scaled(whole, digits);
  return all <= 0n ? 100 : Number((scaled(part, digits) * 100n) / all);
}

/** Whether somebody has written a decimal; what else is in a field is said to be wrong before it is sent. */
export const isDecimal = (text) => /^-?(\d+(\.\d+)?|\.\d+)$/.test(text);

/** Only for where something is drawn. Never for a figure that somebody reads. */
export const drawn = (text) => Number(text ?? 0);
